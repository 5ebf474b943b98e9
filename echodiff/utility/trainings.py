"""Train and test every arm with every seed, one after the other; what is there is not repeated."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from echodiff.data.leaks import describe_trained
from echodiff.frames.rows import Frame
from echodiff.segmentation.segmentation_config import SegmentationConfig
from echodiff.segmentation.training import (
    TrainingFrames,
    find_run_dir,
    is_trained,
    train_segmentation,
)
from echodiff.utility.arm_results import ArmResult, fingerprint_test, measure_network
from echodiff.utility.arms import Arm, choose_rows
from echodiff.utility.sources import Sources
from echodiff.utility.utility_config import UtilityConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

RUNS, RESULTS = "trainings", "results"
"""Folders in --out: a run folder per training, a file per tested network."""


@dataclass(frozen=True)
class Job:
    """One training of one arm."""

    arm: Arm
    seed: int
    settings: SegmentationConfig
    frames: TrainingFrames
    folders: tuple[tuple[Path, tuple[Frame, ...]], ...]
    """What it is trained on, by folder."""
    num_real: int
    num_synthetic: int
    run_dir: Path


@dataclass(frozen=True)
class Trained:
    """The trainings of one arm."""

    arm: Arm
    results: tuple[ArmResult, ...]
    """One per seed."""
    num_real: float
    """Real frames, the mean over seeds."""
    num_synthetic: int
    runs: tuple[str, ...]
    """Names of the run folders; equal trainings share one."""


def plan_jobs(
    config: UtilityConfig, sources: Sources, arms: Sequence[Arm]
) -> tuple[list[Job], dict[str, str]]:
    """List the trainings, and the arms that cannot be trained with the reason."""
    pools = {name: TrainingFrames.of_set(f"synthetic/{name}", one)
             for name, one in sources.synthetic.items()}  # fmt: skip
    real = TrainingFrames.of_set("real", sources.real)
    jobs, left_out = [], {}
    for arm in arms:
        synthetic = sources.synthetic.get(arm.synthetic)
        num_synthetic = 0 if synthetic is None else len(synthetic)
        if arm.ratio and arm.ratio * len(sources.real) > num_synthetic:
            left_out[arm.name] = (
                f"needs {arm.ratio * len(sources.real)} synthetic frames, there are {num_synthetic}"
            )
            continue
        for seed in range(config.seed, config.seed + config.seeds):
            rows, drawn = choose_rows(arm, sources.real.frames, num_synthetic, seed)
            parts = [real.take(rows)] if rows else []
            folders = [(sources.real.folder, tuple(sources.real.frames[row] for row in rows))]
            if synthetic is not None:
                parts.append(pools[arm.synthetic].take(drawn))
                folders.append((synthetic.folder, tuple(synthetic.frames[row] for row in drawn)))
            frames = TrainingFrames.join(parts)
            own = replace(config, augmentation="classical") if arm.is_classical else config
            run_dir = find_run_dir(config.out / RUNS, own, frames, sources.labels, seed=seed)
            jobs.append(Job(
                arm, seed, own, frames, tuple(one for one in folders if one[1]), len(rows),
                len(drawn), run_dir,
            ))  # fmt: skip
    return jobs, left_out


def run_jobs(
    config: UtilityConfig, sources: Sources, jobs: Sequence[Job], accelerator: Accelerator
) -> dict[str, Trained]:
    """Take every job that is not done; print the time that is left. By the name of the arm."""
    waiting = {job.run_dir for job in jobs if not is_trained(job.run_dir)}
    num_all, num_done, spent = len({job.run_dir for job in jobs}), 0, 0.0
    tested = fingerprint_test(sources.test, sources.labels)
    results: dict[str, list[ArmResult]] = {}
    for job in jobs:
        start, is_new = time.monotonic(), job.run_dir in waiting
        if is_new:
            left = "" if not num_done else f", {_write_time(len(waiting) * spent / num_done)} left"
            sys.stderr.write(
                f"{job.arm.name}, seed {job.seed}: {job.num_real} real and {job.num_synthetic} "
                f"synthetic frames; {num_all - len(waiting)} of {num_all} trainings done{left}\n"
            )
        reader = train_segmentation(
            job.run_dir, job.settings, job.frames, sources.labels, accelerator, seed=job.seed,
            trained_on=describe_trained(job.folders) if is_new else None,
        )  # fmt: skip
        path = config.out / RESULTS / f"{job.run_dir.name}-{tested}.json"
        result = measure_network(reader, sources.test, sources.labels, path)
        results.setdefault(job.arm.name, []).append(result)
        if is_new:
            # A finished network needs no optimizer: a hundred of them would fill a disk.
            shutil.rmtree(job.run_dir / "checkpoints", ignore_errors=True)
            waiting.remove(job.run_dir)
            num_done, spent = num_done + 1, spent + time.monotonic() - start
    return {name: _join(jobs, name, own) for name, own in results.items()}


def _join(jobs: Sequence[Job], name: str, results: Sequence[ArmResult]) -> Trained:
    own = [job for job in jobs if job.arm.name == name]
    return Trained(
        own[0].arm, tuple(results), sum(job.num_real for job in own) / len(own),
        own[0].num_synthetic, tuple(job.run_dir.name for job in own),
    )  # fmt: skip


def _write_time(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
