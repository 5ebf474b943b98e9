"""Mean AUC with readers and images both at random, by U-statistics (multi-reader multi-case).

The variance of the mean AUC splits into moments of pairs of comparisons that share the reader, the
generated image or the real image, or not (Gallas 2006; Gallas et al. 2009: "BDG"). Any design will
do, also one in which readers rate different images. Estimates and degrees of freedom are those of
the package iMRMC.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from echodiff.study.analysis.rank_test import adjust_holm
from echodiff.study.analysis.ratings import Floats, Ints, Ratings
from echodiff.study.analysis.reader_auc import compute_reader_aucs

CHANCE = 0.5
NEGLIGIBLE = 1e-12
"""A variance that is 0 but for rounding, as where every reader tells every image."""
NORMAL_FROM = 50.0
"""Degrees of freedom above which the normal distribution is used instead of Student's."""
_UNBIASED = np.array([
    [1, 0, 0, 0, 0, 0, 0, 0],
    [-1, 1, 0, 0, 0, 0, 0, 0],
    [-1, 0, 1, 0, 0, 0, 0, 0],
    [1, -1, -1, 1, 0, 0, 0, 0],
    [-1, 0, 0, 0, 1, 0, 0, 0],
    [1, -1, 0, 0, -1, 1, 0, 0],
    [1, 0, -1, 0, -1, 0, 1, 0],
    [-1, 1, 1, -1, 1, -1, -1, 1],
], dtype=float)  # fmt: skip
"""From sums over pairs that may share more to sums over pairs that share exactly so much; rows are
the moments M1 to M8: same reader (1-4) or not, same or other generated image, same or other real
image."""
_MAIN_EFFECTS = np.array([
    [0, 0, 0, 0, 0, 0, 1, -1],
    [0, 0, 0, 0, 0, 1, 0, -1],
    [0, 0, 0, 1, 0, 0, 0, -1],
], dtype=float)  # fmt: skip
"""Components of generated images, real images and readers (Gallas et al. 2009, equation 19)."""
_SHARING = np.array([
    [1, 0, 1, 0, 1, 0, 1, 0],
    [1, 1, 0, 0, 1, 1, 0, 0],
    [1, 1, 1, 1, 0, 0, 0, 0],
], dtype=float)  # fmt: skip
"""Which moments share the generated image, the real image, the reader."""


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """Sums over all pairs of a real and a generated image that one reader rated.

    A success is 1 if the real image scores higher, 1/2 if equal. R readers, G generated and P real
    images.
    """

    by_reader: Floats
    """(2, R): successes, pairs. The same order in all."""
    by_reader_generated: Floats
    """(2, R, G)"""
    by_reader_real: Floats
    """(2, R, P)"""
    by_pair: Floats
    """(2, G, P)"""
    squares: Floats
    """(2,): sum of squares."""

    @property
    def auc(self) -> float:
        """Successes per pair."""
        successes, pairs = self.by_reader.sum(axis=1)
        return float(successes / pairs)


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Moments of two sets of comparisons, or of one with itself."""

    variance: float
    """Unbiased; may be negative."""
    components_biased: Floats
    """(3,): of generated images, real images and readers, from the biased moments."""
    freedom: Floats
    """(3,): degrees of freedom of the same."""


@dataclass(frozen=True, kw_only=True)
class MeanAuc:
    """A mean AUC, or a difference of two, with its variance over readers and images."""

    value: float
    variance: float
    freedom: float | None
    """Degrees of freedom; None if the variance is not positive."""
    counts: tuple[int, int, int]
    """Readers, generated images, real images."""

    def test(self, null: float) -> dict[str, Any]:
        """p and 95 % and 90 % intervals; None if the variance is not positive."""
        if self.freedom is None:
            return dict.fromkeys(("p", "low", "high", "low_90", "high_90"))
        law = stats.norm if self.freedom > NORMAL_FROM else stats.t(np.floor(self.freedom))
        error = float(np.sqrt(self.variance))
        found = {"p": float(2 * law.sf(abs(self.value - null) / error))}
        for level, end in ((0.95, ""), (0.9, "_90")):
            half = float(law.ppf((1 + level) / 2)) * error
            found |= {f"low{end}": self.value - half, f"high{end}": self.value + half}
        return found


Readings = tuple[Ints, Ints, Floats]
"""Readers, images numbered within their kind, and scores, (N,) each. A reader rates an image
once."""


def compare_images(
    real: Readings,
    generated: Readings,
    num_readers: int,
    shape: tuple[int, int] | None = None,
) -> Comparisons:
    """Compare all real with all generated images within readers.

    shape: counts of generated and real images, where some were not rated here.
    """
    if shape is None:
        shape = int(generated[1].max()) + 1, int(real[1].max()) + 1
    num_generated, num_real = shape
    by_pair = np.zeros((2, num_generated, num_real))
    by_generated = np.zeros((2, num_readers, num_generated))
    by_real = np.zeros((2, num_readers, num_real))
    squares = np.zeros(2)
    for reader in range(num_readers):
        rows, columns, both = _compare_reader(real, generated, reader)
        by_pair[:, rows[:, None], columns[None]] += both
        by_generated[:, reader, rows] = both.sum(axis=2)
        by_real[:, reader, columns] = both.sum(axis=1)
        squares += (both**2).sum(axis=(1, 2))
    return Comparisons(
        by_reader=by_generated.sum(axis=2), by_reader_generated=by_generated,
        by_reader_real=by_real, by_pair=by_pair, squares=squares,
    )  # fmt: skip


def _compare_reader(real: Readings, generated: Readings, reader: int) -> tuple[Ints, Ints, Floats]:
    """Generated and real images of a reader, and successes and ones of their pairs, (2, g, p)."""
    rows, columns = (one[1][one[0] == reader] for one in (generated, real))
    theirs, ours = (one[2][one[0] == reader] for one in (generated, real))
    success = (ours[None] > theirs[:, None]) + 0.5 * (ours[None] == theirs[:, None])
    return rows, columns, np.stack([success, np.ones_like(success)])


def estimate_difference(
    first: tuple[Readings, Readings], second: tuple[Readings, Readings], *, num_readers: int
) -> MeanAuc:
    """Estimate the mean AUC of `first` less that of `second`, (real, generated) readings each.

    An image has the same number in both, so that what they share is seen.
    """
    highest = [max(int(side[kind][1].max()) for side in (first, second)) + 1 for kind in (1, 0)]
    shape = highest[0], highest[1]
    one, other = (compare_images(*side, num_readers, shape) for side in (first, second))
    squares = np.zeros(2)
    for reader in range(num_readers):
        dense = []
        for side in (first, second):
            rows, columns, both = _compare_reader(*side, reader)
            table = np.zeros((2, *shape))
            table[:, rows[:, None], columns[None]] = both
            dense.append(table)
        squares += (dense[0] * dense[1]).sum(axis=(1, 2))
    own = [compute_moments(side, side, side.squares) for side in (one, other)]
    between = compute_moments(one, other, squares)
    variance = own[0].variance + own[1].variance - 2 * between.variance
    components = own[0].components_biased + own[1].components_biased
    return MeanAuc(
        value=one.auc - other.auc, variance=variance, counts=_count(one),
        freedom=_find_freedom(variance, components - 2 * between.components_biased,
                              np.minimum(own[0].freedom, own[1].freedom)),
    )  # fmt: skip


def compute_moments(first: Comparisons, second: Comparisons, squares: Floats) -> Moments:
    """Compute the covariance of two mean AUCs; the same twice gives a variance.

    squares: (2,) sum over readers and pairs of the product of both.
    """
    sums = np.array([
        squares,
        (first.by_reader_real * second.by_reader_real).sum(axis=(1, 2)),
        (first.by_reader_generated * second.by_reader_generated).sum(axis=(1, 2)),
        (first.by_reader * second.by_reader).sum(axis=1),
        (first.by_pair * second.by_pair).sum(axis=(1, 2)),
        (first.by_pair.sum(axis=1) * second.by_pair.sum(axis=1)).sum(axis=1),
        (first.by_pair.sum(axis=2) * second.by_pair.sum(axis=2)).sum(axis=1),
        first.by_reader.sum(axis=1) * second.by_reader.sum(axis=1),
    ]).T  # fmt: skip
    successes, pairs = sums
    biased = np.divide(successes, pairs, out=np.zeros(8), where=pairs > 0.5)
    numerator, denominator = _UNBIASED @ successes, _UNBIASED @ pairs
    moments = np.divide(numerator, denominator, out=np.zeros(8), where=denominator > 0.5)
    weights = denominator / pairs[7]
    weights[7] -= 1
    shares = _SHARING @ weights
    components = np.where(np.abs(shares) > 1e-12, _MAIN_EFFECTS @ biased, 0.0)
    with np.errstate(divide="ignore"):
        freedom = np.round(1 / shares - 1)
    return Moments(variance=float(weights @ moments), components_biased=components,
                   freedom=freedom)  # fmt: skip


def estimate_auc(one: Comparisons) -> MeanAuc:
    """Estimate the mean AUC of one source with its variance."""
    moments = compute_moments(one, one, one.squares)
    return MeanAuc(
        value=one.auc, variance=moments.variance, counts=_count(one),
        freedom=_find_freedom(moments.variance, moments.components_biased, moments.freedom),
    )  # fmt: skip


def _find_freedom(variance: float, components: Floats, freedom: Floats) -> float | None:
    """Satterthwaite's degrees of freedom, at least those of the scarcest factor."""
    if variance <= NEGLIGIBLE:
        return None
    spread = float((components**2 / freedom**3).sum())
    return max(float(freedom.min()), variance**2 / spread if spread > 0 else np.inf)


def _count(one: Comparisons) -> tuple[int, int, int]:
    pairs = one.by_reader[1], one.by_pair[1].sum(axis=1), one.by_pair[1].sum(axis=0)
    readers, generated, real = (int((count > 0).sum()) for count in pairs)
    return readers, generated, real


def describe_multireader(ratings: Ratings) -> list[dict[str, Any]]:
    """Test the mean AUC of each generated source against chance, over readers and images."""
    rows: list[dict[str, Any]] = []
    for source in list_compared(ratings):
        one = compare_images(_columns(ratings, 0), _columns(ratings, source), len(ratings.readers))
        found = estimate_auc(one)
        rows.append({
            "source": ratings.sources[source], "value": found.value,
            "variance": found.variance, "freedom": found.freedom, **found.test(CHANCE),
            "n": list(found.counts), "unit": "readers, generated images, real images",
            "method": "U-statistics over readers and images (BDG), as iMRMC",
        })  # fmt: skip
    _correct(rows)
    return rows


def describe_multireader_pairs(ratings: Ratings) -> list[dict[str, Any]]:
    """Test differences of the mean AUC of every two generated sources, over readers and images."""
    rows: list[dict[str, Any]] = []
    real = _columns(ratings, 0)
    for first, second in itertools.combinations(list_compared(ratings), 2):
        is_either = (ratings.source == first) | (ratings.source == second)
        numbers = np.unique(ratings.image[is_either])
        sides = []
        for source in (first, second):
            own = ratings.take(ratings.source == source)
            images = np.searchsorted(numbers, own.image)
            sides.append((real, (own.reader, images, own.score.astype(float))))
        found = estimate_difference(*sides, num_readers=len(ratings.readers))
        rows.append({
            "first": ratings.sources[first], "second": ratings.sources[second],
            "value": found.value, "variance": found.variance, "freedom": found.freedom,
            **found.test(0.0), "n": found.counts[0], "unit": "readers",
            "method": "U-statistics over readers and images (BDG), as iMRMC",
        })  # fmt: skip
    _correct(rows)
    return rows


def list_compared(ratings: Ratings) -> list[int]:
    """Generated sources that a reader rated together with real images."""
    is_known = np.isfinite(compute_reader_aucs(ratings))
    return [source for source in ratings.generated if is_known[:, source - 1].any()]


def _correct(rows: list[dict[str, Any]]) -> None:
    """Add p corrected by Holm for all rows; None where there is no p."""
    corrected = adjust_holm([1.0 if row["p"] is None else row["p"] for row in rows])
    for row, p in zip(rows, corrected, strict=True):
        row["p_holm"] = None if row["p"] is None else p


def _columns(ratings: Ratings, source: int) -> Readings:
    own = ratings.take(ratings.source == source)
    _, images = np.unique(own.image, return_inverse=True)
    return own.reader, images, own.score.astype(float)
