"""Vocabulary of the field: labels, views, phases and findings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import IntEnum, StrEnum
from typing import Any


class Label(IntEnum):
    """Value of a pixel in an index mask. 0-3 are those of CAMUS; the others continue them."""

    BACKGROUND = 0
    LV = 1
    """Left-ventricular cavity."""
    LV_MYOCARDIUM = 2
    """Left-ventricular wall, the inter-ventricular septum included."""
    LA = 3
    """Left-atrial cavity."""
    RV = 4
    """Right-ventricular cavity."""
    RA = 5
    """Right-atrial cavity."""
    RV_MYOCARDIUM = 6
    """Right-ventricular free wall."""
    ATRIAL_WALL = 7
    """Walls of both atria, the inter-atrial septum included."""
    VALVE = 8
    """Mitral and tricuspid leaflets."""
    AORTA = 9
    """Aortic root, lumen and wall."""
    PERICARDIUM = 10
    """Pericardial line around the heart."""
    PULMONARY_ARTERY = 11
    """Main pulmonary artery and its branches."""
    VEIN = 12
    """Venae cavae and pulmonary veins."""
    PERICARDIAL_FLUID = 13
    """Effusion between heart and pericardium."""


class View(StrEnum):
    """Echocardiographic window and plane."""

    A4C = "A4C"
    """Apical four-chamber view."""
    A2C = "A2C"
    """Apical two-chamber view."""
    PLAX = "PLAX"
    """Parasternal long-axis view."""
    SAX = "SAX"
    """Short axis of MR and of models; that of echo is PSAX."""
    A3C = "A3C"
    """Apical long-axis (three-chamber) view."""
    A5C = "A5C"
    """Apical five-chamber view."""
    SUBCOSTAL = "SUBCOSTAL"
    """Subcostal four-chamber view."""
    PSAX = "PSAX"
    """Parasternal short-axis view; its `Level` says where."""


class Level(StrEnum):
    """Where a short axis cuts the left ventricle."""

    BASAL = "basal"
    """Mitral valve."""
    MID = "mid"
    """Papillary muscles."""
    APICAL = "apical"


class Phase(StrEnum):
    """Instant of the cardiac cycle."""

    ED = "ED"
    """End of diastole: the ventricles are largest."""
    ES = "ES"
    """End of systole: the ventricles are smallest."""


class Sex(StrEnum):
    """Sex of a patient, as the columns of public data sets write it."""

    FEMALE = "F"
    MALE = "M"


class AgeGroup(StrEnum):
    """Age of a patient."""

    INFANT = "infant"
    """Below 1 year."""
    CHILD = "child"
    """1 to 17 years."""
    ADULT = "adult"


class Finding(StrEnum):
    """Name of a finding that a caption may state; a heart can have several."""

    ASD = "asd"
    """Atrial septal defect."""
    VSD = "vsd"
    """Ventricular septal defect."""
    LVH = "lvh"
    """Concentric left-ventricular hypertrophy."""
    DILATED_LV = "dilated_lv"
    DILATED_RV = "dilated_rv"
    DILATED_LA = "dilated_la"
    DILATED_RA = "dilated_ra"
    SEPTAL_HYPERTROPHY = "septal_hypertrophy"
    """Asymmetric septal hypertrophy, as in hypertrophic cardiomyopathy."""
    RVH = "rvh"
    """Right-ventricular hypertrophy."""
    HYPOPLASTIC_LV = "hypoplastic_lv"
    HYPOPLASTIC_RV = "hypoplastic_rv"
    THICKENED_VALVES = "thickened_valves"
    """Thickened atrio-ventricular leaflets."""
    COMMON_AV_VALVE = "common_av_valve"
    """One valve for both ventricles, over a primum ASD and an inlet VSD (complete AVSD)."""
    PERICARDIAL_EFFUSION = "pericardial_effusion"


class Grade(StrEnum):
    """Severity of a finding; of a defect or an effusion: small, moderate, large."""

    MILD = "mild"
    MODERATE = "moderate"
    SEVERE = "severe"


KINDS: dict[Finding, tuple[str, ...]] = {
    Finding.ASD: ("secundum", "primum", "sinus_venosus"),
    Finding.VSD: ("muscular", "inlet", "perimembranous"),
    Finding.THICKENED_VALVES: ("mitral", "tricuspid", "both"),
}
"""Kinds of the findings that have some. A sinus venosus defect has no upper margin."""


@dataclass(frozen=True, kw_only=True)
class GradedFinding:
    """One finding of one heart."""

    name: Finding
    grade: Grade
    kind: str = ""
    """One of `KINDS`; empty for a finding that has none."""
    size_mm: float | None = None
    """Length that the grade is read from: diameter of a defect, thickness of a wall or leaflet,
    width of an effusion, basal diameter of a right ventricle."""
    volume_ml_m2: float | None = None
    """Volume per body surface that the grade is read from: dilated LV, LA and RA (the atria at end
    of systole), hypoplastic LV."""
    cause: Finding | None = None
    """The finding that this one accompanies: a defect dilates chambers."""

    def to_record(self) -> dict[str, Any]:
        """JSON-serialisable values."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> GradedFinding:
        """Restore a finding from `to_record`."""
        cause = record["cause"]
        return cls(
            **record
            | {
                "name": Finding(record["name"]),
                "grade": Grade(record["grade"]),
                "cause": None if cause is None else Finding(cause),
            }
        )


PALETTE: dict[Label, tuple[int, int, int]] = {
    Label.BACKGROUND: (0, 0, 0),
    Label.LV: (214, 69, 65),
    Label.LV_MYOCARDIUM: (242, 177, 52),
    Label.LA: (148, 103, 189),
    Label.RV: (65, 131, 215),
    Label.RA: (44, 160, 140),
    Label.RV_MYOCARDIUM: (140, 170, 220),
    Label.ATRIAL_WALL: (190, 150, 170),
    Label.VALVE: (255, 255, 255),
    Label.AORTA: (230, 120, 160),
    Label.PERICARDIUM: (120, 120, 120),
    Label.PULMONARY_ARTERY: (90, 90, 200),
    Label.VEIN: (60, 180, 220),
    Label.PERICARDIAL_FLUID: (90, 220, 120),
}
"""RGB of each label where a mask is shown to a person."""
