"""Compare generated sets against one reference: which is nearer, and how certain that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.special import stdtr, stdtrit

from echodiff.metrics.feature_set import Array, FeatureSet, pool_groups
from echodiff.metrics.kernel import (
    Choices,
    Kernel,
    build_rbf_kernel,
    compute_bandwidth,
    sweep_pairs,
)
from echodiff.metrics.kernel_interval import TAIL
from echodiff.metrics.kernel_spread import Spread, measure_spread
from echodiff.metrics.resampling import Z_95
from echodiff.metrics.score import Mean, Network, Score
from echodiff.metrics.scores import MIN_FRAMES


@dataclass(frozen=True, kw_only=True)
class Difference:
    """MMD^2 of one set less that of another, as one of `differences` of metrics.json."""

    first: str
    second: str
    score: str
    """Name of the score, such as `mmd_tiny`."""
    value: float
    """Below zero: `first` is nearer to the reference."""
    low: float | None
    high: float | None
    """95 % interval; None where a set has too few patients."""
    p: float | None
    """Two-sided, of this pair alone; None without an interval."""
    p_holm: float | None
    """`p` corrected for the number of pairs (Holm 1979)."""
    n_first: int
    n_second: int
    n_reference: int
    """Frames."""
    features: str
    features_sha256: str
    resize: str


def compare_sets(
    first: FeatureSet, second: FeatureSet, reference: FeatureSet, network: Network
) -> Score:
    """Ratio of MMD^2 of `second` to that of `first` against one reference, with its interval.

    What the shared reference does to both cancels: their covariance is known from what each of its
    patients adds to both. The interval is Fieller's; its ends are None where the denominator could
    be zero, or where a set has too few patients. ValueError where a set has frames of one patient.
    """
    bandwidth = compute_bandwidth(reference.features)
    values, spreads = measure_together([first, second], reference, build_rbf_kernel(bandwidth))
    low = high = None
    if spreads:
        quantile = float(stdtrit(min(one.degrees for one in spreads), 1.0 - TAIL))
        covariance = compute_covariance(spreads[0], spreads[1])
        low, high = compute_ratio_interval(values[0], values[1], covariance, quantile)
    return Score.of_ratio(
        Mean(values[1] / values[0], low, high), (len(first), len(second), len(reference)), network,
        mmd2=(values[0], values[1]), bandwidth=bandwidth,
    )  # fmt: skip


def rank_sets(
    sets: Mapping[str, FeatureSet], reference: FeatureSet, network: Network
) -> list[Difference]:
    """Compute the difference in MMD^2 of every pair of sets, against one reference.

    Intervals and `p` are Student's, with the variance of the difference. Of many comparisons one is
    soon significant by chance, so `p_holm` corrects for the number of pairs. ValueError where a set
    has frames of one patient.
    """
    kernel = build_rbf_kernel(compute_bandwidth(reference.features))
    values, spreads = measure_together([*sets.values()], reference, kernel)
    differences = []
    for (i, first), (j, second) in combinations(enumerate(sets), 2):
        value, low, high, p = values[i] - values[j], None, None, None
        if spreads:
            covariance = compute_covariance(spreads[i], spreads[j])
            error = float(covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1]) ** 0.5
            degrees = min(spreads[i].degrees, spreads[j].degrees)
            reach = float(stdtrit(degrees, 1.0 - TAIL)) * error
            low, high = value - reach, value + reach
            p = 2.0 * float(stdtr(degrees, -abs(value) / error)) if error > 0.0 else None
        differences.append(Difference(
            first=first, second=second, score=f"mmd_{network.name}", value=value, low=low,
            high=high, p=p, p_holm=None, n_first=len(sets[first]), n_second=len(sets[second]),
            n_reference=len(reference), features=network.name, features_sha256=network.sha256,
            resize=network.resize,
        ))  # fmt: skip
    corrected = correct_for_pairs([one.p for one in differences])
    return [replace(one, p_holm=p) for one, p in zip(differences, corrected, strict=True)]


def correct_for_pairs(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) correction of the p-values that are known, in the order given."""
    known = sorted((p, number) for number, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for done, (p, number) in enumerate(known):
        least = max(least, min(1.0, (len(known) - done) * p))
        corrected[number] = least
    return corrected


def compute_covariance(first: Spread, second: Spread) -> Array:
    """Covariance (2, 2) of the MMD^2 of two sets against the same reference.

    Each is the sum over patients of squared first-order contributions less the degenerate variance,
    which that sum counts twice. Of the difference, no less than its degenerate variance is left.
    """
    shared = float(first.second.linear @ second.second.linear) - first.degenerate_within_second
    variances = [first.variance, second.variance]
    least = first.degenerate + second.degenerate - 2.0 * first.degenerate_within_second
    shared = min(shared, 0.5 * (sum(variances) - least))
    return np.array([[variances[0], shared], [shared, variances[1]]])


def compute_ratio_interval(
    denominator: float, numerator: float, covariance: Array, quantile: float = Z_95
) -> tuple[float | None, float | None]:
    """Fieller's 95 % interval: ratios r with |numerator - r denominator| within `quantile` errors.

    covariance: (2, 2) of (denominator, numerator). Unbounded, so (None, None), where the
    denominator is not above zero for certain.
    """
    z2 = quantile**2
    a = denominator**2 - z2 * covariance[0, 0]
    b = numerator * denominator - z2 * covariance[0, 1]
    c = numerator**2 - z2 * covariance[1, 1]
    if a <= 0.0 or denominator <= 0.0:
        return None, None
    root = float(np.sqrt(max(b * b - a * c, 0.0)))
    return float((b - root) / a), float((b + root) / a)


def measure_together(
    sets: Sequence[FeatureSet], reference: FeatureSet, kernel: Kernel
) -> tuple[list[float], list[Spread]]:
    """MMD^2 of each set and its spread; no spreads where a set has too few patients."""
    for one in (*sets, reference):
        if len(one) < MIN_FRAMES:
            raise ValueError(f"a comparison needs {MIN_FRAMES} frames in each set")
        if not one.has_pairs:
            raise ValueError("a comparison needs frames of two patients or more in each set")
    values, spreads = [], []
    for one in sets:
        n, m = len(one), len(reference)
        both = np.repeat(np.eye(2), [n, m], axis=1)
        (swept,) = sweep_pairs(
            np.concatenate([one.features, reference.features]),
            [(kernel, [Choices(both[:1], both[1:])])],
            pool_groups(one, reference),
            both,
        )
        values.append(float(swept.draws[0][0]))
        spreads.append(measure_spread(values[-1], swept, one, reference, kernel))
    known = [spread for spread in spreads if spread is not None]
    return values, known if len(known) == len(sets) else []
