"""Score generated frames against the masks that they were generated for."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from echodiff.data.leaks import describe_trained, load_trained
from echodiff.data.reference import RealFrames, refuse_trained
from echodiff.extras import pip_command
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.metrics.score import Score, write_scores
from echodiff.metrics.score_name import Kind
from echodiff.runs import RECORD, Run
from echodiff.segmentation.agreement import measure_agreement
from echodiff.segmentation.label_names import name_labels
from echodiff.segmentation.labelled_frames import FEW, load_labelled_frames
from echodiff.segmentation.mask_scores import score_masks
from echodiff.segmentation.reader import MaskReader, load_mask_reader
from echodiff.segmentation.segmentation_config import AUTO, SHIPPED, SegmentationConfig
from echodiff.segmentation.training import TrainingFrames, find_run_dir, train_segmentation

SETTINGS = SegmentationConfig()
"""Of the network that `auto` trains."""
FOLDER = "segmentation"
"""Folder for the network of `--mask-network auto`, next to the scores."""


@dataclass(frozen=True)
class MaskScores:
    """What was found for one set."""

    scores: dict[str, Score] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class MaskReading:
    """The network that reads masks for an evaluation."""

    reader: MaskReader | None
    reference: RealFrames
    notes: list[str]

    @classmethod
    def open(
        cls, choice: str, reference: RealFrames, trained: RealFrames | None, out: Path
    ) -> MaskReading:
        """As `choose_mask_reader`."""
        reader, notes = choose_mask_reader(choice, reference, trained, out)
        return cls(reader, reference, notes)

    def add_scores(
        self, result: dict[str, Any], folder: Path, *, seed: int, white_level: int | None
    ) -> None:
        """Add the scores of the frames in `folder` to `result`, the content of a metrics.json."""
        found = score_asked_masks(
            folder, self.reader, self.reference, seed=seed, white_level=white_level
        )
        result["scores"] |= write_scores(found.scores)
        result["left_out"] |= found.left_out
        result["alarms"] += found.alarms
        result["notes"] += [*self.notes, *found.notes]


def choose_mask_reader(
    choice: str, reference: RealFrames, trained: RealFrames | None, out: Path
) -> tuple[MaskReader | None, list[str]]:
    """The network that `--mask-network` means, and notes on it; None without MONAI.

    auto: a network trained in `out` on the frames of `trained` that have a mask, where there are at
    least ten, else the shipped one. InputError where a network has seen frames of the reference.
    """
    if choice == AUTO and importlib.util.find_spec("monai") is None:
        return None, []
    if choice not in (AUTO, SHIPPED):
        reader = load_mask_reader(Path(choice))
        seen = load_trained(Run.load(Path(choice))) if (Path(choice) / RECORD).is_file() else None
        if seen is None:
            return reader, [f"{choice}: no record of the frames that this network was trained on"]
        refuse_trained(reference, [seen])
        return reader, []
    if choice == AUTO and trained is not None:
        with_mask = [frame for frame in trained.frames if frame.mask_file_name]
        if len(with_mask) >= FEW:
            return _train_reader(trained, with_mask, out / FOLDER), []
    return load_mask_reader(), [
        "masks are read by the shipped network, which knows simulated apical views; give --train "
        "with masks, or --mask-network, for a network that knows your frames"
    ]


def score_asked_masks(
    folder: Path,
    reader: MaskReader | None,
    reference: RealFrames,
    *,
    seed: int,
    white_level: int | None = None,
) -> MaskScores:
    """Score the frames of `folder` against the masks of their rows; ceiling, floor: `reference`.

    reader: None leaves the scores out, for want of MONAI.
    """
    if reader is None:
        reason = f"needs the package monai: {pip_command('monai')}"
        return MaskScores(left_out={str(Kind.MASK_DICE): reason})
    frames = load_frames(folder)
    generated = measure_agreement(folder, frames, reader)
    if generated is None:
        return MaskScores(left_out={str(Kind.MASK_DICE): "every mask is empty"})
    real = partial(
        measure_agreement, reference.folder, reference.frames, reader, white_level=white_level
    )
    floor = real(of_others=True)
    scores, left_out, alarms = score_masks(
        generated, reader, ceiling=real() if floor else None, floor=floor, seed=seed
    )
    notes = []
    if num := len(frames) - len(generated.frames):
        notes.append(f"{num} frames have no mask, or an empty one: not scored against it")
    if generated.unread:
        notes.append(f"{reader.name} does not read {name_labels(generated.unread)} of the masks")
    return MaskScores(scores, left_out, alarms, notes)


def _train_reader(trained: RealFrames, frames: Sequence[Frame], root: Path) -> MaskReader:
    from echodiff.training.precision import start_accelerator

    one = load_labelled_frames(trained.folder, frames, SETTINGS.resolution, flag="--train")
    data = TrainingFrames.of_set("train", one)
    run_dir = find_run_dir(root, SETTINGS, data.hashes, one.labels, seed=0)
    accelerator, _ = start_accelerator("no", num_parameters=0, tracker="none", threads=None)
    accelerator.print(f"reading masks by a network trained on {len(data)} frames, in {run_dir}")
    return train_segmentation(
        run_dir, SETTINGS, data, one.labels, accelerator, seed=0,
        trained_on=describe_trained([(trained.folder, list(one.frames))]),
    )  # fmt: skip
