"""Means and differences of arms over test patients and training seeds, with intervals.

Every arm is tested on the same patients and trained from the same seeds, so differences are paired
by both. Patients and seeds are both samples: the variance of a mean over a (S, P) table is the sum
of that of its patients' means and that of its seeds' means, less the residual, which both contain.
Intervals and p are Student's, with Satterthwaite's degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from echodiff.metrics.comparison import correct_for_pairs
from echodiff.metrics.resampling import MIN_GROUPS, Groups, count_groups
from echodiff.metrics.score import Mean

Array = NDArray[np.float64]
TAIL = 0.025


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Mean Dice of one arm less that of another, as one of `contrasts` of utility.json."""

    first: str
    second: str
    value: float
    low: float | None
    high: float | None
    """95 % interval; None of fewer than four patients."""
    p: float | None
    """Two-sided, of this pair alone."""
    p_holm: float | None = None
    """`p` corrected for the number of contrasts (Holm 1979)."""
    num_patients: int
    num_seeds: int


def average_patients(values: Array, groups: Groups) -> Array:
    """(S, N) of frames to (S, P) of patients; NaN for a patient without any value."""
    num = count_groups(groups)
    table = np.full((len(values), num), np.nan)
    for group in range(num):
        own = values[:, groups == group]
        is_known = np.isfinite(own)
        counts = is_known.sum(axis=1)
        sums = np.where(is_known, own, 0.0).sum(axis=1)
        np.divide(sums, counts, out=table[:, group], where=counts > 0)
    return table


def average_table(table: Array) -> tuple[Mean, float | None]:
    """Mean of a (S, P) table with its 95 % interval, and the p-value of its being 0.

    Patients without a value for some seed are left out. ValueError where none is left.
    """
    table = table[:, np.isfinite(table).all(axis=0)]
    num_seeds, num_patients = table.shape
    if not num_patients:
        raise ValueError("no patient has a value in every training")
    value = float(table.mean())
    if num_patients < MIN_GROUPS or num_seeds < 2:
        return Mean(value, None, None), None
    of_patients = float(table.mean(axis=0).var(ddof=1)) / num_patients
    of_seeds = float(table.mean(axis=1).var(ddof=1)) / num_seeds
    residual = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + value
    degrees = (num_seeds - 1) * (num_patients - 1)
    of_rest = float((residual**2).sum()) / degrees / table.size
    variance = max(of_patients, of_seeds, of_patients + of_seeds - of_rest)
    if variance == 0:
        return Mean(value, value, value), None
    # Satterthwaite: between those of the patients and those of the seeds.
    weights = of_patients**2 / (num_patients - 1) + of_seeds**2 / (num_seeds - 1)
    freedom = max(1.0, (of_patients + of_seeds) ** 2 / weights)
    error = variance**0.5
    reach = float(stdtrit(freedom, 1 - TAIL)) * error
    p = 2 * float(stdtr(freedom, -abs(value) / error))
    return Mean(value, value - reach, value + reach), p


def compare_arms(tables: Mapping[str, Array], pairs: Sequence[tuple[str, str]]) -> list[Contrast]:
    """First less second of every pair of arms; tables: (S, P) of each."""
    contrasts = []
    for first, second in pairs:
        difference = tables[first] - tables[second]
        mean, p = average_table(difference)
        contrasts.append(Contrast(
            first=first, second=second, value=mean.value, low=mean.low, high=mean.high, p=p,
            num_patients=int(np.isfinite(difference).all(axis=0).sum()),
            num_seeds=len(difference),
        ))  # fmt: skip
    corrected = correct_for_pairs([one.p for one in contrasts])
    return [replace(one, p_holm=p) for one, p in zip(contrasts, corrected, strict=True)]
