"""Agreement of two masks: Dice and surface distances of every label, by MONAI."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from echodiff.anatomy import Label

MEASURES = ("dice", "hd95", "assd")
"""Columns of `compute_overlap`."""


def compute_overlap(
    found: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    labels: Sequence[Label],
    *,
    pixel: float = 1.0,
) -> NDArray[np.float64]:
    """(L, 3) Dice, 95th percentile of the Hausdorff distance, and average symmetric surface
    distance of each label, the background not among them.

    found, truth: (H, W) `Label` values. pixel: side of a pixel; distances are in its unit.
    A label that `truth` lacks is NaN. One that only `found` lacks has a Dice of 0, and the image's
    diagonal, the largest possible, for both distances.
    """
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.surface_distance import compute_average_surface_distance

    assert found.shape == truth.shape, (found.shape, truth.shape)
    values = np.full((len(labels), 3), np.nan)
    numbers = np.array([int(label) for label in labels])[:, None, None]
    ours, theirs = found == numbers, truth == numbers
    is_asked, is_found = theirs.any((1, 2)), ours.any((1, 2))
    values[is_asked & ~is_found] = 0.0, *[pixel * math.hypot(*found.shape)] * 2
    if len(rows := np.flatnonzero(is_asked & is_found)):
        given = [torch.from_numpy(part[rows])[None].float() for part in (ours, theirs)]
        options = {"include_background": True, "spacing": pixel}
        # MONAI 1.6 warns of an argument that it passes to itself.
        with warnings.catch_warnings(action="ignore"):
            values[rows] = np.stack([
                compute_dice(*given, include_background=True)[0].numpy(),
                compute_hausdorff_distance(*given, percentile=95, **options)[0].numpy(),
                compute_average_surface_distance(*given, symmetric=True, **options)[0].numpy(),
            ], axis=1)  # fmt: skip
    return values
