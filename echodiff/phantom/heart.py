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
from echodiff.phantom.physiology import Person, sample_normal, sample_person
from echodiff.phantom.sizing import (
    draw_ejection_fraction,
    size_atria,
    size_left_ventricle,
    size_right_ventricle,
    size_valves,
)
from echodiff.phantom.solids import (
    APEX_WALL,
    ATRIUM_DEPTH,
    ATRIUM_WAIST,
    LV_WAIST,
    chamber_ml,
    shape_atrium,
)


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
        return chamber_ml(
            self.lv_length_mm, self.lv_radius_mm, self.mitral_radius_mm, LV_WAIST, 1.0
        )

    @property
    def la_ml(self) -> float:
        """Volume of the left atrium."""
        mouth = min(self.mitral_radius_mm, 0.97 * self.la_radius_mm)
        return chamber_ml(self.la_length_mm, self.la_radius_mm, mouth, ATRIUM_WAIST, ATRIUM_DEPTH)

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
    visible: Iterable[Finding] = tuple(Finding),
) -> Heart:
    """Draw an end-diastolic heart: normal sizes of a person, then what the findings change.

    age_group: an adult if None. grades, kinds: of findings for which they are not to be drawn.
    visible: what the view can show; no other finding is associated.
    """
    person = sample_person(rng, age_group)
    normal = sample_normal(rng, person)
    graded = grade_findings(
        rng, findings, person, normal, grades=grades or {}, kinds=kinds or {}, visible=visible
    )
    found = {finding.name: finding for finding in graded}
    left = size_left_ventricle(rng, found, normal, person)
    right = size_right_ventricle(rng, found, normal, left["lv_length_mm"])
    annuli = left["mitral_radius_mm"], right["tricuspid_radius_mm"]
    atria = size_atria(rng, found, normal, person, annuli)
    sizes: dict[str, Any] = left | right | atria | size_valves(rng, found, normal, person)
    effusion = found.get(Finding.PERICARDIAL_EFFUSION)
    return Heart(
        phase=Phase.ED,
        sex=person.sex,
        age_years=person.age_years,
        bsa_m2=person.bsa_m2,
        findings=graded,
        ef=round(draw_ejection_fraction(rng, found, normal), 1),
        effusion_mm=effusion.size_mm or 0.0 if effusion else 0.0,
        ripple_mm=float(rng.uniform(0.5, 1.2)) * person.length_scale,
        ripple_seed=int(rng.integers(2**31)),
        **sizes,
    )


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
    squeeze = stroke / 0.62 * (0.75 if Finding.DILATED_RV in heart.finding_names else 1.0)
    tricuspid_radius = heart.tricuspid_radius_mm * (1 - 0.14 * squeeze)
    la = shape_atrium(heart.la_ml_m2 * heart.bsa_m2, annulus, float(u(1.0, 1.2)))
    ra = shape_atrium(heart.ra_ml_m2 * heart.bsa_m2, tricuspid_radius, float(u(1.0, 1.2)))
    return replace(
        heart,
        phase=Phase.ES,
        lv_length_mm=length,
        lv_radius_mm=radius,
        mitral_radius_mm=annulus,
        wall_mm=wall,
        septum_mm=heart.septum_mm * (1 + 0.8 * (wall / heart.wall_mm - 1)),
        rv_basal_mm=heart.rv_basal_mm * (1 - squeeze * float(u(0.22, 0.32))),
        rv_length_mm=heart.rv_length_mm * (1 - squeeze * float(u(0.18, 0.25))),
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
        whole = chamber_ml(*outer, LV_WAIST, 1.0)
        return whole - chamber_ml(length, radius, annulus, LV_WAIST, 1.0)

    relaxed = (heart.lv_length_mm, heart.lv_radius_mm, heart.mitral_radius_mm)
    kept = shell_ml(heart.wall_mm, *relaxed)
    low, high = heart.wall_mm, 2.5 * heart.wall_mm
    for _ in range(30):
        wall = (low + high) / 2
        low, high = (wall, high) if shell_ml(wall, length, radius, annulus) < kept else (low, wall)
    return low
