"""Generated sets against one reference: which is nearer, and by how much for certain."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import erfc, sqrt
from typing import Any

import numpy as np

from echodiff.metrics.feature_set import Array, FeatureSet, pool_groups
from echodiff.metrics.kernel import (
    Kernel,
    build_rbf_kernel,
    compute_bandwidth,
    compute_mmd2_draws,
)
from echodiff.metrics.resampling import Z_95
from echodiff.metrics.scores import MIN_FRAMES, Network, Score, halves_of


def compare_sets(
    first: FeatureSet, second: FeatureSet, reference: FeatureSet, network: Network, *, seed: int
) -> Score:
    """Ratio of MMD^2 of `second` to that of `first` against one reference, with its interval.

    Halves of all three sets are drawn together, so that what the shared reference does to both
    cancels. The interval is Fieller's; its ends are None where the denominator could be zero, or
    where a set has too few patients.
    """
    bandwidth = compute_bandwidth(reference.features)
    mmd2_first, mmd2_second = _repeat_together(
        [first, second], reference, build_rbf_kernel(bandwidth), seed
    )
    low = high = None
    if len(mmd2_first) > 1:
        covariance = np.cov(mmd2_first[1:], mmd2_second[1:])
        low, high = compute_ratio_interval(mmd2_first[0], mmd2_second[0], covariance)
    return {
        "value": float(mmd2_second[0] / mmd2_first[0]), "low": low, "high": high,
        "mmd2_first": float(mmd2_first[0]), "mmd2_second": float(mmd2_second[0]),
        "n_first": len(first), "n": len(second), "n_reference": len(reference),
        "features": network.name, "features_sha256": network.sha256, "resize": network.resize,
        "bandwidth": bandwidth,
    }  # fmt: skip


def rank_sets(
    sets: Mapping[str, FeatureSet], reference: FeatureSet, network: Network, *, seed: int
) -> list[dict[str, Any]]:
    """MMD^2 of every set less that of every other, against one reference: a row a pair.

    `value` below zero: `first` is nearer to the reference. Intervals and `p` are of the spread of
    the differences over half-samples that are drawn together, normal; `p_holm` is Holm's (1979)
    over all pairs: of as many comparisons one is soon significant by chance.
    """
    kernel = build_rbf_kernel(compute_bandwidth(reference.features))
    repeats = dict(
        zip(sets, _repeat_together([*sets.values()], reference, kernel, seed), strict=True)
    )
    rows: list[dict[str, Any]] = []
    for first, second in combinations(sets, 2):
        difference = repeats[first] - repeats[second]
        value, low, high, p = float(difference[0]), None, None, None
        if len(difference) > 1:
            error = float(np.std(difference[1:], ddof=1))
            low, high = value - Z_95 * error, value + Z_95 * error
            p = erfc(abs(value) / error / sqrt(2.0))
        rows.append({
            "first": first, "second": second, "score": f"mmd_{network.name}", "value": value,
            "low": low, "high": high, "p": p, "p_holm": None,
            "n_first": len(sets[first]), "n_second": len(sets[second]),
            "n_reference": len(reference), "features": network.name,
            "features_sha256": network.sha256, "resize": network.resize,
        })  # fmt: skip
    tested = sorted((row for row in rows if row["p"] is not None), key=lambda row: row["p"])
    adjusted = 0.0
    for number, row in enumerate(tested):
        adjusted = max(adjusted, min(1.0, (len(tested) - number) * row["p"]))
        row["p_holm"] = adjusted
    return rows


def compute_ratio_interval(
    denominator: float, numerator: float, covariance: Array
) -> tuple[float | None, float | None]:
    """Fieller's 95 % interval: ratios r with |numerator - r denominator| within 1.96 errors.

    covariance: (2, 2) of (denominator, numerator). Unbounded, so (None, None), where the
    denominator is not above zero for certain.
    """
    z2 = Z_95**2
    a = denominator**2 - z2 * covariance[0, 0]
    b = numerator * denominator - z2 * covariance[0, 1]
    c = numerator**2 - z2 * covariance[1, 1]
    if a <= 0.0 or denominator <= 0.0:
        return None, None
    root = float(np.sqrt(max(b * b - a * c, 0.0)))
    return float((b - root) / a), float((b + root) / a)


def _repeat_together(
    sets: Sequence[FeatureSet], reference: FeatureSet, kernel: Kernel, seed: int
) -> list[Array]:
    """MMD^2 of each set, and of its half-samples with the same halves of the reference."""
    if min(len(one) for one in (*sets, reference)) < MIN_FRAMES:
        raise ValueError(f"a comparison needs {MIN_FRAMES} frames in each set")
    generator = np.random.default_rng(seed)
    *halves, of_reference = [halves_of(one, generator) for one in (*sets, reference)]
    repeats = min(len(of_reference), *(len(rows) for rows in halves))
    results = []
    for one, rows in zip(sets, halves, strict=True):
        first, second = (
            np.concatenate([np.ones((1, part.shape[1])), part[:repeats]])
            for part in (rows, of_reference)
        )
        pooled = np.concatenate([one.features, reference.features])
        first = np.pad(first, ((0, 0), (0, len(reference))))
        second = np.pad(second, ((0, 0), (len(one), 0)))
        groups = pool_groups(one, reference)
        results.append(compute_mmd2_draws(pooled, kernel, first, second, groups))
    return results
