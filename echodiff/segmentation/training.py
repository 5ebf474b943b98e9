"""Train a segmentation network in a run folder of its own, or open the one that was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label
from echodiff.errors import InputError
from echodiff.fingerprints import compute_fingerprint
from echodiff.frames.reader import hash_frames
from echodiff.runs import RECORD, Run
from echodiff.segmentation.label_names import name_label
from echodiff.segmentation.labelled_frames import FEW, LabelledFrames, encode_labels, logger
from echodiff.segmentation.networks import (
    Architecture,
    build_network,
    save_network,
)
from echodiff.segmentation.reader import MaskReader, load_mask_reader
from echodiff.segmentation.segmentation_config import (
    CHECKPOINT_EVERY,
    SegmentationConfig,
    TrainSegmentationConfig,
)
from echodiff.segmentation.trainer import SegmentationTrainer
from echodiff.settings.fields import as_dict
from echodiff.training.folder import open_run
from echodiff.training.loop import Intervals, train
from echodiff.training.trackers import Curves

if TYPE_CHECKING:
    from accelerate import Accelerator

_INDIFFERENT = ("out", "overwrite", "continue_")
KEEP = 1
"""Checkpoints of a training."""
LOG_EVERY = 20


@dataclass(frozen=True)
class TrainingFrames:
    """What a network is trained on: frames of one folder or of several."""

    images_u8: NDArray[np.uint8]
    """(N, S, S)."""
    masks_u8: NDArray[np.uint8]
    """(N, S, S) `Label` values."""
    hashes: Mapping[str, str]
    """Name of each frame in this order, and a hash of all that is used of it."""

    @classmethod
    def of_set(cls, name: str, one: LabelledFrames) -> TrainingFrames:
        """Frames of one folder; `name` keeps their names apart from those of another."""
        hashes = hash_frames(one.folder, one.frames, has_masks=True)
        named = {f"{name}/{file}": digest for file, digest in hashes.items()}
        return cls(one.images_u8, one.masks_u8, named)

    @classmethod
    def join(cls, parts: Sequence[TrainingFrames]) -> TrainingFrames:
        """The frames of all parts, one after the other."""
        return cls(
            np.concatenate([one.images_u8 for one in parts]),
            np.concatenate([one.masks_u8 for one in parts]),
            {name: digest for one in parts for name, digest in one.hashes.items()},
        )

    def __len__(self) -> int:
        return len(self.hashes)

    def list_hashes(self, rows: Sequence[int]) -> dict[str, str]:
        """Names and hashes of the frames in these rows."""
        names = [*self.hashes]
        return {names[row]: self.hashes[names[row]] for row in rows}

    def take(self, rows: Sequence[int]) -> TrainingFrames:
        """The frames in these rows."""
        chosen = [*rows]
        return TrainingFrames(
            self.images_u8[chosen], self.masks_u8[chosen], self.list_hashes(chosen)
        )


def find_run_dir(
    root: Path,
    settings: SegmentationConfig,
    hashes: Mapping[str, str],
    labels: Sequence[Label],
    *,
    seed: int,
) -> Path:
    """Folder of a training in `root`, by all that decides its result: equal ones share it.

    hashes: of its frames, as `TrainingFrames` has them.
    """
    config = _build_config(settings, root, labels, seed)
    values = {name: value for name, value in as_dict(config).items() if name not in _INDIFFERENT}
    return root / compute_fingerprint({"settings": values, "frames": dict(hashes)})[:16]


def is_trained(run_dir: Path) -> bool:
    """Whether the training in `run_dir` is finished."""
    return (run_dir / RECORD).is_file() and Run.load(run_dir).is_finished


def train_segmentation(
    run_dir: Path,
    settings: SegmentationConfig,
    frames: TrainingFrames,
    labels: Sequence[Label],
    accelerator: Accelerator,
    *,
    seed: int,
    trained_on: Mapping[str, Any] | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
) -> MaskReader:
    """Train in `run_dir`, resume there, or open what was trained there; see `find_run_dir`.

    labels: those that are told apart, the background aside. trained_on: as in
    `data.leaks.describe_trained`, for the record of the run.
    """
    if not is_trained(run_dir):
        config = _build_config(settings, run_dir, labels, seed)
        names = Label.BACKGROUND, *labels
        _train(config, frames, names, accelerator, trained_on, checkpoint_every)
    return load_mask_reader(run_dir)


def _train(
    config: TrainSegmentationConfig,
    frames: TrainingFrames,
    labels: tuple[Label, ...],
    accelerator: Accelerator,
    trained_on: Mapping[str, Any] | None,
    checkpoint_every: int,
) -> None:
    if accelerator.num_processes > 1:
        raise InputError(f"{accelerator.num_processes} processes: segmentation runs in one")
    if len(frames) < FEW:
        logger.warning("%d frames with masks are few to train a segmentation on", len(frames))
    architecture = Architecture(config.network, config.width, config.resolution, labels)
    with open_run(
        command="train-segmentation",
        config=config,
        stem="segmentation",
        data=frames.hashes,
        base_sha256="",
        mixed_precision="no",
        places=(),
    ) as run:
        if trained_on is not None:
            run.update(trained_on=dict(trained_on))
        network = build_network(architecture, config.seed)
        trainer = SegmentationTrainer(
            config, network, frames.images_u8, encode_labels(frames.masks_u8, labels),
            [*frames.hashes], accelerator.device,
        )  # fmt: skip
        train(
            trainer,
            run,
            accelerator,
            intervals=Intervals(log=LOG_EVERY, checkpoint=(checkpoint_every,), keep=KEEP),
            curves=Curves(run, accelerator, project="echodiff-segmentation", config=config),
        )
        run.finish(weights_sha256=save_network(run.run_dir, network, architecture))


def _build_config(
    settings: SegmentationConfig, out: Path, labels: Sequence[Label], seed: int
) -> TrainSegmentationConfig:
    own = {field.name: getattr(settings, field.name) for field in fields(SegmentationConfig)}
    return TrainSegmentationConfig(**own, out=out, labels=tuple(map(name_label, labels)), seed=seed)
