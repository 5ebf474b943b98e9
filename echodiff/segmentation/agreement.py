"""Compare masks that a network reads in images with masks that are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label
from echodiff.data.splits import known_patient
from echodiff.fingerprints import sha256_file
from echodiff.frames.rows import Frame
from echodiff.frames.white_level import find_white_level
from echodiff.images import read_mask_u8, resize_mask
from echodiff.metrics.resampling import Groups, build_groups, count_groups
from echodiff.progress import ProgressBar
from echodiff.segmentation.labelled_frames import read_pair
from echodiff.segmentation.overlap import MEASURES, compute_overlap
from echodiff.segmentation.reader import BATCH_SIZE, Mask, MaskReader

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Agreement of the frames of one set with masks."""

    frames: tuple[Frame, ...]
    """Those that have a mask which is not empty."""
    values: Array
    """(N, L, 3) columns of `compute_overlap`, NaN for a label that is not in the mask."""
    labels: tuple[Label, ...]
    """Labels that the network tells apart and a mask has, the background aside."""
    groups: Groups
    """(N,) patient of each frame; images of one mask are a group, too."""
    unit: str
    """Of distances: mm if every row states its spacing, else px."""
    unread: tuple[Label, ...] = ()
    """Labels of the masks that the network does not tell apart."""


def measure_agreement(
    folder: Path,
    frames: Sequence[Frame],
    reader: MaskReader,
    *,
    white_level: int | None = None,
    of_others: bool = False,
    callback: Callable[[Frame, Mask, Mask], None] | None = None,
) -> Agreement | None:
    """Read the masks of images, and compare them with the masks of their rows.

    of_others: compare with the mask of another patient, of the same view and phase if there is one,
    resized to the image by nearest neighbour. None where no frame has a mask that is not empty, or,
    with of_others, where all masks are of one patient. callback: gets every row, and the masks that
    were read in its image and in its file.
    """
    rows = [row for row in frames if row.mask_file_name
            and read_mask_u8(folder / row.mask_file_name).any()]  # fmt: skip
    groups = build_groups([_find_group(folder, row) for row in rows])
    if count_groups(groups) < (2 if of_others else 1):
        return None
    others = _choose_others(rows, groups) if of_others else None
    white = find_white_level([folder / row.file_name for row in rows], known=white_level)
    has_spacing = all(row.spacing_mm for row in rows)
    labels = tuple(label for label in reader.labels if label is not Label.BACKGROUND)
    values = np.full((len(rows), len(labels), len(MEASURES)), np.nan)
    seen = set[int]()
    with ProgressBar(total=len(rows), desc=f"masks of {folder.name}", unit="frame") as bar:
        for start in range(0, len(rows), BATCH_SIZE):
            batch = rows[start : start + BATCH_SIZE]
            pairs = [read_pair(folder, row, white_level=white) for row in batch]
            found = reader([image for image, _ in pairs])
            for place, (read, (_, mask), row) in enumerate(
                zip(found, pairs, batch, strict=True), start
            ):
                if others is not None:
                    other = read_mask_u8(folder / str(rows[others[place]].mask_file_name))
                    mask = resize_mask(other, (read.shape[0], read.shape[1]))
                if callback is not None:
                    callback(row, read, mask)
                seen.update(np.unique(mask).tolist())
                pixel = float(row.spacing_mm or 1.0) if has_spacing else 1.0
                values[place] = compute_overlap(read, mask, labels, pixel=pixel)
            bar.update(len(batch))
    present = np.isfinite(values).any(axis=(0, 2))
    return Agreement(
        tuple(rows), values[:, present],
        tuple(label for label, is_there in zip(labels, present, strict=True) if is_there),
        groups, "mm" if has_spacing else "px",
        tuple(Label(value) for value in sorted(seen) if Label(value) not in reader.labels),
    )  # fmt: skip


def _find_group(folder: Path, row: Frame) -> tuple[str, str]:
    """Patient of a row, else its mask: images of one mask are not independent."""
    if patient := known_patient(row):
        return "patient", patient
    return "mask", sha256_file(folder / str(row.mask_file_name))


def _choose_others(rows: Sequence[Frame], groups: Groups) -> list[int]:
    """For each row, one of another patient, of the same view and phase if there is any."""
    chosen = []
    for place, row in enumerate(rows):
        # From the next row on, so that no single mask stands in for all.
        order = ((place + step) % len(rows) for step in range(1, len(rows)))
        first = None
        for other in order:
            if groups[other] == groups[place]:
                continue
            first = other if first is None else first
            if (rows[other].view, rows[other].phase) == (row.view, row.phase):
                first = other
                break
        assert first is not None
        chosen.append(first)
    return chosen
