"""Leaflets of the atrio-ventricular valves, hinged on their annuli."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from echodiff.phantom.solids import Field

_TENT = 0.26
"""Height of the closed valve over its annulus, in radii."""
_REACH = 0.75
"""How far open leaflets reach towards the middle, in radii: they do not meet."""


class Valve(NamedTuple):
    """One valve; lengths in mm, z grows into the ventricle."""

    centre: tuple[float, float]
    """Of the annulus, x and y."""
    z: float
    radius: float
    depth: float
    """Extent of the annulus from front to back, in widths."""
    septal_length: float
    """Length of the leaflet on the septal side, in radii."""
    lateral_length: float
    septal_sign: float
    """Direction of the septum: -1 to the right heart, 1 to the left."""
    leaflet_mm: float
    opening_rad: float
    has_septal_leaflet: bool = True

    @property
    def is_closed(self) -> bool:
        """Whether the leaflets meet."""
        return self.opening_rad == 0


def closed_height(valve: Valve, x: Field, y: Field) -> Field:
    """Height of the closed leaflets over the plane of the annulus; 0 at and beyond the hinges.

    They meet nearer to the free wall than to the septum.
    """
    meet = -0.22 * valve.radius * valve.septal_sign
    across, front = x - valve.centre[0] - meet, (y - valve.centre[1]) / valve.depth
    square = valve.radius**2 - meet * meet
    dot = meet * across
    share = (dot + np.sqrt(dot * dot + (across * across + front * front) * square)) / square
    return np.asarray(_TENT * valve.radius * (1 - np.minimum(share, 1)) ** 0.8, np.float32)


def leaflet_distance(valve: Valve, x: Field, y: Field, z: Field, least_mm: float) -> Field:
    """Distance to the leaflets, negative inside; each is at least `least_mm` thick."""
    half = 0.5 * max(valve.leaflet_mm, least_mm)
    if valve.is_closed:
        height = closed_height(valve, x, y)
        return np.asarray(0.95 * np.abs(z - valve.z - height) - half, np.float32)
    across, front = x - valve.centre[0], (y - valve.centre[1]) / valve.depth
    rise = z - valve.z
    away = np.hypot(across, front) + 1e-3
    septal = 0.5 + 0.5 * np.clip(3 * valve.septal_sign * across / away, -1, 1)
    length = valve.radius * (
        valve.lateral_length + septal * (valve.septal_length - valve.lateral_length)
    )
    inward = valve.radius - away
    c, s = float(np.cos(valve.opening_rad)), float(np.sin(valve.opening_rad))
    length = np.minimum(length, _REACH * valve.radius / c)
    along, over = inward * c + rise * s, -inward * s + rise * c
    bow = 0.08 * length * np.sin(np.pi * np.clip(along / length, 0, 1))
    beyond = np.maximum(np.maximum(-along, along - length), 0)
    distance = np.hypot(over - bow, beyond) - half
    if not valve.has_septal_leaflet:
        distance = np.where(septal > 0.5, 1e3, distance)
    return np.asarray(distance, np.float32)
