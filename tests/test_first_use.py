"""The first use of a new owner: own frames, a few of them captioned, and the README's commands."""

import json
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from echodiff.__main__ import main
from echodiff.files import shipped
from echodiff.frames.reader import load_frames
from echodiff.runs import Run
from echodiff.settings.command_line import run_main

pytestmark = pytest.mark.filterwarnings(
    # diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

README = Path(__file__).parents[1] / "README.md"
TINY = ["--resolution", "32", "--max-steps", "1", "--batch-size", "1", "--sample-every", "0",
        "--held-out-frames", "2", "--num-samples", "1"]  # fmt: skip


def export(place: Path, num: int, num_captioned: int) -> None:
    """`EXPORT`: frames of as many patients, and captions of the first of them."""
    rng = np.random.default_rng(0)
    (place / "EXPORT").mkdir()
    names = [f"p{index:03d}_4CH.png" for index in range(num)]
    for name in names:
        image = rng.normal(90, 30, (32, 32)).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(place / "EXPORT" / name)
    lines = [f'{name},"ASD, child"' for name in names[:num_captioned]]
    (place / "captions.csv").write_text("\n".join(["file_name,text", *lines]) + "\n")


def prepare(*flags: object) -> int:
    words = ["prepare", "folder", "EXPORT", "--captions", "captions.csv", "--workers", "1"]
    words += ["--patient-regex", r"(\w+?)_", "--out", "frames/ours", *map(str, flags)]
    return main(words)


def count(folder: str = "frames/ours") -> Counter[tuple[str | None, bool]]:
    """Frames by split, and whether they have a caption."""
    return Counter((frame.split, bool(frame.text)) for frame in load_frames(Path(folder)))


def counts_of(run_dir: str) -> tuple[int, int]:
    record = Run.load(Path(run_dir)).record
    return record["num_captioned"], record["num_null_text"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def readme_commands() -> list[list[str]]:
    """The commands from 40 frames to the evaluation of one set, as a shell reads them."""
    text = (
        README.read_text(encoding="utf-8")
        .split("## From 40 annotated frames to a report")[1]
        .split("echodiff evaluate --compare")[0]
    )
    starts = ("echodiff ", "accelerate ", "python ")
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith(starts)]


def test_the_commands_of_the_readme_follow_each_other(
    place: Path,
    train_lora: Callable[..., None],
    fresh_accelerate: Callable[[], None],
    tiny_random_base: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    export(place, 480, 40)
    (place / "prompts").symlink_to(shipped("prompts"))
    commands = readme_commands()
    assert [words[:2] for words in commands] == [
        ["echodiff", "prepare"], ["echodiff", "check"], ["accelerate", "launch"],
        ["python", "generate.py"], ["echodiff", "evaluate"],
    ]  # fmt: skip

    assert main([*commands[0][1:], "--workers", "1", "--size", "32"]) == 0
    assert count() == {("train", True): 40, ("train", False): 400,
                       ("val", False): 20, ("test", False): 20}  # fmt: skip
    assert (
        "--annotated: train has 40 captioned and 400 null-text frames; held out are 20 patients in "
        "val and 20 in test, 0 of their frames captioned\n"
    ) in capsys.readouterr().out
    assert main([*commands[1][1:], "--no-text", "--workers", "1"]) == 0

    train_lora(*commands[2][3:], "--base", tiny_random_base, *TINY)
    assert counts_of("runs/ours") == (40, 400)
    assert not [record for record in caplog.records if record.name.startswith("echodiff")]
    told = "40 captioned and 400 null-text frames, 40 held out (val 20, test 20), at 32 pixels"
    assert told in capsys.readouterr().out

    fresh_accelerate()
    script: Any = __import__("runpy").run_path(str(shipped("generate.py")))["main"]
    flags = [*commands[3][2:], "--num-images", "4", "--steps", "1", "--features", "texture"]
    assert run_main(lambda: script(flags), "generate.py") == 0
    assert "scoring against 20 held-out frames of runs/ours (test)" in capsys.readouterr().out

    assert main([*commands[4][1:], "--features", "texture"]) == 0
    result = json.loads(Path("scores/asd/metrics.json").read_text())
    assert result["scores"]["mmd_texture"]["n_reference"] == 40
    assert result["scores"]["copies_texture"]["n_train"] == 440
    # What is measured in pixels needs generated and real frames of one size.
    assert not {"speckle_snr", "spectrum_deviation"} & result["left_out"].keys()


def test_where_the_recipe_takes_all_frames_nobody_is_held_out(
    place: Path,
    train_lora: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    export(place, 44, 4)
    assert prepare("--annotated", 4) == 0
    assert count() == {("train", True): 4, ("train", False): 40}
    assert (
        "train has 4 captioned and 40 null-text frames; held out are 0 patients in val and 0 in "
        "test, 0 of their frames captioned: no patient is left for scores; add frames of further "
        "patients, or lower --regularization\n"
    ) in capsys.readouterr().out
    flags = ["--config", "cmc2024", "--annotated", 4, "--regularization", 40, *TINY]
    train_lora(*flags, "--data", "frames/ours", "--out", "run")
    assert counts_of("run") == (4, 40)
    assert "no patient is held out" in caplog.text


def test_fewer_null_text_frames_leave_patients_for_the_scores(place: Path) -> None:
    export(place, 44, 4)
    assert prepare("--annotated", 4, "--regularization", 30) == 0
    assert count() == {("train", True): 4, ("train", False): 30,
                       ("val", False): 5, ("test", False): 5}  # fmt: skip


@pytest.mark.filterwarnings("default:.*frames requested:UserWarning")
def test_where_there_are_too_few_the_shares_stand_and_the_counts_are_told(
    place: Path,
    train_lora: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    export(place, 20, 4)
    assert prepare("--annotated", 4) == 0
    assert count() == {("train", True): 4, ("train", False): 10,
                       ("val", False): 3, ("test", False): 3}  # fmt: skip
    assert "train has 4 captioned and 10 null-text frames" in capsys.readouterr().out
    flags = ["--config", "cmc2024", "--annotated", 4, "--regularization", 40, *TINY]
    train_lora(*flags, "--data", "frames/ours", "--out", "run")
    assert counts_of("run") == (4, 10)
    told = "40 regularization frames requested, 10 available, 6 other ones are held out: going on"
    assert told in caplog.text


def test_captions_that_are_held_out_are_told(
    place: Path, train_lora: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    export(place, 20, 10)
    assert prepare() == 0
    num = count()["train", True]
    assert num < 10
    flags = ["--annotated", 10, "--regularization", 0, *TINY]
    train_lora(*flags, "--data", "frames/ours", "--out", "run")
    assert (
        f"10 captioned frames requested, {num} available, {10 - num} captioned ones are held out "
        "(`echodiff prepare --annotated` keeps captions in train): going on"
    ) in caplog.text


def test_ids_that_differ_in_case_are_one_patient(place: Path) -> None:
    export(place, 12, 1)
    for path in sorted((place / "EXPORT").iterdir()):
        path.with_name("P" + path.name[1:].replace("4CH", "2CH")).write_bytes(path.read_bytes())
    assert prepare() == 0
    homes: dict[str, set[str | None]] = {}
    for frame in load_frames(Path("frames/ours")):
        homes.setdefault(str(frame.patient_id).lower(), set()).add(frame.split)
    assert len(homes) == 12
    assert all(len(splits) == 1 for splits in homes.values())


@pytest.mark.usefixtures("fresh_accelerate")
def test_without_a_clone_the_scripts_are_commands(
    place: Path, toy_frames: Path, tiny_random_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--base", str(tiny_random_base), "--data", str(toy_frames), "--threads", "1", *TINY]
    assert main(["train-lora", *flags, "--out", "run"]) == 0
    assert Run.load(Path("run")).is_finished
    assert not (place / "prompts").exists()
    flags = [
        "--prompt-file",
        "prompts/asd.txt",
        "--weights",
        "run",
        "--num-images",
        "2",
        "--steps",
        "1",
    ]
    assert main(["generate", *flags, "--features", "texture", "--out", "set"]) == 0
    assert len(load_frames(Path("set"))) == 2
    assert capsys.readouterr().out.splitlines()[-1].startswith("Report ")
    assert main(["generate", "--prompt-file", "none.txt"]) == 2
    assert capsys.readouterr().err.startswith("echodiff generate: error: --prompt-file none.txt")
