"""Folders of strangers: no local picture, no code, no hang; folders of other commands stay."""

import json
import os
import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from echodiff.contact_sheet import contact_sheet
from echodiff.data.check.command import main as check
from echodiff.data.reference import choose_held_out
from echodiff.data.run_frames import find_run_frames
from echodiff.diffusion.base_parts import read_index
from echodiff.diffusion.sampling.prompts import load_prompts
from echodiff.errors import InputError
from echodiff.evaluate import main as evaluate
from echodiff.frames.reader import hash_frames, load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.metrics.frame_features import measure_frames
from echodiff.phantom.acquisition import Population, sample_patient
from echodiff.phantom.dataset import main as phantom
from echodiff.report.page import ImageSet, write_report
from echodiff.runs import Run

NAMES = [f"images/{number}.png" for number in range(6)]


def write_frames(folder: Path, **columns: Any) -> Path:
    rng = np.random.default_rng(len(str(folder)))
    (folder / "images").mkdir(parents=True)
    rows = []
    for number, name in enumerate(NAMES):
        own = columns if number == 0 else {}
        Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(folder / name)
        rows.append({"file_name": name, "text": "ASD", "patient_id": f"p{number}"} | own)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`private` and `gen`, two frames folders, and `run`, which names the first one's frames."""
    monkeypatch.chdir(tmp_path)
    for name in ("private", "gen"):
        write_frames(tmp_path / name)
    (tmp_path / "run").mkdir()
    record = {
        "command": "train_lora", "status": "finished", "data_dir": str(tmp_path / "private"),
        "train": [], "val": [], "test": NAMES, "held_out": NAMES,
    }  # fmt: skip
    (tmp_path / "run/run.json").write_text(json.dumps(record))
    return tmp_path


def score(*words: str) -> int:
    return evaluate(["gen", *words, "--features", "texture", "--out", "scores"])


def test_a_run_of_a_stranger_reaches_no_local_picture(
    place: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for flags in (["--reference", "run"], ["--reference", "gen", "--train", "run"]):
        run = Run.load(place / "run")
        run.update(train=NAMES if "--train" in flags else [])
        assert score(*flags) == 2
        line = capsys.readouterr().err
        assert f"its frames are outside the run, in {place / 'private'}" in line
        assert f"to read them nevertheless, give --data {place / 'private'}" in line
        assert not Path("scores").exists()
    assert score("--reference", "run", "--data", "private") == 0
    assert "scoring against 6 held-out frames of run" in capsys.readouterr().out
    shutil.rmtree("scores")
    assert score("--reference", "private", "--data", "run") == 2
    assert "--data run: no frames of a run are read here" in capsys.readouterr().err


def test_a_run_with_the_hashes_of_its_frames_needs_no_flag(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run.load(place / "run")
    run.update(frames=hash_frames(place / "private", load_frames(place / "private")))
    assert len(choose_held_out(run).frames) == 6
    shutil.copy("gen/images/0.png", "private/images/0.png")
    assert len(choose_held_out(run).frames) == 6
    assert "1 of 6 frames changed since" in caplog.text
    for name in NAMES[1:4]:
        shutil.copy(place / "gen" / name, place / "private" / name)
    with pytest.raises(InputError, match=r"and 4 of 6 have other hashes; to read them"):
        choose_held_out(run)


def test_a_link_in_a_run_leads_out_of_it(place: Path) -> None:
    run = Run.load(place / "run")
    run.update(data_dir="frames")
    os.symlink(place / "private", place / "run/frames")
    with pytest.raises(InputError, match="its frames are outside the run"):
        find_run_frames(run, NAMES)
    (place / "run/frames").unlink()
    write_frames(place / "run/frames")
    assert len(find_run_frames(run, NAMES)[1]) == 6
    (place / "run/frames" / NAMES[0]).unlink()
    os.symlink(place / "private" / NAMES[0], place / "run/frames" / NAMES[0])
    with pytest.raises(InputError, match="its frames are outside the run"):
        find_run_frames(run, NAMES)


def test_links_out_of_a_frames_folder_are_told(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (place / "gen" / NAMES[0]).unlink()
    os.symlink(place / "private" / NAMES[0], place / "gen" / NAMES[0])
    load_frames(place / "gen")
    load_frames(place / "gen")
    told = [line for line in caplog.messages if "links that lead out of the folder" in line]
    assert told == [
        f"{place / 'gen'}: 1 of 6 images are links that lead out of the folder, such as 0.png to "
        f"{place / 'private/images/0.png'}"
    ]


def test_scores_in_a_folder_name_no_picture_of_the_report(place: Path) -> None:
    """`examples` of a metrics.json are paths: whoever wrote it chose them."""
    secret = str(place / "private/images/0.png")
    examples = {"worst": [secret], "best": [], "nearest": [], "nearest_of": 1, "features": "x"}
    (place / "gen/metrics.json").write_text(json.dumps({"scores": {}, "examples": examples}))
    for examined in (True, False):
        if not examined:
            (place / "gen/metrics.json").unlink()
        write_report(
            place / f"{examined}.html",
            title="x",
            summary="x",
            sets=[ImageSet(title="Generated", folder=place / "gen")],
            reference=place / "gen",
            reference_text="x",
        )
    assert (place / "True.html").read_bytes() == (place / "False.html").read_bytes()


def test_a_base_imports_no_module_of_a_stranger(tmp_path: Path) -> None:
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["planted", "UNet2DConditionModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="its unet is of planted, which is neither diffusers nor"):
        read_index(tmp_path)


# --- Long texts ---------------------------------------------------------------------------------


def test_a_megabyte_of_caption_takes_no_time_and_no_memory(
    place: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    for piece in ("Mc" + "x" * 30, "a_", "((", "1.", "Dr. ", "normal "):
        text = piece * (1_000_000 // len(piece))
        shutil.rmtree("gen")
        write_frames(place / "gen", text=text, prompt=text)
        start = time.process_time()
        frames = load_frames(place / "gen")
        assert len(frames[0].text) == len(frames[0].prompt or "") == 2000
        (place / "long.txt").write_text(f"{text}\nLVH\n")
        assert [len(prompt.text) for prompt in load_prompts(place / "long.txt")][1:] == [3]
        assert time.process_time() - start < 5
    lines = [line for line in caplog.messages if "2000 letters" in line]
    assert (
        lines[0]
        == f"{place / 'gen/metadata.jsonl'}: 1 captions are longer than 2000 letters: cut there"
    )
    assert lines[1].endswith("line 1: lines of more than 2000 letters are cut there")
    assert len(lines) == 12
    shutil.rmtree("gen")
    write_frames(place / "gen", text="normal septum, " * 4000)
    start = time.process_time()
    assert check(["gen", "--no-text", "--workers", "1"]) in (0, 1)
    assert time.process_time() - start < 5


def test_a_long_label_is_cut_in_linear_memory() -> None:
    """Every beginning of the label was made: 1 MB took 500 GB."""
    image = np.zeros((8, 8), np.uint8)
    short = contact_sheet([image], columns=1, labels=["a" * 200], cell=128)
    tracemalloc.start()
    sheet = contact_sheet([image], columns=1, labels=["a" * 1_000_000], cell=128)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(sheet, short)
    assert peak < 10_000_000


# --- One rule for patients, one stream for hearts, one command for a folder ---------------------


def test_scores_tell_patients_apart_as_splits_do(tmp_path: Path) -> None:
    write_frames(tmp_path / "real")
    lines = (tmp_path / "real/metadata.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row, patient in zip(rows, ["P1", "p1", "\uff30\uff11 ", "p2", None, None], strict=True):
        row["patient_id"] = patient
    rows[4]["pair_id"] = rows[5]["pair_id"] = "q"
    (tmp_path / "real/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert measure_frames(tmp_path / "real", ()).groups.tolist() == [0, 0, 0, 1, 2, 2]


def test_hearts_of_a_large_seed_are_those_of_no_other() -> None:
    population = Population()
    records = {
        (seed, patient): sample_patient(seed, patient, population)[0].to_json()
        for seed in (0, 1, 2**32, 2**32 + 1, 2**63)
        for patient in (0, 1, 2)
    }
    assert len(set(records.values())) == len(records)


@pytest.mark.parametrize(
    ("file", "text", "maker"),
    [
        ("generate.json", "{}", "generate.py"),
        ("translate.json", "{}", "echodiff translate"),
        ("README.md", "---\na: 1\n---\n## In this folder\n", "echodiff prepare"),
    ],
)
def test_a_folder_of_another_command_is_not_cleared(
    place: Path, file: str, text: str, maker: str
) -> None:
    (place / "gen" / file).write_text(text)
    before = sorted(place.rglob("*"))
    with pytest.raises(InputError, match=f"gen: was written by {maker}; echodiff phantom"):
        phantom(["--out", "gen", "--num", "2", "--size", "64", "--overwrite"])
    assert sorted(place.rglob("*")) == before


def test_phantoms_are_cleared_by_phantom_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--out", "out", "--num", "2", "--size", "64", "--workers", "1"]
    phantom(words)
    phantom([*words, "--seed", "1", "--overwrite"])
    before = (tmp_path / "out/metadata.jsonl").read_bytes()
    writer: Callable[..., FramesWriter] = FramesWriter
    with (
        pytest.raises(InputError, match="was written by echodiff phantom"),
        writer(tmp_path / "out", overwrite=True, command="generate.py") as frames,
    ):
        frames.add(Frame(file_name="a.png", text=""), np.zeros((8, 8), np.uint8))
    assert (tmp_path / "out/metadata.jsonl").read_bytes() == before


def test_a_run_of_another_training_is_not_cleared(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", command="train_lora", config={}).finish()
    with pytest.raises(InputError, match="is a run of train_lora, and train-gan --overwrite"):
        Run.create(tmp_path / "run", command="train-gan", config={}, overwrite=True)
    Run.create(tmp_path / "run", command="train_lora", config={}, overwrite=True)
