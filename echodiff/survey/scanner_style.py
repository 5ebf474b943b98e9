"""Which scanner does an image look as if it came from? A linear classifier of texture features.

The features are training-free, and the classifier is fitted to real training frames alone, so that
no generator had a part in what judges it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SHRINKAGE = 0.2
"""Share of the covariance that is replaced by its diagonal: features are many, frames few."""


@dataclass(frozen=True)
class StyleClassifier:
    """Linear discriminant analysis with one shrunken covariance for all vendors."""

    means: Array
    """(V, D)."""
    precision: Array
    """(D, D), inverse of the covariance."""

    @classmethod
    def fit(cls, features: Array, vendors: NDArray[np.int64], num_vendors: int) -> StyleClassifier:
        """Fit to features (N, D) of real frames and the place of the vendor of each (N,)."""
        means = np.stack([features[vendors == one].mean(axis=0) for one in range(num_vendors)])
        centred = features - means[vendors]
        covariance = centred.T @ centred / max(1, len(features) - num_vendors)
        diagonal = np.diag(np.diag(covariance) + 1e-6)
        shrunken = (1 - SHRINKAGE) * covariance + SHRINKAGE * diagonal
        return cls(means, np.linalg.inv(shrunken))

    def __call__(self, features: Array) -> NDArray[np.int64]:
        """Place of the vendor of each row of (N, D): the nearest mean by Mahalanobis distance."""
        differences = features[:, None] - self.means
        distances = np.einsum("nvd,de,nve->nv", differences, self.precision, differences)
        return np.asarray(distances.argmin(axis=1), np.int64)
