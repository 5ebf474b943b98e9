"""Mann-Whitney's test of two samples of scores, with ties taken into account.

All ratings count as independent here, as in the published study; `reader_auc` does not assume that.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import gammaln

from echodiff.study.analysis.ratings import Floats, Ints

MAX_TABLES = 20_000_000
"""Most tables of counts that the exact test enumerates; beyond, its p is not computed."""
MAX_PAIRS = 60_000
"""Most pairs of ratings for the exact distribution without ties, whose cost grows with them."""
_NEGLIGIBLE = 1e-15
"""Probability of a count beyond which its tables are skipped."""


@dataclass(frozen=True, kw_only=True)
class RankTest:
    """Scores of real images against those of one source."""

    num_real: int
    num_other: int
    u: float
    """The smaller of both U, as statistics packages print it."""
    z: float
    """Of the smaller U: negative; variance corrected for ties, without continuity correction."""
    p: float
    """Two-sided, from z."""
    p_exact_untied: float | None
    """Two-sided, from the exact distribution of U without ties; wrong where there are ties."""
    p_exact: float | None
    """Two-sided, from the exact distribution given the ties."""
    r: float
    """|z| / sqrt(N) with N ratings of both: Rosenthal's effect size, without direction."""
    auc: float
    """P(a real image scores higher) + P(equal) / 2."""

    @property
    def delta(self) -> float:
        """Cliff's delta, 2 AUC - 1."""
        return 2 * self.auc - 1


def compare_ranks(real: Ints, other: Ints) -> RankTest:
    """Compare scores of real images, (n1,), with those of another source, (n2,)."""
    n1, n2 = len(real), len(other)
    auc = float(compute_auc(count_scores(real), count_scores(other)))
    # Half-wholes: rounding removes the error of the division.
    u = round(2 * n1 * n2 * min(auc, 1 - auc)) / 2
    _, ties = np.unique(np.concatenate([real, other]), return_counts=True)
    n = n1 + n2
    tied = float((ties**3 - ties).sum()) / (n * (n - 1)) if n > 1 else 0.0
    sigma = np.sqrt(n1 * n2 / 12 * (n + 1 - tied))
    z = (u - n1 * n2 / 2) / sigma if sigma > 0 else 0.0
    untied = None
    if n1 * n2 <= MAX_PAIRS:
        untied = float(stats.mannwhitneyu(real, other, method="exact").pvalue)
    return RankTest(
        num_real=n1, num_other=n2, u=u, z=float(z), p=float(2 * stats.norm.sf(abs(z))),
        p_exact_untied=untied, p_exact=compute_exact_p(real, other),
        r=float(abs(z) / np.sqrt(n)), auc=auc,
    )  # fmt: skip


def count_scores(scores: Ints) -> Ints:
    """Return how often each score from 1 to 5 was given, (5,)."""
    return np.bincount(scores, minlength=6)[1:]


def compute_auc(first: Ints | Floats, second: Ints | Floats) -> Floats:
    """P(first > second) + P(equal) / 2 from counts or probabilities of ordered levels, (..., 5).

    NaN where one has no ratings.
    """
    below = np.cumsum(second, axis=-1) - second / 2
    total = first.sum(axis=-1) * second.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = np.asarray((first * below).sum(axis=-1) / total, dtype=float)
    return found


def compute_exact_p(first: Ints, second: Ints) -> float | None:
    """Two-sided p of U given the ties, by enumerating all tables of counts with these margins.

    None where there are more than MAX_TABLES of them.
    """
    n1, n = len(first), len(first) + len(second)
    _, levels = np.unique(np.concatenate([first, second]), return_inverse=True)
    ties = np.bincount(levels)
    if len(ties) == 1:
        return 1.0
    # Twice the midrank of a level less its mean is whole, so that ties of the statistic are exact.
    ranks = 2 * np.cumsum(ties) - ties + 1 - (n + 1)
    observed = abs(int(ranks[levels[:n1]].sum()))
    ranges = []
    for size in ties[:-1]:
        law = stats.hypergeom(n, int(size), n1)
        ranges.append(np.arange(law.ppf(_NEGLIGIBLE), law.isf(_NEGLIGIBLE) + 1, dtype=np.int64))
    if np.prod([float(len(one)) for one in ranges]) > MAX_TABLES:
        return None
    logs = [_log_choose(int(size), np.arange(size + 1)) for size in ties]
    scale = float(_log_choose(n, np.array([n1]))[0])
    inner = ranges[-2:]
    grid = np.meshgrid(*inner, indexing="ij")
    inner_count = sum(grid)
    inner_sum = sum(c * rank for c, rank in zip(grid, ranks[-1 - len(inner) : -1], strict=True))
    inner_log = sum(log[c] for c, log in zip(grid, logs[-1 - len(inner) : -1], strict=True))
    mass = 0.0
    outer = ranges[: -len(inner)]
    for counts in itertools.product(*outer):
        last = n1 - sum(counts) - inner_count
        is_table = (last >= 0) & (last <= ties[-1])
        total = sum(c * r for c, r in zip(counts, ranks, strict=False)) + inner_sum
        is_extreme = is_table & (abs(total + last * ranks[-1]) >= observed)
        if is_extreme.any():
            log = inner_log[is_extreme] + logs[-1][last[is_extreme]] - scale
            log += sum(logs[k][c] for k, c in enumerate(counts))
            mass += float(np.exp(log).sum())
    return min(1.0, mass)


def _log_choose(n: int, k: Ints) -> Floats:
    found: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return found


def adjust_holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction: p of each hypothesis among all of them (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for place, row in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[row]))
        adjusted[row] = highest
    return [float(p) for p in adjusted]
