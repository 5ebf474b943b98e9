"""Frames with their masks: read, checked, and brought to the size of a network."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label
from echodiff.errors import InputError
from echodiff.frames.rows import Frame
from echodiff.frames.white_level import find_white_level
from echodiff.images import pad_square, read_gray_u8, read_mask_u8, resize_mask, resize_u8
from echodiff.progress import ProgressBar

logger = logging.getLogger(__name__)

FEW = 10
"""Frames with a mask below which a training is warned of."""
_VALUES = frozenset(int(label) for label in Label)


@dataclass(frozen=True)
class LabelledFrames:
    """Frames of one folder that have a mask which is not empty."""

    folder: Path
    frames: tuple[Frame, ...]
    images_u8: NDArray[np.uint8]
    """(N, S, S), padded to squares and resized."""
    masks_u8: NDArray[np.uint8]
    """(N, S, S) `Label` values, padded and resized by nearest neighbour."""
    labels: tuple[Label, ...]
    """Labels that occur in the masks, the background aside."""

    def __len__(self) -> int:
        return len(self.frames)


def load_labelled_frames(
    folder: Path, frames: Sequence[Frame], side: int, *, flag: str, white_level: int | None = None
) -> LabelledFrames:
    """Read the frames that have a mask, at `side` x `side` pixels.

    Frames without a mask, and with an empty one, are left out with a warning that counts them.
    InputError names `flag` and the folder if no frame is left, and the file of a mask that does not
    fit its image. white_level: as in `find_white_level`.
    """
    with_mask = [frame for frame in frames if frame.mask_file_name]
    if not with_mask:
        raise InputError(f"{flag} {folder}: none of its {len(frames)} frames has a mask")
    if len(with_mask) < len(frames):
        logger.warning(
            "%s: %d of %d frames have no mask: left out",
            *(folder, len(frames) - len(with_mask), len(frames)),
        )
    white = find_white_level([folder / frame.file_name for frame in with_mask], known=white_level)
    images, masks, kept, found = [], [], [], set[int]()
    for frame in ProgressBar(with_mask, desc=f"masks of {folder.name}", unit="frame"):
        image, mask = read_pair(folder, frame, white_level=white)
        values = set(np.unique(mask).tolist()) - {0}
        if not values:
            continue
        found |= values
        kept.append(frame)
        images.append(resize_u8(pad_square(image), (side, side)))
        masks.append(resize_mask(pad_square(mask), (side, side)))
    if not kept:
        raise InputError(f"{flag} {folder}: every mask is empty")
    if len(kept) < len(with_mask):
        num_empty = len(with_mask) - len(kept)
        logger.warning("%s: %d masks are empty: left out", folder, num_empty)
    labels = tuple(Label(value) for value in sorted(found))
    return LabelledFrames(folder, tuple(kept), np.stack(images), np.stack(masks), labels)


def read_pair(
    folder: Path, frame: Frame, *, white_level: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read image and mask of a row, both (H, W); InputError names a mask that does not fit."""
    path = folder / str(frame.mask_file_name)
    image = read_gray_u8(folder / frame.file_name, max_value=white_level)
    mask = read_mask_u8(path)
    if mask.shape != image.shape:
        raise InputError(
            f"{path}: {_size(mask)} pixels, but the image {frame.file_name} has {_size(image)}"
        )
    if unknown := set(np.unique(mask).tolist()) - _VALUES:
        raise InputError(
            f"{path}: label {min(unknown)} is unknown; labels are 0 to {max(_VALUES)} "
            "(docs/frames.md)"
        )
    return image, mask


def encode_labels(masks_u8: NDArray[np.uint8], labels: Sequence[Label]) -> NDArray[np.uint8]:
    """`Label` values to places in `labels`; a label that is not among them becomes background."""
    table = np.zeros(256, np.uint8)
    for place, label in enumerate(labels):
        table[label] = place
    return table[masks_u8]


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
