"""Kernel two-sample statistics: RBF-MMD^2 and KID as full U-statistics, unbiased at any count.

MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y), pairs of a frame with itself left out
(Gretton et al., JMLR 2012, eq. 3), and pairs of one patient with it: they are alike, and would
hold two sets of one distribution apart. Its expectation is then zero for these, so it may come out
slightly negative. KID is the same with the kernel (x.y / D + 1)^3 (Binkowski et al., ICLR 2018),
here over all pairs instead of random subsets.

One pass over the pairs of frames, in blocks of rows, gives the statistic under every kernel and for
thousands of pairs of row choices at once: the estimate, its permutations and its floor, and the
sums by frame that its interval needs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from echodiff.metrics.resampling import Groups

BLOCK_ROWS = 256
"""Rows of the kernel matrix held at once: 20 MB at 10,000 frames."""

BANDWIDTH_MAX_COUNT = 2000
"""Most reference frames whose pairwise distances enter the median."""


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


@dataclass(frozen=True)
class Swept:
    """What one pass over the pairs of N frames gives for one kernel."""

    draws: list[NDArray[np.float64]]
    """MMD^2 (R,) of each of the choices."""
    sums: NDArray[np.float64]
    """(S, N) sums of the kernel of every frame with the frames of other patients in each set."""
    own_sums: NDArray[np.float64]
    """(N,) the same with the frames of its own patient, itself included."""


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
    return sweep_pairs(pooled, [(kernel, [Choices(first, second)])], groups)[0].draws[0]


def sweep_pairs(
    pooled: NDArray[np.float64],
    tests: Sequence[tuple[Kernel, Sequence[Choices]]],
    groups: Groups | None = None,
    sets: NDArray[np.float64] | None = None,
) -> list[Swept]:
    """`compute_mmd2_draws` of several kernels and choices: every pair of frames is met once.

    sets: (S, N) of 0 and 1, the sets over which the kernel of every frame is summed; none: S = 0.
    """
    groups = np.arange(len(pooled)) if groups is None else groups
    sets = np.zeros((0, len(pooled))) if sets is None else sets
    squares = np.einsum("nd,nd->n", pooled, pooled)
    sums = [[np.zeros((3, len(one.first))) for one in choices] for _, choices in tests]
    by_frame = [np.zeros_like(sets) for _ in tests]
    own_sums = np.zeros((len(tests), len(pooled)))
    for start in range(0, len(pooled), BLOCK_ROWS):
        rows, rest = slice(start, start + BLOCK_ROWS), slice(start, None)
        products = pooled[rows] @ pooled[rest].T
        pairs = Pairs(products, squares[rows], squares[rest], pooled.shape[1])
        alike = np.nonzero(groups[rows, None] == groups[rest])
        for (kernel, choices), parts, of_frame, own in zip(
            tests, sums, by_frame, own_sums, strict=True
        ):
            matrix = kernel(pairs)
            _add_alike(own[rest], matrix[alike], alike, len(products))
            # No pair of a frame with itself or its own patient: this makes the estimate unbiased.
            matrix[alike] = 0.0
            # The kernel is symmetric: pairs of these rows come twice here, all others once.
            matrix[:, : len(products)] *= 0.5
            for one, part in zip(choices, parts, strict=True):
                part += _sum_block(matrix, one, rows, rest)
            of_frame[:, rows] += sets[:, rest] @ matrix.T
            of_frame[:, rest] += sets[:, rows] @ matrix
    return [
        Swept(
            [_combine(one, part, groups) for one, part in zip(choices, parts, strict=True)],
            of_frame, own,
        )
        for (_, choices), parts, of_frame, own in zip(tests, sums, by_frame, own_sums, strict=True)
    ]  # fmt: skip


def _add_alike(
    own: NDArray[np.float64], values: NDArray[np.float64],
    alike: tuple[NDArray[np.intp], ...], num_rows: int,
) -> None:  # fmt: skip
    """Add kernel values at the (row, column) places `alike` of a block to the frames of both.

    The first `num_rows` columns are the rows: a pair of two of them is there twice.
    """
    own += np.bincount(alike[0], values, len(own))
    is_once = alike[1] >= num_rows
    own += np.bincount(alike[1][is_once], values[is_once], len(own))


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


def compute_permutation_p(observed: float, permuted: NDArray[np.float64]) -> float:
    """Share of permuted statistics at least as large, the observed one counted among them."""
    return float((1 + np.count_nonzero(permuted >= observed)) / (1 + len(permuted)))


def compute_squared_distances(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(A, B) between the rows of two feature sets (A, D) and (B, D)."""
    return build_pairs(first, second).squared_distances
