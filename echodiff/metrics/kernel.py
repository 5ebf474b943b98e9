"""Kernel two-sample statistics: RBF-MMD^2 and KID as full U-statistics, unbiased at any count.

MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y), pairs of a frame with itself left out
(Gretton et al., JMLR 2012, eq. 3), and pairs of one patient with it: they are alike, and would
hold two sets of one distribution apart. Its expectation is then zero for these, so it may come out
slightly negative. KID is the same with the kernel (x.y / D + 1)^3 (Binkowski et al., ICLR 2018),
here over all pairs instead of random subsets.

One pass over the pairs of frames, in blocks of rows, gives the statistic under every kernel and for
thousands of pairs of row choices at once: the estimate, its half-samples, its permutations and its
floor.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from echodiff.metrics.resampling import Groups, thin_groups

BLOCK_ROWS = 256
"""Rows of the kernel matrix held at once: 20 MB at 10,000 frames."""

BANDWIDTH_MAX_COUNT = 2000
"""Most reference frames whose pairwise distances enter the median."""

VARIANCE_MAX_COUNT = 1500
"""Most frames a side that the degenerate variance is estimated on."""

DEGENERATE_SHARE = 1.1
"""How often the degenerate variance is taken off that of half-samples, which show it thrice."""

DEGENERATE_COUNT = 100
"""Patients of the smaller set above which that share falls, by the fourth root of their number: of
a small effect in large sets, half-samples show too little of the other part."""


@dataclass(frozen=True)
class Pairs:
    """The pairs of two feature sets (A, D), (B, D), as every kernel here needs them."""

    products: NDArray[np.float64]
    """(A, B) inner products."""
    first_squares: NDArray[np.float64]
    """(A,) squared norms."""
    second_squares: NDArray[np.float64]
    """(B,)."""
    num_features: int

    @property
    def squared_distances(self) -> NDArray[np.float64]:
        """(A, B), never below zero."""
        squares = self.products * -2.0
        squares += self.first_squares[:, None]
        squares += self.second_squares
        return np.maximum(squares, 0.0, out=squares)


Kernel = Callable[[Pairs], NDArray[np.float64]]
"""Pairs of A and B frames -> kernel matrix (A, B)."""


@dataclass(frozen=True)
class Choices:
    """R pairs of disjoint sets of rows of N pooled frames, arrays (R, N) of 0 and 1."""

    first: NDArray[np.float64]
    second: NDArray[np.float64] | None
    """None: all rows that `first` leaves."""

    def second_at(self, rows: slice) -> NDArray[np.float64]:
        return np.asarray(1.0 - self.first[:, rows] if self.second is None
                          else self.second[:, rows])  # fmt: skip


def build_pairs(first: NDArray[np.float64], second: NDArray[np.float64]) -> Pairs:
    """All pairs of the rows of two feature sets (A, D) and (B, D)."""
    return Pairs(
        products=first @ second.T,
        first_squares=np.einsum("nd,nd->n", first, first),
        second_squares=np.einsum("nd,nd->n", second, second),
        num_features=first.shape[1],
    )


def compute_bandwidth(reference: NDArray[np.float64]) -> float:
    """Median Euclidean distance between the reference frames' features (N, D), N >= 2.

    It depends on the reference alone: scores of several generators against one reference share it.
    """
    step = -(-len(reference) // BANDWIDTH_MAX_COUNT)
    chosen = reference[::step]
    upper = np.triu_indices(len(chosen), k=1)
    bandwidth = float(np.sqrt(np.median(compute_squared_distances(chosen, chosen)[upper])))
    if not bandwidth > 0.0:
        raise ValueError(
            "more than half of the reference frames have the same features: no bandwidth for MMD"
        )
    return bandwidth


def build_rbf_kernel(bandwidth: float) -> Kernel:
    """exp(-|x - y|^2 / (2 bandwidth^2))."""
    scale = -0.5 / bandwidth**2

    def kernel(pairs: Pairs) -> NDArray[np.float64]:
        matrix = pairs.squared_distances
        matrix *= scale
        return np.exp(matrix, out=matrix)

    return kernel


def cubic_kernel(pairs: Pairs) -> NDArray[np.float64]:
    """(x.y / D + 1)^3, the kernel of KID."""
    linear = pairs.products / pairs.num_features
    linear += 1.0
    return linear * linear * linear


def compute_mmd2_draws(
    pooled: NDArray[np.float64],
    kernel: Kernel,
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    groups: Groups | None = None,
) -> NDArray[np.float64]:
    """MMD^2 between two disjoint choices of rows, for each of R pairs of choices, (R,).

    pooled: features (N, D) of everything. first, second: (R, N) of 0 and 1; row r of each picks
    the two sets of repeat r. groups: (N,) patient of each row; none: each row stands alone. A set
    has rows of two groups or more, and shares none with the other.
    """
    return sweep_pairs(pooled, [(kernel, [Choices(first, second)])], groups)[0][0]


def sweep_pairs(
    pooled: NDArray[np.float64],
    tests: Sequence[tuple[Kernel, Sequence[Choices]]],
    groups: Groups | None = None,
) -> list[list[NDArray[np.float64]]]:
    """`compute_mmd2_draws` of several kernels and choices: every pair of frames is met once.

    Returns (R,) for each of the choices of each kernel.
    """
    groups = np.arange(len(pooled)) if groups is None else groups
    squares = np.einsum("nd,nd->n", pooled, pooled)
    sums = [[np.zeros((3, len(one.first))) for one in choices] for _, choices in tests]
    for start in range(0, len(pooled), BLOCK_ROWS):
        rows, rest = slice(start, start + BLOCK_ROWS), slice(start, None)
        products = pooled[rows] @ pooled[rest].T
        pairs = Pairs(products, squares[rows], squares[rest], pooled.shape[1])
        is_alike = groups[rows, None] == groups[rest]
        for (kernel, choices), parts in zip(tests, sums, strict=True):
            matrix = kernel(pairs)
            # No pair of a frame with itself or its own patient: this makes the estimate unbiased.
            matrix[is_alike] = 0.0
            # The kernel is symmetric: pairs of these rows come twice here, all others once.
            matrix[:, : len(products)] *= 0.5
            for one, part in zip(choices, parts, strict=True):
                part += _sum_block(matrix, one, rows, rest)
    return [
        [_combine(one, part, groups) for one, part in zip(choices, parts, strict=True)]
        for (_, choices), parts in zip(tests, sums, strict=True)
    ]


def _sum_block(
    matrix: NDArray[np.float64], choices: Choices, rows: slice, rest: slice
) -> NDArray[np.float64]:
    """Sums of the kernel within the first sets, within the second, and across: (3, R)."""
    in_first, in_second = choices.first[:, rows], choices.second_at(rows)
    to_first = _sum_chosen(matrix, choices.first[:, rest])
    if choices.second is None:
        to_second = matrix.sum(axis=1, keepdims=True) - to_first
    else:
        to_second = _sum_chosen(matrix, choices.second[:, rest])

    def dot(sums: NDArray[np.float64], chosen: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.einsum("br,rb->r", sums, chosen))

    return np.stack([
        2.0 * dot(to_first, in_first),
        2.0 * dot(to_second, in_second),
        dot(to_second, in_first) + dot(to_first, in_second),
    ])  # fmt: skip


def _sum_chosen(matrix: NDArray[np.float64], chosen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of (B, N) over the columns of each of R choices (R, N): (B, R)."""
    # Most choices take generated frames in one set and real ones in the other: half are empty.
    is_empty = ~chosen.any(axis=1)
    sums = np.zeros((len(matrix), len(chosen)))
    sums[:, ~is_empty] = matrix @ chosen[~is_empty].T
    return sums


def _combine(choices: Choices, sums: NDArray[np.float64], groups: Groups) -> NDArray[np.float64]:
    """MMD^2 (R,) from the sums of `_sum_block` over all blocks."""
    first, second = choices.first, choices.second_at(slice(None))
    return np.asarray(
        sums[0] / count_pairs(first, groups)
        + sums[1] / count_pairs(second, groups)
        - 2.0 * sums[2] / (first.sum(axis=1) * second.sum(axis=1))
    )


def compute_degenerate_variance(
    first: NDArray[np.float64], of_first: Groups, second: NDArray[np.float64], of_second: Groups,
    kernel: Kernel,
) -> float:  # fmt: skip
    """The part of the variance of MMD^2 that falls as 1 / n^2, all there is for equal sets.

    Second-order term of Hoeffding's decomposition (Serfling 1980, section 5.2): from the kernel
    without its row and column means, summed over the frames of each pair of patients. Estimated on
    at most VARIANCE_MAX_COUNT frames a side.
    """
    kept_first, of_x = thin_groups(of_first, VARIANCE_MAX_COUNT)
    kept_second, of_y = thin_groups(of_second, VARIANCE_MAX_COUNT)
    x, y = first[kept_first], second[kept_second]
    within_first = _mean_square(kernel(build_pairs(x, x)), of_x, of_x, is_within=True)
    within_second = _mean_square(kernel(build_pairs(y, y)), of_y, of_y, is_within=True)
    across = _mean_square(kernel(build_pairs(x, y)), of_x, of_y, is_within=False)
    n, m = len(np.unique(of_first)), len(np.unique(of_second))
    return (
        2.0 * within_first / (n * (n - 1.0))
        + 2.0 * within_second / (m * (m - 1.0))
        + 4.0 * across / (n * m)
    )


def compute_mmd2(first: NDArray[np.float64], second: NDArray[np.float64], kernel: Kernel) -> float:
    """Unbiased MMD^2 of two feature sets (N1, D), (N2, D), at least two rows each."""
    is_first = np.repeat([[1.0, 0.0]], [len(first), len(second)], axis=1)
    pooled = np.concatenate([first, second])
    return float(compute_mmd2_draws(pooled, kernel, is_first, 1.0 - is_first)[0])


def count_pairs(chosen: NDArray[np.float64], groups: Groups) -> NDArray[np.float64]:
    """Ordered pairs of rows of different groups in each choice (R, N): (R,)."""
    counts = _sum_groups(chosen, groups)
    return np.asarray(counts.sum(axis=1) ** 2 - (counts**2).sum(axis=1))


def _sum_groups(values: NDArray[np.float64], groups: Groups) -> NDArray[np.float64]:
    """Sums over the columns of each group: (R, N) -> (R, number of groups), in any order."""
    if len(np.unique(groups)) == len(groups):
        return values
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    return np.asarray(np.add.reduceat(values[:, order], starts, axis=1))


def _mean_square(
    matrix: NDArray[np.float64], rows: Groups, columns: Groups, *, is_within: bool
) -> float:
    """Mean square, over pairs of groups, of the centred kernel between two average groups."""
    pairs = np.ones_like(matrix)
    if is_within:
        pairs[rows[:, None] == columns] = 0.0
    centred = matrix * pairs
    of_row = centred.sum(axis=1) / pairs.sum(axis=1)
    of_column = centred.sum(axis=0) / pairs.sum(axis=0)
    whole = float(centred.sum() / pairs.sum())
    centred -= of_row[:, None]
    centred -= of_column - whole
    centred *= pairs
    summed = _sum_groups(_sum_groups(centred, columns).T, rows).T
    num_rows, num_columns = summed.shape
    scale = len(rows) / num_rows * len(columns) / num_columns
    # Degrees of freedom that the means have taken.
    free = num_rows * (num_rows - 3.0) if is_within else (num_rows - 1.0) * (num_columns - 1.0)
    return float(((summed / scale) ** 2).sum() / free)


def compute_kernel_interval(
    value: float, half_variance: float, degenerate_variance: float, num_groups: int
) -> NDArray[np.float64]:
    """95 % interval of MMD^2, (2,), from the variance of its half-samples.

    The variance of a U-statistic is L / n + Q / n^2. A half-sample without replacement shows the
    first part once and the second three times, which near equal sets is an interval twice too
    wide: a share of the second is taken off again. The quantile is Student's, of a third of the
    patients of the smaller set, num_groups: small samples of KID are skewed. Both were set, and
    held to a known truth, by simulation (benchmarks/calibration.py, docs/evaluation.md).
    """
    share = DEGENERATE_SHARE * min(1.0, DEGENERATE_COUNT / num_groups) ** 0.25
    variance = max(half_variance - share * degenerate_variance, degenerate_variance)
    reach = float(stdtrit(-(-(num_groups - 1) // 3), 0.975)) * variance**0.5
    return np.array([value - reach, value + reach])


def compute_permutation_p(observed: float, permuted: NDArray[np.float64]) -> float:
    """Share of permuted statistics at least as large, the observed one counted among them."""
    return float((1 + np.count_nonzero(permuted >= observed)) / (1 + len(permuted)))


def compute_squared_distances(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(A, B) between the rows of two feature sets (A, D) and (B, D)."""
    return build_pairs(first, second).squared_distances
