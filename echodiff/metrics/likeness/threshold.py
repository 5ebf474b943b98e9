"""The likeness from which an image counts as a copy: other patients do not reach it."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from echodiff.metrics.likeness.gallery import Gallery

DEFAULT_THRESHOLD = 0.85
"""Score of `Gallery.find_nearest` at which an image counts as a training image, if too few frames
have a known patient to choose a threshold."""
_LOWEST, _HIGHEST = 0.6, 0.95
_DEVIATIONS = 5
"""The threshold lies this many standard deviations above the median score between patients."""
_CALIBRATED_ON = 40
"""Frames that are compared with those of other patients to choose the threshold."""
_LEAST_FRAMES = 20


def choose_threshold(
    gallery: Gallery, read: Callable[[int], NDArray[np.uint8]], patients: Sequence[str]
) -> float:
    """Choose a score that images of other patients do not reach.

    Some frames of the gallery are compared with those of all other patients. read: index of a
    frame to its image (H, W). patients: the patient of each frame, "" if unknown.
    """
    names = np.array(patients)
    known = np.flatnonzero(names != "")
    if len(known) < _LEAST_FRAMES or len(set(names[known])) < 2:
        return DEFAULT_THRESHOLD
    chosen = known[np.linspace(0, len(known) - 1, min(len(known), _CALIBRATED_ON)).astype(int)]
    queries = (read(int(place)) for place in chosen)
    same = [(names == names[place]) | (names == "") for place in chosen]
    scores = [match.score for match in gallery.find_nearest(queries, same)]
    return compute_threshold(scores)


def compute_threshold(scores: Sequence[float]) -> float:
    """The score that lies `_DEVIATIONS` above the median of `scores`, which are between patients.

    Fisher's transform makes correlations roughly normal; the upper tail gives their spread.
    """
    values = np.arctanh(np.minimum(scores, 0.999))
    median, high = np.quantile(values, (0.5, 0.95))
    threshold = float(np.tanh(median + _DEVIATIONS * (high - median) / 1.645))
    return min(max(threshold, _LOWEST), _HIGHEST)
