"""White level of a frames folder: the grey value shown as white in images of more than 8 bits.

There is one per folder, whichever of its frames are read: a dark half of 12-bit frames, scaled by
its own brightest pixel, would become bright. Rows may state it (`white_level`), a training records
it.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

from echodiff.errors import InputError
from echodiff.frames.layout import METADATA
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.images import bit_range, find_largest

Source = Path | Sequence[Path]
"""A frames folder, or images in frames folders."""


def find_white_level(source: Source, *, known: int | None = None) -> int | None:
    """Return the white level of a frames folder, or of the folders that some images lie in.

    It is the value in the rows; else `known`, that of the training these frames are compared with;
    else the full scale of the smallest usual bit depth that holds every image of the folder. None
    if all have 8 bits. InputError if two folders differ, and if an image is brighter.
    """
    if isinstance(source, str | Path):
        return of_frames(Path(source), load_frames(Path(source)), known=known)
    folders = {path.parent: find_folder(path) for path in source}
    levels: dict[Path | None, int | None] = {
        folder: of_frames(folder, load_frames(folder), known=known)
        for folder in dict.fromkeys(folders.values())
        if folder is not None
    }
    if loose := [path for path in source if folders[path.parent] is None]:
        levels[None] = _check(find_largest(loose), known, str(loose[0].parent))
    found = {level for level in levels.values() if level is not None}
    if len(found) > 1:
        told = " and ".join(f"{level} in {folder}" for folder, level in levels.items() if level)
        raise InputError(f"images of different white levels: {told}")
    return next(iter(found), None)


def of_frames(folder: Path, frames: Sequence[Frame], *, known: int | None = None) -> int | None:
    """`find_white_level` of a folder whose rows, all of them, are read already."""
    stated = sorted({frame.white_level for frame in frames if frame.white_level is not None})
    if len(stated) > 1:
        raise InputError(f"{folder}: rows state white levels {stated[0]} and {stated[-1]}")
    if stated and known not in {None, stated[0]}:
        warnings.warn(
            f"{folder}: white is {stated[0]} there and {known} in the training: the same tissue "
            "has another brightness",
            stacklevel=2,
        )
    largest = find_largest(folder / frame.file_name for frame in frames)
    return _check(largest, stated[0] if stated else known, str(folder)) or next(iter(stated), None)


def find_folder(path: Path) -> Path | None:
    """Find the frames folder that an image lies in."""
    return next((parent for parent in path.parents if (parent / METADATA).is_file()), None)


def _check(largest: int | None, given: int | None, place: str) -> int | None:
    """Return `given` if it holds every deep image, else the full scale that their largest value
    needs."""
    if largest is None or given is None:
        return None if largest is None else bit_range(largest)
    if largest > given:
        raise InputError(f"{place}: holds {largest}, above the white level of {given}")
    return given
