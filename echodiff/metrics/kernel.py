"""Kernel two-sample statistics: RBF-MMD^2 and KID as full U-statistics, unbiased at any count.

MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y), pairs of a frame with itself left out
(Gretton et al., JMLR 2012, eq. 3). Its expectation is zero for two sets of one distribution, so it
may come out slightly negative. KID is the same with the kernel (x.y / D + 1)^3 (Binkowski et al.,
ICLR 2018), here over all pairs instead of random subsets.

One pass over the kernel matrix, in blocks of rows, gives the statistic for thousands of pairs of
row choices at once: the estimate, its half-samples, its permutations and its floor.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Kernel = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""Two feature sets (A, D), (B, D) -> kernel matrix (A, B)."""

BLOCK_ROWS = 512
"""Rows of the kernel matrix held at once; bounds memory at 10,000 frames to about 50 MB."""

BANDWIDTH_MAX_COUNT = 2000
"""Most reference frames whose pairwise distances enter the median."""


def compute_bandwidth(reference: NDArray[np.float64]) -> float:
    """Median Euclidean distance between the reference frames' features (N, D), N >= 2.

    It depends on the reference alone: scores of several generators against one reference share it.
    """
    step = -(-len(reference) // BANDWIDTH_MAX_COUNT)
    chosen = reference[::step]
    upper = np.triu_indices(len(chosen), k=1)
    bandwidth = float(np.sqrt(np.median(_squared_distances(chosen, chosen)[upper])))
    if not bandwidth > 0.0:
        raise ValueError(
            "more than half of the reference frames have the same features: no bandwidth for MMD"
        )
    return bandwidth


def build_rbf_kernel(bandwidth: float) -> Kernel:
    """exp(-|x - y|^2 / (2 bandwidth^2))."""
    scale = -0.5 / bandwidth**2

    def kernel(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.exp(scale * _squared_distances(first, second)))

    return kernel


def cubic_kernel(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """(x.y / D + 1)^3, the kernel of KID."""
    return np.asarray((first @ second.T / first.shape[1] + 1.0) ** 3)


def compute_mmd2_draws(
    pooled: NDArray[np.float64],
    kernel: Kernel,
    first: NDArray[np.float64],
    second: NDArray[np.float64],
) -> NDArray[np.float64]:
    """MMD^2 between two disjoint choices of rows, for each of R pairs of choices, (R,).

    pooled: features (N, D) of everything. first, second: (R, N) of 0 and 1; row r of each picks
    the two sets of repeat r, at least two rows apiece.
    """
    within_first = np.zeros(len(first))
    within_second = np.zeros(len(first))
    across = np.zeros(len(first))
    for start in range(0, len(pooled), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        matrix = kernel(pooled[rows], pooled)
        # A frame is no pair with itself: this is what makes the estimate unbiased.
        diagonal = np.arange(len(matrix))
        matrix[diagonal, start + diagonal] = 0.0
        to_first, to_second = matrix @ first.T, matrix @ second.T
        within_first += np.einsum("br,rb->r", to_first, first[:, rows])
        within_second += np.einsum("br,rb->r", to_second, second[:, rows])
        across += np.einsum("br,rb->r", to_second, first[:, rows])
    num_first, num_second = first.sum(axis=1), second.sum(axis=1)
    return np.asarray(
        within_first / (num_first * (num_first - 1.0))
        + within_second / (num_second * (num_second - 1.0))
        - 2.0 * across / (num_first * num_second)
    )


def compute_mmd2(first: NDArray[np.float64], second: NDArray[np.float64], kernel: Kernel) -> float:
    """Unbiased MMD^2 of two feature sets (N1, D), (N2, D), at least two rows each."""
    is_first = np.repeat([[1.0, 0.0]], [len(first), len(second)], axis=1)
    pooled = np.concatenate([first, second])
    return float(compute_mmd2_draws(pooled, kernel, is_first, 1.0 - is_first)[0])


def compute_permutation_p(observed: float, permuted: NDArray[np.float64]) -> float:
    """Share of permuted statistics at least as large, the observed one counted among them."""
    return float((1 + np.count_nonzero(permuted >= observed)) / (1 + len(permuted)))


def _squared_distances(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    squares = np.sum(first**2, axis=1)[:, None] + np.sum(second**2, axis=1)[None, :]
    return np.asarray(np.clip(squares - 2.0 * first @ second.T, 0.0, None))
