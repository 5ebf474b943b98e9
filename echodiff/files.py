"""Write files completely or not at all, and find the files shipped with the package."""

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

PARTIAL_PREFIX = ".partial-"


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a hidden sibling of `path` to write to; on success it replaces `path`.

    The sibling keeps the suffix, because some writers derive the format from it. Its name is
    unpredictable and it must not exist, so that no link can be placed there. On failure it is
    removed, and an OSError is raised again with `path` as its file name, which a full disk does
    not report by itself.
    """
    path = Path(path)
    partial = path.with_name(f"{PARTIAL_PREFIX}{secrets.token_hex(8)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not by tempfile: what it makes only its owner may read.
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        yield partial
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text_atomic(path: Path, text: str) -> None:
    """Write UTF-8 text; the file is whole or absent."""
    with written_beside(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json_atomic(path: Path, value: Any) -> None:
    """Write indented JSON; the file is whole or absent. NaN and infinity raise ValueError."""
    write_text_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def append_line(path: Path, line: str) -> None:
    """Append one line; on failure the file is truncated to its former length."""
    with _appending(path) as file:
        _write(file, line.encode("utf-8") + b"\n")


@contextmanager
def line_appended(path: Path, line: str) -> Iterator[None]:
    """Append one line in two parts: its text before the block, its line end after it.

    On failure the file is truncated to its former length. If the process is killed in the block,
    the last line has no end and tells what was being done.
    """
    data = line.encode("utf-8")
    with _appending(path) as file:
        _write(file, data)
        yield
        _write(file, b"\n")


@contextmanager
def _appending(path: Path) -> Iterator[FileIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unbuffered: a buffer would be tried once more when the file closes.
    with path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            yield file
        except BaseException as error:
            with suppress(OSError):
                file.truncate(size)
            if isinstance(error, OSError) and error.errno is not None and error.filename is None:
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise


def _write(file: FileIO, data: bytes) -> None:
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def cut_torn_line(path: Path) -> bytes:
    """Remove and return an unfinished last line, which a killed process left."""
    with Path(path).open("r+b") as file:
        end = start = file.seek(0, os.SEEK_END)
        torn = b""
        while start and b"\n" not in torn:
            size = min(start, 65536)
            start = file.seek(start - size)
            torn = file.read(size) + torn
        torn = torn[torn.rfind(b"\n") + 1 :]
        if torn:
            file.truncate(end - len(torn))
    return torn


def shipped(name: str) -> Path:
    """Return the path of a shipped file or folder: `prompts/asd.txt`, `train_lora.py`, `presets`.

    It is inside the package if installed from a wheel; in a clone, scripts, prompts and cards are
    at the top.
    """
    package = Path(__file__).resolve().parent
    for place in (package / name, package / "scripts" / name, package.parent / name):
        if place.exists():
            return place
    raise FileNotFoundError(errno.ENOENT, "not shipped with this installation", name)
