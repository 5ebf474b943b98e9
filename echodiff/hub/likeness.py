"""Whether a picture that would go up is one of the training's, as it was or nearly so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from echodiff.data.check.doubles import RADIUS, find_near, hash_pixels, sketch
from echodiff.frames.white_level import find_white_level
from echodiff.hub.scan import Finding
from echodiff.images import read_image_u8, to_gray_u8
from echodiff.progress import ProgressBar

_MANY = 1000
"""Pictures from which on a bar shows that something happens."""


def find_training_pictures(
    pictures: Sequence[Path], training: Sequence[Path], folder: Path
) -> list[Finding]:
    """Every one of `pictures` with the pixels of a training picture, whatever file they are in, or
    within the radius of a perceptual hash that `echodiff check` holds for one frame stored twice.

    Findings name pictures relative to `folder`.
    """
    digests, sketches = [], []
    paths = [*training, *pictures]
    white = find_white_level(training)
    bar = ProgressBar(paths, "comparing", unit="picture", disable=len(paths) < _MANY)
    for path in bar:
        image = read_image_u8(path, max_value=white)
        digests.append(hash_pixels(image))
        sketches.append(sketch(to_gray_u8(image)))
    num_training = len(training)
    at_home = set(digests[:num_training])
    homes = [(int(place >= num_training), -1) for place in range(len(paths))]
    near = {double.later: double for double in find_near(sketches, homes, RADIUS)}
    findings = []
    for place in range(num_training, len(paths)):
        name = paths[place].relative_to(folder).as_posix()
        if digests[place] in at_home:
            findings.append(Finding(name, "is a training picture, pixel by pixel"))
        elif place in near:
            bits = near[place].distance
            findings.append(
                Finding(name, f"is nearly a training picture: {bits} bits of its hash differ")
            )
    return findings
