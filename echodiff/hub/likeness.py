"""Find training images, unchanged or edited, among the images that a push would send."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echodiff.data.check.duplicates import RADIUS, find_near, hash_pixels, sketch
from echodiff.frames.white_level import find_white_level
from echodiff.hub.gallery import Gallery
from echodiff.hub.scan import Finding
from echodiff.images import read_image_u8, to_gray_u8
from echodiff.progress import ProgressBar

DEFAULT_THRESHOLD = 0.85
"""Score of `Gallery.find_nearest` at which an image counts as a training image, if too few frames
have a known patient to choose a threshold."""
_LOWEST, _HIGHEST = 0.6, 0.95
_DEVIATIONS = 5
"""The threshold lies this many standard deviations above the median score between patients."""
_CALIBRATED_ON = 40
"""Frames that are compared with those of other patients to choose the threshold."""
_LEAST_FRAMES = 20
_MANY = 300
"""Number of images from which on a progress bar is shown."""


def find_training_images(
    images: Sequence[Path], training: Mapping[Path, str], folder: Path
) -> list[Finding]:
    """Find every one of `images` that is a training image, or shows one after an edit.

    Edits: mirrored, rotated, inverted, cropped, shifted, resized, brightened, partly covered, or
    placed in a contact sheet. training: path of each frame to its patient, "" if unknown. Findings
    name images relative to `folder`.
    """
    if not training or not images:
        return []
    paths = list(training)
    white = find_white_level(paths)
    digests, sketches = set(), []

    def read(path: Path) -> NDArray[np.uint8]:
        return read_image_u8(path, max_value=white)

    def read_training() -> Iterator[NDArray[np.uint8]]:
        for path in ProgressBar(training, "reading", unit="image", disable=len(training) < _MANY):
            image = read(path)
            digests.add(hash_pixels(image))
            sketches.append(sketch(to_gray_u8(image)))
            yield to_gray_u8(image)

    gallery = Gallery(read_training())
    threshold = choose_threshold(
        gallery, lambda place: to_gray_u8(read(paths[place])), list(training.values())
    )
    num_training = len(sketches)
    found: dict[int, str] = {}
    for place, path in enumerate(images):
        image = read(path)
        if hash_pixels(image) in digests:
            found[place] = "is a training image, pixel by pixel"
        sketches.append(sketch(to_gray_u8(image)))
    homes = [(int(place >= num_training), -1) for place in range(len(sketches))]
    for double in find_near(sketches, homes, RADIUS):
        words = f"is nearly a training image: {double.distance} bits of its hash differ"
        found.setdefault(double.later - num_training, words)
    rest = [place for place in range(len(images)) if place not in found]
    matches = gallery.find_nearest(to_gray_u8(read(images[place])) for place in rest)
    bar = ProgressBar(rest, "comparing", unit="image", disable=len(rest) < _MANY)
    for place, match in zip(bar, matches, strict=True):
        if match.score >= threshold:
            found[place] = (
                f"shows a training image, perhaps changed: likeness {match.score:.2f}, "
                f"allowed {threshold:.2f}"
            )
    return [
        Finding(images[place].relative_to(folder).as_posix(), found[place])
        for place in sorted(found)
    ]


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
    # Fisher's transform makes correlations roughly normal; the upper tail gives their spread.
    values = np.arctanh(np.minimum(scores, 0.999))
    median, high = np.quantile(values, (0.5, 0.95))
    threshold = float(np.tanh(median + _DEVIATIONS * (high - median) / 1.645))
    return min(max(threshold, _LOWEST), _HIGHEST)
