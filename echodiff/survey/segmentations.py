"""Utility: segmentations trained on real frames, synthetic ones and both, tested on real patients.

Training k of a segmentation is given the images of training k of a generator, so that an interval
over trainings holds both.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from echodiff.data.leaks import describe_trained
from echodiff.data.reference import RealFrames
from echodiff.data.splits import patient_of
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.metrics.resampling import build_groups
from echodiff.segmentation.labelled_frames import load_labelled_frames
from echodiff.segmentation.reader import MaskReader
from echodiff.segmentation.segmentation_config import SegmentationConfig
from echodiff.segmentation.training import (
    TrainingFrames,
    find_run_dir,
    is_trained,
    train_segmentation,
)
from echodiff.survey.frames import TEST, TRAIN, UNSEEN, SurveyFrames, load_part
from echodiff.survey.sets import RANDOM_STYLES, SYNTHETIC
from echodiff.survey.survey_config import Normalisation, SurveyConfig
from echodiff.utility.arm_results import fingerprint_test, load_result, measure_network
from echodiff.utility.contrasts import average_patients, average_table, compare_arms

if TYPE_CHECKING:
    from accelerate import Accelerator

Array = NDArray[np.float64]
REAL = "real"


@dataclass(frozen=True)
class Segmentation:
    """One kind of training frames for a segmentation."""

    name: str
    has_real: bool
    arm: str = ""
    """Generator of the synthetic frames; empty for none."""
    title: str = ""
    """Of their set."""
    normalisation: Normalisation = "none"


@dataclass(frozen=True)
class Result:
    """What the trainings of one kind did: (K, P) mean Dice over labels, by part of the test."""

    tables: Mapping[str, Array]
    num_real: int
    num_synthetic: int


def list_segmentations(config: SurveyConfig, *, has_styles: bool) -> list[Segmentation]:
    """List what segmentations are trained on; `real`, the baseline, is the first."""
    found = [Segmentation(REAL, has_real=True)]
    found += [Segmentation(f"{REAL}, {name}", True, normalisation=name)
              for name in config.normalisation if name != "none"]  # fmt: skip
    for arm in config.arms:
        found += [
            Segmentation(arm, False, arm, SYNTHETIC),
            Segmentation(f"{REAL} + {arm}", True, arm, SYNTHETIC),
        ]
        if has_styles:
            name = f"{REAL} + {arm}, random styles"
            found.append(Segmentation(name, True, arm, RANDOM_STYLES))
    return found


@dataclass(frozen=True)
class Bench:
    """Trains and tests segmentations."""

    config: SurveyConfig
    frames: SurveyFrames
    folders: Mapping[str, Path]
    """Frames at the size of the comparison, by normalisation."""
    accelerator: Accelerator

    @property
    def settings(self) -> SegmentationConfig:
        """Of every segmentation."""
        return SegmentationConfig(
            resolution=self.config.resolution, steps=self.config.segmentation_steps,
            width=self.config.segmentation_width,
        )  # fmt: skip

    def train(self, one: Segmentation, number: int) -> MaskReader:
        """Train segmentation `number` (0 is the first) of a kind, or open it."""
        frames, rows = self._gather(one, number)
        seed, labels = self.config.seed + number, self.frames.segmented
        run_dir = find_run_dir(
            self.config.out / "segmentations", self.settings, frames.hashes, labels, seed=seed
        )
        is_new = not is_trained(run_dir)
        reader = train_segmentation(
            run_dir, self.settings, frames, labels, self.accelerator, seed=seed,
            checkpoint_every=self.config.checkpoint_every,
            trained_on=describe_trained(rows) if is_new else None,
        )  # fmt: skip
        if is_new:
            shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
        return reader

    def measure(self, one: Segmentation) -> Result:
        """Train and test all segmentations of a kind that are missing."""
        folder = self.folders[one.normalisation]
        parts = {title: load_part(folder, title) for title in (TEST, UNSEEN)}
        rows = [row for own in parts.values() for row in own]
        test, labels = RealFrames(folder, folder, rows, ""), self.frames.segmented
        tested = fingerprint_test(test, labels)
        found = []
        for number in range(self.config.seeds):
            path = self.config.out / "tested" / f"{_file_name(one.name)}-{number}-{tested}.json"
            if not path.is_file():
                reader = self.train(one, number)
                measure_network(reader, test, labels, path, white_level=None)
            found.append(load_result(path).values)
        values = np.stack(found)[..., 0]
        names = {title: {row.file_name for row in own} for title, own in parts.items()}
        is_part = {title: np.array([row.file_name in own for row in rows])
                   for title, own in names.items()}  # fmt: skip
        return Result(
            {title: _average(values, rows, own) for title, own in is_part.items() if own.any()},
            *self._count(one),
        )  # fmt: skip

    def _gather(
        self, one: Segmentation, number: int
    ) -> tuple[TrainingFrames, list[tuple[Path, Sequence[Frame]]]]:
        """What a segmentation is trained on, and the rows of it."""
        sets: dict[str, tuple[Path, Sequence[Frame]]] = {}
        if one.has_real:
            folder = self.folders[one.normalisation]
            sets[REAL] = folder, load_part(folder, TRAIN)
        if one.arm:
            folder = find_set(self.config, one.arm, number, one.title)
            sets[SYNTHETIC] = folder, load_frames(folder)
        parts = [
            TrainingFrames.of_set(
                name, load_labelled_frames(folder, rows, self.config.resolution, flag="--data")
            )
            for name, (folder, rows) in sets.items()
        ]
        return TrainingFrames.join(parts), [*sets.values()]

    def _count(self, one: Segmentation) -> tuple[int, int]:
        num_real = len(self.frames.train) if one.has_real else 0
        return num_real, self.config.num_synthetic if one.arm else 0


def find_set(config: SurveyConfig, arm: str, number: int, title: str) -> Path:
    """Folder of a set of images."""
    return config.out / "sets" / arm / f"seed-{number}" / title


def summarise(results: Mapping[str, Result]) -> dict[str, Any]:
    """Mean Dice of every kind, and its gain over `real`, on the vendors of the training and on
    those that were held out; paired by patient and training, corrected by Holm.

    Of one training, intervals and p are over patients alone.
    """
    found: dict[str, Any] = {name: {"num_real": one.num_real, "num_synthetic": one.num_synthetic}
                             for name, one in results.items()}  # fmt: skip
    for title in results[REAL].tables:
        tables = {name: one.tables[title] for name, one in results.items()}
        pairs = [(name, REAL) for name in tables if name != REAL]
        num_seeds = len(tables[REAL])
        if num_seeds == 1:  # counted twice, a training differs from none, and patients remain
            tables = {name: np.repeat(table, 2, axis=0) for name, table in tables.items()}
        for name, table in tables.items():
            mean, _ = average_table(table)
            found[name][title] = {
                "dice": {"value": mean.value, "low": mean.low, "high": mean.high},
                "num_patients": int(np.isfinite(table).all(axis=0).sum()),
                "num_seeds": num_seeds,
            }
        for one in compare_arms(tables, pairs):
            found[one.first][title]["gain"] = {
                "value": one.value,
                "low": one.low,
                "high": one.high,
                "p_holm": one.p_holm,
            }
    return found


def _average(values: Array, rows: Sequence[Frame], is_part: NDArray[np.bool_]) -> Array:
    """(K, N, L) Dice to (K, P): means over labels, then over the frames of each patient."""
    values = values[:, is_part]
    groups = build_groups([patient_of(row) for row, own in zip(rows, is_part, strict=True) if own])
    is_known = np.isfinite(values)
    sums = np.where(is_known, values, 0.0).sum(axis=2)
    means = np.where(is_known.any(axis=2), sums / np.maximum(1, is_known.sum(axis=2)), np.nan)
    return average_patients(means, groups)


def _file_name(name: str) -> str:
    return name.replace(" + ", "+").replace(", ", "-").replace(" ", "-")
