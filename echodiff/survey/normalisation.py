"""Normalise the intensity of images, so that less of the scanner is left in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from echodiff.survey.survey_config import Normalisation

Image = NDArray[np.uint8]
NUM_QUANTILES = 256
DEVIATIONS = 3.0
"""Deviations from the mean that become black and white."""


@dataclass(frozen=True)
class Normaliser:
    """A normalisation, with what it took from the training frames."""

    name: Normalisation
    quantiles: NDArray[np.float64]
    """(Q,) grey levels: the mean of the quantile functions of the training frames."""

    @classmethod
    def of(cls, name: Normalisation, training_u8: NDArray[np.uint8]) -> Normaliser:
        """Of training frames (N, S, S), which alone decide what images are brought to."""
        shares = np.linspace(0, 1, NUM_QUANTILES)
        quantiles = np.stack([np.quantile(image, shares) for image in training_u8])
        return cls(name, quantiles.mean(axis=0))

    def __call__(self, image_u8: Image) -> Image:
        """Normalise a grey image (S, S) uint8."""
        if self.name == "none":
            return image_u8
        values = image_u8.astype(np.float64)
        if self.name == "zscore":
            # To the 8 bits of a file: three deviations about the mean are black to white.
            deviation = max(float(values.std()), 1e-6)
            values = 127.5 * (1 + (values - values.mean()) / (DEVIATIONS * deviation))
        else:
            # Quantile by quantile onto the training frames (Nyul et al., IEEE TMI 2000).
            own = np.quantile(values, np.linspace(0, 1, NUM_QUANTILES))
            values = np.interp(values, *_without_ties(own, self.quantiles))
        return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _without_ties(
    own: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Own grey levels, each once, and the mean of the target's over the quantiles that have it."""
    levels, places, counts = np.unique(own, return_inverse=True, return_counts=True)
    return levels, np.bincount(places, target) / counts
