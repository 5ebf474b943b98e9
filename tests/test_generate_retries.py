"""`generate.py --retries`: hearts that the segmenter refuses are drawn again."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from echodiff.__main__ import main as echodiff
from echodiff.diffusion.sampling import choosing
from echodiff.diffusion.sampling.choosing import CLEAR, Chooser
from echodiff.frames.maker import attempt_of, share_of_firsts
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.images import read_gray_u8
from echodiff.metrics.criteria import Criterion, Fault
from echodiff.metrics.intact import Anatomy, Judged, score_anatomy
from echodiff.metrics.score import Score
from echodiff.metrics.segmenter import load_segmenter
from echodiff.settings.command_line import run_main

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture(scope="module")
def script(load_benchmark):
    return load_benchmark("../generate")


def read_images(folder):
    return {path.name: read_gray_u8(path).astype(int) for path in (folder / "images").iterdir()}


@pytest.fixture
def place(tmp_path, toy_frames, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy_frames.rename(tmp_path / "real")
    return tmp_path


@pytest.fixture
def flags(place, tiny_random_base):
    (place / "views.txt").write_text("apical four-chamber view\nASD, apical four-chamber view\n")
    return [
        *("--prompt-file", "views.txt", "--base", str(tiny_random_base), "--weights", "none"),
        *("--num-images", "6", "--steps", "2", "--reference", "real", "--features", "texture"),
    ]


def test_image_and_attempt_depend_on_seed_and_index_alone(script, place, flags):
    script.main([*flags, "--out", "once"])
    script.main([*flags, "--retries", "2", "--out", "ours"])
    script.main([*flags, "--retries", "2", "--batch-size", "4", "--out", "theirs"])
    once, ours, theirs = (read_images(place / name) for name in ("once", "ours", "theirs"))
    attempts = [attempt_of(row) for row in load_frames(place / "ours")]
    assert attempts == [attempt_of(row) for row in load_frames(place / "theirs")]
    assert all(attempt in (0, 1, 2) for attempt in attempts)
    assert any(attempts)  # a random base draws no heart
    assert [attempt_of(row) for row in load_frames(place / "once")] == [None] * 6
    for attempt, (name, image) in zip(attempts, sorted(ours.items()), strict=True):
        assert np.abs(image - theirs[name]).max() <= 1
        assert (np.abs(image - once[name]).max() <= 1) == (attempt == 0)
    alarms = json.loads((place / "ours/metrics.json").read_text())["alarms"]
    assert any(alarm.startswith("chosen images: ") for alarm in alarms)
    assert not any("chosen" in alarm for alarm in json.loads(
        (place / "once/metrics.json").read_text())["alarms"])  # fmt: skip
    settings = json.loads((place / "ours/generate.json").read_text())["settings"]
    assert settings["retries"] == 2
    assert settings["segmenter_sha256"] == load_segmenter().sha256


@pytest.mark.parametrize(
    ("prompt", "more", "told"),
    [
        ("chest X-ray", ["--retries", "3"], "--retries 3: the anatomy of no image can be judged"),
        ("four chamber view", ["--retries", "-1"], "--retries -1: must be 0 to 100"),
    ],
)
def test_what_cannot_be_judged_is_refused(script, place, flags, capsys, prompt, more, told):
    (place / "views.txt").write_text(f"{prompt}\n")
    assert run_main(lambda: script.main([*flags, *more, "--out", "none"]), "generate.py") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line
    assert not (place / "none").exists()


class Draws:
    """A sampler whose image says which draw it is of."""

    def sample(self, indices, attempt=0):
        for index in indices:
            yield index, np.full((4, 4), 10 * index + attempt, np.uint8)


class Doubts:
    def __init__(self, doubts):
        self.doubts = doubts

    def measure_doubt(self, images):
        return np.array([self.doubts[int(image[0, 0])] for image in images])


@pytest.mark.parametrize(
    ("faults", "doubts", "kept"),
    [
        ((0, 0, 0), (0.1, 0.1, 0.1), 0),
        ((1, 0, 0), (0.1, 0.1, 0.1), 1),
        ((0, 0, 0), (CLEAR + 0.1, CLEAR + 0.2, 0.1), 2),
        ((2, 1, 1), (0.1, 0.3, 0.2), 2),  # all are broken: least, then clearest
        ((0, 1, 2), (CLEAR + 0.1, 0.1, 0.1), 0),  # unclear before broken
    ],
)
def test_the_first_sound_draw_is_kept_or_else_the_best(monkeypatch, faults, doubts, kept):
    fault = Fault(Criterion.HOLES, "a hole", None)

    def judge(images, rows, segmenter):
        return [Judged((Criterion.HOLES,), (fault,) * faults[int(one[0, 0]) % 10])
                for one in images]  # fmt: skip

    monkeypatch.setattr(choosing, "judge_frames", judge)
    known = {10 * index + k: doubt for index in range(3) for k, doubt in enumerate(doubts)}
    chooser = Chooser(Draws(), Doubts(known), 2, lambda index: Frame(file_name="", text=""))
    drawn = list(chooser.sample([2, 0, 1]))
    assert [(one.index, one.attempt) for one in drawn] == [(2, kept), (0, kept), (1, kept)]
    assert [int(one.image_u8[0, 0]) for one in drawn] == [20 + kept, kept, 10 + kept]


def test_a_blurred_heart_is_less_clear_than_a_sharp_one(tmp_path):
    assert echodiff(["phantom", "--num", "6", "--size", "128", "--out", str(tmp_path / "p")]) == 0
    images = [read_gray_u8(tmp_path / "p" / row.file_name) for row in load_frames(tmp_path / "p")]
    blurred = [gaussian_filter(image, 5) for image in images]
    segmenter = load_segmenter()
    assert np.median(segmenter.measure_doubt(images)) < CLEAR
    assert (segmenter.measure_doubt(blurred) > segmenter.measure_doubt(images)).all()


@pytest.mark.parametrize("more", [[], ["--exact"]])
def test_a_stopped_job_goes_on_with_the_same_images(script, place, flags, more, monkeypatch):
    flags = [*flags, *more, "--retries", "2", "--batch-size", "2"]
    script.main([*flags, "--out", "whole"])
    real = Chooser.sample

    def stop(self, indices):
        for one in real(self, indices):
            if one.index == 3:
                raise KeyboardInterrupt
            yield one

    with monkeypatch.context() as patched:
        patched.setattr(Chooser, "sample", stop)
        assert run_main(lambda: script.main([*flags, "--out", "stopped"]), "generate.py") == 130
    assert not (place / "stopped/metadata.jsonl").exists()
    script.main([*flags, "--out", "stopped"])
    whole, stopped = (load_frames(place / name) for name in ("whole", "stopped"))
    assert [one.settings for one in whole] == [one.settings for one in stopped]
    ours, theirs = read_images(place / "whole"), read_images(place / "stopped")
    limit = 0 if more else 1
    assert all(np.abs(ours[name] - theirs[name]).max() <= limit for name in ours)


def test_a_folder_that_was_begun_without_retries_is_not_gone_on_with(script, place, flags, capsys):
    script.main([*flags, "--out", "set"])
    again = [*flags, "--retries", "1", "--out", "set"]
    assert run_main(lambda: script.main(again), "generate.py") == 2
    assert "set" in capsys.readouterr().err


def test_images_without_criteria_are_drawn_once_and_said_so(script, place, flags, caplog):
    (place / "views.txt").write_text("apical four-chamber view\nchest X-ray\n")
    script.main([*flags, "--retries", "2", "--out", "set"])
    assert "--retries 2: the anatomy of 3 of 6 images cannot be judged" in caplog.text
    rows = load_frames(place / "set")
    assert [attempt_of(row) for row in rows[1::2]] == [None] * 3
    assert None not in [attempt_of(row) for row in rows[::2]]


@pytest.mark.parametrize(
    "settings",
    [None, "", "null", "3", "[1]", '"x"', "{", '{"attempt": true}', '{"attempt": -1}',
     '{"attempt": "1"}', "[" * 5000],
)  # fmt: skip
def test_settings_of_another_tool_are_no_choice(settings):
    frame = Frame(file_name="a.png", text="", settings=settings)
    assert attempt_of(frame) is None
    assert share_of_firsts([frame]) is None


def test_a_first_draw_that_was_refused_is_not_a_sound_one():
    told = ['{"attempt": 0}', '{"attempt": 0, "refused": true}', '{"attempt": 2}', None]
    frames = [Frame(file_name="a.png", text="", settings=one) for one in told]
    assert share_of_firsts(frames) == pytest.approx(1 / 3)


def test_the_score_of_chosen_images_says_so_in_its_record():
    segmenter = load_segmenter()
    sound = Judged((Criterion.HOLES,), ())
    sets = [Anatomy((sound,) * 20, segmenter) for _ in range(2)]
    for share in (0.4, None):
        scores, _, _ = score_anatomy(*sets, first_draws=share)
        record = scores["intact"].to_record()
        assert record.get("first_draws") == share
        assert ("first_draws" in record) is (share is not None)
        assert Score.from_record("intact", record).first_draws == share
