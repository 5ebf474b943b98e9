"""One test over all patients: is the set of members, as a whole, known to the weights?

With 40 frames a single one can hardly be told, and the set can (CDI, Dubinski et al. 2024, arXiv
2411.12858). Scores of all attacks are brought to one scale and averaged; under the null that
no patient was trained on, any patients of a stratum might as well have been the members, so the
permutation p is uniform whatever the scores are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from echodiff.audit.subjects import Units
from echodiff.metrics.member_test import centre_in_strata, compute_gap, compute_permutation_p

Array = NDArray[np.float64]

NUM_PERMUTATIONS = 20_000


@dataclass(frozen=True)
class SetTest:
    """Mean difference of the joined score between members and non-members, in its deviations."""

    difference: float
    p: float
    """One-sided permutation p; the smallest that can be had is 1 / (permutations + 1)."""
    num_permutations: int
    num_members: int
    num_others: int


def join_scores(scores: Mapping[str, Array]) -> Array:
    """Mean over attacks of scores (U,), each with mean 0 and deviation 1 over all patients.

    Labels play no part in it: that keeps the permutation test exact.
    """
    scaled = []
    for values in scores.values():
        deviation = values.std()
        scaled.append((values - values.mean()) / (deviation if deviation > 0 else 1.0))
    joined: Array = np.mean(scaled, axis=0)
    return joined


def compare_sets(
    joined: Array, units: Units, *, seed: int, num_permutations: int = NUM_PERMUTATIONS
) -> SetTest:
    """Permutation test of the mean difference, members dealt anew within their stratum."""
    strata = units.stratum.tolist()
    p = compute_permutation_p(
        joined, units.is_member, strata, seed=seed, num_permutations=num_permutations
    )
    # Within strata, as p is: two vendors in other shares on both sides are no difference.
    difference, _ = compute_gap(joined, units.is_member, strata)
    deviation = float(centre_in_strata(joined, strata).std()) or 1.0
    num_members = int(units.is_member.sum())
    return SetTest(
        difference / deviation, p, num_permutations, num_members, len(joined) - num_members
    )
