"""Agreement between readers on images that several rated, and of a reader with him- or herself."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from echodiff.study.analysis.ratings import SCORES, Floats, Ints, Ratings

MIN_IMAGES = 5
"""Fewest images that two or more readers rated; with fewer, agreement is not estimated."""
NUM_BOOTSTRAP = 1000


def describe_agreement(ratings: Ratings, *, seed: int) -> dict[str, Any]:
    """Krippendorff's alpha, mean weighted kappa of pairs, and ICC(A,1), with intervals over images.

    Hidden repeats must have been left out.
    """
    table = build_table(ratings)
    shared = table[:, np.isfinite(table).sum(axis=0) >= 2]
    count = shared.shape[1]
    if count < MIN_IMAGES:
        return {
            "left_out": f"{count} images were rated by two readers or more; {MIN_IMAGES} are "
            "needed. A shared block makes agreement estimable"
        }
    if np.nanmin(shared) == np.nanmax(shared):
        return {"left_out": "every shared image has the same score"}
    draws = np.random.default_rng(seed).integers(0, count, (NUM_BOOTSTRAP, count))
    found: dict[str, Any] = {"num_images": count, "alpha": {
        **_with_interval(shared, draws, compute_alpha), "n": count, "unit": "images",
        "method": "Krippendorff's alpha, ordinal; bootstrap over images",
    }}  # fmt: skip
    kappa = _with_interval(shared, draws, compute_mean_kappa)
    if kappa["value"] is not None:
        found["kappa"] = {
            **kappa, "n": count, "unit": "images",
            "method": "Cohen's kappa with quadratic weights, mean of reader pairs; bootstrap over "
                      "images",
        }  # fmt: skip
    complete = table[:, np.isfinite(table).all(axis=0)]
    if complete.shape[1] >= MIN_IMAGES and len(np.unique(complete)) > 1:
        found["icc"] = compute_icc(complete)
    return found


def build_table(ratings: Ratings) -> Floats:
    """Scores by reader and image, (readers, images); NaN where there is none."""
    table = np.full((len(ratings.readers), len(ratings.images)), np.nan)
    table[ratings.reader, ratings.image] = ratings.score
    return table


def compute_alpha(table: Floats) -> float | None:
    """Krippendorff's ordinal alpha; None where all scores are equal."""
    import krippendorff

    if np.nanmin(table) == np.nanmax(table):
        return None
    return float(
        krippendorff.alpha(table, level_of_measurement="ordinal", value_domain=list(SCORES))
    )


def compute_mean_kappa(table: Floats) -> float | None:
    """Mean of the weighted kappas of pairs of readers with MIN_IMAGES images in common."""
    found = []
    for first in range(len(table)):
        for second in range(first + 1, len(table)):
            is_common = np.isfinite(table[first]) & np.isfinite(table[second])
            if is_common.sum() >= MIN_IMAGES:
                kappa = compute_kappa(table[first, is_common], table[second, is_common])
                found += [kappa] if kappa is not None else []
    return float(np.mean(found)) if found else None


def compute_kappa(first: Floats | Ints, second: Floats | Ints) -> float | None:
    """Cohen's kappa with quadratic weights: 1 - mean squared difference over its expectation.

    None where the expectation is 0, because both gave one score only (Cohen 1968).
    """
    expected = ((first[:, None] - second[None]) ** 2).mean()
    return float(1 - ((first - second) ** 2).mean() / expected) if expected > 0 else None


def compute_repeat_kappa(first: Ints, second: Ints, reader: Ints) -> float | None:
    """Weighted kappa of repeated ratings, (N,) each, with chance agreement within readers.

    Readers who use other parts of the scale would agree with themselves by chance alone if the
    expectation were taken over the ratings of all. None where the expectation is 0.
    """
    expected = 0.0
    for one in np.unique(reader):
        own = reader == one
        differences = first[own][:, None] - second[own][None]
        expected += float((differences**2).mean(axis=1).sum())
    return float(1 - ((first - second) ** 2).sum() / expected) if expected > 0 else None


def compute_icc(table: Floats) -> dict[str, Any]:
    """ICC(A,1): absolute agreement of single random readers, on images that all of them rated."""
    import pandas
    import pingouin

    readers, images = np.indices(table.shape)
    long = pandas.DataFrame(
        {"reader": readers.ravel(), "image": images.ravel(), "score": table.ravel()}
    )
    # pingouin calls pandas in ways that pandas has deprecated.
    with warnings.catch_warnings(action="ignore"):
        rows = pingouin.intraclass_corr(long, targets="image", raters="reader", ratings="score")
    row = rows[rows["Type"].isin(["ICC2", "ICC(A,1)"])].iloc[0]
    interval = row["CI95"] if "CI95" in rows.columns else row["CI95%"]
    return {
        "value": float(row["ICC"]), "low": float(interval[0]), "high": float(interval[1]),
        "n": table.shape[1], "unit": "images rated by all readers",
        "method": "ICC(A,1), two-way random, absolute agreement, by pingouin",
    }  # fmt: skip


def describe_reliability(ratings: Ratings, *, seed: int) -> dict[str, Any]:
    """Compare hidden repeats with the first rating of the same image by the same reader."""
    numbered = [*enumerate(zip(ratings.reader, ratings.image, ratings.kind, strict=True))]
    rows = {(reader, image): n for n, (reader, image, kind) in numbered if kind != "repeat"}
    pairs = [(rows[reader, image], n) for n, (reader, image, kind) in numbered
             if kind == "repeat" and (reader, image) in rows]  # fmt: skip
    if len(pairs) < MIN_IMAGES:
        return {"left_out": f"{len(pairs)} hidden repeats; {MIN_IMAGES} are needed"}
    first, second = (ratings.score[list(one)] for one in zip(*pairs, strict=True))
    reader = ratings.reader[[pair[0] for pair in pairs]]
    people = np.unique(reader)
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(reader == one) for one in people]
    draws = [np.concatenate([members[k] for k in generator.integers(0, len(people), len(people))])
             for _ in range(NUM_BOOTSTRAP)]  # fmt: skip

    def describe(statistic: Any, method: str) -> dict[str, Any]:
        values = [statistic(first[d], second[d], reader[d]) for d in draws]
        return {
            "value": statistic(first, second, reader), **_quantiles(values), "n": len(pairs),
            "unit": f"repeats of {len(people)} readers",
            "method": f"{method}; bootstrap over readers",
        }  # fmt: skip

    return {
        "kappa": describe(compute_repeat_kappa, "Cohen's kappa with quadratic weights, chance "
                                                "agreement within readers"),
        "same": describe(lambda a, b, _: float((a == b).mean()), "share of equal scores"),
        "within_one": describe(lambda a, b, _: float((abs(a - b) <= 1).mean()),
                               "share of scores at most one apart"),
        "drift": describe(lambda a, b, _: float((b - a).mean()),
                          "mean of second less first score"),
    }  # fmt: skip


def _with_interval(table: Floats, draws: Ints, statistic: Any) -> dict[str, Any]:
    value = statistic(table)
    if value is None:
        return {"value": None, "low": None, "high": None}
    return {"value": value, **_quantiles([statistic(table[:, one]) for one in draws])}


def _quantiles(values: list[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    if len(known) < NUM_BOOTSTRAP / 2:
        return {"low": None, "high": None}
    low, high = np.quantile(known, [0.025, 0.975])
    return {"low": float(low), "high": float(high)}
