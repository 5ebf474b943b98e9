"""Killed by the system at random steps, again and again, and gone on with: the same bytes."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from echodiff.published import MASK_FILES

WEIGHTS = "pytorch_lora_weights.safetensors"

Start = Callable[..., list[Any]]


@pytest.fixture
def start(fork_script: Start, tiny_random_base: Path, toy_frames: Path) -> Start:
    """`start(out, num_processes, *flags)`: one run in so many processes."""

    def run(out: Path, num_processes: int, *more: str) -> list[Any]:
        flags = [
            *("--base", str(tiny_random_base), "--data", str(toy_frames), "--out", str(out)),
            *("--threads", "1", "--epochs", "20"),
            *("--checkpoint-every", "2", "--log-every", "1", "--held-out-every", "3"),
            *("--ema-decay", "0.9", "--caption-dropout", "0.2", "--lr-scheduler", "cosine"),
            *more,
        ]
        return fork_script("train_lora.py", flags, num_processes=num_processes)

    return run


def last_step(out: Path) -> int:
    """The last step in `metrics.jsonl`, -1 before there is any."""
    metrics = out / "metrics.jsonl"
    rows = metrics.read_bytes().split(b"\n") if metrics.exists() else []
    return max((int(row.split(b",")[0].split(b":")[1]) for row in rows if b"," in row), default=-1)


def kill_at(processes: list[Any], out: Path, at_step: int, delay_s: float) -> None:
    """SIGKILL all, one a little before the other, `delay_s` after `at_step` is in the curves."""
    deadline = time.monotonic() + 120
    while last_step(out) < at_step:
        assert time.monotonic() < deadline
        assert all(process.is_alive() for process in processes), "it ended before it was killed"
        time.sleep(0.002)
    time.sleep(delay_s)
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    for process in processes:
        process.join()
        assert process.exitcode == -signal.SIGKILL


def finish(processes: list[Any]) -> None:
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


@pytest.mark.parametrize(
    ("num_processes", "num_kills"),
    [
        (1, 8),
        (2, 3),
        *(pytest.param(num, 20, marks=pytest.mark.slow) for num in (1, 2)),
    ],
)
def test_killed_again_and_again_it_ends_with_the_same_bytes(
    start: Start, tmp_path: Path, num_processes: int, num_kills: int
) -> None:
    kill_and_compare(start, tmp_path, num_processes, num_kills)


@pytest.mark.slow
def test_killed_again_and_again_a_private_run_ends_with_the_same_bytes(
    start: Start, tmp_path: Path
) -> None:
    flags = ("--dp-epsilon", "8", "--dp-accountant", "rdp", "--dp-noise", "seeded")
    kill_and_compare(start, tmp_path, 1, 3, *flags)


def kill_and_compare(
    start: Start, tmp_path: Path, num_processes: int, num_kills: int, *flags: str
) -> None:
    rng = random.Random(num_kills + num_processes)
    num_steps = 3 * num_kills + 10  # a run gets three steps on at most before it is killed
    steps = ("--max-steps", str(num_steps), *flags)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    finish(start(straight, num_processes, *steps))
    for _ in range(num_kills):
        at_step = min(last_step(killed) + rng.randint(1, 3), num_steps - 4)
        processes = start(killed, num_processes, *steps)
        rng.shuffle(processes)
        kill_at(processes, killed, at_step, rng.uniform(0, 0.02))
    assert not (killed / WEIGHTS).exists()
    finish(start(killed, num_processes, *steps))
    for name in (WEIGHTS, "metrics.jsonl"):
        assert (straight / name).read_bytes() == (killed / name).read_bytes()


@pytest.mark.parametrize(
    ("kind", "num_kills"),
    [
        ("controlnet", 2),
        *(pytest.param(kind, 8, marks=pytest.mark.slow) for kind in MASK_FILES),
    ],
)
def test_a_training_with_masks_ends_with_the_same_bytes_too(
    fork_script: Start, tiny_random_base: Path, masked_frames: ModuleType, tmp_path: Path,
    kind: str, num_kills: int,
) -> None:  # fmt: skip
    frames = masked_frames.write_masked_frames(tmp_path / "frames")
    num_steps = 3 * num_kills + 6

    def begin(out: Path) -> list[Any]:
        flags = [
            *("train-controlnet", "--kind", kind, "--base", str(tiny_random_base)),
            *("--data", str(frames), "--out", str(out), "--max-steps", str(num_steps)),
            *("--batch-size", "4", "--checkpoint-every", "2", "--log-every", "1", "--threads", "1"),
            *("--obedience-every", "4", "--obedience-images", "2", "--sample-steps", "1"),
            *("--augment", "2", "--held-out-frames", "0"),
        ]
        return fork_script("echodiff/__main__.py", flags)

    rng = random.Random(num_kills)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    finish(begin(straight))
    for _ in range(num_kills):
        at_step = min(last_step(killed) + rng.randint(1, 3), num_steps - 2)
        kill_at(begin(killed), killed, at_step, rng.uniform(0, 0.02))
    finish(begin(killed))
    for name in (*MASK_FILES[kind], "metrics.jsonl"):
        assert (straight / name).read_bytes() == (killed / name).read_bytes()


def test_two_processes_are_joined_before_anything_is_written(start: Start, tmp_path: Path) -> None:
    processes = start(tmp_path / "run", 2, "--batch-size", "1")  # one frame is none for the second
    for process in processes:
        process.join(60)
        assert process.exitcode == 2
    assert not (tmp_path / "run").exists()
