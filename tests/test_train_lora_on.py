"""Training on: a finished run to more steps, an adapter from another one, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from echodiff.runs import Run

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

WEIGHTS = "pytorch_lora_weights.safetensors"
FLAGS = [
    *("--checkpoint-every", 2, "--log-every", 3, "--held-out-every", 2),
    *("--ema-decay", 0.9, "--lr-warmup", 2, "--caption-dropout", 0.2),
]

TrainLora = Callable[..., None]
Refusal = Callable[..., str]


@pytest.mark.parametrize("first", [4, 5])  # with its last step in a checkpoint, and after it
def test_a_finished_run_trained_on_is_the_run_that_was_asked_for_at_once(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, first: int
) -> None:
    flags = ["--data", toy_frames, *FLAGS]
    train_lora(*flags, "--out", tmp_path / "once", "--max-steps", 8)
    train_lora(*flags, "--out", tmp_path / "on", "--max-steps", first)
    train_lora(*flags, "--out", tmp_path / "on", "--max-steps", 8, "--continue")
    for name in (WEIGHTS, "metrics.jsonl"):
        once, on = (tmp_path / folder / name for folder in ("once", "on"))
        assert once.read_bytes() == on.read_bytes(), name
    assert Run.load(tmp_path / "on").is_finished
    # Now it is a run of 8 steps, whoever repeats it.
    assert "max_steps: 8" in (tmp_path / "on" / "config.yaml").read_text()
    assert "continue_: false" in (tmp_path / "on" / "config.yaml").read_text()


def test_what_cannot_be_trained_on_exactly_is_refused_and_stays_finished(
    train_lora: TrainLora, refusal: Refusal, toy_frames: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    flags = ["--data", toy_frames, *FLAGS, "--out", out, "--lr-scheduler", "cosine"]
    train_lora(*flags, "--max-steps", 4)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert "in a run of 6 steps, the first 4" in refusal(*flags, "--max-steps", 6, "--continue")
    assert "has 4 steps, 4 are asked for" in refusal(*flags, "--max-steps", 4, "--continue")
    line = refusal(*flags, "--max-steps", 6, "--continue", "--rank", 2)
    assert "is another run" in line
    assert "--rank (8 there, 2 here)" in line
    line = refusal(*flags, "--max-steps", 6)
    assert "--max-steps (4 there, 6 here)" in line
    line = refusal("--data", toy_frames, "--continue")
    assert line.endswith("--continue: takes the run of --out, and not together with --overwrite")
    assert before.keys() == {path for path in out.rglob("*") if path.is_file()}
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "finished"
    assert (out / "metrics.jsonl").read_bytes() == before[out / "metrics.jsonl"]


def test_notes_and_cards_are_not_another_data_set_and_what_changed_is_named(
    train_lora: TrainLora, refusal: Refusal, toy_frames: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    flags = ["--data", toy_frames, "--out", out, "--max-steps", 1]
    train_lora(*flags)
    (toy_frames / "NOTES.txt").write_text("looked at on Monday")
    (toy_frames / "README.md").write_text("# a card")
    assert "is a finished run" in refusal(*flags)
    rows = (toy_frames / "metadata.jsonl").read_text().splitlines()
    row = json.loads(rows[1])
    rows[1] = json.dumps(row | {"text": "another caption"})
    (toy_frames / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    line = refusal(*flags)
    assert "is another run; --overwrite starts anew. It differs in" in line
    assert f"{row['file_name']} (changed)" in line


@pytest.mark.parametrize("name", [WEIGHTS, "pytorch_lora_weights_kohya.safetensors",
                                  "adapter_model.safetensors", ""])  # fmt: skip
def test_an_adapter_is_started_from_another_one(
    train_lora: TrainLora, refusal: Refusal, toy_frames: Path, tmp_path: Path, name: str
) -> None:
    flags = ["--data", toy_frames, "--max-steps", 2]
    train_lora(*flags, "--out", tmp_path / "first")
    start = tmp_path / "first" / name if name else tmp_path / "first"
    # Steps of next to no size: what is saved is what was started from.
    still = [*flags, "--learning-rate", 1e-12, "--seed", 5, "--init-from", start]
    train_lora(*still, "--out", tmp_path / "second")
    first, second = (load_file(tmp_path / run / WEIGHTS) for run in ("first", "second"))
    for key, values in first.items():
        torch.testing.assert_close(second[key], values, rtol=0, atol=1e-7)
    line = refusal(*still, "--out", tmp_path / "third", "--rank", 4)
    assert "give its --rank" in line
    assert not (tmp_path / "third").exists()


def test_what_the_weights_started_from_have_seen_is_no_reference(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path
) -> None:
    train_lora("--data", toy_frames, "--max-steps", 1, "--out", tmp_path / "first")
    others = shutil.copytree(toy_frames, tmp_path / "others")
    rows = (others / "metadata.jsonl").read_text().replace('"patient_id": "', '"patient_id": "z')
    (others / "metadata.jsonl").write_text(rows)
    start = ["--data", others, "--max-steps", 1, "--init-from", tmp_path / "first"]
    train_lora(*start, "--out", tmp_path / "second")
    seen = [Run.load(tmp_path / name).record["trained_on"] for name in ("first", "second")]
    assert set(seen[0]["patients"]) < set(seen[1]["patients"])
    assert set(seen[0]["pixels"]) <= set(seen[1]["pixels"])


def test_the_weights_started_from_are_part_of_the_run(
    train_lora: TrainLora, refusal: Refusal, toy_frames: Path, tmp_path: Path
) -> None:
    flags = ["--data", toy_frames, "--max-steps", 1]
    for seed in (1, 2):
        train_lora(*flags, "--out", tmp_path / str(seed), "--seed", seed)
    start = tmp_path / "start.safetensors"
    start.write_bytes((tmp_path / "1" / WEIGHTS).read_bytes())
    train_lora(*flags, "--out", tmp_path / "run", "--init-from", start)
    Run.load(tmp_path / "run").update(status="running")
    start.write_bytes((tmp_path / "2" / WEIGHTS).read_bytes())
    assert "was begun from other weights" in refusal(
        *flags, "--out", tmp_path / "run", "--init-from", start
    )
    assert "--init-from" in refusal(*flags, "--out", tmp_path / "x", "--init-from", "nowhere")
