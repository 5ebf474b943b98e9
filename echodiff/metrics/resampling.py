"""Which rows a repeat takes: half-samples, disjoint splits, permutations, all by whole patients.

Frames of one patient or video are not independent, so every draw takes or leaves all frames of a
group. A draw is a row of zeros and ones over the frames.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Groups = NDArray[np.int64]
"""(N,) group of each frame, numbered from 0 without gaps."""

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""

MIN_GROUPS = 4
"""Fewest patients per set for intervals, permutations, and pairs of patients."""


def build_groups(keys: Sequence[Hashable | None]) -> Groups:
    """Groups of equal keys (patients, videos); a frame without a key is its own group."""
    numbers: dict[Hashable, int] = {}
    return np.array(
        [
            numbers.setdefault(("alone", i) if key is None else ("key", key), len(numbers))
            for i, key in enumerate(keys)
        ],
        dtype=np.int64,
    )


def count_groups(groups: Groups) -> int:
    """Number of groups; 0 of no frames."""
    return int(groups.max()) + 1 if len(groups) else 0


def thin_groups(groups: Groups, max_count: int) -> tuple[NDArray[np.bool_], Groups]:
    """Every k-th group whole, about `max_count` of N rows: which, and their groups.

    (N,) bool and (rows kept,) numbered from 0. At least MIN_GROUPS groups stay, where there are.
    """
    num_groups = count_groups(groups)
    step = max(1, min(-(-len(groups) // max_count), num_groups // MIN_GROUPS))
    is_kept = groups % step == 0
    return is_kept, groups[is_kept] // step


def sample_halves(
    groups: Groups, num_draws: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """(num_draws, N) half of the groups each, without replacement.

    The spread of a statistic over such halves estimates its standard error on the whole: drawn
    n/2 of n without replacement, the variance is s^2 (2/n - 1/n) = s^2/n. A bootstrap would repeat
    frames, which pairwise statistics see as copies; its interval leaves out its own estimate.
    """
    num_groups = count_groups(groups)
    order = np.argsort(generator.random((num_draws, num_groups)), axis=1)
    chosen = np.zeros((num_draws, num_groups))
    np.put_along_axis(chosen, order[:, : num_groups // 2], 1.0, axis=1)
    return chosen[:, groups]


def sample_splits(
    groups: Groups,
    first_count: int,
    second_count: int,
    num_draws: int,
    generator: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two disjoint parts of the frames, (num_draws, N) each: `first_count` and `second_count` rows.

    No group is in both parts. A part may fall short of its count where whole groups do not fit.
    """
    first = np.zeros((num_draws, len(groups)))
    second = np.zeros((num_draws, len(groups)))
    members = [np.flatnonzero(groups == group) for group in range(count_groups(groups))]
    for draw in range(num_draws):
        order = [members[group] for group in generator.permutation(len(members))]
        taken, cut = 0, 0
        while cut < len(order) and taken < first_count:
            taken += len(order[cut])
            cut += 1
        first[draw, np.concatenate(order[:cut])[:first_count]] = 1.0
        if cut < len(order):
            second[draw, np.concatenate(order[cut:])[:second_count]] = 1.0
    return first, second


def sample_permutations(
    first: Groups, second: Groups, num_draws: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """(num_draws, N1 + N2) ones where the pooled frame is dealt to the first set.

    Whole groups are dealt, as many to the first set as it has: under the null the sets are
    exchangeable by patient, not by frame.
    """
    num_first = count_groups(first)
    pooled = np.concatenate([first, second + num_first])
    order = np.argsort(generator.random((num_draws, count_groups(pooled))), axis=1)
    dealt = np.zeros((num_draws, count_groups(pooled)))
    np.put_along_axis(dealt, order[:, :num_first], 1.0, axis=1)
    return dealt[:, pooled]
