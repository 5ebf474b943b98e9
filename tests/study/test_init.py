"""`echodiff study init`: the folder it writes, what it leaves out, and what it refuses."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from echodiff.__main__ import main
from echodiff.data.leaks import TrainedOn, as_public_record, describe_trained
from echodiff.frames.reader import load_frames
from echodiff.settings.command_line import parse
from echodiff.study.init_config import StudyInitConfig
from echodiff.study.plan import load_plan

SMALL = ["--images", "4", "--shared", "1", "--repeats", "1", "--readers", "3", "--pool", "16"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, write_fans):
    """Real frames, and two sets that stand for generators."""
    place = tmp_path_factory.mktemp("sources")
    write_fans(place / "real", 26, seed=1)
    write_fans(place / "sd", 20, seed=2, size=128, weights="w", prompt="heart")
    write_fans(place / "gan", 20, seed=3, suffix=".jpg", weights="w")
    return place


def sources(folders, *names):
    return [part for name in names for part in ("--source", f"{name}={folders / name}")]


def init(study, *flags):
    return main(["study", "init", str(study), *map(str, flags)])


@pytest.fixture(scope="module")
def study(folders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "study"
    assert init(folder, *sources(folders, "real", "sd", "gan"), *SMALL) == 0
    return folder


def hash_folder(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


def test_every_image_has_one_size_one_length_one_time_and_no_metadata(study):
    files = sorted((study / "images").iterdir())
    plan = load_plan(study)
    assert len(files) == len(plan.images) == 3 * (16 + 1)
    assert len({path.stat().st_size for path in files}) == 1
    assert len({path.stat().st_mtime for path in files}) == 1
    for path in files:
        with Image.open(path) as image:
            assert (image.size, image.mode, image.info) == ((88, 88), "L", {})
    assert "P0" in plan.images[0].patient
    assert "p1-" not in json.dumps([image.patient for image in plan.images])


def test_the_sequences_are_those_of_the_settings(study):
    plan = load_plan(study)
    by_token = {image.token: image for image in plan.images}
    assert plan.config.sources == ("real", "sd", "gan")
    assert len(plan.sequences) == 6
    for sequence in plan.sequences:
        kinds = [task.kind for task in sequence]
        assert kinds[:3] == ["practice"] * 3
        assert kinds.count("repeat") == 3
        assert kinds.count("shared") == 3
        rated = [by_token[t.image_token] for t in sequence if t.kind in {"main", "shared"}]
        assert len({image.patient for image in rated}) == len(rated) == 12
    practice = {image.patient for image in plan.images if image.pool == "practice"}
    assert not practice & {image.patient for image in plan.images if image.pool != "practice"}


def test_the_same_seed_gives_the_same_bytes_and_another_another(folders, study, tmp_path):
    flags = [*sources(folders, "real", "sd", "gan"), *SMALL]
    assert init(tmp_path / "again", *flags) == 0
    assert hash_folder(tmp_path / "again") == hash_folder(study)
    assert init(tmp_path / "other", *flags, "--seed", 1) == 0
    assert (
        hash_folder(tmp_path / "other").keys().isdisjoint(hash_folder(study).keys() - {"plan.json"})
    )


def test_the_seed_alone_tells_neither_the_identifiers_nor_the_order(study, tmp_path, write_fans):
    """Two studies of the same numbers of other images."""
    flags = []
    for seed, name in ((11, "real"), (12, "sd"), (13, "gan")):
        weights = {} if name == "real" else {"weights": "w"}
        write_fans(tmp_path / name, 26 if name == "real" else 20, seed=seed, **weights)
        flags += ["--source", f"{name}={tmp_path / name}"]
    assert init(tmp_path / "study", *flags, *SMALL) == 0
    plans = [load_plan(folder) for folder in (study, tmp_path / "study")]
    one, other = ({image.token for image in plan.images} for plan in plans)
    assert len(one) == len(other)
    assert not one & other
    orders = []
    for plan in plans:
        source = {image.token: image.source for image in plan.images}
        orders.append([[source[task.image_token] for task in row] for row in plan.sequences])
    assert orders[0] != orders[1]


def test_a_second_init_is_refused_without_overwrite(folders, tmp_path, capsys):
    flags = [*sources(folders, "real", "sd"), *SMALL]
    assert init(tmp_path / "s", *flags) == 0
    before = hash_folder(tmp_path / "s")
    capsys.readouterr()
    assert init(tmp_path / "s", *flags, "--seed", 5) == 2
    assert "holds a study; --overwrite" in capsys.readouterr().err
    assert hash_folder(tmp_path / "s") == before
    assert init(tmp_path / "s", *flags, "--seed", 5, "--overwrite") == 0
    assert len(list((tmp_path / "s" / "images").iterdir())) == 2 * 17
    (tmp_path / "s" / "study.sqlite").write_bytes(b"")
    assert init(tmp_path / "s", *flags, "--overwrite") == 2
    assert "holds the database study.sqlite" in capsys.readouterr().err


def test_copies_across_sources_and_of_the_training_set_are_left_out(
    folders, tmp_path, write_fans, capsys
):
    copied = write_fans(tmp_path / "copied", 20, seed=4, weights="w")
    with Image.open(folders / "real" / "images" / "0003.png") as image:
        image.resize((90, 90)).save(copied / "images" / "0005.png")
    shutil.copy(copied / "images" / "0007.png", copied / "images" / "0008.png")
    trained = write_fans(tmp_path / "trained", 3, seed=4)
    record = describe_trained([(trained, load_frames(trained))])
    public = as_public_record(TrainedOn.from_record("run", record))
    maker = {"weights": "elsewhere", "trained_on": public}
    (copied / "generate.json").write_text(json.dumps(maker), encoding="utf-8")
    flags = [*sources(folders, "real"), "--source", f"sd={copied}", *SMALL, "--pool", 30]
    assert init(tmp_path / "s", *flags) == 0
    printed = capsys.readouterr().out
    assert "sd: 14 images of 30 wanted: there are no more" in printed
    left_out = load_plan(tmp_path / "s").config.design_notes["left_out"]["sd"]
    assert left_out == {"trained on": 3, "near-duplicate": 2}


def test_a_patient_of_the_training_is_not_drawn_as_real(folders, tmp_path, write_fans):
    frames = load_frames(folders / "real")
    record = describe_trained([(folders / "real", frames[:4])])
    made = write_fans(tmp_path / "made", 20, seed=5, weights="w")
    maker = {"weights": "elsewhere", "trained_on": record}
    (made / "generate.json").write_text(json.dumps(maker), encoding="utf-8")
    flags = [*sources(folders, "real"), "--source", f"sd={made}", *SMALL, "--pool", 30]
    assert init(tmp_path / "s", *flags) == 0
    origins = [i.origin for i in load_plan(tmp_path / "s").images if i.source == "real"]
    assert len(origins) == 22
    assert not {Path(origin).stem for origin in origins} & {"0000", "0001", "0002", "0003"}


def test_two_translations_of_one_frame_are_one_patient(tmp_path, write_fans):
    write_fans(tmp_path / "real", 24, seed=1)
    for seed, name in ((2, "cut"), (3, "cyclegan")):
        made = write_fans(tmp_path / name, 24, seed=seed, patient=None, weights="w")
        maker = {"weights": "elsewhere", "source": str(tmp_path / "slices")}
        (made / "translate.json").write_text(json.dumps(maker), encoding="utf-8")
    flags = sources(tmp_path, "real", "cut", "cyclegan")
    assert init(tmp_path / "s", *flags, *SMALL) == 0
    plan = load_plan(tmp_path / "s")
    stems = {}
    for image in plan.images:
        if image.source != "real":
            stems.setdefault(Path(image.origin).stem, set()).add(image.patient)
    assert all(len(patients) == 1 for patients in stems.values())
    for sequence in plan.sequences:
        by_token = {image.token: image for image in plan.images}
        shown = [by_token[t.image_token] for t in sequence if t.kind in {"main", "shared"}]
        assert len({image.patient for image in shown}) == len(shown)


def test_a_paired_study_has_cases_with_their_companions(tmp_path, write_fans):
    findings = [[] if i % 2 else ["ASD"] for i in range(20)]
    findings[4] = ["ASD", "VSD"]
    write_fans(tmp_path / "real", 20, seed=1, pair_id=[f"h{i}" for i in range(20)],
               findings=findings)  # fmt: skip
    write_fans(tmp_path / "mr", 18, seed=2, pair_id=[f"h{i}" for i in range(18)], weights="w")
    flags = [*sources(tmp_path, "real", "mr"), "--design", "paired", "--images", 8,
             "--readers", 2, "--washout-days", 14]  # fmt: skip
    assert init(tmp_path / "s", *flags) == 0
    plan = load_plan(tmp_path / "s")
    assert (plan.config.design, plan.config.sittings, plan.config.washout_days) == (
        "diagnosis", 2, 14
    )  # fmt: skip
    assert plan.config.diagnoses == ("normal", "asd")
    by_token = {image.token: image for image in plan.images}
    for task in plan.sequences[0]:
        real = by_token[task.image_token]
        assert real.source == "real"
        assert (real.truth == "asd") == (int(Path(real.origin).stem) % 2 == 0)
        if task.companion_token:
            companion = by_token[task.companion_token]
            assert Path(companion.origin).stem == Path(real.origin).stem
            assert companion.patient == real.patient
    truths = [i.truth for i in plan.images if i.pool == "shared"]
    assert truths.count("asd") == truths.count("normal") == 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--source", "real=REAL"], "needs two sources or more"),
        (["--source", "REAL", "--source", "sd=SD"], "must be NAME=DIR"),
        (["--source", "real=run:x", "--source", "sd=SD"], "the first source is the real one"),
        (["--source", "sd=SD", "--source", "real=REAL"], "holds generated frames"),
        (["--source", "real=REAL", "--source", "sd=run:x"], "x: is not a run folder"),
        (["--source", "real=REAL", "--source", "sd=SD", "--images", "40", "--pool", "16"],
         "images of different patients do not exist"),
        (["--source", "real=REAL", "--source", "sd=SD", "--shared", "11"], "--shared 11: is above"),
        (["--source", "real=REAL", "--source", "sd=SD", "--images", "3", "--shared", "2",
          "--repeats", "1", "--images-per-page", "6"], "--images-per-page 6: an image could be"),
        (["--source", "real=REAL", "--source", "sd=SD", "--title", "Is SD good?"],
         "names the source sd"),
        (["--source", "real=REAL", "--source", "sd=SD", "--split", "test"], "--split test: no row"),
        (["--source", "real=REAL", "--source", "sd=SD", "--design", "paired"],
         "needs frames of two diagnoses or more; found none"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_nothing_is_written(folders, tmp_path, capsys, flags, message):
    real, sd = str(folders / "real"), str(folders / "sd")
    flags = [
        flag.replace("REAL", real).replace("SD", sd) if "=" in flag else flag for flag in flags
    ]
    assert init(tmp_path / "s", *flags) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "/s)" not in line]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "s" / "plan.json").exists()


def test_the_flags_on_the_page_are_real():
    page = Path(__file__).parents[2] / "docs" / "study_design.md"
    lines = page.read_text("utf-8").splitlines()
    found = [line.split()[3:] for line in lines if line.startswith("echodiff study init ")]
    assert len(found) == 2
    for words in found:
        config = parse(StudyInitConfig, words, prog="docs")
        assert config.names[0] in {"real", "echo"}
    assert config.design == "paired"


def test_tones_are_equal_and_the_margins_black(study):
    means = {}
    for image in load_plan(study).images:
        grey = np.asarray(Image.open(image.file))
        means.setdefault(image.source, []).append(grey[grey > 0].mean())
        assert grey[:5, :20].max() == 0
    real, sd, gan = (np.mean(means[name]) for name in ("real", "sd", "gan"))
    assert abs(real - sd) < 3
    assert abs(real - gan) < 3
