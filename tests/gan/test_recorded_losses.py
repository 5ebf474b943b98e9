"""Losses of each method are those recorded before both training loops became one."""

import json
from pathlib import Path

import pytest

from echodiff.runs import Run

RECORDED = json.loads((Path(__file__).parents[1] / "recorded_losses.json").read_text("utf-8"))
STEPS = ["--epochs", 1, "--decay-epochs", 1, "--steps", 7, "--log-every", 2]


@pytest.mark.parametrize(
    "name", ["cyclegan", "cyclegan_batch", "cut", "patch_cgan", "regression", "srgan"]
)
def test_losses_are_those_recorded(echodiff, toy_flags, domains, tmp_path, name):
    method = name.removesuffix("_batch")
    folders = domains[:2] if method in {"patch_cgan", "srgan"} else domains
    flags = [*folders, *toy_flags[name], "--method", method, *STEPS]
    flags += ["--flip-equivariance"] if method == "cut" else []
    assert echodiff("train-gan", *flags, "--out", tmp_path / "run") == 0
    rows = Run.load(tmp_path / "run").read_metrics()
    assert [list(row) for row in rows] == [list(row) for row in RECORDED[f"gan_{name}"]]
    for ours, recorded in zip(rows, RECORDED[f"gan_{name}"], strict=True):
        assert ours == pytest.approx(recorded, rel=1e-2, abs=1e-4)
