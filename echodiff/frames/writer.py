"""Write a frames folder that is complete or resumable at every moment."""

import dataclasses
import errno
from collections.abc import Collection, Iterable, Iterator, KeysView, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from echodiff.errors import InputError
from echodiff.files import line_appended
from echodiff.folders import FolderLock, refuse_inputs
from echodiff.frames.layout import IMAGES, mask_of
from echodiff.frames.output_folder import OutputFolder
from echodiff.frames.rows import Frame, check_inside, read_rows, to_line
from echodiff.frames.shards import join_shards, list_shards, read_shards, shard_path
from echodiff.images import write_image, write_mask

_BAD_NAME = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
"""What is wrong with a file's name, and not with the disk."""


class FramesWriter:
    """Writes a frames folder that is complete or resumable at every moment.

    Images are written to `images/`, masks to `masks/`. Until the block ends without an error the
    rows are in `metadata.partial.jsonl`; opening the folder again resumes it, and `done` lists what
    is there. What was written stays, whatever ended the block; where nothing was, nothing is left.

    fingerprint: settings by field and files by name, which identify the job. A folder begun with
    another fingerprint is refused, like a finished or a foreign folder.
    command: the writing command, one of `maker`; a folder of another command is never cleared.
    overwrite: first remove the frames that the rows name, and the files in `beside`; if the folder
    holds anything else, nothing is removed, and it is an InputError.
    inputs: paths that the command reads; InputError if one is, contains or lies in `out`.
    beside: other files that the command writes into the folder.
    lock: the folder's lock, if the caller holds it; otherwise it is held for the block.

    Several processes may write one folder, each with its own `shard`. Shard 0 must be opened first
    and closed last, when it joins all rows; the callers synchronise that.
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
        self.shard = shard
        self.inputs = inputs
        self._folder = OutputFolder(self.out, command, fingerprint, overwrite, beside)
        self._rows = shard_path(self.out, shard)
        self._lock = lock or FolderLock(self.out)
        self._has_own_lock = lock is None
        self._done: dict[str, None] = {}  # of 20,000 names, a set would take five times the room

    @property
    def done(self) -> KeysView[str]:
        """File names of the rows that are written."""
        return self._done.keys()

    @property
    def is_begun(self) -> bool:
        """Whether any process has written a row."""
        return self._folder.has_rows

    def rows(self) -> Iterator[Frame]:
        """Yield the rows written so far by all processes, one at a time."""
        return read_shards(self.out)

    def __contains__(self, file_name: str) -> bool:
        return _under_images(file_name) in self.done

    def __enter__(self) -> Self:
        self._folder.check_outside()
        if self.shard == 0:
            try:
                self._folder.check()
            except InputError:
                # A folder that another process has just begun looks foreign: name that process.
                if self._has_own_lock:
                    self._lock.refuse_held()
                raise
            refuse_inputs(self.out, self.inputs)
            # Only now: a folder that is refused is not touched.
            if self._has_own_lock:
                self._lock.acquire()
        try:
            if self.shard == 0:
                self._folder.check()  # another process may have written before the lock was ours
                self._folder.begin()
            for path in list_shards(self.out):
                rows = [frame for _, frame in read_rows(path)] if path.stat().st_size else []
                self._done.update((frame.file_name, None) for frame in rows)
            self._rows.touch()
        except BaseException:
            self._release()
            raise
        return self

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
                join_shards(self.out)
                self._folder.finish()
            elif not self.is_begun:
                self._folder.abandon()
        finally:
            self._release()

    def add(
        self,
        frame: Frame,
        image_u8: NDArray[np.uint8],
        mask_u8: NDArray[np.uint8] | None = None,
    ) -> Frame:
        """Write mask, image and row, and return the frame as it was written.

        A name that no file can have is an InputError, and the folder is as it was before.
        """
        file_name = _under_images(frame.file_name)
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
            with line_appended(self._rows, to_line(frame)):
                self._write_files(frame, image_u8, mask_u8)
        except UnicodeEncodeError as error:
            raise InputError(f"{file_name!r}: cannot be written: {error}") from error
        except OSError as error:
            if error.errno not in _BAD_NAME:
                raise
            raise InputError(f"{file_name}: {error.strerror}") from error
        self._done[file_name] = None
        return frame

    def _write_files(
        self, frame: Frame, image_u8: NDArray[np.uint8], mask_u8: NDArray[np.uint8] | None
    ) -> None:
        """Write mask and image, or neither."""
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

    def _release(self) -> None:
        if self._has_own_lock:
            self._lock.release()


def _under_images(file_name: str) -> str:
    return file_name if file_name.startswith(f"{IMAGES}/") else f"{IMAGES}/{file_name}"
