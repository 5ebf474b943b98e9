"""Simulated studies with known truth: readers, readers by sources, and scores of five levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize
from scipy.special import expit

from echodiff.study.analysis.rank_test import compute_auc
from echodiff.study.analysis.ratings import Floats, Ints

PUBLISHED_COUNTS = (47, 16, 29, 28, 50)
"""Scores 1 to 5 of the published study's real images, reconstructed from its tables (P1)."""
_NODES = 21


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A cumulative logit model of scores, from which studies are drawn.

    A reader's scores shift by N(0, reader_sd^2), and those of each of his or her sources by
    N(0, interaction_sd^2), on the scale of log odds.
    """

    thresholds: Floats
    """(4,) of real images."""
    shift: float
    """Log odds by which real images score higher than generated ones."""
    reader_sd: float
    interaction_sd: float

    @property
    def auc(self) -> float:
        """AUC of real against generated images, expected over readers."""
        return compute_expected_auc(self)


def build_truth(
    auc: float,
    *,
    reader_sd: float,
    interaction_sd: float,
    counts: tuple[int, ...] = PUBLISHED_COUNTS,
) -> Truth:
    """Build the truth in which real images have these shares of scores, and the AUC is `auc`."""
    thresholds = find_thresholds(np.array(counts), float(np.hypot(reader_sd, interaction_sd)))

    def build(shift: float) -> Truth:
        return Truth(thresholds=thresholds, shift=shift, reader_sd=reader_sd,
                     interaction_sd=interaction_sd)  # fmt: skip

    if auc == 0.5:
        return build(0.0)
    return build(float(optimize.brentq(lambda shift: build(shift).auc - auc, -12, 12, xtol=1e-8)))


def find_thresholds(counts: Ints, sd: float) -> Floats:
    """Thresholds, (4,), at which normal shifts of this deviation give these shares of scores."""
    shares = np.cumsum(counts)[:-1] / counts.sum()
    nodes, weights = _normal_nodes()
    found = [
        optimize.brentq(lambda t, s=share: weights @ expit(t - sd * nodes) - s, -40, 40)
        for share in np.clip(shares, 1e-6, 1 - 1e-6)
    ]
    return np.array(found)


def compute_expected_auc(truth: Truth) -> float:
    """Integrate the AUC over readers and their sources by Gauss-Hermite quadrature."""
    nodes, weights = _normal_nodes()
    reader = truth.reader_sd * nodes[:, None]
    cell = truth.interaction_sd * nodes[None]
    real = compute_shares(truth, reader + cell)
    other = compute_shares(truth, reader + cell - truth.shift)
    # The AUC is linear in each distribution: average over the cells first, within a reader.
    aucs = compute_auc(np.tensordot(real, weights, (1, 0)), np.tensordot(other, weights, (1, 0)))
    return float(weights @ aucs)


def compute_shares(truth: Truth, shifts: Floats) -> Floats:
    """Probabilities of the scores 1 to 5, (..., 5), at these shifts, (...)."""
    below = expit(truth.thresholds - shifts[..., None])
    ends = np.zeros_like(below[..., :1])
    return np.asarray(np.diff(np.concatenate([ends, below, ends + 1], axis=-1)))


def simulate_aucs(
    truth: Truth,
    num_studies: int,
    num_readers: int,
    num_images: int,
    generator: np.random.Generator,
) -> Floats:
    """Draw studies and compute the readers' AUCs, (studies, readers)."""
    counts = simulate_counts(truth, num_studies, num_readers, num_images, generator)
    return compute_auc(counts[..., 0, :], counts[..., 1, :])


def simulate_counts(
    truth: Truth,
    num_studies: int,
    num_readers: int,
    num_images: int,
    generator: np.random.Generator,
) -> Ints:
    """Draw studies: scores by reader and source (real, generated), (studies, readers, 2, 5)."""
    reader = truth.reader_sd * generator.standard_normal((num_studies, num_readers, 1))
    cell = truth.interaction_sd * generator.standard_normal((num_studies, num_readers, 2))
    shares = compute_shares(truth, reader + cell - np.array([0.0, truth.shift]))
    return np.asarray(generator.multinomial(num_images, shares))


def _normal_nodes() -> tuple[Floats, Floats]:
    """Nodes and weights of the expectation over a standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return nodes, weights / weights.sum()
