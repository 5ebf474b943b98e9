"""`train_lora.py --membership-every`: does the adapter show its frames, and the stop then."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest, mannwhitneyu

from echodiff.diffusion.membership import MIN_PATIENTS, Membership, choose_sides
from echodiff.errors import InputError
from echodiff.frames.rows import Frame
from echodiff.metrics.member_test import compare_members
from echodiff.report.privacy_curve import (
    describe_guarantee,
    describe_membership,
    draw_membership,
)
from echodiff.runs import Run
from echodiff.training.checkpoints import load_newest_checkpoint

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

WEIGHTS = "pytorch_lora_weights.safetensors"

TrainLora = Callable[..., None]


class StoppedError(Exception):
    """In the place of a kill."""


@pytest.fixture
def split_frames(make_frames: Callable[..., Path]) -> Path:
    """Twelve captioned frames of as many patients, half of them held out."""
    folder = make_frames("split", captioned=12, null=0, num_patients=12)
    rows = [json.loads(row) for row in (folder / "metadata.jsonl").read_text().splitlines()]
    for index, row in enumerate(rows):
        row["split"] = ("train", "val")[index % 2]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_run_stops_at_the_first_test_below_the_limit_and_a_resumed_one_there_too(
    train_lora: TrainLora, split_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is one that the first test after the start is below, whatever it finds."""
    flags = [
        *("--data", split_frames, "--max-steps", 9, "--membership-every", 3),
        *("--membership-stop", 0.99999, "--membership-pairs", 2, "--membership-frames", 8),
        *("--checkpoint-every", 1, "--log-every", 2, "--held-out-frames", 4),
    ]
    train_lora(*flags, "--out", tmp_path / "straight")
    run = Run.load(tmp_path / "straight")
    rows = {row["step"]: row for row in run.read_metrics() if "membership_p" in row}
    assert list(rows) == [0, 3]
    assert (rows[0]["membership_p"], rows[0]["membership_gap"]) == (1, 0)
    assert rows[3]["membership_p"] < 0.99999
    assert (
        rows[3]["membership_gap_low"] < rows[3]["membership_gap"] < rows[3]["membership_gap_high"]
    )
    losses = [row["step"] for row in run.read_metrics() if "loss" in row]
    assert losses == [2, 3]  # what was read, but not logged yet, comes at the end
    assert run.record["num_steps"] == 3
    assert run.record["membership"] == {
        "num_members": 6, "num_others": 6, "num_frames": 12, "num_pairs": 2, "stop": 0.99999,
    }  # fmt: skip
    checkpoint = load_newest_checkpoint(run.checkpoints)
    assert checkpoint is not None
    assert checkpoint.step == 2
    page = (tmp_path / "straight" / "report.html").read_text()
    assert "Stopped at step 3: as a set, the training frames show (p " in page
    assert "stopped here" in page

    # --- Killed in the test that would have stopped it
    call = Membership.__call__

    def die(self: Any, network: Any, step: int) -> Any:
        if step == 3:
            raise StoppedError
        return call(self, network, step)

    with monkeypatch.context() as patched:
        patched.setattr(Membership, "__call__", die)
        with pytest.raises(StoppedError):
            train_lora(*flags, "--out", tmp_path / "killed")
    train_lora(*flags, "--out", tmp_path / "killed")
    for name in (WEIGHTS, "metrics.jsonl"):
        straight, killed = (tmp_path / folder / name for folder in ("straight", "killed"))
        assert straight.read_bytes() == killed.read_bytes(), name


def test_looking_changes_nothing_of_what_is_learnt(
    train_lora: TrainLora, split_frames: Path, tmp_path: Path
) -> None:
    flags = ["--data", split_frames, "--max-steps", 3, "--held-out-frames", 4]
    looks = ["--membership-every", 1, "--membership-pairs", 1, "--membership-frames", 8]
    train_lora(*flags, "--out", tmp_path / "plain")
    train_lora(*flags, *looks, "--out", tmp_path / "looked")
    plain, looked = (tmp_path / name / WEIGHTS for name in ("plain", "looked"))
    assert plain.read_bytes() == looked.read_bytes()
    rows = [Run.load(tmp_path / name).read_metrics() for name in ("plain", "looked")]
    assert rows[0] == [row for row in rows[1] if "membership_p" not in row]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--membership-stop", 0.1], "--membership-stop: needs --membership-every"),
        (["--membership-every", 2], f"--membership-every: needs {MIN_PATIENTS} patients"),
        (["--membership-every", 2, "--membership-stop", 1.5], "must be between 0 and 1"),
    ],
)
def test_what_cannot_be_tested_is_refused_before_anything_is_written(
    refusal: Callable[..., str], toy_frames: Path, tmp_path: Path, flags: list[object], reason: str
) -> None:
    out = tmp_path / "run"
    assert reason in refusal("--data", toy_frames, "--out", out, *flags)
    assert not out.exists()


def make_rows(texts: str, vendors: str, start: int) -> list[Frame]:
    return [
        Frame(file_name=f"{start + i}.png", text=text.strip("-"), vendor=vendor,
              patient_id=f"p{start + i}")
        for i, (text, vendor) in enumerate(zip(texts, vendors, strict=True))
    ]  # fmt: skip


def test_frames_are_compared_with_frames_of_the_same_kind() -> None:
    train = make_rows("aaaaaa------", "gggggggggggp", 0)
    others = make_rows("aaaaa-------", "gggggpggggss", 100)
    sides = choose_sides(train, others, 64, seed=0)
    assert sides.members == [0, 1, 2, 3, 4, 5]  # captioned, of the vendor that both have
    assert sides.others == [0, 1, 2, 3, 4]
    sides = choose_sides(train, make_rows("-" * 6, "gggggg", 100), 64, seed=0)
    assert sides.members == [6, 7, 8, 9, 10]
    with pytest.raises(InputError, match="there are 4"):
        choose_sides(train, make_rows("aaaa------", "ggggssssss", 100), 64, seed=0)
    assert len(choose_sides(train[:6], others, 5, seed=0).members) == 5


def test_the_p_is_uniform_where_nobody_was_memorised_and_small_where_all_were() -> None:
    rng = np.random.default_rng(0)
    is_member = np.arange(24) < 10
    strata = [("a", "b")[index % 2] for index in range(24)]
    shift = np.array([5.0 * (one == "b") for one in strata])  # another vendor costs more
    tests = [
        compare_members(
            rng.standard_t(3, 24) + shift, is_member, strata, seed=seed, num_permutations=499
        )
        for seed in range(200)
    ]
    assert kstest([test.p for test in tests], "uniform").pvalue > 0.01
    inside = np.mean([test.low < 0 < test.high for test in tests])
    assert 0.9 < inside < 0.99
    costs = rng.normal(size=24) + shift - 3.0 * is_member
    test = compare_members(costs, is_member, strata, seed=0)
    assert test.p < 0.001
    assert test.low > 0
    assert (test.num_members, test.num_others) == (10, 14)
    # Without strata it agrees with a test of ranks on values that are ranks.
    ranks = rng.permutation(24).astype(float)
    p = compare_members(ranks, is_member, [None] * 24, seed=1).p
    exact = mannwhitneyu(ranks[is_member], ranks[~is_member], alternative="less").pvalue
    assert p == pytest.approx(exact, abs=0.02)


def test_the_page_says_what_was_found_and_what_is_guaranteed() -> None:
    rows = [
        {"step": 100 * i, "membership_p": p, "membership_gap": 0.01, "membership_gap_low": -0.001,
         "membership_gap_high": 0.021}
        for i, p in enumerate((1.0, 0.4, 0.06))
    ]  # fmt: skip
    record = {"num_members": 40, "num_others": 30, "stop": None}
    assert describe_membership(rows, record) == (
        "At the last test the training frames do not stand out as a set (p 0.06, gap 1 % "
        "[-0.1, 2.1], 40 patients against 30)."
    )
    chart = draw_membership(rows, record | {"stop": 0.1})
    assert chart is not None
    assert "limit 0.1" in chart.svg
    assert "stopped here" in chart.svg
    assert draw_membership(rows[:1], record) is None
    assert describe_membership([], {}) == ""
    assert describe_guarantee({}) == ""
    spent = {"noise": "secret", "num_patients": 40, "epsilon": 7.94, "delta": 1e-5,
             "noise_to_signal": 274.1}  # fmt: skip
    assert describe_guarantee(spent) == (
        "Differential privacy: for each of 40 patients the weights satisfy (epsilon, delta) = "
        "(7.94, 1e-05); on the gradient of a step the noise is 274 times the clip."
    )
    assert "nothing is guaranteed" in describe_guarantee(spent | {"noise": "seeded"})
