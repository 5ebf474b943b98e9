"""What is where in a heart: labels, tissue that masks do not name, and the heart's outer surface.

All is a function of points in the heart frame (`heart`), so that a plane in any direction can be
sliced. Ventricles and atria share their annuli, and the leaflets are hinged there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Finding, Label
from echodiff.phantom.chambers import (
    Chambers,
    Place,
    Points,
    compute_aorta,
    compute_chambers,
    compute_hull,
    place_heart,
)
from echodiff.phantom.heart import Heart
from echodiff.phantom.solids import Field, capsule, smooth_min
from echodiff.phantom.valves import Valve, closed_height, leaflet_distance


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


def compute_anatomy(heart: Heart, points_mm: Points, least_mm: float = 0.0) -> Anatomy:
    """Label every point of `points_mm`, (..., 3) in the heart frame, mm.

    least_mm: least thickness of leaflets, septa and outer walls, so that coarse pixels show no gap.
    """
    place = place_heart(heart, points_mm)
    parts = compute_chambers(heart, place, least_mm)
    aorta = compute_aorta(heart, place)
    body = compute_hull(heart, parts, place.z, least_mm)
    around = max(1.2 * heart.scale, least_mm)
    vessel = np.maximum(aorta - around, np.abs(place.z) - 45 * heart.scale)
    hull = smooth_min(body, vessel, 3.0 * heart.scale)
    labels = _label_tissue(heart, place, parts, aorta, hull, least_mm)
    holes, mouths, fibrous = _cut_defects(heart, place, parts, labels, hull, least_mm)
    blood = np.isin(labels, (Label.LV, Label.RV, Label.LA, Label.RA))
    _draw_valves(heart, place, labels, blood, (holes, mouths), least_mm)
    fibrous |= _annuli(heart, place) & (hull < 0) & ~blood
    fibrous |= (np.abs(aorta) < 1.0 * heart.scale) & (place.z < 0) & (labels != Label.LA)
    cover = _effusion(heart, place, body)
    shell = body - cover
    labels[(hull >= 0) & (shell < 0)] = Label.PERICARDIAL_FLUID
    labels[(hull >= 0) & (shell >= 0) & (shell < 1.8 * heart.scale)] = Label.PERICARDIUM
    outer = np.minimum(hull, shell)
    return Anatomy(labels, outer, _papillary(heart, place, parts), fibrous)


def _label_tissue(
    heart: Heart, place: Place, parts: Chambers, aorta: Field, hull: Field, least_mm: float
) -> NDArray[np.uint8]:
    """Walls and cavities, before defects and valves."""
    z, scale = place.z, heart.scale
    labels = np.zeros(z.shape, np.uint8)
    labels[hull < 0] = Label.ATRIAL_WALL
    labels[(hull < 0) & (parts.rv_outer < 0)] = Label.RV_MYOCARDIUM
    outside = np.minimum(parts.epicardium, parts.lv - least_mm)
    labels[np.maximum(outside, -2 * scale - z) < 0] = Label.LV_MYOCARDIUM
    # A wall is left between the outflow tract and the right heart.
    outflow = (aorta < 0) & (hull < 0) & (parts.rv > max(2 * scale, least_mm))
    labels[outflow & (z < 0)] = Label.AORTA
    labels[parts.rv < 0] = Label.RV
    labels[(parts.ra < 0) & ~(outflow & (z < 0))] = Label.RA
    tract = outflow & (z >= 0) & (parts.epicardium < 2) & (parts.ra > least_mm)
    labels[(parts.lv < 0) | tract] = Label.LV
    labels[(parts.la < 0) & ~(outflow & (z < 0))] = Label.LA
    valve = outflow & (np.abs(z + 2 * scale) < 0.8 * scale)
    labels[valve & (labels == Label.AORTA)] = Label.VALVE
    return labels


def _cut_defects(
    heart: Heart,
    place: Place,
    parts: Chambers,
    labels: NDArray[np.uint8],
    hull: Field,
    least_mm: float,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Open the defects in place: blood takes the place of septum.

    Return the holes, the blood next to those of the ventricular septum, and the fibrous edges.
    A defect is an oval, long from front to back: a probe is turned until the defect is seen, here
    the planes of `slices.sample_pose` meet it.
    """
    x, y, z = place.x, place.y, place.z
    holes, mouths, edge = np.zeros((3, *labels.shape), bool)
    asd, vsd = heart.find(Finding.ASD), heart.find(Finding.VSD)
    reach = 18.0 * heart.scale
    if asd is not None and asd.size_mm is not None:
        radius, roof = asd.size_mm / 2, -min(heart.la_length_mm, heart.ra_length_mm)
        centre = {"secundum": 0.47 * roof, "primum": 0.5 - radius}.get(
            asd.kind,
            0.7 * roof + radius,  # higher up the atria part
        )
        away = np.hypot(z - centre, y * min(0.3, radius / reach)) - radius
        apart = 10.0 if asd.kind == "sinus_venosus" else 7.0
        between = np.maximum(parts.la, parts.ra) < heart.atrial_septum_mm + apart * heart.scale
        solid = np.isin(labels, (Label.ATRIAL_WALL, Label.LV_MYOCARDIUM)) & between & (z < 0.5)
        if asd.kind != "primum":  # the roof of the atria stays whole
            solid &= hull < -0.75 * least_mm
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
        # The muscle ends in a rounded crest: at its faces the defect is wider, not twice as wide.
        crest = min(0.4 * heart.septum_mm, 0.8 * radius)
        deep = crest - np.clip(np.minimum(parts.lv, parts.rv), 0, crest)
        flare = crest - np.sqrt((crest - deep) * (crest + deep))
        away = np.hypot(z - centre_z, front) - radius - flare
        thick = heart.septum_mm + 4 * heart.scale
        solid = np.isin(labels, (Label.LV_MYOCARDIUM, Label.RV_MYOCARDIUM)) & (x < 0)
        solid &= (np.maximum(parts.lv, parts.rv) < thick) & (z >= base)
        holes |= solid & (away < 0)
        near = np.minimum(parts.lv, parts.rv) > -max(1.5 * least_mm, 2 * heart.scale)
        mouths |= near & (away < least_mm) & (np.maximum(parts.lv, parts.rv) < thick)
        labels[solid & (away < 0)] = Label.LV
        edge |= solid & (away >= 0) & (away < 1.2 * heart.scale) & (deep < 0.6 * crest)
    return holes, mouths, edge


def _valves(heart: Heart, place: Place) -> tuple[Valve, Valve]:
    has_septal = Finding.COMMON_AV_VALVE not in heart.finding_names
    mitral = Valve(
        centre=(0.0, 0.0), z=0.0, radius=heart.mitral_radius_mm, depth=1.0,
        septal_length=1.3, lateral_length=0.75, septal_sign=-1.0,
        leaflet_mm=heart.mitral_leaflet_mm, opening_rad=heart.mitral_opening_rad,
        has_septal_leaflet=has_septal,
    )  # fmt: skip
    tricuspid = Valve(
        centre=(place.tricuspid_x, place.tricuspid_y), z=heart.tricuspid_offset_mm,
        radius=heart.tricuspid_radius_mm, depth=1.1,
        septal_length=0.8, lateral_length=1.15, septal_sign=1.0,
        leaflet_mm=heart.tricuspid_leaflet_mm, opening_rad=heart.tricuspid_opening_rad,
        has_septal_leaflet=has_septal,
    )  # fmt: skip
    return mitral, tricuspid


def _draw_valves(
    heart: Heart,
    place: Place,
    labels: NDArray[np.uint8],
    blood: NDArray[np.bool_],
    defects: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    least_mm: float,
) -> None:
    """Draw the leaflets in place. Below closed ones the blood is the atrium's.

    defects: holes, and the blood next to those of the ventricular septum, which open leaflets
    leave free.
    """
    holes, mouths = defects
    x, y, z = place.x, place.y, place.z
    sides = zip(_valves(heart, place), ((Label.LV, Label.LA), (Label.RV, Label.RA)), strict=True)
    leaflets = np.zeros(labels.shape, bool)
    for valve, (ventricle, atrium) in sides:
        mine = np.isin(labels, (ventricle, atrium)) & ~holes
        if valve.is_closed:
            below = z < valve.z + closed_height(valve, x, y)
            labels[mine & below & (labels == ventricle)] = atrium
        free = mine if valve.is_closed else mine & ~mouths
        leaflets |= free & (leaflet_distance(valve, x, y, z, least_mm) < 0)
    if Finding.COMMON_AV_VALVE in heart.finding_names and heart.mitral_opening_rad == 0:
        half = 0.5 * max(heart.mitral_leaflet_mm, least_mm)
        leaflets |= holes & (np.abs(z) < half)  # the leaflet that bridges both defects
    labels[leaflets & blood] = Label.VALVE


def _annuli(heart: Heart, place: Place) -> NDArray[np.bool_]:
    reach = 2.2 * heart.scale
    mitral = np.hypot(np.hypot(place.x, place.y) - heart.mitral_radius_mm, place.z)
    across = np.hypot(place.x - place.tricuspid_x, (place.y - place.tricuspid_y) / 1.1)
    tricuspid = np.hypot(across - heart.tricuspid_radius_mm, place.z - heart.tricuspid_offset_mm)
    return np.asarray((mitral < 1.25 * reach) | (tricuspid < reach))


def _effusion(heart: Heart, place: Place, hull: Field) -> Field:
    """Thickness of the fluid at each place: most behind the heart, none behind the left atrium."""
    if heart.effusion_mm == 0:
        return np.zeros_like(hull)
    behind = 1 - 0.5 * np.clip(place.y / heart.lv_radius_mm, 0, 1)
    apex = 1 - 0.35 * np.clip(place.z / heart.lv_length_mm - 0.5, 0, 1)
    beside = (place.x - place.septum_x) / 8 + 0.5
    behind_ra = (np.abs(place.y - place.tricuspid_y) - heart.ra_radius_mm) / 8
    left = np.clip(np.maximum(beside, behind_ra), 0, 1)
    start, end = 0.2 * heart.lv_length_mm, -0.35 * heart.la_length_mm
    towards = np.clip((start - place.z) / (start - end), 0, 1)
    base = 1 - left * towards**2 * (3 - 2 * towards)
    roof = np.clip(2 + 2 * place.z / heart.ra_length_mm, 0, 1)
    right = 0.7 + 0.3 * np.clip(1 + place.x / heart.rv_basal_mm, 0, 1)
    return np.asarray(heart.effusion_mm * behind * apex * base * roof * right, np.float32)


def _papillary(heart: Heart, place: Place, parts: Chambers) -> NDArray[np.bool_]:
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
    band = np.hypot(z - 0.72 * heart.rv_length_mm - 0.4 * (x + 1.3 * radius), y - 8 * heart.scale)
    return np.asarray(muscle | ((band < 2.0 * heart.scale) & (parts.rv < 0)))
