"""Files that are whole or absent, and the files the package ships."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PARTIAL_PREFIX = ".partial-"


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a hidden sibling of `path` to write to; it takes its place when all went well.

    The sibling keeps the suffix, which some writers read the format from. On any failure it is
    removed, and an OSError is raised anew with `path` as its file name: a write that runs out of
    disk does not name the file by itself.
    """
    path = Path(path)
    partial = path.with_name(f"{PARTIAL_PREFIX}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
    """Append one line, at once; on a failure the file is cut back to what it was."""
    data = line.encode("utf-8") + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a buffer would be tried once more when the file closes.
        with path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                with suppress(OSError):
                    file.truncate(size)
                raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def shipped(name: str) -> Path:
    """Where a shipped file or folder lies: `prompts/asd.txt`, `train_lora.py`, `presets`.

    Inside the package when installed from a wheel; scripts, prompts and cards at the top of the
    clone otherwise.
    """
    package = Path(__file__).resolve().parent
    for place in (package / name, package / "scripts" / name, package.parent / name):
        if place.exists():
            return place
    raise FileNotFoundError(errno.ENOENT, "not shipped with this installation", name)
