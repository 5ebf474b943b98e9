"""Sizes of the parts of a heart at end of diastole: those of a normal one, changed by findings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from echodiff.anatomy import Finding, Grade, GradedFinding
from echodiff.phantom.physiology import NormalHeart, Person
from echodiff.phantom.solids import LV_WAIST, shape_atrium

Found = Mapping[Finding, GradedFinding]
Sizes = dict[str, float]
"""Fields of a `Heart`."""


def _size_mm(finding: GradedFinding | None) -> float:
    return 0.0 if finding is None or finding.size_mm is None else finding.size_mm


def draw_ejection_fraction(rng: np.random.Generator, found: Found, normal: NormalHeart) -> float:
    """A ventricle that dilates by itself is weak; one that a defect fills is not."""
    dilated = found.get(Finding.DILATED_LV)
    if dilated is not None and dilated.cause is None:
        limits = {Grade.MILD: (41, 51), Grade.MODERATE: (30, 40), Grade.SEVERE: (18, 29)}
        return float(rng.uniform(*limits[dilated.grade]))
    if Finding.SEPTAL_HYPERTROPHY in found:
        return float(rng.uniform(max(normal.ef, 60), 74))
    return normal.ef


def size_left_ventricle(
    rng: np.random.Generator, found: Found, normal: NormalHeart, person: Person
) -> Sizes:
    """Cavity, annulus, wall and septum."""
    u = rng.uniform
    volume = usual = 1000 * normal.edv_ml
    wall, septum = normal.wall_mm, normal.septum_mm
    for name in (Finding.DILATED_LV, Finding.HYPOPLASTIC_LV):
        if name in found:
            volume = 1000 * float(found[name].volume_ml_m2 or 0) * person.bsa_m2
    # A ventricle widens more than it lengthens: the sphere is its limit.
    slenderness = max(1.3, normal.slenderness * (volume / usual) ** -0.25)
    if Finding.LVH in found:
        wall = _size_mm(found[Finding.LVH])
        septum = wall * float(u(1.0, 1.08))
        volume *= float(u(0.72, 0.88))
    if Finding.SEPTAL_HYPERTROPHY in found:
        septum = _size_mm(found[Finding.SEPTAL_HYPERTROPHY])
        volume *= float(u(0.85, 0.95))
    mouth = float(u(0.69, 0.75)) * (volume / usual) ** -0.08
    area = 2 / 3 + LV_WAIST / 3 * mouth**2
    radius = float((volume / (2 * np.pi * slenderness * area)) ** (1 / 3))
    return {
        "lv_length_mm": 2 * slenderness * radius,
        "lv_radius_mm": radius,
        "mitral_radius_mm": mouth * radius,
        "wall_mm": wall,
        "septum_mm": septum,
    }


def size_right_ventricle(
    rng: np.random.Generator, found: Found, normal: NormalHeart, lv_length_mm: float
) -> Sizes:
    """A dilated right ventricle reaches the apex and widens its annulus."""
    basal, length = normal.rv_basal_mm, min(normal.rv_length_mm, 0.86 * lv_length_mm)
    if Finding.DILATED_RV in found:
        dilated = found[Finding.DILATED_RV]
        basal = _size_mm(dilated)
        reach = {Grade.MILD: 0.9, Grade.MODERATE: 0.99, Grade.SEVERE: 1.06}[dilated.grade]
        length = reach * lv_length_mm
    if Finding.HYPOPLASTIC_RV in found:
        basal = _size_mm(found[Finding.HYPOPLASTIC_RV])
        length *= 0.35 + 0.65 * basal / normal.rv_basal_mm
    if Finding.HYPOPLASTIC_LV in found:  # the right ventricle keeps its length: it is the apex
        length = max(normal.rv_length_mm, length)
    annulus = 0.5 * normal.rv_basal_mm * float(rng.uniform(0.86, 0.94))
    return {
        "rv_length_mm": length,
        "rv_basal_mm": basal,
        "rv_wall_mm": _size_mm(found.get(Finding.RVH)) or normal.rv_wall_mm,
        "tricuspid_radius_mm": annulus * (basal / normal.rv_basal_mm) ** 0.8,
    }


def size_atria(
    rng: np.random.Generator,
    found: Found,
    normal: NormalHeart,
    person: Person,
    annuli_mm: tuple[float, float],
) -> Sizes:
    """A normal atrium empties by half, a dilated one by less."""
    u = rng.uniform
    usual = normal.la_ml_m2 * (0.65 if Finding.HYPOPLASTIC_LV in found else 1)
    la, ra = found.get(Finding.DILATED_LA), found.get(Finding.DILATED_RA)
    la_ml_m2 = round(float(la.volume_ml_m2 or 0) if la else usual, 1)
    ra_ml_m2 = round(float(ra.volume_ml_m2 or 0) if ra else normal.ra_ml_m2, 1)
    la_least = la_ml_m2 * person.bsa_m2 / float(u(1.35, 1.65) if la else u(1.8, 2.2))
    ra_least = ra_ml_m2 * person.bsa_m2 / float(u(1.2, 1.45) if ra else u(1.6, 2))
    la_length, la_radius = shape_atrium(la_least, annuli_mm[0], float(u(1, 1.2)))
    ra_length, ra_radius = shape_atrium(ra_least, annuli_mm[1], float(u(1, 1.2)))
    return {
        "la_ml_m2": la_ml_m2,
        "ra_ml_m2": ra_ml_m2,
        "la_length_mm": la_length,
        "la_radius_mm": la_radius,
        "ra_length_mm": ra_length,
        "ra_radius_mm": ra_radius,
        "atrial_septum_mm": float(u(2.6, 3.6)) * person.length_scale,
    }


def size_valves(
    rng: np.random.Generator, found: Found, normal: NormalHeart, person: Person
) -> Sizes:
    """A primum or inlet defect takes the offset of the valves."""
    thick = found.get(Finding.THICKENED_VALVES)
    kind = thick.kind if thick else ""
    offset = float(rng.uniform(3.5, 7.5)) * person.length_scale
    has_offset = not any(finding.kind in ("primum", "inlet") for finding in found.values())
    mitral, tricuspid = _draw_openings(rng)
    return {
        "tricuspid_offset_mm": offset if has_offset else 0.0,
        "mitral_leaflet_mm": _size_mm(thick) if kind in ("mitral", "both") else normal.leaflet_mm,
        "tricuspid_leaflet_mm": (
            _size_mm(thick) if kind in ("tricuspid", "both") else normal.leaflet_mm
        ),
        "mitral_opening_rad": mitral,
        "tricuspid_opening_rad": mitral if Finding.COMMON_AV_VALVE in found else tricuspid,
    }


def _draw_openings(rng: np.random.Generator) -> tuple[float, float]:
    """Draw the angles of both valves, which open together: at end of diastole they have just
    closed, or are about to."""
    mitral, tricuspid = _draw_opening(rng), _draw_opening(rng)
    if mitral == 0:
        return 0.0, 0.0
    return mitral, float(np.clip(tricuspid or mitral, mitral - 0.1, mitral + 0.1))


def _draw_opening(rng: np.random.Generator) -> float:
    return 0.0 if rng.random() < 0.4 else float(rng.uniform(0.6, 1.1))
