"""What goes with the readers and the images: experience, tick boxes, time, diagnoses."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from echodiff.study.analysis.rank_test import adjust_holm
from echodiff.study.analysis.ratings import Floats, Ratings, Reading
from echodiff.study.analysis.reader_auc import compute_reader_aucs, student_interval
from echodiff.study.analysis.sign_flip import FLIPS, flip_signs

MIN_READERS = 5
"""Fewest readers of known experience for a correlation."""
NUM_PERMUTATIONS = 9999
PUBLISHED_GAIN = 0.11
"""Gain in diagnostic accuracy with generated images that was published (P4)."""


def describe_experience(ratings: Ratings, *, seed: int) -> list[dict[str, Any]]:
    """Correlate each reader's AUC with years and weekly readings; n is the number of readers.

    Spearman's rho with p by permutation, and the Theil-Sen slope: of the AUC per 10 years, or per
    doubling of weekly readings. Interval of rho by Fisher's z with variance 1.06 / (n - 3).
    """
    aucs = compute_reader_aucs(ratings)
    with np.errstate(divide="ignore"):
        predictors = {
            "experience_years": (ratings.experience_years / 10, "per 10 years"),
            "weekly_readings": (np.log2(ratings.weekly_readings), "per doubling"),
        }
    rows = []
    for name, (values, unit) in predictors.items():
        for column, source in enumerate(ratings.sources[1:]):
            is_known = np.isfinite(values) & np.isfinite(aucs[:, column])
            x, y = values[is_known], aucs[is_known, column]
            if len(x) < MIN_READERS or np.ptp(x) == 0 or np.ptp(y) == 0:
                continue
            rows.append({"predictor": name, "source": source, **_correlate(x, y, seed),
                         "slope_unit": unit, "n": len(x), "unit": "readers"})  # fmt: skip
    for row, p in zip(rows, adjust_holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def _correlate(x: Floats, y: Floats, seed: int) -> dict[str, Any]:
    rho = float(stats.spearmanr(x, y).statistic)
    rank_x, rank_y = stats.rankdata(x), stats.rankdata(y)
    generator = np.random.default_rng(seed)
    shuffled = generator.permuted(np.tile(rank_y, (NUM_PERMUTATIONS, 1)), axis=1)
    products = shuffled @ (rank_x - rank_x.mean())
    observed = rank_y @ (rank_x - rank_x.mean())
    is_extreme = np.abs(products) >= abs(observed) - 1e-9
    half = stats.norm.ppf(0.975) * np.sqrt(1.06 / (len(x) - 3))
    centre = np.arctanh(np.clip(rho, -0.999999, 0.999999))
    slope = stats.theilslopes(y, x)
    return {
        "value": rho, "low": float(np.tanh(centre - half)), "high": float(np.tanh(centre + half)),
        "p": float((1 + is_extreme.sum()) / (1 + NUM_PERMUTATIONS)),
        "slope": float(slope.slope), "intercept": float(slope.intercept),
        "slope_low": float(slope.low_slope), "slope_high": float(slope.high_slope),
        "method": "Spearman's rho, permutation p; Theil-Sen slope",
    }  # fmt: skip


def describe_ticks(ratings: Ratings) -> list[dict[str, Any]]:
    """Share of images of each source with each box ticked, with readers as clusters."""
    rows = []
    for name, ticked in ratings.ticks.items():
        for source, title in enumerate(ratings.sources):
            shares = _average(ratings, ticked.astype(float), source)
            if not len(shares):
                continue
            low, high = student_interval(shares)
            rows.append({
                "tick": name, "source": title, "value": float(shares.mean()),
                "low": None if low is None else max(0.0, low),
                "high": None if high is None else min(1.0, high),
                "n": len(shares), "unit": "readers",
                "method": "mean of the readers' shares; Student's interval over readers",
            })  # fmt: skip
    return rows


def describe_times(ratings: Ratings) -> list[dict[str, Any]]:
    """Median seconds of a rating by source, with readers as clusters."""
    rows = []
    for source, title in enumerate(ratings.sources):
        medians = []
        for reader in range(len(ratings.readers)):
            own = ratings.seconds[(ratings.source == source) & (ratings.reader == reader)]
            own = own[np.isfinite(own)]
            medians += [float(np.median(own))] if len(own) else []
        if medians:
            low, high = student_interval(np.array(medians))
            rows.append({
                "source": title, "value": float(np.mean(medians)), "low": low, "high": high,
                "n": len(medians), "unit": "readers",
                "method": "mean of the readers' median seconds; Student's interval over readers",
            })  # fmt: skip
    return rows


def _average(ratings: Ratings, values: Floats, source: int) -> Floats:
    """Mean of each reader's values of one source, of those who have any."""
    counts = np.bincount(ratings.reader[ratings.source == source], minlength=len(ratings.readers))
    sums = np.bincount(ratings.reader[ratings.source == source], values[ratings.source == source],
                       len(ratings.readers))  # fmt: skip
    return np.asarray(sums[counts > 0] / counts[counts > 0])


def describe_diagnoses(reading: Reading, *, seed: int) -> dict[str, Any]:
    """Accuracy with the generated image less without it, paired by reader and case.

    Only cases that a reader diagnosed both ways count.
    """
    outcome: dict[tuple[str, str], dict[bool, bool]] = {}
    for reader, case, is_with, is_correct in zip(
        reading.reader, reading.case, reading.is_with, reading.is_correct, strict=True
    ):
        outcome.setdefault((reader, case), {})[bool(is_with)] = bool(is_correct)
    pairs = [(reader, both) for (reader, _), both in outcome.items() if len(both) == 2]
    readers = sorted({reader for reader, _ in pairs})
    if len(readers) < 2:
        return {"left_out": "fewer than two readers diagnosed cases both with and without the "
                            "generated image"}  # fmt: skip
    shares = np.array([
        [np.mean([both[way] for owner, both in pairs if owner == reader]) for way in (False, True)]
        for reader in readers
    ])  # fmt: skip
    gains = {(reader, case): int(both[True]) - int(both[False])
             for (reader, case), both in outcome.items() if len(both) == 2}  # fmt: skip
    cases = sorted({case for _, case in gains})
    complete = [case for case in cases if all((reader, case) in gains for reader in readers)]
    table = np.array([[gains[reader, case] for case in complete] for reader in readers], float)
    flips = flip_signs(shares[:, 1] - shares[:, 0], np.random.default_rng(seed))
    low, high = flips.interval()
    return {
        "without": float(shares[:, 0].mean()), "with": float(shares[:, 1].mean()),
        "value": flips.mean, "low": low, "high": high, "p": flips.p_differs(0.0),
        "n": len(readers), "unit": "readers", "num_pairs": len(pairs),
        "num_cases": len(cases),
        "gained": sum(both[True] and not both[False] for _, both in pairs),
        "lost": sum(both[False] and not both[True] for _, both in pairs),
        "published": PUBLISHED_GAIN,
        "multireader": describe_gain(table),
        "method": "difference of the readers' accuracy on the same cases; " + FLIPS,
    }  # fmt: skip


def describe_gain(table: Floats) -> dict[str, Any]:
    """Test the mean gain of a table, (readers, cases), with both at random.

    Analysis of variance of the gains of single readings (Dorfman, Berbaum and Metz, Invest. Radiol.
    27, 723, 1992), with Satterthwaite's degrees of freedom: cases are few as readers are. They are
    at least those of the scarcer of both, as a difference of mean squares can make them nothing.
    """
    num_readers, num_cases = table.shape
    if num_readers < 2 or num_cases < 2:
        return {"left_out": "fewer than two cases were diagnosed both ways by all readers"}
    mean, of_readers, of_cases = table.mean(), table.mean(axis=1), table.mean(axis=0)
    rest = table - of_readers[:, None] - of_cases + mean
    by_reader = num_cases * of_readers.var(ddof=1)
    by_case = num_readers * of_cases.var(ddof=1)
    by_both = (rest**2).sum() / ((num_readers - 1) * (num_cases - 1))
    parts = [by_reader**2 / (num_readers - 1)]
    total = by_reader
    if by_case > by_both:
        total += by_case - by_both
        parts += [by_case**2 / (num_cases - 1),
                  by_both**2 / ((num_readers - 1) * (num_cases - 1))]  # fmt: skip
    found: dict[str, Any] = {"value": float(mean), "p": None, "low": None, "high": None}
    if total > 0:
        error = np.sqrt(total / table.size)
        law = stats.t(max(min(table.shape) - 1, total**2 / sum(parts)))
        half = law.ppf(0.975) * error
        found |= {"p": float(2 * law.sf(abs(mean) / error)),
                  "low": float(mean - half), "high": float(mean + half)}  # fmt: skip
    return found | {
        "n": [num_readers, num_cases], "unit": "readers, cases that all diagnosed both ways",
        "method": "analysis of variance over readers and cases (DBM, Satterthwaite)",
    }  # fmt: skip
