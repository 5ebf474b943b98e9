"""Sign-flip test of a mean over readers, and the interval that it implies.

Under the null each reader's value is symmetric about the same number, so its sign may be flipped;
nothing else is assumed. With up to MAX_EXACT readers all 2^R flips are counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from echodiff.study.analysis.ratings import Floats

MAX_EXACT = 20
"""Most readers for which all sign flips are counted; beyond, NUM_FLIPS are drawn."""
NUM_FLIPS = 99_999
FLIPS = f"sign-flip test over readers, exact up to {MAX_EXACT} of them"
_ROUNDING = 1e-9
"""Means that differ by less are equal: flips of equal values must count as ties."""


@dataclass(frozen=True)
class SubsetMeans:
    """Means of subsets of the readers' values, sorted: they hold test, interval and equivalence.

    Flipping the signs of a subset raises the mean's distance from a value exactly if the mean of
    the subset lies on the other side of that value (Hartigan 1969), so the p of any hypothesis is
    a count of subset means.
    """

    mean: float
    num_readers: int
    means: Floats
    """Sorted; of all non-empty subsets, or of random ones."""

    @property
    def num_flips(self) -> int:
        """Number of equally likely sign flips, the observed one included."""
        return len(self.means) + 1

    def p_greater(self, value: float) -> float:
        """p of "the mean is `value` or less" against "it is greater"."""
        below = int(np.searchsorted(self.means, value + _ROUNDING, side="right"))
        return (1 + below) / self.num_flips

    def p_less(self, value: float) -> float:
        """p of "the mean is `value` or more" against "it is less"."""
        above = len(self.means) - int(np.searchsorted(self.means, value - _ROUNDING, side="left"))
        return (1 + above) / self.num_flips

    def p_differs(self, value: float) -> float:
        """Two-sided p of "the mean is `value`"."""
        return min(1.0, 2 * min(self.p_greater(value), self.p_less(value)))

    def p_equivalent(self, value: float, margin: float) -> float:
        """p of "the mean is `margin` or more away from `value`": two one-sided tests (TOST)."""
        return max(self.p_greater(value - margin), self.p_less(value + margin))

    def interval(self, level: float = 0.95) -> tuple[float | None, float | None]:
        """Values that the two-sided test does not reject; None where no value can be rejected."""
        rank = int(np.floor((1 - level) / 2 * self.num_flips + _ROUNDING))
        if rank < 1:
            return None, None
        return float(self.means[rank - 1]), float(self.means[-rank])


def flip_signs(values: Floats, generator: np.random.Generator) -> SubsetMeans:
    """Compute the subset means of one value per reader, (R,); NaN is not allowed."""
    count = len(values)
    if count <= MAX_EXACT:
        sums, sizes = np.zeros(1), np.zeros(1)
        for value in values:
            sums = np.concatenate([sums, sums + value])
            sizes = np.concatenate([sizes, sizes + 1])
        means = sums[1:] / sizes[1:]
    else:
        chosen = generator.integers(0, 2, (NUM_FLIPS, count), dtype=np.int8).astype(np.float32)
        sizes = chosen.sum(axis=1)
        chosen = chosen[sizes > 0]
        means = (chosen @ values) / sizes[sizes > 0]
    return SubsetMeans(float(values.mean()), count, np.sort(means))


def flip_many(
    values: Floats, null: float, generator: np.random.Generator, *, num_flips: int = 1999
) -> tuple[Floats, Floats]:
    """One-sided p-values of many studies, for simulations: of "the mean is greater" and "is less".

    values: (studies, readers). All flips of few readers, else `num_flips` random ones, the same in
    all studies.
    """
    count = values.shape[1]
    if 2**count <= num_flips + 1:
        signs = 1.0 - 2.0 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
    else:
        drawn = generator.integers(0, 2, (num_flips, count)) * 2.0 - 1.0
        signs = np.concatenate([np.ones((1, count)), drawn])
    centred = values - null
    flipped, observed = centred @ signs.T, centred.sum(axis=1, keepdims=True)
    greater = (flipped >= observed - _ROUNDING).mean(axis=1)
    less = (flipped <= observed + _ROUNDING).mean(axis=1)
    return greater, less
