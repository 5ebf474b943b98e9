"""Frames that a training has seen are no reference, under whatever name they come back."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from echodiff.data.reference import choose_reference
from echodiff.evaluate import main, score_frames
from echodiff.files import shipped
from echodiff.frames.reader import load_frames
from echodiff.runs import Run
from echodiff.settings.command_line import run_main

pytestmark = pytest.mark.filterwarnings(
    # diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

SPLITS = ["train"] * 20 + ["val"] * 5 + ["test"] * 5
"""Of thirty patients, two frames each."""


def write_real(folder: Path, splits: list[str], *, seed: int = 0, size: int = 32) -> Path:
    """Two noisy frames of every patient; patients are called P0, P1, ..."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = []
    for index in range(2 * len(splits)):
        image = rng.normal(90, 30, (size, size)).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"images/{index:04d}.png")
        rows.append({"file_name": f"images/{index:04d}.png", "text": f"four chamber view {index}",
                     "patient_id": f"P{index // 2}", "split": splits[index // 2]})  # fmt: skip
    return write_rows(folder, rows)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def generate_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", shipped("generate.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    train_script: ModuleType,
    generate_script: ModuleType,
    tiny_random_base: Path,
) -> Path:
    """`frames/ours` with a split column, `runs/ours` trained on it, `generated/asd` drawn by it."""
    from accelerate.state import AcceleratorState, GradientState

    place = tmp_path_factory.mktemp("finished")
    write_real(place / "frames/ours", SPLITS)
    (place / "asd.txt").write_text("ASD\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        train_script.main(
            ["--base", str(tiny_random_base), "--data", "frames/ours", "--out", "runs/ours",
             "--max-steps", "1", "--batch-size", "1", "--threads", "1"]
        )  # fmt: skip
        generate_script.main(
            ["--prompt-file", "asd.txt", "--weights", "runs/ours", "--num-images", "6",
             "--steps", "1", "--features", "texture", "--out", "generated/asd"]
        )  # fmt: skip
    return place


@pytest.fixture
def place(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in."""
    shutil.copytree(finished, tmp_path / "place")
    record = tmp_path / "place/runs/ours/run.json"
    record.write_text(record.read_text().replace(str(finished), str(tmp_path / "place")))
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def evaluate(*words: str) -> int:
    out = ["--features", "texture", "--out", "scores"]
    return main([*(words or ("generated/asd",)), *out])


def scores() -> dict[str, Any]:
    result: dict[str, Any] = json.loads(Path("scores/metrics.json").read_text())
    return result


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of an evaluation that is refused, and has written nothing."""
    capsys.readouterr()
    assert evaluate(*words) == 2
    assert not Path("scores").exists()
    lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(lines) == 1
    return lines[0]


# --- Which rows ---------------------------------------------------------------------------------


def test_of_the_folder_of_the_training_the_reference_takes_what_is_held_out(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = ("--reference", "frames/ours", "--train", "frames/ours")
    assert evaluate("generated/asd", *ours) == 0
    result = scores()
    assert result["scores"]["mmd_texture"]["n_reference"] == 20
    assert result["scores"]["copies_texture"]["n_train"] == 40
    assert result["scores"]["copies_texture"]["distance"] > 0
    assert result["reference"] == "frames/ours"
    assert not [alarm for alarm in result["alarms"] if "shared" in alarm]
    near = [Path(theirs).name for _, theirs in result["examples"]["nearest"]]
    assert all(int(name[:4]) < 40 for name in near)  # training frames, and no others
    assert "20 frames of ours (val, test)" in Path("scores/report.html").read_text()
    assert "scoring against 20 frames of frames/ours (val, test)" in capsys.readouterr().out


def test_split_says_which_rows_count(place: Path) -> None:
    assert evaluate("generated/asd", "--reference", "frames/ours", "--split", "test") == 0
    assert scores()["scores"]["mmd_texture"]["n_reference"] == 10


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("train", "frames/ours: 40 of 40 frames were trained on (runs/ours): 20 patients (P0, P1,"),
        ("train,test", "40 of 50 frames were trained on (runs/ours)"),
        ("held-out", "--split held-out: 'held-out' is not one of train, val, test"),
    ],
)
def test_a_split_that_was_trained_on_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str], split: str, words: str
) -> None:
    assert words in refusal(capsys, "generated/asd", "--reference", "frames/ours", "--split", split)


def test_a_folder_without_the_split_asked_for_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_real(place / "other", ["test"] * 3, seed=1)
    words = ("generated/asd", "--reference", "other", "--split", "val")
    assert "no row is of split val (there are: test 6)" in refusal(capsys, *words)
    write_rows(other, [row | {"split": None} for row in read_rows(other)])
    assert "--split val: --reference other has no split column" in refusal(capsys, *words)
    write_rows(other, [row | {"split": None} if i else row
                       for i, row in enumerate(read_rows(other))])  # fmt: skip
    write_rows(other, [{**read_rows(other)[0], "split": "test"}, *read_rows(other)[1:]])
    assert "some rows have no split (5 of 6)" in refusal(capsys, *words)


def test_a_run_stands_for_its_held_out_frames(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("generated/asd", "--reference", "runs/ours", "--train", "runs/ours") == 0
    assert scores()["scores"]["mmd_texture"]["n_reference"] == 10
    assert "10 held-out frames of runs/ours (test)" in capsys.readouterr().out


def test_pairs_and_samples_are_of_the_same_rows(place: Path) -> None:
    # A translation of every frame, of another brightness each.
    shutil.copytree("frames/ours", "translated")
    for path in Path("translated/images").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 2).save(path)
    words = ("--reference", "frames/ours", "--paired")
    assert evaluate("translated", *words, "--split", "test") == 0
    result = scores()
    assert result["scores"]["mae"]["n"] == 10
    assert result["notes"] == ["50 images have no partner"]


# --- What a training has seen -------------------------------------------------------------------


def test_a_run_records_both_held_out_splits_and_what_it_has_seen(place: Path) -> None:
    record = Run.load(place / "runs/ours").record
    assert [len(record[key]) for key in ("train", "val", "test", "held_out")] == [40, 10, 10, 20]
    assert not set(record["val"]) & set(record["test"])
    seen = record["trained_on"]
    assert [len(seen[key]) for key in ("patients", "pixels", "sketches")] == [20, 40, 40]
    assert "P1" not in json.dumps(seen)  # hashes alone
    beside = json.loads((place / "generated/asd/generate.json").read_text())["trained_on"]
    assert beside == {key: sorted(seen[key]) if key == "pixels" else seen[key]
                      for key in ("pixels", "sketches")}  # fmt: skip


def test_without_its_run_a_set_is_checked_by_images_and_says_so(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hashes of ids can be guessed: they stay with the run, and do not travel with a set."""
    shutil.rmtree("runs/ours")
    shutil.copytree("frames/ours", "copy")
    rows = [row | {"split": None} for row in read_rows(Path("copy"))]
    write_rows(place / "copy", rows)
    line = refusal(capsys, "generated/asd", "--reference", "copy")
    assert "40 of 60 frames were trained on" in line
    upper(place / "copy", rows)
    write_rows(place / "copy", rows)
    assert evaluate("generated/asd", "--reference", "copy") == 0
    assert any("but not with its patients" in note for note in scores()["notes"])


def rename(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Another folder, other names, no split column."""
    for index, row in enumerate(rows):
        new = f"images/frame-{100 - index}.png"
        (folder / row["file_name"]).rename(folder / new)
        row["file_name"] = new


def upper(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Other frames of the same patients, whose ids are written in another way."""
    rng = np.random.default_rng(9)
    for row in rows:
        noise = rng.integers(0, 256, (32, 32), dtype=np.uint8)
        Image.fromarray(noise).save(folder / row["file_name"])
        row["patient_id"] = f" {row['patient_id'].lower()}"


def anonymous(folder: Path, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        del row["patient_id"]


def as_rgb_tiff(folder: Path, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        path = folder / row["file_name"]
        Image.open(path).convert("RGB").save(path.with_suffix(".tif"))
        path.unlink()
        row["file_name"] = row["file_name"].replace(".png", ".tif")
        row["patient_id"] = "Q" + row["patient_id"]


def as_16_bit(folder: Path, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        path = folder / row["file_name"]
        deep = np.asarray(Image.open(path)).astype(np.uint16) * 257
        Image.fromarray(deep).save(path)
        row["patient_id"] = "Q" + row["patient_id"]


def as_jpeg(folder: Path, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        path = folder / row["file_name"]
        Image.open(path).save(path.with_suffix(".jpg"), quality=90)
        path.unlink()
        row["file_name"] = row["file_name"].replace(".png", ".jpg")
        row["patient_id"] = "Q" + row["patient_id"]


BY_PATIENT = "20 patients (P0, P1, P2, P3, P4 and 15 more)"
BY_PIXELS = "40 by their pixels (images/0000"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (rename, BY_PATIENT),
        (upper, "20 patients (p0, p1,"),
        (anonymous, BY_PIXELS),
        (as_rgb_tiff, BY_PIXELS),
        (as_16_bit, BY_PIXELS),
        (as_jpeg, BY_PIXELS),
    ],
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_a_copy_of_the_training_is_refused(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path, list[dict[str, Any]]], None],
    told: str,
) -> None:
    shutil.copytree("frames/ours", "copy")
    rows = [{k: v for k, v in row.items() if k != "split"} for row in read_rows(Path("copy"))]
    change(place / "copy", rows)
    write_rows(place / "copy", rows)
    line = refusal(capsys, "generated/asd", "--reference", "copy")
    assert f"--reference copy: 40 of 60 frames were trained on (runs/ours): {told}" in line
    assert "(those that the run held out: --reference runs/ours)" in line
    shutil.rmtree("generated/asd/images")
    shutil.copytree("frames/ours/images", "generated/asd/images")  # of no run: --train tells
    plain = [{"file_name": row["file_name"], "text": ""} for row in read_rows(Path("frames/ours"))]
    write_rows(place / "generated/asd", plain)
    Path("generated/asd/generate.json").unlink()
    train = ("--train", "frames/ours")
    line = refusal(capsys, "generated/asd", "--reference", "copy", *train)
    assert f"40 of 60 frames were trained on (--train frames/ours): {told}" in line


def test_every_set_of_a_comparison_is_asked(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_real(place / "plain", ["test"] * 3, seed=3)
    words = ("--compare", "plain", "generated/asd", "--reference", "frames/ours")
    assert "were trained on (runs/ours)" in refusal(capsys, *words, "--split", "train")
    assert evaluate(*words) == 0


def test_other_people_of_the_same_ids_are_told_by_source(place: Path) -> None:
    other = write_real(place / "other", ["test"] * 6, seed=2)
    write_rows(other, [row | {"source": "elsewhere"} for row in read_rows(other)])
    ours = [row | {"source": "ours"} for row in read_rows(place / "frames/ours")]
    write_rows(place / "frames/ours", ours)
    for name in ("generate.json", "metadata.jsonl"):  # drawn by nobody known
        text = (place / "generated/asd" / name).read_text()
        (place / "generated/asd" / name).write_text(text.replace("trained_on", "-"))
    rows = [{k: row[k] for k in ("file_name", "text")} for row in read_rows(Path("generated/asd"))]
    write_rows(place / "generated/asd", rows)
    assert evaluate("generated/asd", "--reference", "other", "--train", "frames/ours") == 0


def test_one_folder_without_splits_is_not_both(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_real(place / "other", ["test"] * 12, seed=2)
    write_rows(other, [row | {"split": None} for row in read_rows(other)])
    line = refusal(capsys, "generated/asd", "--reference", "other", "--train", "other")
    assert (
        "--reference other: 24 of 24 frames were trained on (runs/ours and --train other)" in line
    )


def test_a_set_of_an_older_run_is_checked_by_what_the_run_names(
    place: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    job = json.loads(Path("generated/asd/generate.json").read_text())
    del job["trained_on"]
    Path("generated/asd/generate.json").write_text(json.dumps(job))
    record = json.loads(Path("runs/ours/run.json").read_text())
    for key in ("trained_on", "val", "test"):
        del record[key]
    Path("runs/ours/run.json").write_text(json.dumps(record))
    words = ("generated/asd", "--reference", "frames/ours")
    assert "were trained on (runs/ours)" in refusal(capsys, *words, "--split", "train")
    # Nothing but the names of frames that are gone: nobody can tell.
    Path("frames/ours").rename("frames/moved")
    assert evaluate("generated/asd", "--reference", "frames/moved") == 0
    told = "generated/asd: cannot check whether the reference was used for training"
    assert told in caplog.text
    assert any(note.startswith(told) for note in scores()["notes"])


def test_the_python_function_refuses_too(place: Path) -> None:
    result = score_frames(Path("generated/asd"), Path("frames/ours"), features=["texture"])
    assert result["scores"]["mmd_texture"]["n_reference"] == 20


def test_rows_without_a_patient_are_told_once(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = read_rows(Path("frames/ours"))
    for row in rows[:3] + rows[-2:]:
        del row["patient_id"]
    write_rows(place / "frames/ours", rows)
    shutil.copytree("frames/ours", "copy")
    assert evaluate("generated/asd", "--reference", "runs/ours", "--train", "frames/ours") == 0
    told = [r.getMessage() for r in caplog.records if "patient_id" in r.getMessage()]
    assert len(told) == 1
    assert "5 of 50 rows have no patient_id" in told[0]
    assert "--patient-regex" in told[0]


# --- generate.py --------------------------------------------------------------------------------


@pytest.fixture
def generate(
    place: Path, generate_script: ModuleType, fresh_accelerate: Callable[[], None]
) -> Callable[..., int]:
    flags = ["--prompt-file", "asd.txt", "--num-images", "4", "--steps", "1"]
    flags += ["--features", "texture", "--out", "set"]

    def run(*more: str) -> int:
        fresh_accelerate()
        return run_main(lambda: generate_script.main([*flags, *more]), "generate.py")

    return run


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "10 held-out frames of runs/ours (test)"),
        (["--reference", "frames/ours"], "20 frames of frames/ours (val, test)"),
    ],
)
def test_final_scores_are_of_the_test_split(
    generate: Callable[..., int], capsys: pytest.CaptureFixture[str], flags: list[str], told: str
) -> None:
    assert generate("--weights", "runs/ours", *flags) == 0
    assert f"scoring against {told}" in capsys.readouterr().out
    result = json.loads(Path("set/metrics.json").read_text())
    assert result["scores"]["mmd_texture"]["n_reference"] == int(told.split()[0])


def test_with_few_test_frames_val_is_taken_and_told(
    generate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads(Path("runs/ours/run.json").read_text())
    Path("runs/ours/run.json").write_text(json.dumps(record | {"test": []}))
    assert generate("--weights", "runs/ours") == 0
    told = "10 held-out frames of runs/ours (val: it has no test frames)"
    assert told in capsys.readouterr().out
    few = record | {"test": record["test"][:3]}
    Path("runs/ours/run.json").write_text(json.dumps(few))
    assert choose_reference(Path("runs/ours")).text == (
        "13 held-out frames of runs/ours (val and test: 3 test frames are too few)"
    )


@pytest.mark.parametrize("weights", ["runs/ours", "runs/ours/pytorch_lora_weights.safetensors"])
def test_nothing_is_drawn_for_a_reference_that_was_trained_on(
    generate: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tiny_random_base: Path,
    weights: str,
) -> None:
    flags = ("--base", str(tiny_random_base), "--resolution", "32", "--weights", weights)
    assert generate(*flags, "--reference", "frames/ours", "--split", "train") == 2
    assert "40 of 40 frames were trained on (runs/ours)" in capsys.readouterr().err
    assert not Path("set").exists()


def test_a_held_out_frame_that_repeats_a_trained_one_is_left_out(
    generate: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy("frames/ours/images/0000.png", "frames/ours/images/0059.png")
    assert generate("--weights", "runs/ours") == 0
    assert "1 of 10 frames were trained on (runs/ours): 1 by their pixels" in caplog.text
    result = json.loads(Path("set/metrics.json").read_text())
    assert result["scores"]["mmd_texture"]["n_reference"] == 9


def test_weights_of_no_run_cannot_be_checked(
    generate: Callable[..., int], caplog: pytest.LogCaptureFixture, tiny_random_base: Path
) -> None:
    shutil.copy("runs/ours/pytorch_lora_weights.safetensors", "adapter.safetensors")
    flags = ("--base", str(tiny_random_base), "--resolution", "32")
    assert generate(*flags, "--weights", "adapter.safetensors", "--reference", "frames/ours") == 0
    assert "cannot check whether the reference was used for training" in caplog.text
    caplog.clear()
    assert len(load_frames(Path("set"))) == 4
    shutil.rmtree("set")
    assert generate(*flags, "--weights", "none", "--reference", "frames/ours") == 0
    assert not caplog.text
