"""How large an epsilon the audit shows, next to the largest that it could show at this count.

Steinke et al. 2023 (Privacy auditing with one training run, arXiv 2305.08846): a training that is
(epsilon, delta) private bounds how many of r guesses of membership can be right. Members and
non-members are parted by chance here, half and half, and stand for its coin flips.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from echodiff.audit.subjects import Units

Array = NDArray[np.float64]

CONFIDENCE = 0.95
SHARES = (1.0, 0.5, 0.25)
"""Parts of the patients that are guessed, the most extreme first: fixed before, and paid for."""
_MOST_EPSILON = 50.0


@dataclass(frozen=True)
class LowerBound:
    """What a one-run audit shows of epsilon."""

    epsilon: float
    """95 % lower bound; 0 where the guesses are no better than chance."""
    ceiling: float
    """Largest bound that this number of patients can show, with every guess right."""
    num_canaries: int
    num_guessed: int
    num_right: int
    delta: float


def compute_ceiling(num_canaries: int, confidence: float = CONFIDENCE) -> float:
    """Bound of epsilon if every one of `num_canaries` guesses is right."""
    share = (1 - confidence) ** (1 / num_canaries)
    return log(share / (1 - share)) if share > 0.5 else 0.0


def bound_epsilon(
    num_canaries: int, num_guessed: int, num_right: int, *, delta: float = 0.0, alpha: float = 0.05
) -> float:
    """Largest epsilon that is rejected at level `alpha` (Steinke et al. 2023, theorem 5.2)."""
    if compute_p(num_canaries, num_guessed, num_right, 0.0, delta) > alpha:
        return 0.0
    low, high = 0.0, _MOST_EPSILON
    for _ in range(40):
        middle = (low + high) / 2
        is_rejected = compute_p(num_canaries, num_guessed, num_right, middle, delta) <= alpha
        low, high = (middle, high) if is_rejected else (low, middle)
    return low


def compute_p(
    num_canaries: int, num_guessed: int, num_right: int, epsilon: float, delta: float
) -> float:
    """Chance of so many right guesses, or more, under (epsilon, delta) privacy."""
    right = 1 / (1 + exp(-epsilon))
    tail = float(binom.sf(num_right - 1, num_guessed, right))
    if delta == 0 or num_right == 0:
        return tail
    extra = np.arange(1, num_right + 1)
    below = np.cumsum(binom.pmf(num_right - extra, num_guessed, right))
    return min(1.0, tail + float((below / extra).max()) * delta * 2 * num_canaries)


def audit_epsilon(joined: Array, units: Units, *, seed: int, delta: float = 0.0) -> LowerBound:
    """Guess the patients with the highest scores in, those with the lowest out.

    Of the larger side as many as of the smaller are drawn, so that a blind guess is right half of
    the time. The parts of SHARES are tried at a third of the level each.
    """
    rows = _balance(units, seed)
    order = rows[np.argsort(joined[rows], kind="stable")]
    is_member = units.is_member[order]
    count = len(order)
    best = LowerBound(0.0, compute_ceiling(count), count, count, _count_right(is_member), delta)
    for share in SHARES:
        half = max(1, round(share * count / 2))
        guessed = np.concatenate([is_member[:half], is_member[-half:]])
        right = _count_right(guessed)
        epsilon = bound_epsilon(
            count, 2 * half, right, delta=delta, alpha=(1 - CONFIDENCE) / len(SHARES)
        )
        if epsilon > best.epsilon:
            best = LowerBound(epsilon, best.ceiling, count, 2 * half, right, delta)
    return best


def _count_right(is_member: NDArray[np.bool_]) -> int:
    half = len(is_member) // 2
    return int((~is_member[:half]).sum() + is_member[half:].sum())


def _balance(units: Units, seed: int) -> NDArray[np.int64]:
    """Rows of as many members as non-members of every stratum."""
    generator = np.random.default_rng(seed)
    rows: list[int] = []
    for stratum in np.unique(units.stratum):
        sides = [np.flatnonzero((units.stratum == stratum) & (units.is_member == side))
                 for side in (True, False)]  # fmt: skip
        least = min(map(len, sides))
        for side in sides:
            rows += generator.choice(side, least, replace=False).tolist()
    return np.array(rows)
