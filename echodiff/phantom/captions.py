"""Captions in the manner of a clinician (CMC 2024, 81(3):4503-4523), and reading them back."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from echodiff.anatomy import Finding, Phase, View
from echodiff.phantom.heart import Heart

_DILATED = {
    Finding.DILATED_LV: "left ventricle",
    Finding.DILATED_RV: "right ventricle",
    Finding.DILATED_LA: "left atrium",
    Finding.DILATED_RA: "right atrium",
}
_VIEWS = {
    View.A4C: ("4-chamber position", "apical four-chamber view", "apical 4-chamber position"),
    View.A2C: ("2-chamber position", "apical two-chamber view", "apical 2-chamber position"),
}
_PHASES = {
    Phase.ED: ("end of diastole", "in diastole, ventricles full"),
    Phase.ES: ("end of systole", "in systole, ventricles contracted"),
}


class _Wording(NamedTuple):
    septa: tuple[str, ...]
    walls: tuple[str, ...]
    cavities: tuple[str, ...]
    valves: tuple[str, ...]


_NORMAL = _Wording(
    septa=(
        "atrial and ventricular septum intact",
        "septa intact without defects",
        "both septa without interruption",
    ),
    walls=(
        "walls not thickened",
        "left ventricular walls of normal thickness",
        "myocardium without hypertrophy",
    ),
    cavities=(
        "heart cavities not dilated",
        "cavities of normal size",
        "right and left side unchanged",
    ),
    valves=(
        "valves unchanged",
        "mitral and tricuspid leaflets thin",
        "atrioventricular valves thin",
    ),
)
_ASD = {
    "secundum": (
        "ASD, secundum, in the middle of the atrial septum",
        "secundum ASD, break of the middle atrial septum",
        "atrial septal defect, secundum, ASD with both margins",
    ),
    "primum": (
        "ASD, primum, without lower margin",
        "primum ASD, atrial septum open down to the valves",
        "atrial septal defect, primum, ASD without lower margin",
    ),
}
_VSD = {
    "muscular": (
        "VSD, muscular, in the middle of the ventricular septum",
        "muscular VSD, break of the ventricular septum",
    ),
    "inlet": (
        "VSD, inlet, below the valves",
        "inlet VSD, ventricular septal defect below the valves",
    ),
}
_LVH = (
    "LVH, left ventricular walls thickened, cavity narrow",
    "left ventricular hypertrophy, LVH, thick septum",
    "concentric LVH with thickened walls",
)


def write_caption(heart: Heart, view: View, rng: np.random.Generator) -> str:
    """About 23 words, true to the heart: findings first, then what is unchanged, view, phase,
    age."""

    def pick(choices: tuple[str, ...]) -> str:
        return choices[int(rng.integers(len(choices)))]

    found = set(heart.findings)
    parts = []
    if Finding.ASD in found:
        parts.append(pick(_ASD[heart.asd_type]))
    if Finding.VSD in found:
        parts.append(pick(_VSD[heart.vsd_type]))
    if Finding.LVH in found:
        parts.append(pick(_LVH))
    dilated = [name for finding, name in _DILATED.items() if finding in found]
    if dilated:
        sides = " and ".join(dilated)
        parts.append(pick((f"dilated {sides}", f"{sides} dilated", f"enlarged {sides}")))
    if not found:
        parts.append(pick(("normal heart", "heart unchanged", "healthy heart")))
    if not found & {Finding.ASD, Finding.VSD}:
        parts.append(pick(_NORMAL.septa))
    if Finding.LVH not in found:
        parts.append(pick(_NORMAL.walls))
    if not dilated:
        parts.append(pick(_NORMAL.cavities))
    if rng.random() < 0.3:
        parts.append(pick(_NORMAL.valves))
    return ", ".join([*parts, write_view(heart, view, rng)])


def write_view(heart: Heart, view: View, rng: np.random.Generator) -> str:
    """View, phase and age alone: true of any heart, no word on how it is."""
    choices = (_VIEWS[view], _PHASES[heart.phase])
    parts = [choice[int(rng.integers(len(choice)))] for choice in choices]
    return ", ".join([*parts, f"echocardiogram of the {'child' if heart.is_child else 'adult'}"])


_NEGATION = re.compile(r"\b(no|not|non|without|intact|unchanged|normal|absent|free of|closed)\b")
_SPARED = re.compile(r"\bwithout (upper|lower|any|both)? ?(margin|margins|rim|edge)\b")
_PATTERNS = {
    Finding.ASD: re.compile(
        r"\b(asd|(inter-?)?atrial sept(al|um) (defect|open)|open atrial septum)\b"
    ),
    Finding.VSD: re.compile(r"\b(vsd|(inter-?)?ventricular sept(al|um) defect)\b"),
    Finding.LVH: re.compile(r"\b(lvh|left ventricular hypertrophy|thickened walls)\b"),
}
_ENLARGED = re.compile(r"\b(dilated|enlarged|dilatation|dilation)\b")


def findings_in(text: str) -> frozenset[Finding]:
    """The findings that a caption says are there; "no ASD" and "cavities not dilated" name none.

    Works clause by clause (comma, semicolon, full stop); a clause that denies names no finding.
    """
    found: set[Finding] = set()
    for clause in re.split(r"[,;.()\n]", text.lower()):
        stated = _SPARED.sub("", clause)
        if _NEGATION.search(stated):
            continue
        found |= {finding for finding, pattern in _PATTERNS.items() if pattern.search(stated)}
        if _ENLARGED.search(stated):
            everything = bool(re.search(r"\b(all|four) (heart )?(cavities|chambers)\b", stated))
            both = bool(re.search(r"\bboth atria\b", stated))
            found |= {
                finding
                for finding, name in _DILATED.items()
                if name in stated or everything or (both and "atrium" in name)
            }
    return frozenset(found)
