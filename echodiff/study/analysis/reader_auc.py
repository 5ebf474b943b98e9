"""AUC of real against generated images in every reader, and its mean over readers.

Ratings of one reader share his or her use of the scale and his or her eye for a source, so the
reader is the unit: n is the number of readers. 0.5 is chance; above, real images score higher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from echodiff.study.analysis.rank_test import adjust_holm, compute_auc
from echodiff.study.analysis.ratings import Floats, Ints, Ratings
from echodiff.study.analysis.sign_flip import FLIPS, SubsetMeans, flip_signs

CHANCE = 0.5
NUM_BOOTSTRAP = 9999
METHOD = "mean of the readers' AUC; " + FLIPS


@dataclass(frozen=True, kw_only=True)
class SourceAuc:
    """One source against real images."""

    source: str
    aucs: Floats
    """(R,) of the readers who rated both."""
    readers: tuple[str, ...]
    flips: SubsetMeans


def compute_reader_aucs(ratings: Ratings) -> Floats:
    """AUC of each reader and generated source, (readers, sources - 1); NaN without ratings."""
    counts = ratings.count_table()
    return compute_auc(counts[:, :1], counts[:, 1:])


def compare_sources(ratings: Ratings, *, seed: int) -> list[SourceAuc]:
    """Compute the AUC of every generated source in every reader."""
    generator = np.random.default_rng(seed)
    found = []
    for column, aucs in enumerate(compute_reader_aucs(ratings).T):
        has_both = np.isfinite(aucs)
        readers = tuple(name for name, has in zip(ratings.readers, has_both, strict=True) if has)
        flips = flip_signs(aucs[has_both], generator) if has_both.any() else None
        if flips is not None:
            found.append(SourceAuc(source=ratings.sources[column + 1], aucs=aucs[has_both],
                                   readers=readers, flips=flips))  # fmt: skip
    return found


def describe_aucs(
    compared: Sequence[SourceAuc], *, margin: float, seed: int
) -> list[dict[str, Any]]:
    """Test each source against chance, and for equivalence with real images.

    margin: distance of the AUC from chance that counts as indistinguishable. Both p-values are
    also corrected for the number of sources (Holm).
    """
    differs = [one.flips.p_differs(CHANCE) for one in compared]
    equal = [one.flips.p_equivalent(CHANCE, margin) for one in compared]
    rows = []
    for one, p, p_holm, p_equal, p_equal_holm in zip(
        compared, differs, adjust_holm(differs), equal, adjust_holm(equal), strict=True
    ):
        low, high = one.flips.interval()
        low_90, high_90 = one.flips.interval(0.9)
        boot_low, boot_high = bootstrap_mean(one.aucs, seed=seed)
        rows.append({
            "source": one.source, "value": one.flips.mean, "low": low, "high": high,
            "bootstrap_low": boot_low, "bootstrap_high": boot_high,
            "p": p, "p_holm": p_holm, "n": len(one.aucs), "unit": "readers",
            "per_reader": dict(zip(one.readers, map(float, one.aucs), strict=True)),
            "equivalence": {
                "margin": margin, "low_90": low_90, "high_90": high_90,
                "p": p_equal, "p_holm": p_equal_holm, "n": len(one.aucs),
                "method": "two one-sided sign-flip tests over readers",
            },
            "method": METHOD,
        })  # fmt: skip
    return rows


def compare_pairs(ratings: Ratings, *, seed: int) -> list[dict[str, Any]]:
    """Compare the AUC of each two generated sources within readers; above 0, the second of the
    pair is nearer to real images."""
    generator = np.random.default_rng(seed)
    aucs = compute_reader_aucs(ratings)
    names = ratings.sources[1:]
    rows: list[dict[str, Any]] = []
    for first in range(len(names)):
        for second in range(first + 1, len(names)):
            differences = aucs[:, first] - aucs[:, second]
            differences = differences[np.isfinite(differences)]
            if not len(differences):
                continue
            flips = flip_signs(differences, generator)
            low, high = flips.interval()
            rows.append({
                "first": names[first], "second": names[second], "value": flips.mean,
                "low": low, "high": high, "p": flips.p_differs(0.0),
                "n": len(differences), "unit": "readers",
                "method": "difference of the readers' AUC; " + FLIPS,
            })  # fmt: skip
    for row, p in zip(rows, adjust_holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def describe_means(ratings: Ratings) -> list[dict[str, Any]]:
    """Mean score of each source with readers as clusters: Student's interval of their means."""
    rows = []
    for row, name in enumerate(ratings.sources):
        own = [ratings.scores_of(row, reader) for reader in range(len(ratings.readers))]
        means = np.array([scores.mean() for scores in own if len(scores)])
        low, high = student_interval(means)
        rows.append({
            "source": name, "value": float(means.mean()), "low": low, "high": high,
            "n": len(means), "unit": "readers",
            "per_reader": {reader: describe_reader(scores)
                           for reader, scores in zip(ratings.readers, own, strict=True)
                           if len(scores)},
            "method": "mean of the readers' means; Student's interval over readers",
        })  # fmt: skip
    return rows


def describe_reader(scores: Ints) -> dict[str, Any]:
    """Mean score of one reader and source, with Student's interval over the images."""
    low, high = student_interval(scores)
    return {"value": float(scores.mean()), "low": low, "high": high, "n": len(scores)}


def student_interval(
    values: Floats | Ints, level: float = 0.95
) -> tuple[float | None, float | None]:
    """Student's interval of a mean; None for fewer than two values, or if all are equal: that no
    reader ticked a box does not show that none would."""
    count = len(values)
    if count < 2 or np.ptp(values) == 0:
        return None, None
    half = stats.t.ppf((1 + level) / 2, count - 1) * values.std(ddof=1) / np.sqrt(count)
    mean = values.mean()
    return float(mean - half), float(mean + half)


def bootstrap_mean(values: Floats, *, seed: int) -> tuple[float | None, float | None]:
    """Percentile interval of a mean over resampled readers; None for fewer than two."""
    if len(values) < 2:
        return None, None
    draws = np.random.default_rng(seed).integers(0, len(values), (NUM_BOOTSTRAP, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
