"""Two generated sets against one reference: which is nearer, and by how much for certain."""

import numpy as np

from echodiff.metrics.kernel import (
    Kernel,
    build_rbf_kernel,
    compute_bandwidth,
    compute_mmd2_draws,
)
from echodiff.metrics.resampling import Z_95
from echodiff.metrics.scores import (
    MIN_FRAMES,
    NUM_HALVES,
    Array,
    FeatureSet,
    Network,
    Score,
    halves_of,
    pool_groups,
)


def compare_sets(
    first: FeatureSet, second: FeatureSet, reference: FeatureSet, network: Network, *, seed: int
) -> Score:
    """Ratio of MMD^2 of `second` to that of `first` against one reference, with its interval.

    Halves of all three sets are drawn together, so that what the shared reference does to both
    cancels. The interval is Fieller's; its ends are None where the denominator could be zero, or
    where a set has too few patients.
    """
    if min(len(first), len(second), len(reference)) < MIN_FRAMES:
        raise ValueError(f"a comparison needs {MIN_FRAMES} frames in each of the three sets")
    generator = np.random.default_rng(seed)
    bandwidth = compute_bandwidth(reference.features)
    kernel = build_rbf_kernel(bandwidth)
    halves = [halves_of(one, generator) for one in (first, second, reference)]
    repeats = min(len(rows) for rows in halves)
    of_first, of_second, of_reference = (
        np.concatenate([np.ones((1, rows.shape[1])), rows[:repeats]]) for rows in halves
    )
    mmd2_first = _mmd2(first, reference, kernel, of_first, of_reference)
    mmd2_second = _mmd2(second, reference, kernel, of_second, of_reference)
    low = high = None
    if repeats == NUM_HALVES:
        covariance = np.cov(mmd2_first[1:], mmd2_second[1:])
        low, high = compute_ratio_interval(mmd2_first[0], mmd2_second[0], covariance)
    return {
        "value": float(mmd2_second[0] / mmd2_first[0]), "low": low, "high": high,
        "mmd2_first": float(mmd2_first[0]), "mmd2_second": float(mmd2_second[0]),
        "n_first": len(first), "n": len(second), "n_reference": len(reference),
        "features": network.name, "features_sha256": network.sha256, "resize": network.resize,
        "bandwidth": bandwidth,
    }  # fmt: skip


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


def _mmd2(
    one: FeatureSet, reference: FeatureSet, kernel: Kernel, of_one: Array, of_reference: Array
) -> Array:
    pooled = np.concatenate([one.features, reference.features])
    first = np.pad(of_one, ((0, 0), (0, len(reference))))
    second = np.pad(of_reference, ((0, 0), (len(one), 0)))
    return compute_mmd2_draws(pooled, kernel, first, second, pool_groups(one, reference))
