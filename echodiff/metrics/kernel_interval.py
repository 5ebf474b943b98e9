"""95 % intervals of MMD^2 and KID: a test of every true value, inverted.

The interval holds every true value under which the measured one is in neither tail. The
distribution is that of the quadratic form that `kernel_spread` describes, by its saddlepoint
(Lugannani and Rice 1980; Barndorff-Nielsen 1986; for such forms Kuonen, Biometrika 1999).
"""

from dataclasses import dataclass
from math import exp, log, log1p, pi, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtr

from echodiff.metrics.kernel_spread import Spread

Array = NDArray[np.float64]

TAIL = 0.025
"""Probability outside each end of an interval."""

NEAR_MEAN = 1e-3
"""Standard deviations about the mean within which the saddlepoint's formula is 0 / 0."""

FARTHEST = 25.0
"""Logarithm of the farthest s below zero, in units of its largest; beyond, digits are lost."""


def compute_kernel_interval(spread: Spread) -> Array:
    """95 % interval of the true MMD^2, (2,).

    Below zero, where no true value can be, the distribution of equal sets is moved along: an
    interval that starts below zero says that the sets are not told apart.
    """
    error = spread.variance**0.5
    if not spread.degenerate > 0.0:
        return np.array([spread.value, spread.value])

    def find(share: float) -> float:
        low, high, reach = spread.value, spread.value, error
        while compute_share_below(spread, low) < share:
            low, reach = low - reach, 2.0 * reach
        reach = error
        while compute_share_below(spread, high) > share:
            high, reach = high + reach, 2.0 * reach
        if low == high:
            return low
        return float(brentq(lambda true: compute_share_below(spread, true) - share, low, high,
                            xtol=1e-6 * error))  # fmt: skip

    return np.array([find(1.0 - TAIL), find(TAIL)])


def compute_share_below(spread: Spread, true: float) -> float:
    """Probability of an MMD^2 at most as large as the measured one, if `true` is the true value.

    The variance of the linear part goes with the true value; how fast is known from the covariance
    of the two estimates: Cov(|m|^2, m'S m) = 4 m'S^2 m + 2 T_3. For larger values the third moment
    of the contributions is added, if it is positive: in small samples of a skewed kernel it is too
    uncertain to make an interval narrower.
    """
    linear, degenerate = spread.linear, spread.degenerate
    cube = 2.0 / 3.0 * spread.mixed_cube + spread.degenerate_cube
    if true > spread.value:
        cube += max(spread.first.linear_cube + spread.second.linear_cube, 0.0)
    slope = cube / spread.variance
    # 4 m'S m is at most 4 |m|^2 times the largest eigenvalue.
    most = 4.0 * max(true, 0.0) * (0.5 * degenerate) ** 0.5
    here = min(max(linear + slope * (true - spread.value), 0.0), most)
    # m'S^2 m goes with m'S m; without an estimate of both, as T_3 goes with T_2.
    per_linear = (
        spread.mixed_cube / linear if linear > 0.0 else 1.5 * spread.degenerate_cube / degenerate
    )
    form = build_form(spread, here, per_linear / 6.0)
    deviation = (spread.value - true) / form.variance**0.5
    # Student's distribution for a variance that is estimated.
    normal = float(ndtri(np.clip(stdtr(spread.degrees, deviation), 1e-12, 1.0 - 1e-12)))
    return form.share_below(normal * form.variance**0.5)


@dataclass(frozen=True)
class Form:
    """Quadratic form of normal variables less its mean, as the sum of three independent parts.

    Two are chi-squared variables, of `degrees` and times `sizes`; the third is linear in variables
    whose eigenvalues of S are all `linear_size`.
    """

    sizes: tuple[float, float]
    """The larger first."""
    degrees: tuple[float, float]
    linear_variance: float
    linear_size: float

    @property
    def variance(self) -> float:
        chi = sum(2.0 * k * size**2 for k, size in zip(self.degrees, self.sizes, strict=True))
        return chi + self.linear_variance

    @property
    def skewness(self) -> float:
        chi = sum(8.0 * k * size**3 for k, size in zip(self.degrees, self.sizes, strict=True))
        return (chi + 6.0 * self.linear_variance * self.linear_size) / self.variance**1.5

    def generate(self, s: float) -> tuple[float, float, float]:
        """Cumulant generating function at s, below half of the inverse of every size, and its
        first two derivatives."""
        left = 1.0 - 2.0 * self.linear_size * s
        value = 0.5 * self.linear_variance * s * s / left
        first = self.linear_variance * s * (1.0 - self.linear_size * s) / left**2
        second = self.linear_variance / left**3
        for k, size in zip(self.degrees, self.sizes, strict=True):
            left = 1.0 - 2.0 * size * s
            value -= k * (0.5 * log1p(-2.0 * size * s) + size * s)
            first += 2.0 * k * size**2 * s / left
            second += 2.0 * k * size**2 / left**2
        return value, first, second

    def share_below(self, deviation: float) -> float:
        """Distribution function, at so far from the mean."""
        end = 0.5 / max(self.sizes[0], self.linear_size)

        def point(y: float) -> float:
            """All s below `end`: near it for small y, far below zero for large y."""
            return end * (1.0 - exp(y))

        if self.generate(point(FARTHEST))[1] >= deviation:
            return 0.0  # at or below the least value of the form
        y = brentq(lambda y: self.generate(point(y))[1] - deviation, -30.0, FARTHEST, xtol=1e-12)
        s = point(float(y))
        value, _, second = self.generate(s)
        w = sqrt(max(2.0 * (s * deviation - value), 0.0))
        if w < NEAR_MEAN:
            return 0.5 + self.skewness / (6.0 * sqrt(2.0 * pi))
        w = w if s > 0.0 else -w
        return float(ndtr(w + log(s * sqrt(second) / w) / w))


def build_form(spread: Spread, linear_variance: float, linear_size: float) -> Form:
    """The form with this linear part and the degenerate part of `spread`.

    The eigenvalues of S are taken to be of two sizes, the larger `spread.largest`, with the T_1,
    T_2 and T_3 that were estimated: Gauss-Radau quadrature of their distribution. T_1 is what sets
    the least value that the form can have.
    """
    root = (0.5 * spread.degenerate) ** 0.5  # of T_2, which is 1 in these units
    trace, cube = max(spread.trace / root, 1.0), 0.125 * spread.degenerate_cube / root**3
    cube = min(max(cube, 1.0 / trace), 1.0)
    large = min(max(spread.largest / root, cube), 1.0)
    # Where all eigenvalues are equal both sizes would be one, and their shares 0 / 0.
    large *= 1.0 + 1e-9
    small = (large - cube) / max(large * trace - 1.0, 1e-9)
    small = min(max(small, 1e-9), large * (1.0 - 1e-9))
    of_large = min(max((1.0 - small * trace) / (large - small), 0.0), trace)
    if of_large < 1e-6 * trace:
        large, of_large = small, 0.0
    return Form(
        sizes=(large * root, small * root),
        degrees=(of_large / large, (trace - of_large) / small),
        linear_variance=linear_variance,
        linear_size=min(max(linear_size, 0.0), root) if linear_variance > 0.0 else 0.0,
    )
