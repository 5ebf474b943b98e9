"""Writing a frames folder: complete, or able to be resumed, at every moment."""

import dataclasses
import errno
import json
from collections.abc import Collection, Iterable, Iterator, KeysView, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from echodiff.errors import InputError
from echodiff.files import (
    PARTIAL_PREFIX,
    line_appended,
    write_text_atomic,
)
from echodiff.folders import LOCK, FolderLock, clear_folder, refuse_inputs, remove_leftovers
from echodiff.frames.layout import IMAGES, JOB, MASKS, METADATA, mask_of
from echodiff.frames.maker import refuse_maker
from echodiff.frames.rows import (
    Frame,
    check_inside,
    parse_row,
    read_rows,
    to_line,
)
from echodiff.frames.unfinished import (
    join_rows,
    list_names,
    list_parts,
    refuse_other_job,
    remove_strays,
)
from echodiff.images import write_image, write_mask

_BAD_NAME = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
"""What is wrong with a file's name, and not with the disk."""


class FramesWriter:
    """Writes a frames folder that is complete, or can be gone on with, at every moment.

    Pictures come under `images/`, masks under `masks/`. Until the block ends well the rows are in
    `metadata.partial.jsonl`; opening the folder again then goes on, and `done` says what is there.
    What was written stays, whatever ended the block; where nothing was, nothing is left.

    fingerprint: whatever tells one job from another, `settings` by field and files by name. A
    folder begun with another one is refused, like a finished or a foreign folder.
    command: who writes, one of `maker`; a folder that another one wrote is never cleared.
    overwrite: first remove the frames that the rows name, and files of `beside`; where anything
    else lies there, nothing is removed, and it is an InputError.
    inputs: what the command reads; an InputError where it is, holds or lies in `out`.
    beside: files that the command writes into the folder besides.
    lock: the folder's lock, where the caller has it; otherwise it is held for the block.

    Several processes may write one folder, each with its own `shard`. Shard 0 opens it first, and
    leaves the block last, joining all rows; waiting for that is the callers' part.
    """

    def __init__(
        self,
        out: Path,
        *,
        overwrite: bool = False,
        command: str = "",
        fingerprint: Mapping[str, Any] | str = "",
        shard: int = 0,
        inputs: Iterable[Path | None] = (),
        beside: Collection[str] = (),
        lock: FolderLock | None = None,
    ) -> None:
        self.out = Path(out)
        self.overwrite = overwrite
        self.command = command
        self.fingerprint = fingerprint
        self.shard = shard
        self.inputs, self.beside = inputs, beside
        self._lock = lock or FolderLock(self.out)
        self._has_own_lock = lock is None
        self._done: dict[str, None] = {}  # of 20,000 names, a set would take five times the room

    @property
    def done(self) -> KeysView[str]:
        """File names of the rows that are written."""
        return self._done.keys()

    @property
    def partial(self) -> Path:
        return self.out / f"metadata.partial{f'-{self.shard}' if self.shard else ''}.jsonl"

    @property
    def is_begun(self) -> bool:
        """Whether any row is written, by whatever process."""
        return (self.out / METADATA).exists() or any(p.stat().st_size for p in list_parts(self.out))

    @property
    def _job(self) -> Path:
        return self.out / JOB

    def __enter__(self) -> Self:
        _check_outside(self.out)
        if self.shard == 0:
            self._check_place()
            refuse_inputs(self.out, self.inputs)
            # Only now: a folder that is refused is not touched.
            if self._has_own_lock:
                self._lock.acquire()
        try:
            if self.shard == 0:
                self._begin()
            self._read_partial_rows()
            self.partial.touch()
        except BaseException:
            self._release()
            raise
        return self

    def __contains__(self, file_name: str) -> bool:
        return _under(IMAGES, file_name) in self.done

    def add(
        self,
        frame: Frame,
        image_u8: NDArray[np.uint8],
        mask_u8: NDArray[np.uint8] | None = None,
    ) -> Frame:
        """Write mask, picture and row, and return the frame as it was written.

        A name that no file can have is an InputError, and the folder is as it was before.
        """
        file_name = _under(IMAGES, frame.file_name)
        check_inside(file_name, "file_name")
        if file_name in self.done:
            raise ValueError(f"{file_name} is already in {self.out}")
        mask_name = frame.mask_file_name
        if mask_u8 is not None:
            if mask_u8.shape != image_u8.shape[:2]:
                raise ValueError(f"{file_name}: mask {mask_u8.shape}, image {image_u8.shape}")
            mask_name = mask_of(file_name)
        frame = dataclasses.replace(frame, file_name=file_name, mask_file_name=mask_name)
        try:
            # Killed before the line has its end, the folder says which files are of no use.
            with line_appended(self.partial, to_line(frame)):
                self._write_pictures(frame, image_u8, mask_u8)
        except UnicodeEncodeError as error:
            raise InputError(f"{file_name!r}: cannot be written: {error}") from error
        except OSError as error:
            if error.errno not in _BAD_NAME:
                raise
            raise InputError(f"{file_name}: {error.strerror}") from error
        self._done[file_name] = None
        return frame

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.shard:
            return
        try:
            if kind is None:
                join_rows(self.out)
            elif not self.is_begun:
                self._remove_nothing_written()
        finally:
            self._release()

    def _begin(self) -> None:
        self._check_place()
        remove_leftovers([self.out, *self._picture_folders()])
        if self.overwrite:
            self._clear()
        remove_strays(self.out)
        job = self.fingerprint
        text = job if isinstance(job, str) else json.dumps(job)
        write_text_atomic(self._job, text)

    def _release(self) -> None:
        if self._has_own_lock:
            self._lock.release()

    def _write_pictures(
        self, frame: Frame, image_u8: NDArray[np.uint8], mask_u8: NDArray[np.uint8] | None
    ) -> None:
        written = []
        try:
            if mask_u8 is not None:
                written.append(self.out / str(frame.mask_file_name))
                write_mask(written[-1], mask_u8)
            written.append(self.out / frame.file_name)
            write_image(written[-1], image_u8)
        except BaseException:
            for path in written:
                with suppress(OSError):
                    path.unlink()
            raise

    def _check_place(self) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out}: is a file, not a folder")
        names = {path.name for path in self.out.iterdir()} if self.out.exists() else set()
        is_finished, is_unfinished = METADATA in names, bool(list_parts(self.out))
        if self.overwrite and (is_finished or is_unfinished):
            if self.command:
                refuse_maker(self.out, self.command)
            return
        if is_finished:
            raise InputError(f"{self.out}: is a finished frames folder; --overwrite starts anew")
        if is_unfinished:
            refuse_other_job(self.out, self.fingerprint)
        elif any(not name.startswith(PARTIAL_PREFIX) and name != LOCK for name in names):
            raise InputError(f"{self.out}: is not empty and is no frames folder")

    def _clear(self) -> None:
        written = {METADATA, self._job.name, *self.beside}
        for path in [self.out / METADATA, *list_parts(self.out)]:
            if path.exists():
                written.add(path.name)
                for name in list_names(path, with_torn=True):
                    written.update((name, mask_of(name)))
        # The rows go last: stopped half-way, this is still a frames folder that can be cleared.
        rows = METADATA if (self.out / METADATA).exists() else self.partial.name
        clear_folder(self.out, written.__contains__, last=rows)

    def _read_partial_rows(self) -> None:
        for path in list_parts(self.out):
            rows = [frame for _, frame in read_rows(path)] if path.stat().st_size else []
            self._done.update((frame.file_name, None) for frame in rows)

    def _remove_nothing_written(self) -> None:
        # What the command writes beside the frames too: with it, the folder would be a foreign one.
        for path in (*list_parts(self.out), self._job, *(self.out / name for name in self.beside)):
            path.unlink(missing_ok=True)
        for folder in self._picture_folders():
            with suppress(OSError):
                folder.rmdir()

    def _picture_folders(self) -> list[Path]:
        return [self.out / name for name in (IMAGES, MASKS)]

    def rows(self) -> Iterator[Frame]:
        """The rows written so far, one at a time, by whatever process."""
        for part in list_parts(self.out):
            with part.open(encoding="utf-8") as file:
                for line in file:
                    yield parse_row(line)


def _check_outside(out: Path) -> None:
    """Refuse a folder inside a frames folder, where its pictures would be ones without a row."""
    for parent in out.resolve().parents:
        if (parent / METADATA).is_file() or any(parent.glob("metadata.partial*.jsonl")):
            raise InputError(f"{out}: lies inside {parent}, a frames folder; choose another place")


def _under(folder: str, file_name: str) -> str:
    return file_name if file_name.startswith(folder + "/") else f"{folder}/{file_name}"
