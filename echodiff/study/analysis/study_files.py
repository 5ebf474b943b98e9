"""Where the ratings and readers of a study lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from echodiff.errors import InputError

RATINGS, READERS = "ratings.csv", "readers.csv"
_FOLDERS = ("", "export")


@dataclass(frozen=True)
class StudyFiles:
    """The two files that an analysis reads."""

    ratings: Path
    readers: Path | None


def find_files(ratings: Path, readers: Path | None) -> StudyFiles:
    """Find the files of a CSV, or of a study's folder that `echodiff study export` wrote to."""
    if ratings.is_dir():
        places = [ratings / folder / RATINGS for folder in _FOLDERS]
        found = [place for place in places if place.is_file()]
        if not found:
            raise InputError(f"{ratings}: has no {RATINGS}; `echodiff study export` writes it")
        ratings = found[0]
    elif not ratings.is_file():
        raise InputError(f"{ratings}: no such file")
    if readers is None and (beside := ratings.with_name(READERS)).is_file() and beside != ratings:
        readers = beside
    if readers is not None and not readers.is_file():
        raise InputError(f"--readers {readers}: no such file")
    return StudyFiles(ratings, readers)
