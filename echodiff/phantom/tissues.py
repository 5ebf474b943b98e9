"""What is where in a heart: labels, tissue that masks do not name, and the heart's outer surface.

All is a function of points in the heart frame (`heart`), so that a plane in any direction can be
sliced. Ventricles and atria share their annuli, and the leaflets are hinged there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Finding, Label
from echodiff.phantom.heart import (
    APEX_WALL,
    ATRIUM_DEPTH,
    ATRIUM_WAIST,
    LV_WAIST,
    RV_WAIST,
    Heart,
)
from echodiff.phantom.solids import Field, bent, capsule, chamber, ripple, smooth_max, smooth_min
from echodiff.phantom.valves import Valve, closed_height, leaflet_distance

Points = NDArray[np.float32]
AORTA_AZIMUTH_RAD = 2.0
"""Where the aortic root lies around the mitral annulus: in front, towards the septum."""


@dataclass(frozen=True)
class Anatomy:
    """Anatomy at each requested point; arrays of the points' shape without the last axis."""

    labels: NDArray[np.uint8]
    """`Label` values."""
    hull_mm: Field
    """Signed distance to the inside of the pericardium."""
    papillary: NDArray[np.bool_]
    """Muscle inside the LV or RV cavity (papillary muscles, moderator band): cavity to a mask."""
    fibrous: NDArray[np.bool_]
    """Annuli, aortic wall and the edges of septal defects: bright to ultrasound."""


class _Place(NamedTuple):
    """Points and what all parts of a heart are placed by; mm."""

    x: Field
    y: Field
    z: Field
    uneven: Field
    """Ripple of the inner surfaces."""
    septum_x: float
    """Atrial septum at the annuli."""
    tricuspid_x: float
    """Centre of the tricuspid annulus."""


class _Chambers(NamedTuple):
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


def compute_anatomy(heart: Heart, points_mm: Points, least_mm: float = 0.0) -> Anatomy:
    """Label every point of `points_mm`, (..., 3) in the heart frame, mm.

    least_mm: least thickness of leaflets and atrial septum, so that coarse pixels show no gap.
    """
    x, y, z = (np.ascontiguousarray(points_mm[..., i], np.float32) for i in range(3))
    septum_x = -(heart.mitral_radius_mm + 0.5 * min(heart.septum_mm, heart.wall_mm))
    wall = heart.wall_mm + 0.2 * (heart.septum_mm - heart.wall_mm)
    tricuspid_x = -(heart.mitral_radius_mm + wall + heart.tricuspid_radius_mm)
    uneven = ripple(heart.ripple_mm, heart.ripple_seed, x, y, z)
    place = _Place(x, y, z, uneven, septum_x, tricuspid_x)
    parts = _compute_chambers(heart, place, least_mm)
    aorta = _aorta(heart, place)
    hull = _hull(heart, parts, aorta, z)
    labels = _label_tissue(heart, place, parts, aorta, hull)
    holes, fibrous = _cut_defects(heart, place, parts, labels)
    blood = np.isin(labels, (Label.LV, Label.RV, Label.LA, Label.RA))
    _close_valves(heart, place, labels, blood, holes, least_mm)
    fibrous |= _annuli(heart, place) & (hull < 0) & ~blood
    fibrous |= (np.abs(aorta) < 1.0 * heart.scale) & (z < 0) & (labels != Label.LA)
    cover = _effusion(heart, place, hull)
    shell = hull - cover
    labels[(hull >= 0) & (shell < 0)] = Label.PERICARDIAL_FLUID
    labels[(hull >= 0) & (shell >= 0) & (shell < 1.8 * heart.scale)] = Label.PERICARDIUM
    return Anatomy(labels, shell, _papillary(heart, place, parts), fibrous)


def _compute_chambers(heart: Heart, place: _Place, least_mm: float) -> _Chambers:
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
    depth = max(1.05 * side, 0.9 * rv_radius) / rv_radius
    rv_shape = chamber(
        x - axis, y - 0.12 * side, rise, heart.rv_length_mm, RV_WAIST,
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
    return _Chambers(
        lv, epicardium, rv, smooth_max(rv_shape - heart.rv_wall_mm, -rise, rounding), la, la_shape,
        ra, ra_shape, septal_plane, np.asarray(half, np.float32),
    )  # fmt: skip


def _atrium(
    length: float, radius: float, annulus: float, place: _Place, along: Field, mouth_x: float,
    side: float,
) -> Field:  # fmt: skip
    """An atrium that opens at its annulus and leans on the septum; side: 1 on the left of it."""
    middle = place.septum_x - 0.02 * length + side * 0.92 * radius
    axis = bent(along, length, ATRIUM_WAIST, mouth_x, middle, middle + side * 0.04 * radius)
    mouth = min(annulus, 0.97 * radius)
    return chamber(
        place.x - axis, place.y, along, length, ATRIUM_WAIST, mouth, radius, ATRIUM_DEPTH
    )


def _aorta(heart: Heart, place: _Place) -> Field:
    """Outflow tract and ascending aorta: a tube past the mitral annulus, out of the ventricle and
    away to the front."""
    scale = heart.scale
    radius = 10.5 * scale
    away = heart.mitral_radius_mm + 0.9 * radius
    root = away * np.cos(AORTA_AZIMUTH_RAD), away * np.sin(AORTA_AZIMUTH_RAD), 0.0
    inlet = 0.45 * root[0], 0.45 * root[1], 0.3 * heart.lv_length_mm
    far = root[0] - 16 * scale, root[1] + 10 * scale, -60 * scale
    x, y, z = place.x, place.y, place.z
    into = capsule(x, y, z, inlet, root, (0.8 * radius, radius))
    out = capsule(x, y, z, root, far, (1.05 * radius, 1.25 * radius))
    return np.asarray(np.minimum(into, out), np.float32)


def _hull(heart: Heart, parts: _Chambers, aorta: Field, z: Field) -> Field:
    """Outer surface of the heart."""
    scale = heart.scale
    atria = np.minimum(
        np.maximum(parts.la_shape, z - 4),
        np.maximum(parts.ra_shape, z - 4 - heart.tricuspid_offset_mm),
    )
    ventricles = smooth_min(parts.epicardium, parts.rv_outer, 9.0 * scale)
    whole = smooth_min(ventricles, atria - 2.0 * scale, 4.0 * scale + 0.4 * heart.wall_mm)
    vessel = np.maximum(aorta - 2.0 * scale, np.abs(z) - 45 * scale)
    return smooth_min(whole, vessel, 3.0 * scale)


def _label_tissue(
    heart: Heart, place: _Place, parts: _Chambers, aorta: Field, hull: Field
) -> NDArray[np.uint8]:
    """Walls and cavities, before defects and valves."""
    z, scale = place.z, heart.scale
    labels = np.zeros(z.shape, np.uint8)
    labels[hull < 0] = Label.ATRIAL_WALL
    labels[(hull < 0) & (parts.rv_outer < 0)] = Label.RV_MYOCARDIUM
    labels[np.maximum(parts.epicardium, -2 * scale - z) < 0] = Label.LV_MYOCARDIUM
    outflow = (aorta < 0) & (hull < 0)
    labels[outflow & (z < 0)] = Label.AORTA
    labels[parts.rv < 0], labels[parts.ra < 0] = Label.RV, Label.RA
    labels[(parts.lv < 0) | (outflow & (z >= 0) & (parts.epicardium < 2))] = Label.LV
    labels[(parts.la < 0) & ~(outflow & (z < 0))] = Label.LA
    valve = outflow & (np.abs(z + 2 * scale) < 0.8 * scale)
    labels[valve & (labels == Label.AORTA)] = Label.VALVE
    return labels


def _cut_defects(
    heart: Heart, place: _Place, parts: _Chambers, labels: NDArray[np.uint8]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Open the defects in place: blood takes the place of septum. Return holes and fibrous edges.

    A defect is an oval, long from front to back: a probe is turned until the defect is seen, here
    the planes of `slices.sample_pose` meet it.
    """
    x, y, z = place.x, place.y, place.z
    holes, edge = np.zeros((2, *labels.shape), bool)
    asd, vsd = heart.find(Finding.ASD), heart.find(Finding.VSD)
    reach = 18.0 * heart.scale
    if asd is not None and asd.size_mm is not None:
        radius, roof = asd.size_mm / 2, -min(heart.la_length_mm, heart.ra_length_mm)
        centre = {"secundum": 0.47 * roof, "primum": 0.5 - radius}.get(
            asd.kind, 0.76 * roof + radius
        )
        away = np.hypot(z - centre, y * min(0.3, radius / reach)) - radius
        between = np.maximum(parts.la, parts.ra) < heart.atrial_septum_mm + 7.0 * heart.scale
        solid = np.isin(labels, (Label.ATRIAL_WALL, Label.LV_MYOCARDIUM)) & between & (z < 0.5)
        hole = solid & (away < 0)
        labels[hole & (parts.septal_plane >= 0)] = Label.LA
        labels[hole & (parts.septal_plane < 0)] = Label.RA
        holes |= hole
        edge |= solid & (away >= 0) & (away < 1.5 * heart.scale)
    if vsd is not None and vsd.size_mm is not None:
        radius, base = vsd.size_mm / 2, heart.tricuspid_offset_mm
        centre_z, centre_y = {
            "muscular": (0.46 * heart.lv_length_mm, 0.0),
            "inlet": (base + 0.9 * radius, -2.0),
        }.get(vsd.kind, (base + radius + 1.5, 6.0 * heart.scale))
        front = (y - centre_y) * min(0.3, radius / reach)
        away = np.hypot(z - centre_z, front) - radius
        thick = heart.septum_mm + 4 * heart.scale
        solid = np.isin(labels, (Label.LV_MYOCARDIUM, Label.RV_MYOCARDIUM)) & (x < 0)
        solid &= (np.maximum(parts.lv, parts.rv) < thick) & (z >= base)
        holes |= solid & (away < 0)
        labels[solid & (away < 0)] = Label.LV
        edge |= solid & (away >= 0) & (away < 1.2 * heart.scale)
    return holes, edge


def _valves(heart: Heart, place: _Place) -> tuple[Valve, Valve]:
    has_septal = Finding.COMMON_AV_VALVE not in heart.finding_names
    mitral = Valve(
        centre_x=0.0, z=0.0, radius=heart.mitral_radius_mm, depth=1.0,
        septal_length=1.3, lateral_length=0.75, septal_sign=-1.0,
        leaflet_mm=heart.mitral_leaflet_mm, opening_rad=heart.mitral_opening_rad,
        has_septal_leaflet=has_septal,
    )  # fmt: skip
    tricuspid = Valve(
        centre_x=place.tricuspid_x, z=heart.tricuspid_offset_mm,
        radius=heart.tricuspid_radius_mm, depth=1.1,
        septal_length=0.8, lateral_length=1.15, septal_sign=1.0,
        leaflet_mm=heart.tricuspid_leaflet_mm, opening_rad=heart.tricuspid_opening_rad,
        has_septal_leaflet=has_septal,
    )  # fmt: skip
    return mitral, tricuspid


def _close_valves(
    heart: Heart,
    place: _Place,
    labels: NDArray[np.uint8],
    blood: NDArray[np.bool_],
    holes: NDArray[np.bool_],
    least_mm: float,
) -> None:
    """Draw the leaflets in place. Below closed ones the blood is the atrium's."""
    x, y, z = place.x, place.y, place.z
    sides = zip(_valves(heart, place), ((Label.LV, Label.LA), (Label.RV, Label.RA)), strict=True)
    leaflets = np.zeros(labels.shape, bool)
    for valve, (ventricle, atrium) in sides:
        mine = np.isin(labels, (ventricle, atrium)) & ~holes
        if valve.is_closed:
            below = z < valve.z + closed_height(valve, x, y)
            labels[mine & below & (labels == ventricle)] = atrium
        leaflets |= mine & (leaflet_distance(valve, x, y, z, least_mm) < 0)
    if Finding.COMMON_AV_VALVE in heart.finding_names and heart.mitral_opening_rad == 0:
        half = 0.5 * max(heart.mitral_leaflet_mm, least_mm)
        leaflets |= holes & (np.abs(z) < half)  # the leaflet that bridges both defects
    labels[leaflets & blood] = Label.VALVE


def _annuli(heart: Heart, place: _Place) -> NDArray[np.bool_]:
    reach = 2.2 * heart.scale
    mitral = np.hypot(np.hypot(place.x, place.y) - heart.mitral_radius_mm, place.z)
    across = np.hypot(place.x - place.tricuspid_x, place.y / 1.1)
    tricuspid = np.hypot(across - heart.tricuspid_radius_mm, place.z - heart.tricuspid_offset_mm)
    return np.asarray((mitral < 1.25 * reach) | (tricuspid < reach))


def _effusion(heart: Heart, place: _Place, hull: Field) -> Field:
    """Thickness of the fluid at each place: most behind the heart, none behind the left atrium."""
    if heart.effusion_mm == 0:
        return np.zeros_like(hull)
    behind = 1 - 0.5 * np.clip(place.y / heart.lv_radius_mm, 0, 1)
    apex = 1 - 0.35 * np.clip(place.z / heart.lv_length_mm - 0.5, 0, 1)
    left = np.clip((place.x - place.septum_x) / 8 + 0.5, 0, 1)
    base = 1 - left * np.clip(-place.z / (0.35 * heart.la_length_mm), 0, 1)
    roof = np.clip(2 + 2 * place.z / heart.ra_length_mm, 0, 1)
    return np.asarray(heart.effusion_mm * behind * apex * base * roof, np.float32)


def _papillary(heart: Heart, place: _Place, parts: _Chambers) -> NDArray[np.bool_]:
    """Two muscles that grow out of the wall towards the mitral valve, and the moderator band."""
    x, y, z = place.x, place.y, place.z
    radius, length = heart.lv_radius_mm, heart.lv_length_mm
    thick = 4.2 * heart.scale
    muscle = np.zeros(x.shape, bool)
    for azimuth in (0.6, -1.9):  # anterolateral, posteromedial
        side = float(np.cos(azimuth)), float(np.sin(azimuth))
        foot = 0.86 * radius * side[0], 0.86 * radius * side[1], 0.72 * length
        head = 0.7 * radius * side[0], 0.7 * radius * side[1], 0.46 * length
        muscle |= capsule(x, y, z, foot, head, (1.3 * thick, 0.8 * thick)) < 0
    muscle &= parts.lv < 0
    band = np.hypot(z - 0.55 * heart.rv_length_mm - 0.4 * (x + 1.3 * radius), y - 8 * heart.scale)
    return np.asarray(muscle | ((band < 2.5 * heart.scale) & (parts.rv < 0)))
