"""Where the chambers of a heart are: signed distances to their surfaces.

Ventricles and atria share their annuli, on which `valves` hinges the leaflets.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from echodiff.phantom.heart import Heart
from echodiff.phantom.solids import (
    APEX_WALL,
    ATRIUM_DEPTH,
    ATRIUM_WAIST,
    LV_WAIST,
    RV_WAIST,
    Field,
    bent,
    capsule,
    chamber,
    ripple,
    smooth_max,
    smooth_min,
)

Points = NDArray[np.float32]
AORTA_AZIMUTH_RAD = 2.15
"""Where the aortic root lies around the mitral annulus: in front, towards the septum."""

_LOBES_MM = (26.0, 60.0)
"""Lengths of the waves that make the atria less round."""
_STEEPEST = 1.15
"""Slope of the distance to an uneven surface, where it is steepest."""


class Place(NamedTuple):
    """Points and what all parts of a heart are placed by; mm."""

    x: Field
    y: Field
    z: Field
    uneven: Field
    """Ripple of the inner surfaces."""
    lobes: Field
    """What makes the atria less round."""
    septum_x: float
    """Atrial septum at the annuli."""
    tricuspid_x: float
    """Centre of the tricuspid annulus."""
    tricuspid_y: float
    """The right heart lies in front of the left."""


class Chambers(NamedTuple):
    """Signed distances, mm."""

    lv: Field
    epicardium: Field
    """Of the left ventricle."""
    rv: Field
    rv_outer: Field
    la: Field
    la_shape: Field
    """The left atrium, not cut by annulus and septum."""
    ra: Field
    ra_shape: Field
    septal_plane: Field
    """Distance from the middle of the atrial septum, positive on the left."""
    half_septum: Field
    """Half of the atrial septum's thickness."""


def place_heart(heart: Heart, points_mm: Points) -> Place:
    """Split points (..., 3) in the heart frame, mm, and place the septum and the right annulus."""
    x, y, z = (np.ascontiguousarray(points_mm[..., i], np.float32) for i in range(3))
    base = heart.wall_mm + 0.2 * (heart.septum_mm - heart.wall_mm)
    return Place(
        x, y, z,
        uneven=ripple(heart.ripple_mm, heart.ripple_seed, x, y, z),
        lobes=ripple(2.6 * heart.ripple_mm, heart.ripple_seed + 1, x, y, z, _LOBES_MM),
        septum_x=-(heart.mitral_radius_mm + 0.5 * min(heart.septum_mm, heart.wall_mm)),
        tricuspid_x=-(heart.mitral_radius_mm + base + heart.tricuspid_radius_mm),
        tricuspid_y=6.0 * heart.scale,
    )  # fmt: skip


def compute_chambers(heart: Heart, place: Place, least_mm: float) -> Chambers:
    """Surfaces of the ventricles and atria.

    least_mm: least thickness of the atrial septum and of the right ventricle's wall.
    """
    x, y, z, uneven = place.x, place.y, place.z, place.uneven
    length, radius, wall = heart.lv_length_mm, heart.lv_radius_mm, heart.wall_mm
    annulus = heart.mitral_radius_mm
    axial = np.hypot(x, y)
    # A septum thicker than the free wall bulges both ways, most in its basal half.
    extra = (heart.septum_mm - wall) * np.clip(-x / (axial + 1e-3), 0, 1) ** 2
    extra = extra * np.clip(1.25 - z / length, 0, 1) * np.clip(0.35 + 4 * z / length, 0.35, 1)
    lv_shape = chamber(axial, np.zeros_like(x), z, length, LV_WAIST, annulus, radius)
    lv = np.maximum(lv_shape + uneven + 0.5 * extra, -z)
    outer_length, outer_radius = length + APEX_WALL * wall, radius + wall
    epicardium = chamber(
        axial, np.zeros_like(x), z, outer_length, LV_WAIST, annulus + wall, outer_radius
    )
    epicardium = smooth_max(epicardium - 0.5 * extra, -z - 3 * heart.scale, 1.3 * wall)

    offset, basal = heart.tricuspid_offset_mm, heart.rv_basal_mm
    side = outer_radius + 0.5 * max(heart.septum_mm - wall, 0)
    rv_radius = 0.5 * (0.65 * side + basal)
    tip_z = offset + heart.rv_length_mm
    tip = max(1 - ((tip_z - LV_WAIST * outer_length) / (0.68 * outer_length)) ** 2, 0)
    tip_x = -(side * float(np.sqrt(tip)) + 3)
    rise = z - offset
    axis = bent(
        rise, heart.rv_length_mm, RV_WAIST, place.tricuspid_x, -side - basal + rv_radius, tip_x
    )
    depth = max(1.1 * side, 0.9 * rv_radius) / rv_radius
    rv_shape = chamber(
        x - axis, y - place.tricuspid_y, rise, heart.rv_length_mm, RV_WAIST,
        heart.tricuspid_radius_mm, rv_radius, depth, power=1.5,
    )  # fmt: skip
    rv = np.maximum(np.maximum(rv_shape + 1.3 * uneven, 0.6 - epicardium), -rise)

    bow = 1.2 * heart.scale * np.sin(z / (14 * heart.scale))  # the septum is not quite straight
    septal_plane = np.asarray(x - place.septum_x - 0.04 * z + bow, np.float32)
    fossa = np.exp(-(((z + 0.47 * heart.la_length_mm) / (0.2 * heart.la_length_mm)) ** 2))
    half = 0.5 * np.maximum(heart.atrial_septum_mm * (1 - 0.5 * fossa), least_mm)
    la_shape = _atrium(heart.la_length_mm, heart.la_radius_mm, annulus, place, -z, 0.0, 1.0)
    ra_shape = _atrium(
        heart.ra_length_mm, heart.ra_radius_mm, heart.tricuspid_radius_mm, place, -rise,
        place.tricuspid_x, -1.0,
    )  # fmt: skip
    la = np.maximum(np.maximum(la_shape + 0.4 * uneven, z), half - septal_plane)
    ra = np.maximum(np.maximum(ra_shape + 0.4 * uneven, rise), half + septal_plane)
    rounding = 6 * heart.scale + heart.rv_wall_mm
    rv_outer = smooth_max(rv_shape - heart.rv_wall_mm, -rise, rounding)
    rv_outer = np.minimum(rv_outer, rv - _STEEPEST * least_mm)
    return Chambers(
        lv, epicardium, rv, rv_outer, la, la_shape,
        ra, ra_shape, septal_plane, np.asarray(half, np.float32),
    )  # fmt: skip


def _atrium(
    length: float, radius: float, annulus: float, place: Place, along: Field, mouth_x: float,
    side: float,
) -> Field:  # fmt: skip
    """An atrium that opens at its annulus and leans on the septum; side: 1 on the left of it."""
    middle = place.septum_x - 0.02 * length + side * 0.92 * radius
    axis = bent(along, length, ATRIUM_WAIST, mouth_x, middle, middle + side * 0.04 * radius)
    mouth = min(annulus, 0.97 * radius)
    front = place.y if side > 0 else place.y - place.tricuspid_y
    shape = chamber(place.x - axis, front, along, length, ATRIUM_WAIST, mouth, radius, ATRIUM_DEPTH)
    # Annulus and septum stay where they are.
    free = np.clip(along / (0.4 * length), 0, 1)
    free *= np.clip(side * (place.x - place.septum_x) / (0.6 * radius), 0, 1)
    return np.asarray(shape + free * place.lobes, np.float32)


def aortic_root(heart: Heart) -> tuple[tuple[float, float], float]:
    """Place (x, y) and radius of the root at the level of the mitral annulus, mm."""
    radius = min(10.5 * heart.scale, 0.7 * heart.mitral_radius_mm)
    away = max(heart.mitral_radius_mm + 0.45 * radius, 22 * heart.scale)
    azimuth = AORTA_AZIMUTH_RAD
    return (away * float(np.cos(azimuth)), away * float(np.sin(azimuth))), radius


def compute_aorta(heart: Heart, place: Place) -> Field:
    """Outflow tract and ascending aorta: a tube past the mitral annulus, out of the ventricle and
    away to the front."""
    scale = heart.scale
    (root_x, root_y), radius = aortic_root(heart)
    root = root_x, root_y, 0.0
    # The tract begins within the cavity, however narrow that is.
    share = min(0.75, heart.mitral_radius_mm / float(np.hypot(root_x, root_y)))
    inlet = share * root_x, share * root_y, 0.12 * heart.lv_length_mm
    far = root[0] - 10 * scale, root[1] + 7 * scale, -60 * scale
    x, y, z = place.x, place.y, place.z
    into = capsule(x, y, z, inlet, root, (0.8 * radius, radius))
    out = capsule(x, y, z, root, far, (1.05 * radius, 1.25 * radius))
    return np.asarray(np.minimum(into, out), np.float32)


def compute_hull(heart: Heart, parts: Chambers, z: Field, least_mm: float) -> Field:
    """Outer surface of the heart, without vessels; least_mm: least thickness of the outer walls."""
    scale = heart.scale
    atria = np.minimum(
        np.maximum(parts.la_shape, z - 4),
        np.maximum(parts.ra_shape, z - 4 - heart.tricuspid_offset_mm),
    )
    ventricles = smooth_min(parts.epicardium, parts.rv_outer, 9.0 * scale)
    hull = smooth_min(ventricles, atria - 2.0 * scale, 4.0 * scale + 0.4 * heart.wall_mm)
    # `rv_outer` has the right ventricle's.
    blood = np.minimum(parts.lv, np.minimum(parts.la, parts.ra))
    return np.minimum(hull, blood - _STEEPEST * least_mm)
