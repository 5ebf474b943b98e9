"""Ejection fraction from masks of the left ventricle at end of diastole and of systole.

With the apical four- and two-chamber view: biplane method of discs (modified Simpson). With one of
them: area-length, V = 8 A^2 / (3 pi L). Lang et al., J Am Soc Echocardiogr 28:1-39, 2015.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label, Phase, View

NUM_DISCS = 20
VIEWS = (View.A4C, View.A2C)
Masks = Mapping[tuple[View, Phase], tuple[NDArray[np.uint8], float]]
"""Masks (H, W) of one patient by view and phase, each with the side of its pixels."""


def compute_ejection_fraction(masks: Masks) -> float | None:
    """Ejection fraction in per cent; None without both phases of a view, or without a ventricle.

    The unit of the pixels cancels, but must be the same in all masks.
    """
    views = [view for view in VIEWS if all((view, phase) in masks for phase in Phase)]
    if not views:
        return None
    diastole, systole = (
        _compute_volume([masks[view, phase] for view in views]) for phase in (Phase.ED, Phase.ES)
    )
    if not diastole:
        return None
    return 100 * (diastole - systole) / diastole


def _compute_volume(planes: list[tuple[NDArray[np.uint8], float]]) -> float:
    """Volume of the left ventricle in one plane or two; 0 where a plane does not show it."""
    shapes = [_measure_discs(mask == Label.LV, pixel) for mask, pixel in planes]
    if any(length == 0 for _, length in shapes):
        return 0.0
    longest = max(length for _, length in shapes)
    if len(shapes) == 2:
        (first, _), (second, _) = shapes
        return math.pi / 4 * float(first @ second) * longest / NUM_DISCS
    widths, length = shapes[0]
    area = float(widths.mean()) * length
    return 8 * area**2 / (3 * math.pi * length)


def _measure_discs(
    is_ventricle: NDArray[np.bool_], pixel: float
) -> tuple[NDArray[np.float64], float]:
    """Widths of NUM_DISCS discs across the long axis, from the top down, and its length."""
    points = np.argwhere(is_ventricle).astype(np.float64)
    if len(points) < 3:
        return np.zeros(NUM_DISCS), 0.0
    centred = points - points.mean(axis=0)
    axis = np.linalg.eigh(np.cov(centred.T))[1][:, -1]
    along = centred @ (axis if axis[0] >= 0 else -axis)
    length = float(np.ptp(along)) + 1.0  # pixels have a width
    counts = np.histogram(along, NUM_DISCS, (along.min() - 0.5, along.max() + 0.5))[0]
    return counts * (NUM_DISCS / length) * pixel, length * pixel
