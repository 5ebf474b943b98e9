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
    """95 % interval of the gap, by Welch's standard error."""
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
    centred = costs - _stratum_means(costs, strata)
    observed = centred[is_member].sum()
    generator = np.random.default_rng(seed)
    sums = np.zeros(num_permutations)
    for key in dict.fromkeys(strata):
        rows = np.flatnonzero([one == key for one in strata])
        num = int(is_member[rows].sum())
        order = generator.random((num_permutations, len(rows))).argsort(axis=1)[:, :num]
        sums += centred[rows][order].sum(axis=1)
    tolerance = _NEARLY * max(1.0, float(np.abs(centred).sum()))
    count = int((sums <= observed + tolerance).sum())
    members, others = centred[is_member], centred[~is_member]
    gap = float(others.mean() - members.mean())
    spread = sum(float(side.var(ddof=1)) / len(side) for side in (members, others))
    half = Z_95 * float(np.sqrt(spread))
    p = (1 + count) / (1 + num_permutations)
    return MemberTest(p, gap, gap - half, gap + half, len(members), len(others))


def _stratum_means(costs: NDArray[np.float64], strata: Sequence[object]) -> NDArray[np.float64]:
    keys = {key: number for number, key in enumerate(dict.fromkeys(strata))}
    numbers = np.array([keys[key] for key in strata])
    means = np.bincount(numbers, weights=costs) / np.bincount(numbers)
    return np.asarray(means[numbers], dtype=np.float64)
