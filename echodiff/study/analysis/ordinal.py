"""Cumulative logit model of ordered scores with random effects, by Laplace's approximation.

P(score <= k) = F(theta_k - x beta - z b), F the logistic distribution, b normal with one variance a
term; the model and approximation of `clmm` in the R package `ordinal` (Christensen). Random terms
may be nested or crossed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg, optimize, stats
from scipy.special import expit

from echodiff.errors import InputError
from echodiff.study.analysis.ratings import Floats, Ints

_STEP = 1e-4
"""Of differences of the log likelihood, in parameters."""
_TOLERANCE = 1e-10
"""Newton decrement after which one more step finds the random effects to the last digits: unlike
the density, the determinant in Laplace's approximation is not stationary there."""
_MAX_NEWTON = 60
_IMPOSSIBLE = 1e10
"""Minus the log likelihood of parameters at which it cannot be computed."""
_LARGEST = 15.0
"""Largest coefficient or standard deviation, in log odds, that counts as an estimate."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """A random term: one effect for each of its groups."""

    name: str
    group: Ints
    """(N,) numbered from 0."""

    @property
    def num_groups(self) -> int:
        """Number of effects."""
        return int(self.group.max()) + 1


@dataclass(frozen=True, kw_only=True)
class OrdinalFit:
    """Maximum likelihood fit."""

    log_likelihood: float
    thresholds: Floats
    """(levels - 1,) rising."""
    coefficients: Mapping[str, float]
    errors: Mapping[str, float]
    """Standard errors of the coefficients; NaN where the likelihood is flat."""
    variances: Mapping[str, float]
    """Of the random terms."""
    num_ratings: int
    num_parameters: int
    levels: tuple[int, ...]
    """Scores that occur."""

    def test(self, name: str) -> tuple[float, float, float]:
        """Wald's p and 95 % interval of a coefficient."""
        value, error = self.coefficients[name], self.errors[name]
        half = stats.norm.ppf(0.975) * error
        return float(2 * stats.norm.sf(abs(value / error))), value - half, value + half


def compare_nested(smaller: OrdinalFit, larger: OrdinalFit) -> float:
    """p of the likelihood ratio of two nested fits of the same ratings."""
    ratio = max(0.0, 2 * (larger.log_likelihood - smaller.log_likelihood))
    return float(stats.chi2.sf(ratio, larger.num_parameters - smaller.num_parameters))


def fit_ordinal(scores: Ints, fixed: Mapping[str, Floats], terms: Sequence[Term]) -> OrdinalFit:
    """Fit the model to scores, (N,), with fixed columns, (N,) each, and random terms.

    InputError if only one score occurs, or if a column separates the scores, so that the likelihood
    has no maximum.
    """
    levels, places = np.unique(scores, return_inverse=True)
    if len(levels) < 2:
        raise InputError(f"every score is {levels[0]}: there is nothing to model")
    columns = np.column_stack([*fixed.values()]) if fixed else np.zeros((len(scores), 0))
    model = _Model(places, columns, terms, len(levels))
    start = _find_start(places, len(levels), columns.shape[1], len(terms))
    found = optimize.minimize(model.minus_log_likelihood, start, jac=model.gradient,
                              method="BFGS", options={"gtol": 1e-5, "maxiter": 300})  # fmt: skip
    if not np.isfinite(found.x).all() or np.abs(model.split(found.x)[1]).max(initial=0) > _LARGEST:
        raise InputError(_SEPARATED)
    parameters, hessian = _polish(model, found.x)
    thresholds, beta, sigma = model.split(parameters)
    if max(np.abs(beta).max(initial=0), np.abs(sigma).max(initial=0)) > _LARGEST:
        raise InputError(_SEPARATED)
    covariance = _invert(hessian)
    errors = np.sqrt(np.where(np.diag(covariance) > 0, np.diag(covariance), np.nan))
    own = slice(len(thresholds), len(thresholds) + len(beta))
    return OrdinalFit(
        log_likelihood=-model.minus_log_likelihood(parameters),
        thresholds=thresholds,
        coefficients=dict(zip(fixed, map(float, beta), strict=True)),
        errors=dict(zip(fixed, map(float, errors[own]), strict=True)),
        variances={term.name: float(s**2) for term, s in zip(terms, sigma, strict=True)},
        num_ratings=len(scores), num_parameters=len(parameters),
        levels=tuple(int(level) for level in levels),
    )  # fmt: skip


_SEPARATED = "the scores are separated, so that odds have no finite estimate"


class _Model:
    """Laplace's log likelihood as a function of thresholds, coefficients and deviations.

    Parameters: first threshold and logarithms of the steps to the next, (levels - 1,);
    coefficients; standard deviations of the terms, whose sign is free, so that zero is no boundary.
    """

    def __init__(
        self, places: Ints, columns: Floats, terms: Sequence[Term], num_levels: int
    ) -> None:
        self.places, self.columns, self.terms = places, columns, terms
        self.num_thresholds = num_levels - 1
        sizes = [term.num_groups for term in terms]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        self.size = int(starts[-1])
        self.rows = [start + term.group for start, term in zip(starts[:-1], terms, strict=True)]
        self.term_of = np.repeat(np.arange(len(terms)), sizes)
        self.effects = np.zeros(self.size)
        """Standardized random effects of the last call, from which the next one starts."""

    def split(self, parameters: Floats) -> tuple[Floats, Floats, Floats]:
        """Thresholds, coefficients, standard deviations."""
        first, rest = parameters[: self.num_thresholds], parameters[self.num_thresholds :]
        steps = np.exp(np.minimum(first[1:], 50.0))
        thresholds = first[0] + np.concatenate([[0.0], np.cumsum(steps)])
        count = self.columns.shape[1]
        return thresholds, rest[:count], rest[count:]

    def minus_log_likelihood(self, parameters: Floats) -> float:
        """Laplace's approximation of minus the log likelihood."""
        with np.errstate(all="ignore"):
            try:
                value = self._approximate(parameters)
            except linalg.LinAlgError:
                return _IMPOSSIBLE
        return value if np.isfinite(value) else _IMPOSSIBLE

    def _approximate(self, parameters: Floats) -> float:
        thresholds, beta, sigma = self.split(parameters)
        bounds = np.concatenate([[-np.inf], thresholds, [np.inf]])
        high = bounds[self.places + 1] - self.columns @ beta
        low = bounds[self.places] - self.columns @ beta
        if not self.size:
            return -float(np.log(expit(high) - expit(low)).sum())
        scale = sigma[self.term_of]
        effects = self.effects
        value, gradient, factor = self._expand(effects, high, low, scale)
        for _ in range(_MAX_NEWTON):
            step = linalg.cho_solve(factor, gradient, check_finite=False)
            is_last = gradient @ step < _TOLERANCE
            size = 1.0
            while True:  # halved until it improves: the log likelihood is concave
                after = self._expand(effects + size * step, high, low, scale)
                if is_last or after[0] >= value or size < 1e-6:
                    break
                size /= 2
            effects = effects + size * step
            value, gradient, factor = after
            if is_last:
                break
        if np.isfinite(value):
            self.effects = effects
        return -(value - float(np.log(np.diag(factor[0])).sum()))

    def _expand(
        self, effects: Floats, high: Floats, low: Floats, scale: Floats
    ) -> tuple[float, Floats, tuple[Floats, bool]]:
        """Log density of ratings and effects, its gradient, and the factor of minus its Hessian."""
        shift = sum(effects[rows] * scale[rows] for rows in self.rows)
        upper, lower = expit(high - shift), expit(low - shift)
        value = float(np.log(upper - lower).sum() - effects @ effects / 2)
        # Of the logistic distribution: d log(F(a) - F(b)) = F(a) + F(b) - 1 times the shift, and
        # the second derivative is -(f(a) + f(b)).
        slope = upper + lower - 1
        weight = upper * (1 - upper) + lower * (1 - lower)
        gradient = -effects
        hessian = np.zeros(self.size**2)
        for rows in self.rows:
            gradient = gradient + scale * np.bincount(rows, slope, self.size)
            for others in self.rows:
                hessian += np.bincount(rows * self.size + others, weight, self.size**2)
        matrix = hessian.reshape(self.size, self.size) * scale[:, None] * scale[None]
        matrix[np.diag_indices(self.size)] += 1.0
        return value, gradient, linalg.cho_factor(matrix, lower=True, check_finite=False)

    def gradient(self, parameters: Floats) -> Floats:
        """Central differences."""
        found = np.empty(len(parameters))
        for row in range(len(parameters)):
            step = np.zeros(len(parameters))
            step[row] = _STEP
            found[row] = self.minus_log_likelihood(parameters + step)
            found[row] -= self.minus_log_likelihood(parameters - step)
        return found / (2 * _STEP)

    def hessian(self, parameters: Floats) -> Floats:
        """Differences of gradients, symmetric."""
        rows = []
        for row in range(len(parameters)):
            step = np.zeros(len(parameters))
            step[row] = 10 * _STEP
            rows.append(self.gradient(parameters + step) - self.gradient(parameters - step))
        found = np.array(rows) / (20 * _STEP)
        return np.asarray((found + found.T) / 2)


def _find_start(places: Ints, num_levels: int, num_fixed: int, num_terms: int) -> Floats:
    shares = np.cumsum(np.bincount(places, minlength=num_levels))[:-1] / len(places)
    thresholds = np.log(shares / (1 - shares))
    return np.concatenate(
        [thresholds[:1], np.log(np.diff(thresholds)), np.zeros(num_fixed), np.full(num_terms, 0.5)]
    )


def _polish(model: _Model, parameters: Floats) -> tuple[Floats, Floats]:
    """Take Newton steps while they improve; return the parameters and the Hessian there."""
    hessian = model.hessian(parameters)
    for _ in range(3):
        gradient = model.gradient(parameters)
        if np.abs(gradient).max() < 1e-6:
            break
        step = _invert(hessian) @ gradient
        before = model.minus_log_likelihood(parameters)
        if not model.minus_log_likelihood(parameters - step) < before:
            break
        parameters = parameters - step
    return parameters, hessian


def _invert(hessian: Floats) -> Floats:
    """Inverse, or pseudo-inverse where the likelihood is flat in a direction."""
    return np.asarray(np.linalg.pinv(hessian, rcond=1e-10, hermitian=True))
