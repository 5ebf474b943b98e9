"""Losses of toy trainings are those recorded before both training loops became one.

`recorded_losses.json` was written by the two loops. It changes only when a change of the numbers is
meant; the last bits differ between machines.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from echodiff.runs import Run

RECORDED = json.loads((Path(__file__).parent / "recorded_losses.json").read_text("utf-8"))
FLAGS = {
    "plain": ["--max-steps", 5, "--log-every", 2],
    "everything": [
        *("--max-steps", 10, "--checkpoint-every", 3, "--log-every", 2, "--held-out-every", 4),
        *("--ema-decay", 0.9, "--caption-dropout", 0.2, "--gradient-accumulation", 2),
        *("--noise-offset", 0.1, "--min-snr-gamma", 5, "--lr-scheduler", "cosine"),
        *("--lr-warmup", 2),
    ],
}


@pytest.mark.parametrize("name", FLAGS)
def test_losses_of_a_lora_are_those_recorded(
    train_lora: Callable[..., None], make_frames: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    # Without captions: the toy tokenizer is trained anew for each session, not always the same.
    frames = make_frames("frames", captioned=0, null=12)
    train_lora("--data", frames, "--out", tmp_path / "run", *FLAGS[name])
    rows = Run.load(tmp_path / "run").read_metrics()
    assert [list(row) for row in rows] == [list(row) for row in RECORDED[f"lora_{name}"]]
    for ours, recorded in zip(rows, RECORDED[f"lora_{name}"], strict=True):
        assert ours == pytest.approx(recorded, rel=1e-3)
