"""How many real frames a set of synthetic ones is worth, read off the curve of real frames alone.

The curve is the mean Dice against the number of real frames, on a logarithmic axis, made monotone.
Synthetic frames that are added to n real ones are worth m - n, where the curve reaches at m frames
the Dice of both together. The curve ends at its largest arm; what lies beyond is a
lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NUM_DRAWS = 2000
"""Bootstrap draws of patients and seeds, both with replacement."""


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What one set of synthetic frames is worth beside some real ones."""

    synthetic: str
    num_synthetic: int
    share: int
    """Percentage of the real patients that they were added to."""
    num_real: float
    """Frames of these patients, the mean over seeds."""
    value: float
    """Real frames."""
    low: float
    high: float
    """95 % interval, by bootstrap over patients and seeds."""
    most: float
    """Largest number that the curve can tell."""

    def write_verdict(self) -> str:
        """State it in one sentence with its interval."""
        low, high = (self._write(end) for end in (self.low, self.high))
        alone = f"{self.num_real:.0f} real frames ({self.share} % of the patients)"
        text = f"{self.num_synthetic} synthetic frames ({self.synthetic})"
        interval = f"95 % interval {low} to {high}"
        if self.value <= 0 and self.high <= 0:
            return f"Added to {alone}, {text} are worth no real frame ({interval})."
        sentence = (
            f"Added to {alone}, {text} are worth {self._write(self.value)} more real ones "
            f"({interval})"
        )
        return f"{sentence}." if self.low > 0 else f"{sentence}: they may be worth none."

    def _write(self, number: float) -> str:
        return f"{number:.0f}" if number < self.most else f"at least {self.most:.0f}"


def measure_worth(
    curve: Mapping[float, Array],
    mixed: Array,
    *,
    num_real: float,
    share: int,
    synthetic: str,
    num_synthetic: int,
    seed: int,
) -> Worth:
    """Compare (S, P) Dice of real and synthetic frames together with the curve of real ones.

    curve: number of real frames, ascending and two or more, to (S, P) Dice. mixed: of `num_real`
    real frames, which the curve has too, and all synthetic ones.
    """
    counts = np.array([*curve], np.float64)
    tables = np.stack([*curve.values(), mixed])
    is_known = np.isfinite(tables).all(axis=(0, 1))
    tables = tables[:, :, is_known]
    _, num_seeds, num_patients = tables.shape
    rng = np.random.default_rng(seed)
    values = []
    for draw in range(NUM_DRAWS + 1):
        chosen = tables
        if draw:
            chosen = chosen[:, rng.integers(num_seeds, size=num_seeds)]
            chosen = chosen[:, :, rng.integers(num_patients, size=num_patients)]
        means = chosen.mean(axis=(1, 2))
        values.append(_invert(counts, means[:-1], float(means[-1])) - num_real)
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Worth(
        synthetic=synthetic, num_synthetic=num_synthetic, share=share, num_real=num_real,
        value=values[0], low=float(low), high=float(high), most=float(counts[-1] - num_real),
    )  # fmt: skip


def _invert(counts: Array, means: Array, dice: float) -> float:
    """Number of real frames at which the monotone curve reaches `dice`, within its ends."""
    rising = np.maximum.accumulate(means)
    if dice >= rising[-1]:
        return float(counts[-1])
    if dice <= rising[0]:
        return float(counts[0])
    after = int(np.searchsorted(rising, dice, side="right"))
    low, high = rising[after - 1], rising[after]
    logs = np.log(counts)
    share = (dice - low) / (high - low)
    return float(np.exp(logs[after - 1] + share * (logs[after] - logs[after - 1])))
