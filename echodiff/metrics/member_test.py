"""Are the frames of a training, as a set, cheaper for its weights than frames it never saw?

Of a few dozen frames hardly one can be told by itself, while the set can (Dubinski et al. 2025,
"CDI: Copyrighted Data Identification in Diffusion Models"). Patients are compared, not frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from echodiff.metrics.resampling import Z_95

NUM_PERMUTATIONS = 9_999
_AT_ONCE = 1000
_NEARLY = 1e-12
"""Sums of the same numbers in another order differ in their last bits."""


@dataclass(frozen=True)
class MemberTest:
    """How much lower the members' costs are."""

    p: float
    """One-sided permutation p; at least 1 / (permutations + 1)."""
    gap: float
    """Mean cost of the others minus that of the members; above 0 where members are cheaper."""
    low: float
    high: float
    """95 % interval of the gap, see `compute_gap`."""
    num_members: int
    num_others: int


def compare_members(
    costs: NDArray[np.float64],
    is_member: NDArray[np.bool_],
    strata: Sequence[object],
    *,
    seed: int,
    num_permutations: int = NUM_PERMUTATIONS,
) -> MemberTest:
    """Test whether the costs (P,) of patients are lower for members, within strata.

    is_member: (P,). strata: (P,) keys; under the null any patients of a stratum might as well have
    been its members, so the p is uniform whatever the costs are. Each stratum needs both.
    """
    p = compute_permutation_p(
        -costs, is_member, strata, seed=seed, num_permutations=num_permutations
    )
    gap, error = compute_gap(-costs, is_member, strata)
    half, num_members = Z_95 * error, int(is_member.sum())
    return MemberTest(p, gap, gap - half, gap + half, num_members, len(costs) - num_members)


def compute_gap(
    scores: NDArray[np.float64], is_member: NDArray[np.bool_], strata: Sequence[object]
) -> tuple[float, float]:
    """Mean score of members less that of others within strata, and its standard error.

    Least squares with a mean of each stratum; the error allows each score another variance
    (MacKinnon and White 1985, HC2). With one stratum both are those of Welch's test.
    """
    centred = centre_in_strata(scores, strata)
    side = centre_in_strata(is_member.astype(np.float64), strata)
    weight = max(float(np.square(side).sum()), _NEARLY)  # 0: no stratum has both sides
    gap = float((side * centred).sum()) / weight
    sizes = np.array([strata.count(key) for key in strata])
    leverage = 1 / sizes + np.square(side) / weight
    residuals = np.square(centred - gap * side) / np.maximum(1 - leverage, _NEARLY)
    return gap, float(np.sqrt((np.square(side) * residuals).sum())) / weight


def compute_permutation_p(
    scores: NDArray[np.float64],
    is_member: NDArray[np.bool_],
    strata: Sequence[object],
    *,
    seed: int,
    num_permutations: int = NUM_PERMUTATIONS,
) -> float:
    """One-sided p of the sum of the members' scores (P,), members dealt anew in each stratum."""
    centred = centre_in_strata(scores, strata)
    observed = centred[is_member].sum() - _NEARLY * max(1.0, float(np.abs(centred).sum()))
    rows_of = [np.flatnonzero([one == key for one in strata]) for key in dict.fromkeys(strata)]
    generator = np.random.default_rng(seed)
    count = 0
    for start in range(0, num_permutations, _AT_ONCE):
        size = min(_AT_ONCE, num_permutations - start)
        sums = np.zeros(size)
        for rows in rows_of:
            num = int(is_member[rows].sum())
            order = generator.random((size, len(rows))).argsort(axis=1)[:, :num]
            sums += centred[rows][order].sum(axis=1)
        count += int((sums >= observed).sum())
    return (1 + count) / (1 + num_permutations)


def centre_in_strata(values: NDArray[np.float64], strata: Sequence[object]) -> NDArray[np.float64]:
    """Values (P,) less the mean of their stratum."""
    keys = {key: number for number, key in enumerate(dict.fromkeys(strata))}
    numbers = np.array([keys[key] for key in strata])
    means = np.bincount(numbers, weights=values) / np.bincount(numbers)
    return np.asarray(values - means[numbers], dtype=np.float64)
