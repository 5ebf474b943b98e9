"""The published analysis: normality, Mann-Whitney against real images, means (P1, tables 1 to 3).

Every rating counts as independent of the others. That is how the study was published, not how its
p-values should be read: see `reader_auc`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import log_ndtr, ndtr

from echodiff.study.analysis.rank_test import RankTest, adjust_holm, compare_ranks
from echodiff.study.analysis.ratings import Floats, Ints, Ratings

NUM_SIMULATED = 1999
"""Normal samples behind the p of Lilliefors and Anderson-Darling."""
MIN_RATINGS = 8
"""Fewest ratings of a source for tests of normality."""


def repeat_published(ratings: Ratings, *, seed: int) -> dict[str, Any]:
    """Compute tables 1, 2 and 3; hidden repeats must have been left out."""
    names = ratings.sources
    tests = [compare_ranks(ratings.scores_of(0), ratings.scores_of(row))
             for row in ratings.generated]  # fmt: skip
    holm = adjust_holm([test.p for test in tests])
    return {
        "normality": [
            {"source": names[row], **describe_normality(ratings.scores_of(row), seed=seed)}
            for row in range(len(names))
        ],
        "rank_tests": [
            {"source": names[row], **_write_test(test), "p_holm": p}
            for row, test, p in zip(ratings.generated, tests, holm, strict=True)
        ],
        "means": [
            {"source": names[row], **describe_scores(ratings.scores_of(row))}
            for row in range(len(names))
        ],
    }


def describe_scores(scores: Ints) -> dict[str, Any]:
    """Mean, median, standard deviation (n - 1) and the count of every score."""
    return {
        "n": len(scores),
        "mean": float(scores.mean()),
        "median": float(np.median(scores)),
        "sd": float(scores.std(ddof=1)) if len(scores) > 1 else None,
        "counts": [int(count) for count in np.bincount(scores, minlength=6)[1:]],
        "method": "all ratings as independent",
    }


def describe_normality(scores: Ints, *, seed: int) -> dict[str, Any]:
    """Four tests of normality with estimated mean and standard deviation.

    Scores of five levels are never normal: with enough ratings all tests reject. Nothing here
    depends on them; they are given because they were published.

    The p of Kolmogorov-Smirnov is that of known parameters, as published, and far too large. The
    statistic of Lilliefors is the same; its p, and that of Anderson-Darling, are simulated, so at
    least 1 / (NUM_SIMULATED + 1). `anderson_adjusted` is A^2 (1 + 0.75 / n + 2.25 / n^2)
    (Stephens 1986), the published one.
    """
    n = len(scores)
    method = "Kolmogorov-Smirnov, Lilliefors, Shapiro-Wilk and Anderson-Darling"
    if n < MIN_RATINGS or len(np.unique(scores)) < 2:
        return {"n": n, "method": method, "left_out": "too few ratings, or one score alone"}
    x = scores.astype(float)
    law = stats.norm(x.mean(), x.std(ddof=1))
    ks = stats.kstest(x, law.cdf)
    shapiro = stats.shapiro(x)
    ad = compute_anderson(x[None])[0]
    distances, andersons = _simulate_normal(n, seed)
    return {
        "n": n,
        "ks": float(ks.statistic),
        "ks_p": float(ks.pvalue),
        "lilliefors": float(ks.statistic),
        "lilliefors_p": _exceed(distances, float(ks.statistic)),
        "shapiro": float(shapiro.statistic),
        "shapiro_p": float(shapiro.pvalue),
        "anderson": float(ad),
        "anderson_adjusted": float(ad * (1 + 0.75 / n + 2.25 / n**2)),
        "anderson_p": _exceed(andersons, float(ad)),
        "method": method,
    }


@functools.lru_cache(maxsize=8)
def _simulate_normal(n: int, seed: int) -> tuple[Floats, Floats]:
    """Both statistics of normal samples of n, (NUM_SIMULATED,) each."""
    samples = np.random.default_rng(seed).standard_normal((NUM_SIMULATED, n))
    return compute_distance(samples), compute_anderson(samples)


def compute_distance(samples: Floats) -> Floats:
    """Largest distance of each sample, (B, n), from the normal distribution fitted to it, (B,)."""
    n = samples.shape[1]
    cdf = ndtr(np.sort(_standardize(samples), axis=1))
    above = np.arange(1, n + 1) / n - cdf
    return np.asarray(np.maximum(above, 1 / n - above).max(axis=1))


def compute_anderson(samples: Floats) -> Floats:
    """A^2 of each sample, (B, n), against the normal fitted to it, (B,)."""
    n = samples.shape[1]
    z = np.sort(_standardize(samples), axis=1)
    weights = (2 * np.arange(1, n + 1) - 1) / n
    logs = log_ndtr(z) + log_ndtr(-z[:, ::-1])
    return np.asarray(-n - (weights * logs).sum(axis=1))


def _standardize(samples: Floats) -> Floats:
    mean, sd = samples.mean(axis=1), samples.std(axis=1, ddof=1)
    return np.asarray((samples - mean[:, None]) / sd[:, None])


def _exceed(simulated: Floats, value: float) -> float:
    return float((1 + (simulated >= value).sum()) / (1 + len(simulated)))


def _write_test(test: RankTest) -> dict[str, Any]:
    return {
        "n": [test.num_real, test.num_other],
        "u": test.u,
        "z": test.z,
        "p": test.p,
        "p_exact_ties_ignored": test.p_exact_untied,
        "p_exact": test.p_exact,
        "r": test.r,
        "auc": test.auc,
        "delta": test.delta,
        "method": "Mann-Whitney, all ratings as independent",
    }
