"""Train and test every arm with every seed, one after the other; what is there is not repeated."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echodiff.data.leaks import describe_trained
from echodiff.segmentation.segmentation_config import SegmentationConfig
from echodiff.segmentation.training import (
    TrainingFrames,
    find_run_dir,
    is_trained,
    train_segmentation,
)
from echodiff.utility.arm_results import (
    ArmResult,
    fingerprint_test,
    load_result,
    measure_network,
)
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
    rows: tuple[int, ...]
    """Of the real frames."""
    drawn: tuple[int, ...]
    """Rows of the synthetic frames."""
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


@dataclass(frozen=True)
class Plan:
    """All trainings, and the frames that they take some of."""

    jobs: tuple[Job, ...]
    left_out: Mapping[str, str]
    """Arms that cannot be trained, with the reason."""
    sources: Sources
    real: TrainingFrames
    synthetic: Mapping[str, TrainingFrames]

    @property
    def num_trainings(self) -> int:
        """Number of different trainings."""
        return len({job.run_dir for job in self.jobs})

    def frames_of(self, job: Job) -> TrainingFrames:
        """What a job is trained on."""
        parts = [self.real.take(job.rows)] if job.rows else []
        if job.drawn:
            parts.append(self.synthetic[job.arm.synthetic].take(job.drawn))
        return TrainingFrames.join(parts)

    def describe_trained(self, job: Job) -> dict[str, Any]:
        """The record by which a reference is checked against what a job was trained on."""
        real, sets = self.sources.real, []
        if job.rows:
            sets.append((real.folder, [real.frames[row] for row in job.rows]))
        if job.drawn:
            drawn = self.sources.synthetic[job.arm.synthetic]
            sets.append((drawn.folder, [drawn.frames[row] for row in job.drawn]))
        return describe_trained(sets)


def plan_trainings(config: UtilityConfig, sources: Sources, arms: Sequence[Arm]) -> Plan:
    """List the trainings of all arms and seeds."""
    synthetic = {name: TrainingFrames.of_set(f"synthetic/{name}", one)
                 for name, one in sources.synthetic.items()}  # fmt: skip
    real = TrainingFrames.of_set("real", sources.real)
    jobs, left_out = [], {}
    for arm in arms:
        pool = synthetic.get(arm.synthetic)
        num_synthetic = 0 if pool is None else len(pool)
        if arm.ratio and arm.ratio * len(real) > num_synthetic:
            left_out[arm.name] = (
                f"needs {arm.ratio * len(real)} synthetic frames, there are {num_synthetic}"
            )
            continue
        settings = replace(config, augmentation="classical") if arm.is_classical else config
        for seed in range(config.seed, config.seed + config.seeds):
            rows, drawn = choose_rows(arm, sources.real.frames, num_synthetic, seed)
            hashes = real.list_hashes(rows) | ({} if pool is None else pool.list_hashes(drawn))
            run_dir = find_run_dir(config.out / RUNS, settings, hashes, sources.labels, seed=seed)
            jobs.append(Job(arm, seed, settings, tuple(rows), tuple(drawn), run_dir))
    return Plan(tuple(jobs), left_out, sources, real, synthetic)


def run_trainings(
    config: UtilityConfig, plan: Plan, accelerator: Accelerator
) -> dict[str, Trained]:
    """Take every job that is not done; print the time that is left. By the name of the arm."""
    waiting = {job.run_dir for job in plan.jobs if not is_trained(job.run_dir)}
    test, labels = plan.sources.test, plan.sources.labels
    tested = fingerprint_test(test, labels)
    num_done, spent = 0, 0.0
    results: dict[str, list[ArmResult]] = {}
    for job in plan.jobs:
        start, is_new = time.monotonic(), job.run_dir in waiting
        path = config.out / RESULTS / f"{job.run_dir.name}-{tested}.json"
        if is_new:
            left = "" if not num_done else f", {_write_time(len(waiting) * spent / num_done)} left"
            sys.stderr.write(
                f"{job.arm.name}, seed {job.seed}: {len(job.rows)} real and {len(job.drawn)} "
                f"synthetic frames; {plan.num_trainings - len(waiting)} of {plan.num_trainings} "
                f"trainings done{left}\n"
            )
        if is_new or not path.is_file():
            reader = train_segmentation(
                job.run_dir, job.settings, plan.frames_of(job), labels, accelerator,
                seed=job.seed, checkpoint_every=config.checkpoint_every,
                trained_on=plan.describe_trained(job) if is_new else None,
            )  # fmt: skip
            measure_network(reader, test, labels, path, white_level=plan.sources.white_level)
        results.setdefault(job.arm.name, []).append(load_result(path))
        if is_new:
            # A finished network needs no optimizer: a hundred of them would fill a disk.
            shutil.rmtree(job.run_dir / "checkpoints", ignore_errors=True)
            waiting.remove(job.run_dir)
            num_done, spent = num_done + 1, spent + time.monotonic() - start
    return {name: _join(plan.jobs, name, own) for name, own in results.items()}


def _join(jobs: Sequence[Job], name: str, results: Sequence[ArmResult]) -> Trained:
    own = [job for job in jobs if job.arm.name == name]
    return Trained(
        own[0].arm, tuple(results), sum(len(job.rows) for job in own) / len(own),
        len(own[0].drawn), tuple(job.run_dir.name for job in own),
    )  # fmt: skip


def _write_time(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
