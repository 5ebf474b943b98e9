"""Solids that a heart is built of: their implicit surfaces, each close to a distance in mm and
negative inside, and their volumes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

LV_WAIST, RV_WAIST, ATRIUM_WAIST = 0.32, 0.2, 0.5
"""Where a chamber is widest, in its lengths from the annulus."""
ATRIUM_DEPTH = 0.85
"""An atrium's extent from front to back, in its widths."""
APEX_WALL = 0.75
"""Thickness of the apex, in that of the wall."""


def chamber(
    across: Field, front: Field, along: Field, length: float, waist: float, mouth: float,
    radius: float, depth: float = 1.0, power: float = 2.0,
) -> Field:  # fmt: skip
    """Two half ellipsoids that meet at the waist and go on below the mouth, at along = 0.

    across, front: distance from the axis sideways and to the front. waist: share of the length.
    mouth: radius at along = 0. radius: half the width at the waist. depth: extent from front to
    back, in widths. power: 2 is an ellipsoid; towards 1 the far end becomes a cone.
    """
    centre = waist * length
    share = min(mouth / radius, 0.99)
    below = centre / np.sqrt(1 - share * share)
    is_far = along > centre
    semi = np.where(is_far, length - centre, below).astype(np.float32)
    u, v = across / radius, front / (depth * radius)
    rise = np.abs(along - centre) / semi
    if power == 2:
        k0 = np.sqrt(u * u + v * v + rise * rise) + 1e-6
        slope = np.sqrt((u * u + (v / depth) ** 2) / radius**2 + (rise / semi) ** 2) / k0
        return np.asarray((k0 - 1) / (slope + 1e-6), np.float32)
    q = np.where(is_far, power, 2.0).astype(np.float32)
    side = np.sqrt(u * u + v * v) + 1e-6
    k0 = (side**q + rise**q) ** (1 / q) + 1e-6
    slope = np.hypot(u, v / depth) / (side * radius)
    slope = np.hypot(side ** (q - 1) * slope, rise ** (q - 1) / semi) * k0 ** (1 - q)
    return np.asarray((k0 - 1) / (slope + 1e-6), np.float32)


def bent(along: Field, length: float, waist: float, mouth: float, middle: float, tip: float) -> (
    Field
):  # fmt: skip
    """Place of a chamber's axis: `mouth` at the annulus, `middle` at the waist, `tip` at the end;
    smooth, and held beyond both ends."""
    share = np.clip(along / length, 0, 1)
    below = np.clip((waist - share) / waist, 0, 1) ** 2
    above = np.clip((share - waist) / (1 - waist), 0, 1) ** 2
    return np.asarray(middle + (mouth - middle) * below + (tip - middle) * above, np.float32)


def capsule(
    x: Field, y: Field, z: Field,
    start: tuple[float, float, float], end: tuple[float, float, float], radii: tuple[float, float],
) -> Field:  # fmt: skip
    """Rod from start to end with the radius of each end."""
    axis: list[float] = np.subtract(end, start).tolist()
    share = (
        (x - start[0]) * axis[0] + (y - start[1]) * axis[1] + (z - start[2]) * axis[2]
    ) / float(np.dot(axis, axis))
    share = np.clip(share, 0, 1)
    away = np.sqrt(
        (x - start[0] - share * axis[0]) ** 2
        + (y - start[1] - share * axis[1]) ** 2
        + (z - start[2] - share * axis[2]) ** 2
    )
    return np.asarray(away - (radii[0] + share * (radii[1] - radii[0])), np.float32)


def smooth_min(a: Field, b: Field, k: float) -> Field:
    """Union of two solids, rounded over k mm."""
    h = np.clip(0.5 + 0.5 * (b - a) / k, 0, 1)
    return np.asarray(b + (a - b) * h - k * h * (1 - h), np.float32)


def smooth_max(a: Field, b: Field, k: float) -> Field:
    """Part that two solids share, rounded over k mm."""
    return -smooth_min(-a, -b, k)


def ripple(
    amplitude_mm: float, seed: int, x: Field, y: Field, z: Field,
    waves_mm: tuple[float, float] = (9, 30),
) -> Field:  # fmt: skip
    """Unevenness of a surface: a few plane waves, a function of position alone. The endocardium's
    are 9-30 mm long."""
    rng = np.random.default_rng(seed)
    total = np.zeros_like(x)
    for wave in rng.normal(size=(5, 3)):
        k = (wave / np.linalg.norm(wave) * 2 * np.pi / rng.uniform(*waves_mm)).astype(np.float32)
        total += np.sin(k[0] * x + k[1] * y + k[2] * z + np.float32(rng.uniform(0, 2 * np.pi)))
    return np.asarray(amplitude_mm * total / 2.2, np.float32)


def chamber_ml(
    length_mm: float, radius_mm: float, mouth_mm: float, waist: float, depth: float
) -> float:
    """Volume of a `chamber` of power 2 above its mouth."""
    area = 2 / 3 * radius_mm**2 + waist / 3 * mouth_mm**2
    return float(np.pi * length_mm * area * depth / 1000)


def shape_atrium(volume_ml: float, annulus_mm: float, slenderness: float) -> tuple[float, float]:
    """Length and radius of an atrium: as slender as asked for, but never narrower than its
    annulus."""
    volume = 1000 * volume_ml / (np.pi * ATRIUM_DEPTH)
    low, high = annulus_mm / 0.97, 80.0
    for _ in range(30):
        radius = (low + high) / 2
        area = 2 / 3 * radius**2 + ATRIUM_WAIST / 3 * annulus_mm**2
        is_small = 2 * slenderness * radius * area < volume
        low, high = (radius, high) if is_small else (low, radius)
    return float(volume / (2 / 3 * low**2 + ATRIUM_WAIST / 3 * annulus_mm**2)), float(low)
