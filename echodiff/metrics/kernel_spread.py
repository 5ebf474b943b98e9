"""How far the MMD^2 of two sets scatters about its true value: its cumulants, estimated.

MMD^2 is a squared distance between two mean embeddings, which are nearly normal. So it is a
quadratic form of normal variables: a linear part, whose variance falls as 1 / n, and a degenerate
part, a weighted sum of chi-squared variables, whose variance falls as 1 / n^2 and which is all
there is between equal sets (Hoeffding, Ann. Math. Stat. 1948; Serfling 1980, section 5.5; Gretton
et al., JMLR 2012, theorem 12). With m the difference of the true means, S the covariance of its
estimate and T_k = Tr S^k, the first three cumulants are

    |m|^2,    4 m'S m + 2 T_2,    24 m'S^2 m + 8 T_3.

They are estimated without bias from kernel values between different patients (for the variance
see Sutherland and Deka, arXiv:1906.02104), and T_1 from those of each patient with itself: |m|^2 +
T_1 is the squared distance before its bias is taken off, which is never below zero.
"""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from echodiff.metrics.feature_set import FeatureSet
from echodiff.metrics.kernel import BLOCK_ROWS, Kernel, Swept, build_pairs
from echodiff.metrics.resampling import MIN_GROUPS, Groups, count_groups

Array = NDArray[np.float64]

MAX_PATIENTS = 500
"""Most patients a side that the degenerate part is estimated on."""

MAX_FRAMES = 3000
"""Most frames a side there, if MIN_PATIENTS patients or more are left."""

MIN_PATIENTS = 100

MAX_DEGREES = 1e6
"""Degrees of freedom from which on Student's distribution is the normal one."""


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
    def linear(self) -> Array:
        """(P,) first-order contributions to MMD^2; the sum of their squares is a variance."""
        return np.asarray(2.0 * self.shares * self.witness / np.sqrt(1.0 - self.concentration))

    @property
    def linear_variance(self) -> float:
        """Sum of the squares of those contributions."""
        return float(self.linear @ self.linear)

    @property
    def linear_cube(self) -> float:
        """Third cumulant of the sum of those contributions."""
        q = self.concentration
        return 8.0 * float(np.sum((self.shares * self.witness) ** 3)) / ((1 - q) * (1 - 2 * q))

    @property
    def variance_error(self) -> float:
        """Variance of `linear_variance`: by the fourth moment of the contributions, and no less
        than that of normal ones. Heavy tails leave a variance more uncertain than its count says.
        """
        square, q = self.linear_variance**2, self.concentration
        return max(float(np.sum(self.linear**4)) - q * square, 2.0 * square * q / (1.0 - q))


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
    trace: float
    """T_1, the bias of the squared distance between the means of the sets as they are."""
    degenerate_cube: float
    """Third cumulant of the degenerate part, 8 T_3."""
    largest: float
    """T_4 / T_3, the size of the largest eigenvalues of S."""
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
        return self.first.linear_variance + self.second.linear_variance - 2.0 * self.degenerate

    @property
    def variance(self) -> float:
        """Of MMD^2."""
        return max(self.linear, 0.0) + self.degenerate

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the variance, Satterthwaite's (Biometrics Bulletin 1946): those of
        a chi-squared variable that scatters as much. Nearly all of the error is the linear part's.
        """
        error = self.first.variance_error + self.second.variance_error
        if not error > 0.0:
            return MAX_DEGREES
        return float(np.clip(2.0 * self.variance**2 / error, 1.0, MAX_DEGREES))


def measure_spread(
    value: float, swept: Swept, first: FeatureSet, second: FeatureSet, kernel: Kernel
) -> Spread | None:
    """Spread of the MMD^2 `value` between two sets; None if one has too few patients.

    swept: what `kernel.sweep_pairs` found of the two sets pooled, with the two as its `sets`.
    """
    if not (first.has_groups and second.has_groups):
        return None
    n, m = len(first), len(second)
    sums, own = swept.sums, swept.own_sums
    sides = (
        _build_side(sums[0, :n], sums[1, :n], first.groups, m),
        _build_side(sums[1, n:], sums[0, n:], second.groups, n),
    )
    trace = _estimate_trace(sums[0, :n], own[:n], first.groups)
    trace += _estimate_trace(sums[1, n:], own[n:], second.groups)
    return _estimate_spread(value, trace, sides, (first, second), kernel)


def _estimate_trace(sums: Array, own_sums: Array, groups: Groups) -> float:
    """What one set of N frames adds to T_1, from their kernel sums over the set (N,).

    It is the mean over all pairs of frames less that over pairs of different patients.
    """
    num_pairs, counts = len(groups) ** 2, np.bincount(groups)
    num_alike = float(counts @ counts)
    across = float(sums.sum()) / (num_pairs - num_alike)
    return (float(own_sums.sum()) - num_alike * across) / num_pairs


def _build_side(to_own: Array, to_other: Array, groups: Groups, num_other: int) -> Side:
    """Side of N frames (N,) from their kernel sums over the two sets."""
    counts = np.bincount(groups).astype(np.float64)
    witness = np.bincount(groups, to_own) / (counts * (len(groups) - counts))
    witness -= np.bincount(groups, to_other) / (counts * num_other)
    shares = counts / len(groups)
    return Side(shares, witness - shares @ witness)


def _estimate_spread(
    value: float, trace: float, sides: tuple[Side, Side], sets: tuple[FeatureSet, FeatureSet],
    kernel: Kernel,
) -> Spread:  # fmt: skip
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
    square = covariance @ covariance
    trace_3 = float(np.sum(square * covariance))
    # Without the walks along the eigenvalues' square that come back to where they were.
    trace_4 = float(np.sum(square**2)) - 2.0 * float(np.sum(np.diag(square) ** 2))
    trace_4 += float(np.sum(covariance**4))
    towards = np.concatenate([
        np.sqrt(scale_x) * w * first.witness, -np.sqrt(scale_y) * v * second.witness
    ])  # fmt: skip
    mixed = float(towards @ covariance @ towards) - trace_3
    # What holds of all covariances: T_2 <= T_1^2, T_2^2 <= T_1 T_3 and T_3 <= T_2^(3/2).
    trace = max(trace, trace_2**0.5)
    trace_3 = min(max(trace_3, trace_2**2 / trace if trace > 0.0 else 0.0), trace_2**1.5)
    spread = Spread(
        value, *sides, squares, squares_second, squares_across, trace,
        degenerate_cube=8.0 * trace_3, largest=trace_4 / trace_3 if trace_3 > 0.0 else 0.0,
        mixed_cube=0.0,
    )  # fmt: skip
    # No eigenvalue of S is larger than the root of T_2.
    most = 6.0 * max(spread.linear, 0.0) * trace_2**0.5
    return replace(spread, mixed_cube=min(max(24.0 * mixed, 0.0), most))


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
