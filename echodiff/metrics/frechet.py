"""Frechet distance between two feature sets, exact and without any matrix square root.

FD = |m1 - m2|^2 + Tr S1 + Tr S2 - 2 Tr (S1 S2)^(1/2)   (Dowson and Landau 1982; Heusel et al. 2017)

With A = (X - mean) / sqrt(n - 1), S = A^T A, so Tr (S1 S2)^(1/2) is the nuclear norm of A1 A2^T: an
n1 x n2 matrix, for any number of features. While the smaller set has at most about 1,500 rows
that is exact and a hundred times faster than a square root of 2048 x 2048 features; above it, the
symmetric eigenvalue problem is cheaper. scipy's `sqrtm` is not used: it is slow, complex for few
samples, and its `disp` argument is gone in scipy 1.18.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

GRAM_MAX_COUNT = 1500
"""Rows of the smaller set up to which the n1 x n2 matrix is decomposed directly."""

LOPSIDED = 4
"""From so many times more rows on one side, the n1 x n2 matrix is squared before it is decomposed:
ten times quicker at 800 and 10,000 rows."""

SHARED_MAX_SIZE = 20_000_000
"""Numbers in a matrix of products (160 MB) up to which repeats share one."""

FrechetForm = Literal["gram", "eigh"]


def compute_frechet_distance(
    first: NDArray[np.float64], second: NDArray[np.float64], *, form: FrechetForm | None = None
) -> float:
    """Frechet distance of two feature sets (N1, D), (N2, D), each with at least two rows.

    The unbiased covariance is used, as in clean-fid. The distance is biased upward at small
    counts, by far more than its spread: never compare it across counts (docs/evaluation.md).
    `form` picks the arithmetic ("gram": SVD of n1 x n2, "eigh": of D x D); None takes the cheaper.
    """
    check_features(first, second, at_least=2)
    shift = first.mean(axis=0) - second.mean(axis=0)
    root_first, root_second = _centred_root(first), _centred_root(second)
    traces = np.sum(root_first**2) + np.sum(root_second**2)
    if form is None:
        # With fewer features than samples the D x D problem is the small one.
        fewest = min(len(first), len(second))
        form = "gram" if fewest <= min(GRAM_MAX_COUNT, 2 * first.shape[1]) else "eigh"
    if form == "gram":  # Tr (S1 S2)^(1/2) is the nuclear norm of A1 A2^T
        cross = _sum_singular(root_first @ root_second.T)
    else:
        cross = _cross_eigh(root_first, root_second)
    # Rounding can leave a set against itself at -1e-12.
    return max(float(shift @ shift + traces - 2.0 * cross), 0.0)


def compute_frechet_draws(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    of_first: NDArray[np.float64],
    of_second: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Frechet distances (R,) between R pairs of choices of rows: (R, N1) and (R, N2) of 0 and 1.

    Where the n1 x n2 form is the cheaper one, the features are centred once for all repeats, and
    multiplied once where that matrix is not too large. Where it is, and a choice leaves out few
    rows of the second set, what those add to the square of the matrix is taken off the whole.
    """
    fewest = int(min(of_first.sum(axis=1).max(initial=0), of_second.sum(axis=1).max(initial=0)))
    if fewest > min(GRAM_MAX_COUNT, 2 * first.shape[1]):
        return np.array([
            compute_frechet_distance(first[a > 0], second[b > 0])
            for a, b in zip(of_first, of_second, strict=True)
        ])  # fmt: skip
    centre = second.mean(axis=0)  # only rounding depends on it
    y = second - centre
    x = y if first is second else first - centre
    products = x @ y.T if len(x) * len(y) <= SHARED_MAX_SIZE else None
    means, traces = zip(_describe(x, of_first), _describe(y, of_second), strict=True)
    shifts = np.sum((means[0] - means[1]) ** 2, axis=1)
    counts = of_second.sum(axis=1)
    is_most = counts >= LOPSIDED * np.maximum(of_first.sum(axis=1), len(y) - counts)
    scatter = y.T @ y if products is None and is_most.any() else None
    crosses = []
    for a, b, takes_most in zip(of_first > 0, of_second > 0, is_most, strict=True):
        if takes_most and scatter is not None:
            cross = _cross_scatter(x[a], scatter, y[b], y[~b])
        else:
            block = x[a] @ y[b].T if products is None else products[np.ix_(a, b)]
            block -= block.mean(axis=1, keepdims=True)
            block -= block.mean(axis=0)
            cross = _sum_singular(block)
        crosses.append(cross / np.sqrt((a.sum() - 1.0) * (b.sum() - 1.0)))
    return np.maximum(shifts + traces[0] + traces[1] - 2.0 * np.array(crosses), 0.0)


def _describe(
    features: NDArray[np.float64], chosen: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (R, D) and trace of the unbiased covariance (R,) of each choice of rows."""
    counts = chosen.sum(axis=1)
    means = chosen @ features / counts[:, None]
    squares = chosen @ np.einsum("nd,nd->n", features, features)
    return means, (squares - counts * np.einsum("rd,rd->r", means, means)) / (counts - 1.0)


def check_features(*sets: NDArray[np.float64], at_least: int) -> None:
    """ValueError unless every set is (N >= at_least, D), finite, and all share D."""
    for features in sets:
        if features.ndim != 2 or len(features) < at_least:
            raise ValueError(f"at least {at_least} feature rows needed, got {features.shape}")
        if features.shape[1] != sets[0].shape[1]:
            raise ValueError(
                "the sets have features of different networks: "
                f"{sets[0].shape[1]} and {features.shape[1]} columns"
            )
        if not np.isfinite(features).all():
            raise ValueError("features hold NaN or infinity")


def _centred_root(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """A with A^T A = the unbiased covariance, (N, D)."""
    centred = np.asarray(features, dtype=np.float64) - features.mean(axis=0, dtype=np.float64)
    return np.asarray(centred / np.sqrt(len(features) - 1))


def _sum_singular(matrix: NDArray[np.float64]) -> float:
    """Nuclear norm: the sum of the singular values."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    if wide.shape[1] < LOPSIDED * wide.shape[0]:
        return float(np.linalg.svd(wide, compute_uv=False).sum())
    return _sum_roots(wide @ wide.T)


def _cross_scatter(
    first: NDArray[np.float64], scatter: NDArray[np.float64], second: NDArray[np.float64],
    left_out: NDArray[np.float64],
) -> float:  # fmt: skip
    """Nuclear norm of the centred products of `first` and `second`, whose square is made of
    `scatter`, X^T X of the rows of `second` and of those `left_out` together."""
    centred = first - first.mean(axis=0)
    others, mean = centred @ left_out.T, centred @ second.mean(axis=0)
    square = centred @ scatter @ centred.T - others @ others.T
    return _sum_roots(square - len(second) * np.outer(mean, mean))


def _sum_roots(square: NDArray[np.float64]) -> float:
    """Nuclear norm of a matrix M by the eigenvalues of M M^T.

    Squaring costs the digits of the smallest singular values, a millionth of the sum at most.
    """
    eigenvalues = np.linalg.eigvalsh(square)
    return float(np.sqrt(np.clip(eigenvalues, 0.0, None)).sum())


def _cross_eigh(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Tr (S1 S2)^(1/2) as the sum of the roots of the eigenvalues of S1^(1/2) S2 S1^(1/2)."""
    values, vectors = np.linalg.eigh(first.T @ first)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))  # S1 = root root^T
    inner = second @ root
    return _sum_roots(inner.T @ inner)
