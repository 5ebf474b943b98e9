"""Read a frames folder, and find what in it does not match."""

import functools
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from echodiff.errors import InputError
from echodiff.fingerprints import sha256_file
from echodiff.frames.layout import MASKS, METADATA
from echodiff.frames.rows import Frame, cut_texts, read_rows
from echodiff.images import IMAGE_SUFFIXES, is_data_folder

logger = logging.getLogger(__name__)


def load_frames(folder: Path, *, require_mask: bool = False) -> list[Frame]:
    """Read a frames folder in the order of its rows; InputError for anything that does not match.

    Every row must have its image (and its mask, if one is named or `require_mask`), every image its
    row, and no name may lead out of the folder. Pixels are not read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    metadata = folder / METADATA
    if not metadata.is_file():
        unfinished = any(folder.glob("metadata.partial*.jsonl"))
        reason = "unfinished: run its command again" if unfinished else f"holds no {METADATA}"
        raise InputError(f"{folder}: {reason}")
    frames = cut_texts([frame for _, frame in read_rows(metadata)], metadata)
    if not frames:
        raise InputError(f"{metadata}: no frames")
    for mismatch in find_mismatches(folder, frames, require_mask=require_mask):
        raise InputError(f"{folder / mismatch.file}: {mismatch.reason}")
    _warn_of_links(folder, frames)
    return frames


def _warn_of_links(folder: Path, frames: Sequence[Frame]) -> None:
    """Warn once per folder of links to images outside it, which could be shown in a report."""
    home = folder.resolve()
    if home in _WARNED:
        return
    is_inside = functools.cache(lambda place: place.resolve().is_relative_to(home))
    paths = [folder / frame.file_name for frame in frames]
    links = [path for path in paths if not is_inside(path.parent) or path.is_symlink()]
    if links := [path for path in links if not path.resolve().is_relative_to(home)]:
        _WARNED.add(home)
        logger.warning(
            "%s: %d of %d images are links that lead out of the folder, such as %s to %s",
            *(folder, len(links), len(paths), links[0].name, links[0].resolve()),
        )


_WARNED = set[Path]()


class Mismatch(NamedTuple):
    """A row and a file that do not match."""

    kind: str
    """missing-picture, missing-mask, no-mask or picture-without-row."""
    file: str
    """Relative to the folder, with forward slashes."""
    reason: str


def find_mismatches(
    folder: Path, frames: Sequence[Frame], *, require_mask: bool = False
) -> Iterator[Mismatch]:
    """Yield every file that a row names and that is missing, and every image without a row."""
    for frame in frames:
        if not (folder / frame.file_name).is_file():
            yield Mismatch("missing-picture", frame.file_name, "has a row but no image")
        mask_name = frame.mask_file_name
        if mask_name and not (folder / mask_name).is_file():
            yield Mismatch("missing-mask", mask_name, "is named by a row but missing")
        if require_mask and not mask_name:
            yield Mismatch("no-mask", frame.file_name, "has no mask")
    pictures = {folder / frame.file_name for frame in frames}
    named = pictures | {folder / frame.mask_file_name for frame in frames if frame.mask_file_name}
    # A contact sheet or a report may lie next to `images/`; if rows name images in the folder
    # itself, every image there counts.
    has_top = any(path.parent == folder for path in pictures)
    for parent, folders, names in os.walk(folder):
        place = Path(parent)
        folders[:] = [f for f in sorted(folders) if is_data_folder(f) and f != MASKS]
        if place == folder and not has_top:
            continue
        for path in (place / name for name in sorted(names) if not name.startswith(".")):
            if path.suffix.lower() in IMAGE_SUFFIXES and path not in named:
                file = path.relative_to(folder).as_posix()
                yield Mismatch("picture-without-row", file, f"image without a row in {METADATA}")


def hash_frames(
    folder: Path, frames: Sequence[Frame], *, has_images: bool = True, has_masks: bool = False
) -> dict[str, str]:
    """Hash what a training uses of each frame; by file name.

    The hash covers caption, patient and split of the row, and the bytes of the image and the mask
    as requested. Other files of the folder, such as notes or a data card, are not included.
    """
    hashes = {}
    for frame in frames:
        digest = hashlib.sha256()
        row = [frame.file_name, frame.text, frame.patient_id, frame.pair_id, frame.split]
        digest.update(json.dumps(row).encode())
        names = [frame.file_name] if has_images else []
        names += [frame.mask_file_name] if has_masks and frame.mask_file_name else []
        for name in names:
            digest.update(sha256_file(folder / name).encode())
        hashes[frame.file_name] = digest.hexdigest()[:16]
    return hashes
