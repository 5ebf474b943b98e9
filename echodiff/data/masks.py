"""Label masks that images are drawn for: find them, read them, and check their labels.

A mask here is (S, S) uint8 of `Label` values: padded to a square with background, as images are
with black, and resized by nearest neighbour, so that it lies on its image pixel by pixel.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label
from echodiff.data.labels import DICOM, Table, read_labels
from echodiff.data.splits import SPLITS
from echodiff.errors import InputError
from echodiff.fingerprints import sha256_file
from echodiff.frames.layout import METADATA
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.images import list_pictures, pad_square, resize_mask

logger = logging.getLogger(__name__)

_VOLUMES = (".nii", ".nii.gz", ".mhd", ".mha", ".nrrd")
_HOW_TO_SLICE = (
    "`echodiff prepare camus`, acdc, mnms or mesh turns volumes into a frames folder with masks"
)


@dataclass(frozen=True)
class MaskFile:
    """A mask on disk, with the row of its frame where there is one."""

    path: Path
    name: str
    """Relative to the folder that was given."""
    frame: Frame | None = None

    @property
    def text(self) -> str:
        """Caption of its frame; empty without one."""
        return self.frame.text if self.frame is not None else ""


def find_masks(folder: Path, split: str | None = None) -> list[MaskFile]:
    """List the masks of a frames folder, of its folder `masks`, of any folder of images or DICOM
    segmentations, or one file.

    Rows of a frames folder give captions and views. split: value of --mask-split, words separated
    by commas; None takes all. InputError where there is no mask.
    """
    masks = _find_all(folder)
    return masks if split is None else _keep_split(masks, split, folder)


def _keep_split(masks: Sequence[MaskFile], split: str, folder: Path) -> list[MaskFile]:
    words = [word.strip() for word in split.split(",")]
    if unknown := [word for word in words if word not in SPLITS]:
        raise InputError(f"--mask-split {split}: {unknown[0]!r} is not one of {', '.join(SPLITS)}")
    kept = [mask for mask in masks if mask.frame and mask.frame.split in words]
    if not kept:
        there = sorted({mask.frame.split for mask in masks if mask.frame and mask.frame.split})
        raise InputError(
            f"--mask-split {split}: no mask of {folder} is of that split (there are: "
            f"{', '.join(there) or 'none'})"
        )
    return kept


def _find_all(folder: Path) -> list[MaskFile]:
    if folder.is_file() and _is_volume(folder):
        raise InputError(f"--masks {folder}: a volume, not an image: {_HOW_TO_SLICE}")
    if folder.is_file():
        row = _read_rows(folder.resolve().parent.parent, [folder]).get(folder.resolve())
        return [MaskFile(folder, folder.name, row)]
    if not folder.is_dir():
        raise InputError(f"--masks {folder}: no such folder")
    if (folder / METADATA).is_file() or any(folder.glob("metadata.partial*.jsonl")):
        return _find_in_rows(folder)
    pictures, aside = list_pictures(folder)
    paths = sorted([*pictures, *(p for p in folder.rglob("*") if p.suffix.lower() == DICOM)])
    if aside:
        kinds = ", ".join(f"{name} {number}" for name, number in sorted(aside.items()))
        logger.warning("--masks %s: skipped, as not data or of an unsupported kind: %s", folder,
                       kinds)  # fmt: skip
    if not paths:
        volumes = sorted(path.name for path in folder.rglob("*") if _is_volume(path))
        hint = f", but volumes such as {volumes[0]}: {_HOW_TO_SLICE}" if volumes else ""
        raise InputError(f"--masks {folder}: holds no image{hint}")
    rows = _read_rows(folder.resolve().parent, paths)
    return [
        MaskFile(path, path.relative_to(folder).as_posix(), rows.get(path.resolve()))
        for path in paths
    ]


def _read_rows(home: Path, paths: Sequence[Path]) -> dict[Path, Frame]:
    """Return the rows of the frames folder `home`, if it is one, by the path of their mask.

    InputError if `paths` are its images.
    """
    if not (home / METADATA).is_file():
        return {}
    frames, given = load_frames(home), {path.resolve() for path in paths}
    if any(home / frame.file_name in given for frame in frames):
        raise InputError(f"--masks {paths[0].parent}: holds the images of {home}, not their masks")
    return {home / f.mask_file_name: f for f in frames if f.mask_file_name}


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith(_VOLUMES)


def _find_in_rows(folder: Path) -> list[MaskFile]:
    try:
        frames = load_frames(folder)
    except InputError as error:
        raise InputError(f"--masks {error}") from None
    masks = [
        MaskFile(folder / frame.mask_file_name, frame.mask_file_name, frame)
        for frame in frames
        if frame.mask_file_name
    ]
    if not masks:
        raise InputError(f"--masks {folder}: none of its {len(frames)} frames has a mask")
    if len(masks) < len(frames):
        logger.warning(
            "--masks %s: %d of %d frames have no mask and are left out",
            *(folder, len(frames) - len(masks), len(frames)),
        )
    return masks


def read_mask(
    path: Path,
    side: int | None,
    *,
    table: Table | None = None,
    asked: Collection[Label] = (),
    known: Collection[Label] | None = None,
) -> NDArray[np.uint8]:
    """Read a mask as (side, side) of `Label` values; side None: of its longer side.

    table: meaning of its numbers or colours; None: they are `Label` values. asked: labels that are
    kept, all others become background; empty: all. known: labels that may occur then; InputError
    names the first other one.
    """
    mask = read_labels(path, table)
    if asked:
        mask = np.where(np.isin(mask, list(asked)), mask, Label.BACKGROUND).astype(np.uint8)
    if known is not None:
        unknown = sorted(set(np.unique(mask).tolist()) - {*known, Label.BACKGROUND})
        if unknown:
            names = ", ".join(label.name for label in known if label != Label.BACKGROUND)
            raise InputError(
                f"{path}: holds {Label(unknown[0]).name}, which the weights do not know; they know "
                f"{names}; --labels with some of these leaves others out, --mask-labels "
                f"{Label(unknown[0]).name}=LV takes it for another one"
            )
    mask = pad_square(mask)
    return mask if side is None else resize_mask(mask, (side, side))


def check_masks(
    masks: Sequence[MaskFile],
    *,
    table: Table | None,
    asked: Collection[Label] = (),
    known: Collection[Label],
    side: int,
) -> None:
    """Read every mask once, before anything is drawn, and warn of those that ask for nothing.

    InputError for one that cannot be read or holds a label that is not `known`, and for a label of
    `asked` that none of them holds.
    """
    empty, lost, found = list[str](), list[str](), set[int]()
    for mask in masks:
        full = read_mask(mask.path, None, table=table, asked=asked, known=known)
        found.update(np.unique(full).tolist())
        small = resize_mask(full, (side, side))
        if not full.any():
            empty.append(mask.name)
        elif set(np.unique(full)) != set(np.unique(small)):
            lost.append(mask.name)
    if missing := sorted(set(asked) - found):
        raise InputError(f"--labels {Label(missing[0]).name}: none of the masks has it")
    for names, what in (
        (empty, "are empty: their images follow the prompt alone"),
        (lost, f"lose a small label when they are resized to {side} pixels"),
    ):
        if names:
            logger.warning("--masks: %d of %d masks (%s, ...) %s", len(names), len(masks),
                           names[0], what)  # fmt: skip


def hash_masks(masks: Iterable[MaskFile]) -> dict[str, str]:
    """Hash the content of every mask, and its caption and view; by name."""
    return {
        mask.name: f"{sha256_file(mask.path)[:16]} {mask.frame.view if mask.frame else None}"
        for mask in masks
    }


def find_labels(paths: Iterable[Path], table: Table | None) -> tuple[Label, ...]:
    """Return the labels that occur in any of the masks, background first."""
    found = {int(Label.BACKGROUND)}
    for path in paths:
        found.update(np.unique(read_labels(path, table)).tolist())
    return tuple(label for label in Label if label in found)
