"""The rows of an unfinished frames folder: one file per process, joined at the end."""

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from echodiff.documents import parse_json
from echodiff.files import written_beside
from echodiff.frames.layout import METADATA
from echodiff.frames.rows import Frame, parse_row


def shard_path(out: Path, number: int) -> Path:
    """Return the file that process `number` of a job appends its rows to."""
    return out / f"metadata.partial{f'-{number}' if number else ''}.jsonl"


def list_shards(out: Path) -> list[Path]:
    """Return the row files of all processes."""
    return sorted(out.glob("metadata.partial*.jsonl"))


def read_shards(out: Path) -> Iterator[Frame]:
    """Yield the rows written so far by all processes, one at a time."""
    for shard in list_shards(out):
        with shard.open(encoding="utf-8") as file:
            yield from map(parse_row, file)


def list_names(rows: Path, *, with_torn: bool = False) -> Iterator[str]:
    """Yield the images that a row file names; with_torn: also that of a last line without an end.

    Lines that are no rows are skipped.
    """
    with rows.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") or with_torn:
                with suppress(ValueError, TypeError, KeyError):
                    yield str(parse_json(line)["file_name"])


def join_shards(out: Path) -> None:
    """Write all rows to `METADATA`, sorted by file name, and remove the shards.

    Only names and places are held in memory, and not even those where a single shard is sorted
    already.
    """
    shards = list_shards(out)
    names = (name for shard in shards for name in list_names(shard))
    if len(shards) == 1 and all(name < after for name, after in itertools.pairwise(names)):
        os.replace(shards[0], out / METADATA)
        return
    with ExitStack() as stack:
        files = [stack.enter_context(shard.open("rb")) for shard in shards]
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
    for shard in shards:
        shard.unlink()
