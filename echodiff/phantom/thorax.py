"""The chest around the heart in MR and CT: chest wall with ribs and sternum, spine, aorta, lung."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from echodiff.phantom.slices import Pose, image_grid

_ADULT_DEPTH_MM = 155.0
_RIB_MM = (13.0, 6.5)
_STERNUM_MM = (36.0, 9.0)
"""Length along the chest wall and thickness."""
_CORTEX_MM = 1.6


class Organ(IntEnum):
    """What surrounds the heart."""

    AIR = 0
    LUNG = 1
    LUNG_VESSEL = 2
    FAT = 3
    MUSCLE = 4
    CORTEX = 5
    """Compact bone."""
    MARROW = 6
    AORTA = 7
    """Descending aorta, in front of the spine."""
    LIVER = 8


def compute_thorax(pose: Pose, hull_mm: NDArray[np.float32], seed: int) -> NDArray[np.uint8]:
    """Return the `Organ` of every pixel, (H, W), as if the heart were not there.

    hull_mm: distance to the outside of the heart, (H, W). The apex points up, so the breastbone is
    at the upper left and the spine at the lower right. A seed is one patient.
    """
    rng = np.random.default_rng((seed, 7))
    lateral_mm, depth_mm, _ = image_grid(pose, hull_mm.shape[0])
    scale = pose.depth_mm / _ADULT_DEPTH_MM
    x, y = lateral_mm / scale, depth_mm / scale  # mm of an adult
    gap, hull = pose.gap_mm / scale, hull_mm / scale

    organs = np.full(hull.shape, Organ.LUNG, np.uint8)
    _add_vessels(organs, x, y, hull, rng)
    if rng.random() < 0.4:  # the dome of the diaphragm reaches the slice
        liver_x, liver_y, radius = rng.uniform(-100, -85), rng.uniform(105, 130), 48
        organs[np.hypot(x - liver_x, y - liver_y) < radius] = Organ.LIVER
    fat_mm = rng.uniform(2, 5) + 3.5 * np.sin(0.06 * x + 0.045 * y + rng.uniform(0, 6))
    organs[hull < fat_mm] = Organ.FAT  # around the heart, uneven
    _add_spine(organs, x, y, rng)
    _add_chest_wall(organs, x, y, gap, rng)
    return organs


def _add_vessels(
    organs: NDArray[np.uint8],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    hull: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Vessels of the lung: thin lines that run outward and end."""
    for _ in range(26):
        side = rng.choice([-1.0, 1.0])
        from_x, from_y = side * rng.uniform(30, 75), rng.uniform(45, 150)
        angle, length = rng.uniform(-0.9, 0.9), rng.exponential(9.0)
        near = _window(x, y, from_x, from_y, length + 2)
        right, down = side * (x[near] - from_x), y[near] - from_y
        along = right * np.cos(angle) + down * np.sin(angle)
        across = down * np.cos(angle) - right * np.sin(angle)
        beyond = np.maximum(np.maximum(-along, along - length), 0)
        width = rng.uniform(0.5, 1.3) * (1 - 0.5 * np.clip(along / length, 0, 1))
        organs[near][(np.hypot(across, beyond) < width) & (hull[near] > 6)] = Organ.LUNG_VESSEL


def _window(
    x: NDArray[np.float32], y: NDArray[np.float32], at_x: float, at_y: float, reach_mm: float
) -> tuple[slice, slice]:
    """Rows and columns of the square around a place."""
    rows = np.searchsorted(y[:, 0], (at_y - reach_mm, at_y + reach_mm))
    cols = np.searchsorted(x[0], (at_x - reach_mm, at_x + reach_mm))
    return slice(*rows), slice(*cols)


def _add_spine(
    organs: NDArray[np.uint8],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Vertebra at the lower right with the descending aorta beside it, in muscle and fat."""
    spine_x, spine_y = rng.uniform(56, 64), rng.uniform(150, 158)
    radius = rng.uniform(15, 18)
    near = _window(x, y, spine_x, spine_y, 3.5 * radius)
    organs, x, y = organs[near], x[near], y[near]
    away = np.hypot(x - spine_x, (y - spine_y) * 1.15)
    organs[away < radius + 7] = Organ.FAT
    organs[(away < radius + 16) & (x + y > spine_x + spine_y + 6)] = Organ.MUSCLE
    organs[away < radius] = Organ.CORTEX
    organs[away < radius - _CORTEX_MM] = Organ.MARROW
    aorta = np.hypot(x - (spine_x - radius - 9), y - (spine_y + 2))
    organs[aorta < 13] = Organ.FAT
    organs[aorta < 11] = Organ.AORTA


def _add_chest_wall(
    organs: NDArray[np.uint8],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    gap: float,
    rng: np.random.Generator,
) -> None:
    """Wall from pleura to skin with ribs and the sternum's edge; its depth follows the probe's
    distance from the heart."""
    radius = rng.uniform(105, 125)
    inner = 0.75 * gap
    rows = slice(0, np.searchsorted(y[:, 0], 100.0))
    organs, x, y = organs[rows], x[rows], y[rows]
    from_centre = np.hypot(x, y - inner - radius)
    depth = from_centre - radius  # into the wall, from the pleura
    along = radius * np.arctan2(x, inner + radius - y)
    muscle_mm, skin_mm = 11.0, 11.0 + rng.uniform(4, 12)
    organs[depth > 0] = Organ.MUSCLE
    organs[depth > muscle_mm] = Organ.FAT
    organs[depth > skin_mm] = Organ.AIR
    first, gap_mm = rng.uniform(-8, 8), rng.uniform(27, 33)
    bones = [(first + gap_mm * k, _RIB_MM) for k in range(-1, 5)]
    for middle, (length, thickness) in [*bones, (first - 1.0 * gap_mm - 44, _STERNUM_MM)]:
        a, d = (along - middle) / (0.5 * length), (depth - 5.5) / (0.5 * thickness)
        shape = np.sqrt(np.hypot(a * a, d * d))
        edge = 1 - _CORTEX_MM / (0.5 * thickness)
        organs[shape < 1] = Organ.CORTEX
        organs[shape < edge] = Organ.MARROW
