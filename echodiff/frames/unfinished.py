"""The unfinished frames folder: its rows so far, its job, and what a killed process left."""

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from echodiff.documents import parse_json
from echodiff.errors import InputError
from echodiff.files import cut_torn_line, written_beside
from echodiff.fingerprints import describe_difference
from echodiff.frames.layout import IMAGES, JOB, MASKS, METADATA
from echodiff.frames.rows import parse_row
from echodiff.images import IMAGE_SUFFIXES

_TORN_NAME = re.compile(r'\{"file_name": "((?:[^"\\]|\\.)*)')


def list_parts(out: Path) -> list[Path]:
    """Files of the rows so far, one a process."""
    return sorted(out.glob("metadata.partial*.jsonl"))


def refuse_other_job(out: Path, asked: Mapping[str, Any] | str) -> None:
    """InputError where `out` was begun as another job; it names what differs."""
    path = out / JOB
    begun: Any = path.read_text(encoding="utf-8") if path.exists() else ""
    wanted: Any = asked
    if not isinstance(asked, str):
        wanted = json.loads(json.dumps(asked))
        with suppress(ValueError):
            begun = parse_json(begun)
    if begun == wanted:
        return
    is_told = isinstance(begun, dict) and isinstance(wanted, dict)
    raise InputError(
        f"{out}: was begun with other settings or files; --overwrite starts anew"
        f"{describe_difference(begun, wanted) if is_told else ''}"
    )


def remove_strays(out: Path) -> None:
    """Remove what was being written when the last run was killed, by its torn row.

    A picture of somebody else would be in the finished folder without a row: an InputError.
    """
    named: set[str] = set()
    for part in list_parts(out):
        torn = _name_in(cut_torn_line(part))
        named.update(list_names(part))
        is_cut = not torn.endswith(".png")
        for name in (IMAGES, MASKS) if torn else ():
            for path in (out / name).rglob("*"):
                picture = IMAGES + path.relative_to(out).as_posix()[len(name) :]
                is_it = picture.startswith(torn) if is_cut else picture == torn
                if is_it and picture not in named and path.is_file():
                    path.unlink()
    for path in (out / IMAGES).rglob("*"):
        name = path.relative_to(out).as_posix()
        if path.suffix.lower() in IMAGE_SUFFIXES and name not in named:
            raise InputError(f"{path}: no row of this unfinished folder names it: move it away")


def join_rows(out: Path) -> None:
    """Sort the rows of all processes by file name; only names and places are held in memory,
    and not even those where the rows are sorted already."""
    parts = list_parts(out)
    names = (name for part in parts for name in list_names(part))
    if len(parts) == 1 and all(name < after for name, after in itertools.pairwise(names)):
        os.replace(parts[0], out / METADATA)
        (out / JOB).unlink()
        return
    with ExitStack() as stack:
        files = [stack.enter_context(part.open("rb")) for part in parts]
        places = []
        for number, file in enumerate(files):
            start = 0
            for line in file:
                places.append((parse_row(line).file_name, number, start))
                start += len(line)
        with written_beside(out / METADATA) as beside, beside.open("wb") as joined:
            for _, number, start in sorted(places):
                files[number].seek(start)
                joined.write(files[number].readline())
    for part in [*parts, out / JOB]:
        part.unlink()


def list_names(rows: Path, *, with_torn: bool = False) -> Iterator[str]:
    """Pictures of a file of rows; with_torn: also that of a last line without an end."""
    with rows.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") or with_torn:
                with suppress(ValueError, TypeError, KeyError):
                    yield str(parse_json(line)["file_name"])


def _name_in(torn: bytes) -> str:
    """The picture that a torn row names, or as much of its name as was written."""
    found = _TORN_NAME.match(torn.decode("utf-8", "ignore"))
    with suppress(ValueError):
        return str(parse_json(f'"{found[1]}"')) if found else ""
    return ""
