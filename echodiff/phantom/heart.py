"""A parametric 3D heart at one instant: its sizes, its findings, and how it contracts.

Heart frame: origin at the centre of the mitral annulus, +z from base to apex along the long axis of
the left ventricle, +x towards the lateral wall, -x towards septum and right heart, +y anterior.
`tissues` turns a heart into labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from echodiff.anatomy import AgeGroup, Finding, Grade, GradedFinding, Phase, Sex
from echodiff.phantom.grading import grade_findings
from echodiff.phantom.physiology import NormalHeart, Person, sample_normal, sample_person

LV_WAIST, RV_WAIST, ATRIUM_WAIST = 0.32, 0.2, 0.5
"""Where a chamber is widest, in its lengths from the annulus."""
ATRIUM_DEPTH = 0.85
"""An atrium's extent from front to back, in its widths."""
APEX_WALL = 0.75
"""Thickness of the apex, in that of the wall."""


@dataclass(frozen=True, kw_only=True)
class Heart:
    """One heart at one instant; lengths in mm, angles in rad."""

    phase: Phase
    sex: Sex
    age_years: float
    bsa_m2: float
    """Body surface area."""
    findings: tuple[GradedFinding, ...]
    ef: float
    """Ejection fraction of the left ventricle, percent."""
    la_ml_m2: float
    """Left-atrial volume by body surface at end of systole."""
    ra_ml_m2: float
    """Right-atrial volume by body surface at end of systole."""
    lv_length_mm: float
    """Mitral annulus to apex of the cavity."""
    lv_radius_mm: float
    """Largest short-axis radius of the cavity."""
    mitral_radius_mm: float
    """Radius of the mitral annulus."""
    wall_mm: float
    """Free wall of the left ventricle."""
    septum_mm: float
    """Inter-ventricular septum."""
    rv_length_mm: float
    """Tricuspid annulus to apex."""
    rv_basal_mm: float
    """Septum to free wall, at the widest."""
    rv_wall_mm: float
    tricuspid_radius_mm: float
    la_length_mm: float
    la_radius_mm: float
    ra_length_mm: float
    ra_radius_mm: float
    atrial_septum_mm: float
    tricuspid_offset_mm: float
    """Apical offset of the tricuspid annulus from the mitral annulus."""
    mitral_leaflet_mm: float
    """Thickness of the mitral leaflets."""
    tricuspid_leaflet_mm: float
    mitral_opening_rad: float
    """Angle of the open leaflets with the annulus; 0: closed."""
    tricuspid_opening_rad: float
    effusion_mm: float
    """Fluid between heart and pericardium where it is widest."""
    ripple_mm: float
    """Amplitude of the unevenness of the inner surfaces."""
    ripple_seed: int

    @property
    def person(self) -> Person:
        """Whose heart it is."""
        return Person(sex=self.sex, age_years=self.age_years, bsa_m2=self.bsa_m2)

    @property
    def age_group(self) -> AgeGroup:
        """Infant, child or adult."""
        return self.person.age_group

    @property
    def scale(self) -> float:
        """Size of what no finding changes, as a share of an adult's."""
        return self.person.length_scale

    @property
    def finding_names(self) -> frozenset[Finding]:
        """Names of all findings."""
        return frozenset(finding.name for finding in self.findings)

    def find(self, name: Finding) -> GradedFinding | None:
        """Return the finding of this name, if the heart has it."""
        return next((finding for finding in self.findings if finding.name is name), None)

    @property
    def lv_ml(self) -> float:
        """Volume of the left ventricle."""
        return _chamber_ml(
            self.lv_length_mm, self.lv_radius_mm, self.mitral_radius_mm, LV_WAIST, 1.0
        )

    @property
    def la_ml(self) -> float:
        """Volume of the left atrium."""
        mouth = min(self.mitral_radius_mm, 0.97 * self.la_radius_mm)
        return _chamber_ml(self.la_length_mm, self.la_radius_mm, mouth, ATRIUM_WAIST, ATRIUM_DEPTH)

    @property
    def ra_ml(self) -> float:
        """Volume of the right atrium."""
        mouth = min(self.tricuspid_radius_mm, 0.97 * self.ra_radius_mm)
        return _chamber_ml(self.ra_length_mm, self.ra_radius_mm, mouth, ATRIUM_WAIST, ATRIUM_DEPTH)

    @property
    def apex_mm(self) -> float:
        """The outermost point of the heart above the mitral annulus."""
        rv = self.tricuspid_offset_mm + self.rv_length_mm + self.rv_wall_mm
        return max(self.lv_length_mm + APEX_WALL * self.wall_mm, rv)

    def to_record(self) -> dict[str, Any]:
        """JSON-serialisable values, sufficient to rebuild this heart."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Heart:
        """Restore a heart from `to_record`."""
        words = {
            "phase": Phase(record["phase"]),
            "sex": Sex(record["sex"]),
            "findings": tuple(GradedFinding.from_record(f) for f in record["findings"]),
        }
        return cls(**(record | words))


def sample_heart(
    rng: np.random.Generator,
    findings: Iterable[Finding] = (),
    *,
    age_group: AgeGroup | None = None,
    grades: Mapping[Finding, Grade] | None = None,
    kinds: Mapping[Finding, str] | None = None,
) -> Heart:
    """Draw an end-diastolic heart: normal sizes of a person, then what the findings change.

    age_group: an adult if None. grades, kinds: of findings for which they are not to be drawn.
    """
    person = sample_person(rng, age_group)
    normal = sample_normal(rng, person)
    graded = grade_findings(rng, findings, person, normal, grades or {}, kinds or {})
    found = {finding.name: finding for finding in graded}
    ef = _ejection_fraction(rng, found, normal)
    heart = _fill(rng, person, normal, found)
    return replace(heart, findings=graded, ef=round(ef, 1))


def _ejection_fraction(
    rng: np.random.Generator, found: Mapping[Finding, GradedFinding], normal: NormalHeart
) -> float:
    """A ventricle that dilates by itself is weak; one that a defect fills is not."""
    dilated = found.get(Finding.DILATED_LV)
    if dilated is not None and dilated.cause is None:
        low, high = {Grade.MILD: (41, 51), Grade.MODERATE: (30, 40), Grade.SEVERE: (18, 29)}[
            dilated.grade
        ]
        return float(rng.uniform(low, high))
    if Finding.SEPTAL_HYPERTROPHY in found:
        return float(rng.uniform(max(normal.ef, 60), 74))
    return normal.ef


def _fill(
    rng: np.random.Generator,
    person: Person,
    normal: NormalHeart,
    found: Mapping[Finding, GradedFinding],
) -> Heart:
    """Sizes of all parts at end of diastole."""
    u, scale = rng.uniform, person.length_scale
    volume = 1000 * normal.edv_ml
    slenderness = normal.slenderness
    for name in (Finding.DILATED_LV, Finding.HYPOPLASTIC_LV):
        if name in found:
            grown = 1000 * float(found[name].volume_ml_m2 or 0) * person.bsa_m2
            # A ventricle widens more than it lengthens: the sphere is its limit.
            slenderness = max(1.3, slenderness * (grown / volume) ** -0.25)
            volume = grown
    wall, septum = normal.wall_mm, normal.septum_mm
    if Finding.LVH in found:
        wall = septum = float(found[Finding.LVH].size_mm or 0)
        septum *= float(u(1.0, 1.08))
        volume *= float(u(0.72, 0.88))
    if Finding.SEPTAL_HYPERTROPHY in found:
        septum = float(found[Finding.SEPTAL_HYPERTROPHY].size_mm or 0)
        volume *= float(u(0.85, 0.95))
    mouth = float(u(0.69, 0.75)) * (volume / (1000 * normal.edv_ml)) ** -0.08
    radius = (volume / (2 * np.pi * slenderness * (2 / 3 + LV_WAIST / 3 * mouth**2))) ** (1 / 3)
    length = 2 * slenderness * radius

    rv_basal, rv_length = normal.rv_basal_mm, min(normal.rv_length_mm, 0.86 * length)
    if Finding.DILATED_RV in found:
        dilated = found[Finding.DILATED_RV]
        rv_basal = float(dilated.size_mm or 0)
        reach = {Grade.MILD: 0.9, Grade.MODERATE: 0.99, Grade.SEVERE: 1.06}[dilated.grade]
        rv_length = reach * length
    if Finding.HYPOPLASTIC_RV in found:
        share = float(found[Finding.HYPOPLASTIC_RV].size_mm or 0) / normal.rv_basal_mm
        rv_basal, rv_length = share * rv_basal, (0.35 + 0.65 * share) * rv_length
    if Finding.HYPOPLASTIC_LV in found:  # the right ventricle keeps its length: it is the apex
        rv_length = max(normal.rv_length_mm, rv_length)

    la = found[Finding.DILATED_LA].volume_ml_m2 if Finding.DILATED_LA in found else normal.la_ml_m2
    ra = found[Finding.DILATED_RA].volume_ml_m2 if Finding.DILATED_RA in found else normal.ra_ml_m2
    if Finding.HYPOPLASTIC_LV in found:
        la = 0.65 * normal.la_ml_m2
    av_defect = any(f.kind in ("primum", "inlet") for f in found.values())
    thick = found.get(Finding.THICKENED_VALVES)
    thick_mm = float(thick.size_mm or 0) if thick else 0.0
    effusion = found.get(Finding.PERICARDIAL_EFFUSION)
    rvh = found.get(Finding.RVH)
    mitral_radius = mouth * radius
    tricuspid_radius = 0.5 * normal.rv_basal_mm * float(u(0.86, 0.94))
    tricuspid_radius *= (rv_basal / normal.rv_basal_mm) ** 0.9
    # A normal atrium empties by half, a dilated one by less.
    la_emptied = u(1.35, 1.65) if Finding.DILATED_LA in found else u(1.8, 2.2)
    ra_emptied = u(1.3, 1.6) if Finding.DILATED_RA in found else u(1.6, 2)
    la_size = _shape_atrium(float(la or 0) * person.bsa_m2 / la_emptied, mitral_radius, u(1, 1.2))
    ra_size = _shape_atrium(
        float(ra or 0) * person.bsa_m2 / ra_emptied, tricuspid_radius, u(1, 1.2)
    )
    return Heart(
        phase=Phase.ED,
        sex=person.sex,
        age_years=person.age_years,
        bsa_m2=person.bsa_m2,
        findings=(),
        ef=normal.ef,
        la_ml_m2=round(float(la or 0), 1),
        ra_ml_m2=round(float(ra or 0), 1),
        lv_length_mm=length,
        lv_radius_mm=radius,
        mitral_radius_mm=mitral_radius,
        wall_mm=wall,
        septum_mm=septum,
        rv_length_mm=rv_length,
        rv_basal_mm=rv_basal,
        rv_wall_mm=float(rvh.size_mm or 0) if rvh else normal.rv_wall_mm,
        tricuspid_radius_mm=tricuspid_radius,
        la_length_mm=la_size[0],
        la_radius_mm=la_size[1],
        ra_length_mm=ra_size[0],
        ra_radius_mm=ra_size[1],
        atrial_septum_mm=float(u(2.6, 3.6)) * scale,
        tricuspid_offset_mm=0.0 if av_defect else float(u(3.5, 7.5)) * scale,
        mitral_leaflet_mm=thick_mm
        if thick and thick.kind in ("mitral", "both")
        else normal.leaflet_mm,
        tricuspid_leaflet_mm=thick_mm
        if thick and thick.kind in ("tricuspid", "both")
        else normal.leaflet_mm,
        mitral_opening_rad=_draw_opening(rng),
        tricuspid_opening_rad=_draw_opening(rng),
        effusion_mm=float(effusion.size_mm or 0) if effusion else 0.0,
        ripple_mm=float(u(0.5, 1.2)) * scale,
        ripple_seed=int(rng.integers(2**31)),
    )


def _draw_opening(rng: np.random.Generator) -> float:
    """At end of diastole the leaflets have just closed, or are about to."""
    return 0.0 if rng.random() < 0.4 else float(rng.uniform(0.6, 1.1))


def contract(heart: Heart, rng: np.random.Generator) -> Heart:
    """Return the heart at end of systole: the ventricles empty by the ejection fraction, walls
    thicken by as much as keeps their volume, the atria are full and the valves closed."""
    u = rng.uniform
    stroke = heart.ef / 100
    length = heart.lv_length_mm * (1 - stroke * float(u(0.22, 0.3)))
    annulus = heart.mitral_radius_mm * (1 - stroke * float(u(0.1, 0.18)))
    volume = 1000 * heart.lv_ml * (1 - stroke)
    area = volume / (np.pi * length)
    radius = float(np.sqrt(max(area - LV_WAIST / 3 * annulus**2, 0) * 1.5))
    if annulus > 0.97 * radius:  # the base is never wider than the ventricle
        radius = float(np.sqrt(area / (2 / 3 + LV_WAIST / 3 * 0.97**2)))
        annulus = 0.97 * radius
    wall = _thicken(heart, length, radius, annulus)
    squeeze = stroke / 0.62
    tricuspid_radius = heart.tricuspid_radius_mm * (1 - 0.14 * squeeze)
    la = _shape_atrium(heart.la_ml_m2 * heart.bsa_m2, annulus, float(u(1.0, 1.2)))
    ra = _shape_atrium(heart.ra_ml_m2 * heart.bsa_m2, tricuspid_radius, float(u(1.0, 1.2)))
    return replace(
        heart,
        phase=Phase.ES,
        lv_length_mm=length,
        lv_radius_mm=radius,
        mitral_radius_mm=annulus,
        wall_mm=wall,
        septum_mm=heart.septum_mm * (1 + 0.8 * (wall / heart.wall_mm - 1)),
        rv_basal_mm=heart.rv_basal_mm * (1 - squeeze * float(u(0.16, 0.24))),
        rv_length_mm=heart.rv_length_mm * length / heart.lv_length_mm * float(u(0.93, 0.99)),
        rv_wall_mm=heart.rv_wall_mm * float(u(1.1, 1.3)),
        tricuspid_radius_mm=tricuspid_radius,
        la_length_mm=la[0],
        la_radius_mm=la[1],
        ra_length_mm=ra[0],
        ra_radius_mm=ra[1],
        mitral_opening_rad=0.0,
        tricuspid_opening_rad=0.0,
    )


def _thicken(heart: Heart, length: float, radius: float, annulus: float) -> float:
    """Thickness at which the contracted wall has the volume of the relaxed one."""

    def shell_ml(wall: float, length: float, radius: float, annulus: float) -> float:
        outer = (length + APEX_WALL * wall, radius + wall, annulus + wall)
        whole = _chamber_ml(*outer, LV_WAIST, 1.0)
        return whole - _chamber_ml(length, radius, annulus, LV_WAIST, 1.0)

    relaxed = (heart.lv_length_mm, heart.lv_radius_mm, heart.mitral_radius_mm)
    kept = shell_ml(heart.wall_mm, *relaxed)
    low, high = heart.wall_mm, 2.5 * heart.wall_mm
    for _ in range(30):
        wall = (low + high) / 2
        low, high = (wall, high) if shell_ml(wall, length, radius, annulus) < kept else (low, wall)
    return low


def _chamber_ml(
    length_mm: float, radius_mm: float, mouth_mm: float, waist: float, depth: float
) -> float:
    """Volume of two half ellipsoids that meet at the waist, open at the annulus.

    depth: extent from front to back, in widths.
    """
    area = 2 / 3 * radius_mm**2 + waist / 3 * mouth_mm**2
    return float(np.pi * length_mm * area * depth / 1000)


def _shape_atrium(volume_ml: float, annulus_mm: float, slenderness: float) -> tuple[float, float]:
    """Length and radius of an atrium: as slender as asked for, but never narrower than its
    annulus."""
    low, high = annulus_mm / 0.97, 80.0
    volume = 1000 * volume_ml / (np.pi * ATRIUM_DEPTH)
    for _ in range(30):
        radius = (low + high) / 2
        area = 2 / 3 * radius**2 + ATRIUM_WAIST / 3 * annulus_mm**2
        low, high = (
            (radius, high) if 2 * slenderness * radius * area < volume else (low, radius)
        )  # fmt: skip
    return float(volume / (2 / 3 * low**2 + ATRIUM_WAIST / 3 * annulus_mm**2)), float(low)
