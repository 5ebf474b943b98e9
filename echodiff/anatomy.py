"""Vocabulary of the field: labels, views, phases and findings."""

from __future__ import annotations

from enum import IntEnum, StrEnum


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


class View(StrEnum):
    """Echocardiographic window and plane."""

    A4C = "A4C"
    A2C = "A2C"
    PLAX = "PLAX"
    SAX = "SAX"


class Phase(StrEnum):
    """Instant of the cardiac cycle."""

    ED = "ED"
    """End of diastole: the ventricles are largest."""
    ES = "ES"
    """End of systole: the ventricles are smallest."""


class Finding(StrEnum):
    """Finding that a caption may state; a heart can have several."""

    ASD = "asd"
    """Atrial septal defect (secundum or primum)."""
    VSD = "vsd"
    """Ventricular septal defect."""
    LVH = "lvh"
    """Left-ventricular hypertrophy."""
    DILATED_LV = "dilated_lv"
    DILATED_RV = "dilated_rv"
    DILATED_LA = "dilated_la"
    DILATED_RA = "dilated_ra"


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
}
"""RGB of each label where a mask is shown to a person."""
