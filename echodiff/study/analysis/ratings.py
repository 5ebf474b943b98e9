"""Ratings as arrays: one row per rating of one image by one reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from echodiff.errors import InputError
from echodiff.study.columns import SCORES as SCORES

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MIN_READERS = 2
"""Fewest readers of an analysis: with one, differences between readers are unknown."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Diagnoses with and without a generated image beside the real one, one row each."""

    reader: tuple[str, ...]
    """(M,)"""
    case: tuple[str, ...]
    """(M,) image that was diagnosed."""
    is_with: Mask
    """(M,) whether the generated image was shown."""
    is_correct: Mask
    """(M,) whether the diagnosis is the reference diagnosis."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What the files of a study hold; one of both may be missing."""

    ratings: Ratings | None
    diagnoses: Reading | None
    notes: tuple[str, ...]
    """What was left out, and what is remarkable."""


@dataclass(frozen=True, kw_only=True)
class Ratings:
    """Scores of a study that has been read and checked; N rows."""

    readers: tuple[str, ...]
    sources: tuple[str, ...]
    """The real one first."""
    images: tuple[str, ...]
    patients: tuple[str, ...]
    """Of each image; an image without a patient is its own."""
    reader: Ints
    """(N,) row in `readers`."""
    source: Ints
    """(N,) row in `sources`; 0 is real."""
    image: Ints
    """(N,) row in `images`."""
    score: Ints
    """(N,) 1 to 5."""
    trial: Floats
    """(N,) place in the reader's sequence, from 1."""
    kind: tuple[str, ...]
    """(N,) main, shared or repeat."""
    seconds: Floats
    """(N,) from decoded image to answer; NaN where it is not known."""
    ticks: Mapping[str, Mask] = field(default_factory=dict)
    """Tick box to (N,) whether it was ticked."""
    experience_years: Floats
    """(readers,) NaN where it is not known."""
    weekly_readings: Floats
    """(readers,) NaN where it is not known."""

    def __len__(self) -> int:
        return len(self.score)

    @property
    def generated(self) -> range:
        """Rows of `sources` that are not real."""
        return range(1, len(self.sources))

    def take(self, is_taken: Mask) -> Self:
        """Return the ratings of these rows; readers, sources and images keep their numbers."""
        rows = np.flatnonzero(is_taken)
        return replace(
            self,
            reader=self.reader[rows], source=self.source[rows], image=self.image[rows],
            score=self.score[rows], trial=self.trial[rows], seconds=self.seconds[rows],
            kind=tuple(self.kind[row] for row in rows),
            ticks={name: ticked[rows] for name, ticked in self.ticks.items()},
        )  # fmt: skip

    def without_repeats(self) -> Self:
        """Return the ratings without hidden repeats, which would count an image twice."""
        return self.take(np.array([kind != "repeat" for kind in self.kind], dtype=bool))

    def scores_of(self, source: int, reader: int | None = None) -> Ints:
        """Return the scores of one source, of one reader or of all."""
        is_own = self.source == source
        if reader is not None:
            is_own &= self.reader == reader
        found: Ints = self.score[is_own]
        return found

    def count_table(self) -> Ints:
        """Return ratings by reader, source and score, (readers, sources, 5)."""
        counts = np.zeros((len(self.readers), len(self.sources), len(SCORES)), dtype=np.int64)
        np.add.at(counts, (self.reader, self.source, self.score - 1), 1)
        return counts


def build_ratings(
    readers: Sequence[str],
    sources: Sequence[str],
    scores: Sequence[int] | Ints,
    *,
    real: str,
    images: Sequence[str] | None = None,
) -> Ratings:
    """Build ratings from columns of equal length; images are all different by default."""
    names = [real, *sorted({*sources} - {real})]
    if real not in sources:
        raise InputError(f"--real {real}: no rating has this source; there are {join(names[1:])}")
    if len(names) == 1:
        raise InputError(f"only the source {real} was rated: there is nothing to compare it with")
    people = sorted({*readers}, key=_natural)
    pictures = [f"image-{row}" for row in range(len(scores))] if images is None else [*images]
    shown = sorted({*pictures}, key=_natural)
    unknown = np.full(len(people), np.nan)
    return Ratings(
        readers=tuple(people), sources=tuple(names), images=tuple(shown), patients=tuple(shown),
        reader=number(readers, people), source=number(sources, names),
        image=number(pictures, shown), score=np.asarray(scores, dtype=np.int64),
        trial=np.arange(1.0, len(scores) + 1), kind=("main",) * len(scores),
        seconds=np.full(len(scores), np.nan),
        experience_years=unknown, weekly_readings=unknown.copy(),
    )  # fmt: skip


def number(names: Sequence[str], known: Sequence[str]) -> Ints:
    """Return the row of each name in `known`."""
    rows = {name: row for row, name in enumerate(known)}
    return np.array([rows[name] for name in names], dtype=np.int64)


def join(names: Sequence[str]) -> str:
    """Join names as in a sentence."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _natural(name: str) -> tuple[int, str]:
    """R2 before R10."""
    return len(name), name


def find_flat_readers(ratings: Ratings) -> Mapping[str, int]:
    """Return readers who gave one score to every image, with that score."""
    found = {}
    for row, name in enumerate(ratings.readers):
        given = np.unique(ratings.score[ratings.reader == row])
        if len(given) == 1:
            found[name] = int(given[0])
    return found
