"""The frames folder, the only currency between commands: pictures and one row of JSON for each.

It is a Hugging Face `imagefolder`: `datasets.load_dataset("imagefolder", data_dir=...)` opens it.
"""

import dataclasses
import itertools
import os
import shutil
from collections.abc import Iterator, KeysView, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from echodiff.config import InputError
from echodiff.files import PARTIAL_PREFIX, append_line, write_text_atomic, written_beside
from echodiff.images import IMAGE_SUFFIXES, is_data_folder, write_image, write_mask
from echodiff.rows import Frame as Frame
from echodiff.rows import check_inside, cut_torn_line, parse_row, read_rows, to_line

METADATA = "metadata.jsonl"
IMAGES, MASKS = "images", "masks"


def load_frames(folder: Path, *, require_mask: bool = False) -> list[Frame]:
    """Read a frames folder in the order of its rows; everything that does not fit is an InputError.

    Every row has its picture (and its mask, where one is named or `require_mask`), every picture
    has its row, and no name leads out of the folder. Pixels are not read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    metadata = folder / METADATA
    if not metadata.is_file():
        unfinished = any(folder.glob("metadata.partial*.jsonl"))
        reason = "unfinished: run its command again" if unfinished else f"holds no {METADATA}"
        raise InputError(f"{folder}: {reason}")
    frames = [frame for _, frame in read_rows(metadata)]
    if not frames:
        raise InputError(f"{metadata}: no frames")
    for mismatch in find_mismatches(folder, frames, require_mask=require_mask):
        raise InputError(f"{folder / mismatch.file}: {mismatch.reason}")
    return frames


class Mismatch(NamedTuple):
    """A row and a file that do not go together."""

    kind: str
    """missing-picture, missing-mask, no-mask or picture-without-row."""
    file: str
    """Relative to the folder, with forward slashes."""
    reason: str


def find_mismatches(
    folder: Path, frames: Sequence[Frame], *, require_mask: bool = False
) -> Iterator[Mismatch]:
    """Everything that a row names and that is not there, and every picture without a row."""
    for frame in frames:
        if not (folder / frame.file_name).is_file():
            yield Mismatch("missing-picture", frame.file_name, "has a row but no picture")
        mask_name = frame.mask_file_name
        if mask_name and not (folder / mask_name).is_file():
            yield Mismatch("missing-mask", mask_name, "is named but not there")
        if require_mask and not mask_name:
            yield Mismatch("no-mask", frame.file_name, "has no mask")
    pictures = {folder / frame.file_name for frame in frames}
    named = pictures | {folder / frame.mask_file_name for frame in frames if frame.mask_file_name}
    # A contact sheet or a report may lie beside `images/`; where rows name pictures in the folder
    # itself, every picture there counts.
    has_top = any(path.parent == folder for path in pictures)
    for parent, folders, names in os.walk(folder):
        place = Path(parent)
        folders[:] = [f for f in sorted(folders) if is_data_folder(f) and f != MASKS]
        if place == folder and not has_top:
            continue
        for path in (place / name for name in sorted(names) if not name.startswith(".")):
            if path.suffix.lower() in IMAGE_SUFFIXES and path not in named:
                file = path.relative_to(folder).as_posix()
                yield Mismatch("picture-without-row", file, f"picture without a row in {METADATA}")


class FramesWriter:
    """Writes a frames folder that is complete, or can be gone on with, at every moment.

    Pictures come under `images/`, masks under `masks/`. Until the block ends well the rows are in
    `metadata.partial.jsonl`; opening the folder again then goes on, and `done` says what is there.
    `fingerprint` is whatever tells one job from another: a folder begun with another one is
    refused, like a finished or a foreign folder. `overwrite` clears a frames folder first, and
    only that.

    Several processes may write one folder, each with its own `shard`. Shard 0 opens it first, and
    leaves the block last, joining all rows; waiting for that is the callers' part.
    """

    def __init__(
        self, out: Path, *, overwrite: bool = False, fingerprint: str = "", shard: int = 0
    ) -> None:
        self.out = Path(out)
        self.overwrite = overwrite
        self.fingerprint = fingerprint
        self.shard = shard
        self._done: dict[str, None] = {}  # of 20,000 names, a set would take five times the room
        self._is_new = False

    @property
    def done(self) -> KeysView[str]:
        """File names of the rows that are written."""
        return self._done.keys()

    @property
    def partial(self) -> Path:
        return self.out / f"metadata.partial{f'-{self.shard}' if self.shard else ''}.jsonl"

    @property
    def _job(self) -> Path:
        return self.out / ".metadata.partial.job"

    def __enter__(self) -> Self:
        _check_outside(self.out)
        self._is_new = not self.out.exists()
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise InputError(f"{self.out}: is a file, not a folder") from error
        if self.shard == 0:
            self._check_place()
            write_text_atomic(self._job, self.fingerprint)
        self._read_partial_rows()
        self.partial.touch()
        if self.shard == 0:
            self._remove_strays()
        return self

    def __contains__(self, file_name: str) -> bool:
        return _under(IMAGES, file_name) in self.done

    def add(
        self,
        frame: Frame,
        image_u8: NDArray[np.uint8],
        mask_u8: NDArray[np.uint8] | None = None,
    ) -> Frame:
        """Write picture, mask, row, in this order, and return the frame as it was written."""
        file_name = _under(IMAGES, frame.file_name)
        check_inside(file_name, "file_name")
        if file_name in self.done:
            raise ValueError(f"{file_name} is already in {self.out}")
        mask_name = frame.mask_file_name
        if mask_u8 is not None:
            if mask_u8.shape != image_u8.shape[:2]:
                raise ValueError(f"{file_name}: mask {mask_u8.shape}, image {image_u8.shape}")
            mask_name = MASKS + file_name.removeprefix(IMAGES)
            write_mask(self.out / mask_name, mask_u8)
        frame = dataclasses.replace(frame, file_name=file_name, mask_file_name=mask_name)
        write_image(self.out / file_name, image_u8)
        append_line(self.partial, to_line(frame))
        self._done[file_name] = None
        return frame

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self.shard == 0:
            self._join_rows()
        elif self._is_new and kind and (not self.done or issubclass(kind, InputError)):
            shutil.rmtree(self.out)

    def _check_place(self) -> None:
        is_finished = (self.out / METADATA).exists()
        is_unfinished = self.partial.exists()
        names = [p for p in self.out.iterdir() if not p.name.startswith(PARTIAL_PREFIX)]
        if self.overwrite and (is_finished or is_unfinished):
            self._clear()
        elif is_finished:
            raise InputError(f"{self.out}: is a finished frames folder; --overwrite starts anew")
        elif is_unfinished:
            begun_as = self._job.read_text(encoding="utf-8") if self._job.exists() else ""
            if begun_as != self.fingerprint:
                raise InputError(
                    f"{self.out}: was begun with other settings or files; --overwrite starts anew"
                )
        elif names:
            raise InputError(f"{self.out}: is not empty and is no frames folder")

    def _clear(self) -> None:
        # The rows go last: stopped half-way, this is still a frames folder that can be cleared.
        for name in (IMAGES, MASKS):
            if (self.out / name).exists():
                shutil.rmtree(self.out / name)
        for path in [self.out / METADATA, *self.out.glob("metadata.partial*.jsonl")]:
            path.unlink(missing_ok=True)

    def _read_partial_rows(self) -> None:
        for path in self.out.glob("metadata.partial*.jsonl"):
            if path == self.partial or self.shard == 0:  # shard 0 opens before the others write
                cut_torn_line(path)
            rows = [frame for _, frame in read_rows(path)] if path.stat().st_size else []
            self._done.update((frame.file_name, None) for frame in rows)

    def _remove_strays(self) -> None:
        """Remove what was written when the last run stopped before its row was."""
        for name in (IMAGES, MASKS):
            for path in (self.out / name).rglob("*"):
                picture = IMAGES + path.relative_to(self.out).as_posix().removeprefix(name)
                if path.is_file() and picture not in self.done:
                    path.unlink()

    def rows(self) -> Iterator[Frame]:
        """The rows written so far, one at a time, by whatever process."""
        for part in sorted(self.out.glob("metadata.partial*.jsonl")):
            with part.open(encoding="utf-8") as file:
                for line in file:
                    yield parse_row(line)

    def _join_rows(self) -> None:
        """Sort the rows of all processes by file name; only names and places are held in memory,
        and not even those where the rows are sorted already."""
        parts = sorted(self.out.glob("metadata.partial*.jsonl"))
        names = (frame.file_name for frame in self.rows())
        if len(parts) == 1 and all(name < after for name, after in itertools.pairwise(names)):
            os.replace(parts[0], self.out / METADATA)
            self._job.unlink()
            return
        with ExitStack() as stack:
            files = [stack.enter_context(part.open("rb")) for part in parts]
            places = []
            for number, file in enumerate(files):
                start = 0
                for line in file:
                    places.append((parse_row(line).file_name, number, start))
                    start += len(line)
            with written_beside(self.out / METADATA) as beside, beside.open("wb") as joined:
                for _, number, start in sorted(places):
                    files[number].seek(start)
                    joined.write(files[number].readline())
        for part in [*parts, self._job]:
            part.unlink()


def _check_outside(out: Path) -> None:
    """Refuse a folder inside a frames folder, where its pictures would be ones without a row."""
    for parent in out.resolve().parents:
        if (parent / METADATA).is_file() or any(parent.glob("metadata.partial*.jsonl")):
            raise InputError(f"{out}: lies inside {parent}, a frames folder; choose another place")


def _under(folder: str, file_name: str) -> str:
    return file_name if file_name.startswith(folder + "/") else f"{folder}/{file_name}"
