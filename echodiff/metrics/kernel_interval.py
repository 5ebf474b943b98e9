"""95 % intervals of MMD^2 and KID, from the distribution of the U-statistic itself.

MMD^2 is a squared distance between two mean embeddings, which are nearly normal. So it is a
quadratic form of normal variables: a linear part, whose variance falls as 1 / n, and a degenerate
part, a weighted sum of chi-squared variables, whose variance falls as 1 / n^2 and which is all
there is between equal sets (Hoeffding, Ann. Math. Stat. 1948; Serfling 1980, section 5.5; Gretton
et al., JMLR 2012, theorem 12). With m the difference of the true means, S the covariance of its
estimate and T_k = Tr S^k, the first three cumulants are

    |m|^2,    4 m'S m + 2 T_2,    24 m'S^2 m + 8 T_3.

They are estimated without bias from kernel values between different patients (for the variance
see Sutherland and Deka, arXiv:1906.02104). The interval inverts a test: it holds every true value
under which the measured one is in neither tail.
"""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammainc, ndtr, ndtri, stdtr

from echodiff.metrics.feature_set import FeatureSet
from echodiff.metrics.kernel import BLOCK_ROWS, Kernel, build_pairs
from echodiff.metrics.resampling import MIN_GROUPS, Groups, count_groups

Array = NDArray[np.float64]

MAX_PATIENTS = 500
"""Most patients a side that the degenerate part is estimated on."""

MAX_FRAMES = 3000
"""Most frames a side there, if MIN_PATIENTS patients or more are left."""

MIN_PATIENTS = 100

TAIL = 0.025
"""Probability outside each end of an interval."""


@dataclass(frozen=True)
class Side:
    """What the patients of one of the two sets add to MMD^2."""

    shares: Array
    """(P,) each patient's share of the frames; the sum is 1."""
    witness: Array
    """(P,) mean of k(x, own set) - k(x, other set) over a patient's frames x, centred."""

    @property
    def concentration(self) -> float:
        """Sum of squared shares, 1 / P if all patients have equally many frames.

        At most that of MIN_GROUPS patients: corrections for small samples go no further.
        """
        return min(float(self.shares @ self.shares), 1.0 / MIN_GROUPS)

    @property
    def degrees(self) -> float:
        """Degrees of freedom: patients - 1, fewer if a few patients have most of the frames."""
        return max(1.0 / float(self.shares @ self.shares) - 1.0, 1.0)

    @property
    def linear(self) -> Array:
        """(P,) first-order contributions to MMD^2; the sum of their squares is a variance."""
        return np.asarray(2.0 * self.shares * self.witness / np.sqrt(1.0 - self.concentration))

    @property
    def linear_cube(self) -> float:
        """Third cumulant of the sum of those contributions."""
        q = self.concentration
        return 8.0 * float(np.sum((self.shares * self.witness) ** 3)) / ((1 - q) * (1 - 2 * q))


@dataclass(frozen=True)
class Spread:
    """The distribution of one MMD^2 around its true value, by its cumulants."""

    value: float
    first: Side
    second: Side
    degenerate_within_first: float
    """Variance of the degenerate part that pairs within the first set add."""
    degenerate_within_second: float
    degenerate_across: float
    degenerate_cube: float
    """Third cumulant of the degenerate part, 8 T_3."""
    mixed_cube: float
    """What the linear part adds to the third cumulant, 24 m'S^2 m."""

    @property
    def degenerate(self) -> float:
        """Variance of the degenerate part, 2 T_2."""
        return self.degenerate_within_first + self.degenerate_within_second + self.degenerate_across

    @property
    def linear(self) -> float:
        """Variance of the linear part, 4 m'S m. Unbiased, so it can be negative.

        The squared contributions are the jackknife's variance (Efron and Stein 1981), which counts
        the degenerate part twice.
        """
        squares = sum(float(side.linear @ side.linear) for side in (self.first, self.second))
        return squares - 2.0 * self.degenerate

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the variance: those of the side with fewer patients."""
        return min(self.first.degrees, self.second.degrees)


def measure_spread(
    value: float, sums: Array, first: FeatureSet, second: FeatureSet, kernel: Kernel
) -> Spread | None:
    """Spread of the MMD^2 `value` between two sets; None if one has too few patients.

    sums: (2, N + M) kernel of every frame summed over the frames of other patients in each set, as
    `kernel.sweep_pairs` gives them.
    """
    if not (first.has_groups and second.has_groups):
        return None
    n, m = len(first), len(second)
    sides = (
        _build_side(sums[0, :n], sums[1, :n], first.groups, m),
        _build_side(sums[1, n:], sums[0, n:], second.groups, n),
    )
    return _estimate_spread(value, sides, (first, second), kernel)


def _build_side(to_own: Array, to_other: Array, groups: Groups, num_other: int) -> Side:
    """Side of N frames (N,) from their kernel sums over the two sets."""
    counts = np.bincount(groups).astype(np.float64)
    witness = np.bincount(groups, to_own) / (counts * (len(groups) - counts))
    witness -= np.bincount(groups, to_other) / (counts * num_other)
    shares = counts / len(groups)
    return Side(shares, witness - shares @ witness)


def _estimate_spread(
    value: float, sides: tuple[Side, Side], sets: tuple[FeatureSet, FeatureSet], kernel: Kernel
) -> Spread:
    """Degenerate part and third cumulant from the centred kernel between patients.

    The degenerate part is estimated on at most about MAX_PATIENTS patients of each set.
    """
    (first, x, scale_x), (second, y, scale_y) = map(_thin, sides, sets)
    w, v = first.shares, second.shares
    qx, qy = first.concentration, second.concentration
    within_first = _centre(average_kernel(x, x, kernel), w, qx)
    within_second = _centre(average_kernel(y, y, kernel), v, qy)
    across = average_kernel(x, y, kernel)
    across -= (across @ v)[:, None]
    across -= w @ across
    # The covariance S in the basis of the patients, without its diagonal within the sets.
    within_first *= np.outer(w, w) * scale_x
    within_second *= np.outer(v, v) * scale_y
    across *= np.outer(w, v) * np.sqrt(scale_x * scale_y)
    covariance = np.block([[within_first, across], [across.T, within_second]])
    squares = 2.0 * float(np.sum(within_first**2)) / (1.0 - 3.0 * qx)
    squares_second = 2.0 * float(np.sum(within_second**2)) / (1.0 - 3.0 * qy)
    squares_across = 4.0 * float(np.sum(across**2)) / ((1.0 - qx) * (1.0 - qy))
    trace_2 = 0.5 * (squares + squares_second + squares_across)
    trace_3 = float(np.sum((covariance @ covariance) * covariance))
    towards = np.concatenate([
        np.sqrt(scale_x) * w * first.witness, -np.sqrt(scale_y) * v * second.witness
    ])  # fmt: skip
    mixed = float(towards @ covariance @ towards) - trace_3
    spread = Spread(
        value, *sides, squares, squares_second, squares_across,
        degenerate_cube=8.0 * min(max(trace_3, 0.0), trace_2**1.5), mixed_cube=0.0,
    )  # fmt: skip
    # No eigenvalue of S is larger than the root of T_2.
    largest = 6.0 * max(spread.linear, 0.0) * trace_2**0.5
    return replace(spread, mixed_cube=min(max(24.0 * mixed, 0.0), largest))


def average_kernel(first: FeatureSet, second: FeatureSet, kernel: Kernel) -> Array:
    """Kernel between patients (P, Q): the mean over the frames of the one and of the other."""
    order = np.argsort(second.groups, kind="stable")
    features = second.features[order]
    _, starts, sizes = np.unique(second.groups[order], return_index=True, return_counts=True)
    sums = np.zeros((count_groups(first.groups), len(starts)))
    for start in range(0, len(first), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        matrix = kernel(build_pairs(first.features[rows], features))
        np.add.at(sums, first.groups[rows], np.add.reduceat(matrix, starts, axis=1))
    return np.asarray(sums / np.bincount(first.groups)[:, None] / sizes)


def _thin(side: Side, frames: FeatureSet) -> tuple[Side, FeatureSet, float]:
    """Every k-th patient, and the factor by which S of all patients differs from that of these."""
    num_patients = len(side.shares)
    by_frames = min(len(frames) / MAX_FRAMES, num_patients / MIN_PATIENTS)
    step = ceil(max(1.0, num_patients / MAX_PATIENTS, by_frames))
    shares = side.shares[::step] / side.shares[::step].sum()
    few = Side(shares, side.witness[::step])
    is_kept = frames.groups % step == 0
    kept = FeatureSet(frames.features[is_kept], frames.groups[is_kept] // step)
    return few, kept, side.concentration / few.concentration


def _centre(matrix: Array, shares: Array, concentration: float) -> Array:
    """Kernel (P, P) without the means of its rows and columns, without its diagonal.

    The U-centred matrix of Szekely and Rizzo (Ann. Stat. 2014): its mean square is unbiased.
    """
    np.fill_diagonal(matrix, 0.0)
    means = matrix @ shares / (1.0 - 2.0 * concentration)
    whole = float(shares @ means) / (1.0 - concentration)
    matrix -= means[:, None]
    matrix -= means - whole
    np.fill_diagonal(matrix, 0.0)
    return matrix


def compute_kernel_interval(spread: Spread) -> Array:
    """95 % interval of the true MMD^2, (2,).

    Below zero, where no true value can be, the distribution of equal sets is moved along: an
    interval that starts below zero says that the sets are not told apart.
    """
    error = (max(spread.linear, 0.0) + spread.degenerate) ** 0.5
    if not error > 0.0:
        return np.array([spread.value, spread.value])

    def find(share: float) -> float:
        low, high, reach = spread.value, spread.value, error
        while compute_share_below(spread, low) < share:
            low, reach = low - reach, 2.0 * reach
        reach = error
        while compute_share_below(spread, high) > share:
            high, reach = high + reach, 2.0 * reach
        if low == high:
            return low
        return float(brentq(lambda true: compute_share_below(spread, true) - share, low, high,
                            xtol=1e-6 * error))  # fmt: skip

    return np.array([find(1.0 - TAIL), find(TAIL)])


def compute_share_below(spread: Spread, true: float) -> float:
    """Probability of an MMD^2 at most as large as the measured one, if `true` is the true value.

    The variance of the linear part goes with the true value; how fast is known from the covariance
    of the two estimates: Cov(|m|^2, m'S m) = 4 m'S^2 m + 2 T_3. For larger values the third moment
    of the contributions is added, if it is positive: in small samples of a skewed kernel it is too
    uncertain to make an interval narrower.
    """
    linear, degenerate = spread.linear, spread.degenerate
    cube = 2.0 / 3.0 * spread.mixed_cube + spread.degenerate_cube
    if true > spread.value:
        cube += max(spread.first.linear_cube + spread.second.linear_cube, 0.0)
    slope = cube / (max(linear, 0.0) + degenerate)
    # 4 m'S m is at most 4 |m|^2 times the largest eigenvalue.
    most = 4.0 * max(true, 0.0) * (0.5 * degenerate) ** 0.5
    here = min(max(linear + slope * (true - spread.value), 0.0), most)
    variance = here + degenerate
    # m'S^2 m goes with m'S m; without an estimate of both, as T_3 goes with T_2.
    per_linear = (
        spread.mixed_cube / linear if linear > 0.0 else 1.5 * spread.degenerate_cube / degenerate
    )
    skewness = (per_linear * here + spread.degenerate_cube) / variance**1.5
    deviation = (spread.value - true) / variance**0.5
    # Student's distribution for a variance that is estimated.
    normal = float(ndtri(np.clip(stdtr(spread.degrees, deviation), 1e-12, 1.0 - 1e-12)))
    return compute_pearson_share(normal, skewness)


def compute_pearson_share(deviation: float, skewness: float) -> float:
    """Distribution function of Pearson's type III, a shifted gamma: mean 0, variance 1.

    Sums of chi-squared variables are well met by three cumulants (Zhang, JASA 2005).
    """
    if skewness < 1e-3:
        return float(ndtr(deviation))
    shape = 4.0 / skewness**2
    return float(gammainc(shape, max(shape + shape**0.5 * deviation, 0.0)))
