"""Planted truth at the size of the demo: weights trained for 800 epochs on 40 frames."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from echodiff.__main__ import main
from echodiff.audit import set_test
from echodiff.audit.subjects import Units
from echodiff.phantom.dataset import write_phantom_frames

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3 * 3600),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]
TRAIN = (
    "--base", "tiny", "--rank", "8", "--alpha", "64", "--learning-rate", "2.2e-3",
    "--lr-scheduler", "cosine", "--batch-size", "16", "--epochs", "800", "--sample-every", "0",
)  # fmt: skip

PRIVATE = (
    "--base", "tiny", "--rank", "8", "--alpha", "64", "--learning-rate", "2.2e-3",
    "--lr-scheduler", "cosine", "--batch-size", "16", "--max-steps", "660", "--sample-every", "0",
    "--dp-epsilon", "1",
)  # fmt: skip


def write_patients(folder: Path, *, seed: int, train: int = 40, test: int = 40) -> Path:
    """The first frame of each phantom patient, at 128 pixels."""
    pool = folder.with_name(folder.name + "-pool")
    write_phantom_frames(pool, num=2 * (train + test), seed=seed, size=128, styles=("cedar",))
    rows: dict[str, dict] = {}
    for line in (pool / "metadata.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        rows.setdefault(row["patient_id"], row)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number, row in enumerate(rows.values()):
        for key, name in (("file_name", "images"), ("mask_file_name", "masks")):
            shutil.copyfile(pool / row[key], folder / name / f"{number:04d}.png")
            row[key] = f"{name}/{number:04d}.png"
        row["split"] = "train" if number < train else "test"
    text = "".join(json.dumps(row) + "\n" for row in rows.values())
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """`seen`, for trainings; `never`, other frames under the same names."""
    place = tmp_path_factory.mktemp("planted")
    write_patients(place / "seen", seed=7)
    write_patients(place / "never", seed=1007)
    return place


@pytest.fixture(scope="module")
def place(frames):
    """The folder of the frames with `run`, trained on those that were seen."""
    command = [sys.executable, "-m", "echodiff", "train-lora", *TRAIN]
    command += ["--data", str(frames / "seen"), "--out", str(frames / "run")]
    subprocess.run(command, check=True)
    return frames


@pytest.fixture(scope="module")
def audits(place):
    """privacy.json of the frames that were seen, and of those that were not; seconds of both."""
    records, begun = {}, time.monotonic()
    for name in ("seen", "never"):
        out = place / f"audit-{name}"
        main(["audit", str(place / "run"), "--data", str(place / name), "--out", str(out)])
        records[name] = json.loads((out / "privacy.json").read_text("utf-8"))
    return records, time.monotonic() - begun


def test_over_trained_weights_are_caught(audits):
    record = audits[0]["seen"]
    tests = [one for one in record["attacks"].values() if "auc" in one]
    assert max(one["auc"] for one in tests) >= 0.7
    assert record["attacks"]["set"]["p"] < 0.01
    assert not record["passed"]


def test_the_layouts_of_their_training_frames_come_back(audits):
    """800 epochs of rank 8 learn where chambers lie, and not the grain of `extraction`."""
    seen, never = (audits[0][name]["attacks"] for name in ("seen", "never"))
    assert seen["recall"]["auc"] >= 0.7
    assert seen["recall"]["p_holm"] < 0.001
    assert never["recall"]["low"] <= 0.5 <= never["recall"]["high"]
    assert never["extraction"]["num_frames_extracted"] == 0
    assert any("layout" in reason for reason in audits[0]["seen"]["reasons"])


def test_of_frames_that_were_never_seen_they_know_nothing(audits):
    record = audits[0]["never"]
    tests = [one for one in record["attacks"].values() if "auc" in one]
    assert all(one["low"] <= 0.5 <= one["high"] for one in tests)
    assert record["attacks"]["set"]["p"] > 0.01


def test_five_attacks_on_40_and_40_frames_take_ten_minutes_at_most(audits):
    assert audits[1] / 2 < 600


def test_the_p_of_the_set_is_uniform_over_200_sets_of_never_seen_frames(place, tmp_path):
    """One reading of 80 never-seen frames by the over-trained weights, dealt anew 200 times."""
    from echodiff.audit.audit_config import AuditConfig
    from echodiff.audit.diffusion import attack_diffusion
    from echodiff.runs import Run

    config = AuditConfig(run=place / "run", data=place / "never", out=tmp_path, pairs=16)
    target = attack_diffusion(config, Run.load(place / "run"), tmp_path)
    joined = set_test.join_scores({one.name: one.scores for one in target.attacks if one.is_joined})
    generator = np.random.default_rng(0)
    values = []
    for draw in range(200):
        is_member = np.zeros(len(joined), bool)
        is_member[generator.permutation(len(joined))[:40]] = True
        units = Units(np.arange(len(joined)), is_member, np.zeros(len(joined), np.int64))
        values.append(set_test.compare_sets(joined, units, seed=draw, num_permutations=1000).p)
    assert kstest(values, "uniform").pvalue > 0.01


@pytest.mark.parametrize("is_noisy", [True, False])
def test_a_claimed_epsilon_is_refuted_where_the_noise_was_off(
    frames, tmp_path, monkeypatch, is_noisy
):
    """The audit shows no more than an honest epsilon of 1, and more than a false one."""
    from echodiff.diffusion import private_gradient

    run, out = tmp_path / "run", tmp_path / "audit"
    if not is_noisy:
        monkeypatch.setattr(private_gradient, "draw_noise", lambda key, step, n: torch.zeros(n))
    words = ["train-lora", *PRIVATE, "--data", frames / "seen", "--out", run]
    assert main([*map(str, words)]) == 0
    main(["audit", str(run), "--out", str(out), "--attempts", "4"])
    record = json.loads((out / "privacy.json").read_text("utf-8"))
    assert record["ceiling"]["claimed"] == 1
    assert (record["ceiling"]["epsilon"] <= 1) == is_noisy
    assert any("1 was claimed" in reason for reason in record["reasons"]) != is_noisy
