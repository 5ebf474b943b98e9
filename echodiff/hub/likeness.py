"""Find training images, unchanged or edited, among the images that a push would send."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echodiff.data.check.duplicates import RADIUS, find_near, hash_pixels, sketch
from echodiff.frames.white_level import find_white_level
from echodiff.hub.scan import Finding
from echodiff.images import read_image_u8, to_gray_u8
from echodiff.metrics.likeness.gallery import Gallery
from echodiff.metrics.likeness.threshold import choose_threshold
from echodiff.progress import ProgressBar

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
