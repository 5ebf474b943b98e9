"""AUC of a score over patients, with its interval and exact p, within strata.

Members and non-members are compared where source and vendor are the same: the AUC is the share of
such pairs in which the member has the higher score, and the null deals the patients of every
stratum anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import comb
from scipy.stats import rankdata

from echodiff.audit.subjects import Units
from echodiff.metrics.faithfulness import Estimate, compute_share
from echodiff.metrics.resampling import Z_95

Array = NDArray[np.float64]

MOST_EXACT = 3e9
"""Additions from which on the exact distribution gives way to random permutations."""
NUM_PERMUTATIONS = 20_000
MIN_FOR_RATE = 1000
"""Non-members from which on a true positive rate at 1 % false positives can be measured."""
FALSE_POSITIVES = 0.01
_NEARLY = 1e-9


@dataclass(frozen=True)
class RankTest:
    """How well a score tells members from non-members."""

    auc: float
    low: float
    high: float
    """95 % interval (Newcombe 2006, method 5)."""
    p: float
    """One-sided: members do not have higher scores."""
    p_by: str
    """`exact`, or `N permutations`."""
    num_members: int
    num_others: int


def compare_ranks(scores: Array, units: Units, *, seed: int) -> RankTest:
    """Compare the scores (U,) of patients; higher is to mean member."""
    wins = pairs = 0.0
    sizes = []
    doubled = 0
    parts: list[tuple[NDArray[np.int64], int]] = []
    for rows in list_strata(units):
        is_member = units.is_member[rows]
        num, rest = int(is_member.sum()), int((~is_member).sum())
        if not num or not rest:
            continue
        ranks = np.rint(2 * rankdata(scores[rows])).astype(np.int64)
        own = int(ranks[is_member].sum())
        doubled += own
        wins += (own - num * (num + 1)) / 2
        pairs += num * rest
        sizes.append((num, rest))
        parts.append((ranks, num))
    assert pairs, "no stratum has both sides"
    auc = wins / pairs
    low, high = compute_interval(auc, sizes)
    p, p_by = _compute_p(parts, doubled, seed)
    members = int(units.is_member.sum())
    return RankTest(auc, low, high, p, p_by, members, len(units.is_member) - members)


def list_strata(units: Units) -> Iterator[NDArray[np.int64]]:
    """Rows of each stratum."""
    for stratum in np.unique(units.stratum):
        yield np.flatnonzero(units.stratum == stratum)


def compute_interval(auc: float, sizes: list[tuple[int, int]]) -> tuple[float, float]:
    """95 % interval of an AUC over strata of (members, non-members).

    Newcombe 2006 (Statistics in Medicine 25:559), method 5: the ends are the values at which `auc`
    is 1.96 standard errors away. It holds at AUC 0 and 1, where a bootstrap has no width.
    """
    total = sum(num * rest for num, rest in sizes)

    def spread(value: float) -> float:
        variance = 0.0
        for num, rest in sizes:
            mean = (num + rest) / 2 - 1
            inner = 1 + mean * ((1 - value) / (2 - value) + value / (1 + value))
            variance += (num * rest / total) ** 2 * value * (1 - value) * inner / (num * rest)
        return Z_95 * float(np.sqrt(variance))

    # At its ends an AUC is itself without spread: the other root is the end that is meant.
    low = 0.0 if auc <= 0 else brentq(lambda v: v + spread(v) - auc, 0.0, min(auc, 1 - _NEARLY))
    high = 1.0 if auc >= 1 else brentq(lambda v: v - spread(v) - auc, max(auc, _NEARLY), 1.0)
    return float(low), float(high)


def measure_rate(scores: Array, units: Units) -> Estimate | None:
    """Share of members above all but 1 % of the non-members; None where these are too few.

    A level of its own that a stratum may have is taken off first, by the median of its non-members.
    """
    if int((~units.is_member).sum()) < MIN_FOR_RATE:
        return None
    levelled = scores.copy()
    for rows in list_strata(units):
        levelled[rows] -= np.median(scores[rows][~units.is_member[rows]])
    limit = np.quantile(levelled[~units.is_member], 1 - FALSE_POSITIVES)
    members = levelled[units.is_member]
    return compute_share(int((members > limit).sum()), len(members))


def _compute_p(
    parts: list[tuple[NDArray[np.int64], int]], observed: int, seed: int
) -> tuple[float, str]:
    """Share of all ways to deal the members at which their doubled rank sum is `observed` or
    more."""
    work = sum(len(ranks) * min(num, len(ranks) - num) * int(ranks.sum()) for ranks, num in parts)
    if work <= MOST_EXACT and all(len(ranks) < 1000 for ranks, _ in parts):
        chances = np.ones(1)
        for ranks, num in parts:
            chances = np.convolve(chances, _count_sums(ranks, num))
        return float(min(1.0, chances[observed:].sum())), "exact"
    generator = np.random.default_rng(seed)
    sums = np.zeros(NUM_PERMUTATIONS)
    for ranks, num in parts:
        for draw in range(NUM_PERMUTATIONS):
            sums[draw] += generator.choice(ranks, num, replace=False).sum()
    count = int((sums >= observed).sum())
    return (1 + count) / (1 + NUM_PERMUTATIONS), f"{NUM_PERMUTATIONS} permutations"


def _count_sums(ranks: NDArray[np.int64], num: int) -> Array:
    """Chance of every sum of `num` of the ranks, drawn without replacement.

    The shift algorithm of Streitberg and Roehmel (1986), which takes ties as they are.
    """
    if 2 * num > len(ranks):  # the smaller side is cheaper, and says the same
        total, rest = int(ranks.sum()), _count_sums(ranks, len(ranks) - num)
        mirrored = np.zeros(total + 1)
        mirrored[total - np.arange(len(rest))] = rest
        return mirrored
    counts = np.zeros((num + 1, int(np.sort(ranks)[-num:].sum()) + 1))
    counts[0, 0] = 1.0
    for rank in ranks:
        counts[1:, rank:] += counts[:-1, : counts.shape[1] - rank].copy()
    sums: Array = counts[num] / comb(len(ranks), num)
    return sums
