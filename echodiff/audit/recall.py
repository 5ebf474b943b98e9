"""Recall: is an image drawn for a caption more like the frame of that caption than like others?

Weights can give the layout of a training frame back, its chambers and its sector, without a single
one of its pixels: `extraction` compares the grain and sees nothing of this. A caption describes its
frame, so some likeness is no leak. Training frames are therefore held against held-out ones, whose
captions are just as true, and whose images the weights can only draw from words.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echodiff.audit.audit_config import AuditConfig
from echodiff.audit.extraction import draw_captions
from echodiff.audit.membership import RECALL, Attack
from echodiff.audit.networks import DiffusionWeights
from echodiff.audit.subjects import Subjects, Units
from echodiff.images import pad_square, read_gray_u8, resize_u8
from echodiff.progress import ProgressBar

Array = NDArray[np.float64]

SIDE = 32
"""Side in pixels at which images are compared: layout stays, speckle goes."""
NUM_IMAGES = 200
"""Images for both sides together, if that is one a frame or more."""


def attack_by_recall(
    config: AuditConfig, weights: DiffusionWeights, subjects: Subjects, units: Units,
    white_level: int | None,
) -> Attack:  # fmt: skip
    """Draw images for the captions of both sides, by the weights as they are now."""
    sides = (subjects.members, subjects.others)
    count = len(units.of_frame)
    draws = int(np.clip(NUM_IMAGES // count, 1, config.attempts))
    frames = [_read(path, white_level) for side in sides for path in side.paths]
    images = []
    with ProgressBar(total=count, desc="recalling", unit="caption") as bar:
        for side in sides:
            for drawn in draw_captions(config, weights, side, draws):
                images.append(np.mean([_shrink(one) for one in drawn], axis=0))
                bar.update()
    scores, is_nearest = compare_to_own(np.stack(images), np.stack(frames))
    of_member = units.is_member[units.of_frame]
    told = (
        f"{int(is_nearest[of_member].sum())} of {int(of_member.sum())} training and "
        f"{int(is_nearest[~of_member].sum())} of {int((~of_member).sum())} held-out"
    )
    return Attack(
        RECALL,
        units.average(scores),
        "images generated for a caption: likeness of the layout to its own frame, which is the "
        f"nearest of all for {told} frames",
        "the other frames",
    )


def compare_to_own(images: Array, frames: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Correlation of image i with frame i less that with all others, and whether i is the nearest.

    images, frames: (N, P). The mean over images, and that over frames, is what all hearts share.
    """
    likeness = _normalise(images) @ _normalise(frames).T
    own = np.diag(likeness)
    others = (likeness.sum(axis=1) - own) / max(1, len(own) - 1)
    return own - others, likeness.argmax(axis=1) == np.arange(len(own))


def _normalise(rows: Array) -> Array:
    rows = rows - rows.mean(axis=0)
    rows = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Array = rows / np.where(norms > 0, norms, 1.0)
    return scaled


def _read(path: Path, white_level: int | None) -> Array:
    return _shrink(read_gray_u8(path, max_value=white_level))


def _shrink(image_u8: NDArray[np.uint8]) -> Array:
    """(P,) grey values of mean 0 and length 1: brightness and contrast are no layout."""
    pixels = resize_u8(pad_square(image_u8), (SIDE, SIDE)).astype(np.float64).ravel()
    pixels -= pixels.mean()
    length = float(np.linalg.norm(pixels))
    return pixels / length if length > 0 else pixels
