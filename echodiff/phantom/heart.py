"""A parametric 3D heart as implicit surfaces in mm.

Heart frame: origin at the centre of the mitral annulus, +z from base to apex along the long axis of
the left ventricle, +x towards the lateral wall, -x towards septum and right heart, +y anterior.
Every field is close to a signed distance in mm, negative inside.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import KINDS, AgeGroup, Finding, Grade, GradedFinding, Label, Phase, Sex

Points = NDArray[np.float32]
Field = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Heart:
    """One heart at one instant; lengths in mm, angles in rad."""

    phase: Phase
    sex: Sex
    age_group: AgeGroup
    findings: tuple[GradedFinding, ...]
    lv_length_mm: float
    """Mitral annulus to apex of the cavity."""
    lv_radius_mm: float
    """Largest short-axis radius of the cavity."""
    wall_mm: float
    """Left-ventricular wall and inter-ventricular septum."""
    rv_width_mm: float
    """Septum to free wall, at the widest."""
    la_length_mm: float
    la_radius_mm: float
    ra_length_mm: float
    ra_radius_mm: float
    atrial_septum_mm: float
    tricuspid_offset_mm: float
    """Apical offset of the tricuspid annulus from the mitral annulus."""
    mitral_opening_rad: float
    tricuspid_opening_rad: float
    ripple_mm: float
    """Amplitude of the unevenness of the inner surfaces."""
    ripple_seed: int

    def find(self, name: Finding) -> GradedFinding | None:
        """Return the finding of this name, if the heart has it."""
        return next((finding for finding in self.findings if finding.name is name), None)

    @property
    def finding_names(self) -> frozenset[Finding]:
        """Names of all findings."""
        return frozenset(finding.name for finding in self.findings)

    def to_record(self) -> dict[str, Any]:
        """JSON-serialisable values, sufficient to rebuild this heart."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Heart:
        """Restore a heart from `to_record`."""
        words = {
            "phase": Phase(record["phase"]),
            "sex": Sex(record["sex"]),
            "age_group": AgeGroup(record["age_group"]),
            "findings": tuple(GradedFinding.from_record(f) for f in record["findings"]),
        }
        return cls(**(record | words))


def sample_heart(
    rng: np.random.Generator, findings: frozenset[Finding] = frozenset(), is_child: bool = False
) -> Heart:
    """Draw an end-diastolic heart within anatomical ranges.

    Ranges follow the normal limits of adult chamber quantification (ASE/EACVI 2015: LV length about
    75-95 mm, cavity radius 20-26 mm, wall 6-10 mm; atria about 40-52 mm long); dilation multiplies
    a chamber, hypertrophy gives a wall of 14-19 mm. A child is the same heart at 0.6 to 0.8 of its
    size.
    """
    u = rng.uniform

    def dilation(finding: Finding, low: float, high: float) -> float:
        factor = float(u(low, high))
        return factor if finding in findings else 1.0

    lv = dilation(Finding.DILATED_LV, 1.32, 1.55)
    rv = dilation(Finding.DILATED_RV, 1.4, 1.65)
    la = dilation(Finding.DILATED_LA, 1.32, 1.55)
    ra = dilation(Finding.DILATED_RA, 1.32, 1.55)
    wall = float(u(7.0, 9.5))
    cavity = 1.0
    thick, squeeze = float(u(14.5, 19.0)), float(u(0.72, 0.85))
    if Finding.LVH in findings:
        wall, cavity = thick, squeeze
    sizes = {Finding.ASD: float(u(6.5, 11.0)) * 2, Finding.VSD: float(u(4.5, 8.0)) * 2}
    grades, kind = rng.choice(list(Grade), len(Finding)), int(rng.integers(2))
    graded = tuple(
        GradedFinding(
            name=name,
            grade=Grade(grade),
            kind=KINDS[name][kind] if name in KINDS else "",
            size_mm=sizes.get(name),
        )
        for name, grade in zip(Finding, grades, strict=True)
        if name in findings
    )
    heart = Heart(
        phase=Phase.ED,
        sex=Sex.MALE if u() < 0.5 else Sex.FEMALE,
        age_group=AgeGroup.CHILD if is_child else AgeGroup.ADULT,
        findings=graded,
        lv_length_mm=float(u(76, 92)) * (1 + 0.2 * (lv - 1)),
        lv_radius_mm=float(u(20, 24.5)) * lv * cavity,
        wall_mm=wall,
        rv_width_mm=float(u(26, 33)) * rv,
        la_length_mm=float(u(41, 51)) * la,
        la_radius_mm=float(u(19, 23)) * la,
        ra_length_mm=float(u(40, 49)) * ra,
        ra_radius_mm=float(u(18.5, 22.5)) * ra,
        atrial_septum_mm=float(u(2.6, 3.8)),
        tricuspid_offset_mm=float(u(3.0, 7.0)),
        mitral_opening_rad=float(u(0.15, 0.75)),
        tricuspid_opening_rad=float(u(0.1, 0.7)),
        ripple_mm=float(u(0.5, 1.3)),
        ripple_seed=int(rng.integers(2**31)),
    )
    return _scaled(heart, float(u(0.6, 0.8))) if is_child else heart


def _scaled(heart: Heart, factor: float) -> Heart:
    lengths = {k: v * factor for k, v in vars(heart).items() if k.endswith("_mm")}
    findings = tuple(
        finding if finding.size_mm is None else replace(finding, size_mm=finding.size_mm * factor)
        for finding in heart.findings
    )
    return replace(heart, findings=findings, **lengths)


def contract(heart: Heart, rng: np.random.Generator) -> Heart:
    """Return the heart at end of systole: smaller ventricles, thicker walls, full atria, closed
    valves."""
    weak = 0.5 if Finding.DILATED_LV in heart.finding_names else 1.0
    shorten = 1 - weak * rng.uniform(0.12, 0.18)
    return replace(
        heart,
        phase=Phase.ES,
        lv_length_mm=heart.lv_length_mm * shorten,
        lv_radius_mm=heart.lv_radius_mm * (1 - weak * rng.uniform(0.2, 0.32)),
        wall_mm=heart.wall_mm * (1 + weak * rng.uniform(0.2, 0.35)),
        rv_width_mm=heart.rv_width_mm * rng.uniform(0.76, 0.88),
        la_length_mm=heart.la_length_mm * rng.uniform(1.06, 1.15),
        la_radius_mm=heart.la_radius_mm * rng.uniform(1.04, 1.1),
        ra_length_mm=heart.ra_length_mm * rng.uniform(1.06, 1.15),
        ra_radius_mm=heart.ra_radius_mm * rng.uniform(1.04, 1.1),
        mitral_opening_rad=float(rng.uniform(0.08, 0.25)),
        tricuspid_opening_rad=float(rng.uniform(0.08, 0.25)),
    )


@dataclass(frozen=True)
class Anatomy:
    """Anatomy at each requested point; arrays of the points' shape without the last axis."""

    labels: NDArray[np.uint8]
    """`Label` values."""
    hull_mm: Field
    """Signed distance to the outside of the heart."""
    papillary: NDArray[np.bool_]
    """Muscle inside the LV or RV cavity (papillary muscles, moderator band): cavity to a mask."""
    fibrous: NDArray[np.bool_]
    """Annuli and the edges of septal defects: bright to ultrasound."""


def compute_anatomy(heart: Heart, points_mm: Points) -> Anatomy:
    """Label every point of `points_mm`, (..., 3) in the heart frame, mm."""
    x, y, z = (np.ascontiguousarray(points_mm[..., i], np.float32) for i in range(3))
    ripple = _ripple(heart, x, y, z)
    r, wall, length = heart.lv_radius_mm, heart.wall_mm, heart.lv_length_mm
    axial = np.hypot(x, y)

    lv = np.maximum(_bullet(axial, z, r, length) + ripple, -z)
    epicardium = _bullet(axial, z, r + wall, length + 0.75 * wall)
    septum_x = -(0.80 * r + 0.5 * wall)  # where the two septa meet at the crux
    rv_z, rv_half = heart.tricuspid_offset_mm, 0.62 * length
    rv_centre = (septum_x - 0.42 * heart.rv_width_mm, 6.0, 0.16 * length)
    rv_shape = _ellipsoid(
        x, y, z, rv_centre, (0.92 * heart.rv_width_mm, 1.25 * heart.rv_width_mm, rv_half)
    )
    rv = np.maximum(np.maximum(rv_shape + 1.3 * ripple, 0.6 - epicardium), rv_z - z)
    rv_wall = 3.5 * (0.7 if heart.age_group is not AgeGroup.ADULT else 1.0)

    bow = 1.2 * np.sin(z / 14)  # the atrial septum is not quite straight
    septal_plane = np.asarray(x - septum_x - 0.04 * z + bow, np.float32)
    half = 0.5 * heart.atrial_septum_mm
    la_shape = _atrium(
        x, y, z, septum_x + 0.74 * heart.la_radius_mm, heart.la_length_mm, heart.la_radius_mm
    )
    ra_shape = _atrium(
        x, y, z - rv_z, septum_x - 0.74 * heart.ra_radius_mm, heart.ra_length_mm, heart.ra_radius_mm
    )
    la = np.maximum(np.maximum(la_shape + 0.5 * ripple, z), half - septal_plane)
    ra = np.maximum(np.maximum(ra_shape + 0.5 * ripple, z - rv_z), half + septal_plane)

    atria = np.minimum(np.maximum(la_shape, z - 4), np.maximum(ra_shape, z - 4 - rv_z)) - 2.6
    hull = _smooth_min(_smooth_min(epicardium, rv_shape - rv_wall, 9.0), atria, 8.0)
    labels = np.zeros(x.shape, np.uint8)
    labels[np.abs(hull - 1.2) < 1.3] = Label.PERICARDIUM
    labels[hull < 0] = Label.ATRIAL_WALL
    labels[(np.maximum(rv_shape - rv_wall, rv_z - z) < 0)] = Label.RV_MYOCARDIUM
    labels[np.maximum(epicardium, -2 - z) < 0] = Label.LV_MYOCARDIUM
    aorta = np.hypot(x + 0.35 * r, y - 1.05 * r - 0.35 * z) - 0.5 * r
    labels[(aorta < 0) & (z < 0.1 * length) & (hull < 0)] = Label.AORTA
    labels[rv < 0], labels[ra < 0] = Label.RV, Label.RA
    labels[lv < 0], labels[la < 0] = Label.LV, Label.LA

    fibrous = _cut_defects(heart, labels, x, y, z, septum_x, septal_plane, lv, rv)
    mitral = _leaflets(axial * np.sign(x + 1e-3), z, 0.8 * r, heart.mitral_opening_rad)
    tv_x, tv_half = (
        rv_centre[0],
        0.5 * (septum_x - 0.5 * wall - (rv_centre[0] - 0.9 * heart.rv_width_mm)),
    )
    tv_axial = np.hypot(x - tv_x, y) * np.sign(x - tv_x + 1e-3)
    tricuspid = _leaflets(-tv_axial, z - rv_z, tv_half, heart.tricuspid_opening_rad)
    blood = (lv < 0) | (la < 0) | (rv < 0) | (ra < 0)
    labels[(np.minimum(mitral, tricuspid) < 0) & blood] = Label.VALVE
    ring = np.abs(np.hypot(axial - 0.86 * r, 1.2 * z)) < 3.2
    fibrous |= ring & (hull < 0) & ~blood
    return Anatomy(labels, hull, _papillary(heart, x, y, z, lv, rv), fibrous)


def _bullet(axial: Field, z: Field, radius: float, length: float) -> Field:
    """Ventricle: two half ellipsoids that meet at a third of its length, open below."""
    centre = 0.32 * length
    semi = np.where(z > centre, length - centre, centre / 0.6).astype(np.float32)
    return _scaled_norm(axial / radius, (z - centre) / semi, radius, semi)


def _scaled_norm(a: Field, b: Field, ra: float, rb: Field | float) -> Field:
    k0 = np.sqrt(a * a + b * b) + 1e-6
    k1 = np.sqrt((a / ra) ** 2 + (b / rb) ** 2) + 1e-6
    return np.asarray(k0 * (k0 - 1) / k1, np.float32)


def _ellipsoid(
    x: Field,
    y: Field,
    z: Field,
    centre: tuple[float, float, float],
    semi: tuple[float, float, float],
) -> Field:
    a, b, c = (x - centre[0]) / semi[0], (y - centre[1]) / semi[1], (z - centre[2]) / semi[2]
    k0 = np.sqrt(a * a + b * b + c * c) + 1e-6
    k1 = np.sqrt((a / semi[0]) ** 2 + (b / semi[1]) ** 2 + (c / semi[2]) ** 2) + 1e-6
    return np.asarray(k0 * (k0 - 1) / k1, np.float32)


def _atrium(x: Field, y: Field, z: Field, centre_x: float, length: float, radius: float) -> Field:
    """Egg with its blunt end at the annulus, which its flat top closes."""
    return _ellipsoid(x, y, z, (centre_x, 0.0, -0.46 * length), (radius, radius, 0.56 * length))


def _smooth_min(a: Field, b: Field, k: float) -> Field:
    h = np.clip(0.5 + 0.5 * (b - a) / k, 0, 1)
    return np.asarray(b + (a - b) * h - k * h * (1 - h), np.float32)


def _ripple(heart: Heart, x: Field, y: Field, z: Field) -> Field:
    """Unevenness of the endocardium: a few plane waves of 9-30 mm, a function of position alone."""
    rng = np.random.default_rng(heart.ripple_seed)
    total = np.zeros_like(x)
    for wave in rng.normal(size=(5, 3)):
        k = (wave / np.linalg.norm(wave) * 2 * np.pi / rng.uniform(9, 30)).astype(np.float32)
        total += np.sin(k[0] * x + k[1] * y + k[2] * z + np.float32(rng.uniform(0, 2 * np.pi)))
    return np.asarray(heart.ripple_mm * total / 2.2, np.float32)


def _leaflets(u: Field, z: Field, radius: float, opening_rad: float) -> Field:
    """Two leaflets hinged at u = -radius (long) and u = +radius (short); z grows into the
    ventricle."""
    c, s = float(np.cos(opening_rad)), float(np.sin(opening_rad))
    meet = 0.18 * radius
    shut = opening_rad < 0.3
    thickness = 1.0
    result = np.full_like(u, 1e3)
    for hinge, sign, share in ((-radius, 1.0, 1.18), (radius, -1.0, 0.82)):
        length = abs(meet - hinge) / c if shut else share * radius * 0.95
        along = sign * (u - hinge) * c + z * s
        across = -sign * (u - hinge) * s + z * c
        bow = 0.10 * length * np.sin(np.pi * np.clip(along / length, 0, 1))
        beyond = np.maximum(np.maximum(-along, along - length), 0)
        result = np.minimum(result, np.hypot(across - bow, beyond) - thickness)
    return np.asarray(result, np.float32)


def _cut_defects(
    heart: Heart,
    labels: NDArray[np.uint8],
    x: Field,
    y: Field,
    z: Field,
    septum_x: float,
    septal_plane: Field,
    lv: Field,
    rv: Field,
) -> NDArray[np.bool_]:
    """Open the defects in place (blood takes the place of septum); return their fibrous edges.

    A defect is an oval, long from front to back, so that a plane tilted by a few degrees meets it.
    """
    across = 0.3 * y
    edge = np.zeros(labels.shape, bool)
    asd, vsd = heart.find(Finding.ASD), heart.find(Finding.VSD)
    if asd is not None and asd.size_mm is not None:
        radius = asd.size_mm / 2
        length = 0.5 * (heart.la_length_mm + heart.ra_length_mm)
        centre = -0.47 * length if asd.kind == "secundum" else -0.75 * radius
        away = np.hypot(z - centre, across) - radius
        slab = np.abs(septal_plane) < 0.5 * heart.atrial_septum_mm + 3.0
        solid = (labels == Label.ATRIAL_WALL) | (labels == Label.LV_MYOCARDIUM)
        hole = slab & solid & (away < 0)
        labels[hole & (septal_plane >= 0)] = Label.LA
        labels[hole & (septal_plane < 0)] = Label.RA
        edge |= slab & solid & (away >= 0) & (away < 2.0)
    if vsd is not None and vsd.size_mm is not None:
        where = 0.46 if vsd.kind == "muscular" else 0.16
        away = np.hypot(z - where * heart.lv_length_mm, across) - vsd.size_mm / 2
        solid = (labels == Label.LV_MYOCARDIUM) | (labels == Label.RV_MYOCARDIUM)
        septum = solid & (x < 0) & (lv < heart.wall_mm + 3) & (rv < heart.wall_mm + 4)
        labels[septum & (away < 0)] = Label.LV
        edge |= septum & (away >= 0) & (away < 1.5)
    return edge


def _papillary(
    heart: Heart, x: Field, y: Field, z: Field, lv: Field, rv: Field
) -> NDArray[np.bool_]:
    r, length = heart.lv_radius_mm, heart.lv_length_mm
    lateral = _ellipsoid(x, y, z, (0.72 * r, 0.45 * r, 0.52 * length), (4.5, 5.0, 0.16 * length))
    medial = _ellipsoid(x, y, z, (0.5 * r, -0.62 * r, 0.5 * length), (4.5, 5.0, 0.15 * length))
    band = np.hypot(z - 0.6 * length - 0.35 * (x + 1.3 * r), y - 6) - 3.0
    muscle = ((np.minimum(lateral, medial) < 0) & (lv < 0)) | ((band < 0) & (rv < 0))
    return np.asarray(muscle)
