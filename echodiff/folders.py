"""Lock output folders, and clear only files that were written by the tool."""

import errno
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import lock_descriptor

from echodiff.documents import parse_json
from echodiff.errors import InputError
from echodiff.files import PARTIAL_PREFIX

LOCK = ".echodiff.lock"

logger = logging.getLogger(__name__)

_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
"""What a file system that has no locks answers."""


class FolderLock:
    """Lock of `folder`, held from `acquire` to `release`, or for a `with` block.

    The operating system holds the lock (flock on POSIX, LockFileEx on Windows), so it ends with
    its process in any case. Linux supports it over NFS; on a file system without locks one warning
    says so. Several processes of one job share the lock of their first process.

    The lock is a hidden file in the folder. beside: the file is next to the folder instead, which
    can then be replaced as a whole.
    """

    def __init__(self, folder: Path, *, beside: bool = False) -> None:
        self.folder = Path(folder)
        self.path = (
            self.folder.with_name(f".{self.folder.name}{LOCK}") if beside else self.folder / LOCK
        )
        self._created: list[Path] = []
        self._descriptor: int | None = None

    def acquire(self, *, is_new: bool = False) -> Self:
        """Acquire the lock, creating the folder if needed; InputError if another process holds it.

        is_new: FileExistsError if the folder exists.
        """
        while self._descriptor is None:
            self._make_folder(is_new=is_new)
            descriptor = os.open(
                self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666
            )
            try:
                if not self._try(descriptor):
                    holder = _read_holder(descriptor)
                    raise InputError(
                        f"{self.folder}: {holder} is writing there; wait until it has finished"
                    )
                # Whoever had it before may have removed the file between our two calls.
                if _is_at(descriptor, self.path):
                    self._descriptor, descriptor = descriptor, -1
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
        holder = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
        os.ftruncate(self._descriptor, 0)
        # Windows locks the first byte against readers too: what they read comes after it.
        os.write(self._descriptor, f" {holder}".encode())
        return self

    def refuse_held(self) -> None:
        """Raise InputError naming the holder if another process holds the lock; take nothing."""
        if self.path.is_file():
            self.acquire().release()

    def release(self) -> None:
        """Release the lock, and remove folders that `acquire` created if they are still empty."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            self.path.unlink()
        os.close(self._descriptor)
        self._descriptor = None
        if sys.platform == "win32":  # where a file that is open cannot be removed
            with suppress(OSError):
                self.path.unlink()
        for folder in reversed(self._created):
            with suppress(OSError):
                folder.rmdir()

    def __enter__(self) -> Self:
        return self if self._descriptor is not None else self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _make_folder(self, *, is_new: bool) -> None:
        place = self.path.parent
        missing = [folder for folder in place.parents if not folder.exists()]
        for folder in [*reversed(missing), place]:
            try:
                folder.mkdir()
                self._created.append(folder)
            except FileExistsError:
                if is_new and folder == place and place not in self._created:
                    raise
        if not place.is_dir():
            raise InputError(f"{place}: is a file, not a folder")

    def _try(self, descriptor: int) -> bool:
        try:
            return lock_descriptor(descriptor, blocking=False)
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise OSError(error.errno, error.strerror, str(self.path)) from error
            logger.warning(
                "%s: this file system has no locks (%s): see to it that one command writes there",
                self.folder,
                error.strerror,
            )
            return True


def _read_holder(descriptor: int) -> str:
    """Read host and process of the lock's holder, which writes them just after acquiring it."""
    for _ in range(20):
        time.sleep(0.05)
        os.lseek(descriptor, 1, os.SEEK_SET)
        with suppress(ValueError, KeyError, TypeError, OSError):
            holder = parse_json(os.read(descriptor, 4096))
            return f"process {int(holder['pid'])} on {holder['host']}"
    return "another process"


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def refuse_inputs(out: Path, inputs: Iterable[Path | None]) -> None:
    """InputError if one of `inputs` is, contains or lies in `out`, with links resolved.

    Paths that do not exist are ignored, such as the name of a model on a hub.
    """
    target = Path(out).resolve()
    for path in inputs:
        if path is None or not path.exists():
            continue
        place = Path(path).resolve()
        if place == target:
            relation = "is"
        elif target in place.parents:
            relation = "holds"
        elif place in target.parents:
            relation = "lies in"
        else:
            continue
        raise InputError(f"--out {out}: {relation} {path}, which this command reads")


def clear_folder(out: Path, is_written: Callable[[str], bool], *, last: str) -> None:
    """Remove all files of `out` for which `is_written` holds, given their relative path.

    Any other file is an InputError naming it, and nothing is removed. `last` is removed last, so
    that an interrupted removal can be repeated.
    """
    names = sorted(_list_files(out))
    for name in names:
        if not is_written(name) and Path(name).name != LOCK:
            raise InputError(
                f"{out}: holds {name}, which was not written by this command; "
                "move it away before --overwrite"
            )
    folders = {parent for name in names for parent in Path(name).parents if parent.parts}
    for name in names:
        if name not in (last, LOCK):
            (out / name).unlink()
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        with suppress(OSError):
            (out / folder).rmdir()
    (out / last).unlink(missing_ok=True)


def remove_leftovers(folders: Iterable[Path]) -> None:
    """Remove partial files of killed processes; call it only while holding the folder's lock."""
    for folder in folders:
        if folder.is_dir():
            for path in folder.glob(f"{PARTIAL_PREFIX}*"):
                if path.is_file() and not path.is_symlink():
                    path.unlink()


def _list_files(out: Path) -> Iterable[str]:
    """List files and links below `out` by relative path; a link to a folder counts as a link."""
    for parent, folders, files in os.walk(out):
        place = Path(parent)
        links = [name for name in folders if (place / name).is_symlink()]
        for name in [*files, *links]:
            yield (place / name).relative_to(out).as_posix()
