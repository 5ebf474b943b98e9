"""Write captions as a clinician does (CMC 2024, 81(3):4503-4523), from what a heart has."""

from typing import NamedTuple, Protocol

import numpy as np

from echodiff.anatomy import AgeGroup, Finding, GradedFinding, Phase, Sex, View

_DILATED = {
    Finding.DILATED_LV: "left ventricle",
    Finding.DILATED_RV: "right ventricle",
    Finding.DILATED_LA: "left atrium",
    Finding.DILATED_RA: "right atrium",
}
_VIEWS = {
    View.A4C: ("4-chamber position", "apical four-chamber view", "apical 4-chamber position"),
    View.A2C: ("2-chamber position", "apical two-chamber view", "apical 2-chamber position"),
    View.A3C: ("apical three-chamber view", "apical long-axis view"),
    View.A5C: ("apical five-chamber view", "5-chamber position"),
    View.SUBCOSTAL: ("subcostal four-chamber view", "subcostal view"),
    View.PSAX: ("parasternal short-axis view", "short axis, parasternal"),
}
_PHASES = {
    Phase.ED: ("end of diastole", "in diastole, ventricles full"),
    Phase.ES: ("end of systole", "in systole, ventricles contracted"),
}


class Described(Protocol):
    """What a caption needs to know of a heart."""

    @property
    def findings(self) -> tuple[GradedFinding, ...]: ...
    @property
    def phase(self) -> Phase: ...
    @property
    def sex(self) -> Sex: ...
    @property
    def age_group(self) -> AgeGroup: ...


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
_HEALTHY = ("normal heart", "heart unchanged", "healthy heart")
_ASD: dict[str, tuple[str, ...]] = {
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
    "sinus_venosus": (
        "ASD, sinus venosus, without upper margin",
        "sinus venosus ASD at the upper margin of the atrial septum",
    ),
}
_VSD: dict[str, tuple[str, ...]] = {
    "muscular": (
        "VSD, muscular, in the middle of the ventricular septum",
        "muscular VSD, break of the ventricular septum",
    ),
    "inlet": (
        "VSD, inlet, below the valves",
        "inlet VSD, ventricular septal defect below the valves",
    ),
    "perimembranous": (
        "VSD, perimembranous, below the aortic valve",
        "perimembranous VSD, ventricular septal defect below the aorta",
    ),
}
_LVH = (
    "LVH, left ventricular walls thickened, cavity narrow",
    "left ventricular hypertrophy, LVH, thick septum",
    "concentric LVH with thickened walls",
)
_THICKENED: dict[str, tuple[str, ...]] = {
    "mitral": ("mitral leaflets thickened", "thickened mitral valve"),
    "tricuspid": ("tricuspid leaflets thickened", "thickened tricuspid valve"),
    "both": ("mitral and tricuspid leaflets thickened", "both atrioventricular valves thickened"),
}
_BY_KIND: dict[Finding, dict[str, tuple[str, ...]]] = {
    Finding.ASD: _ASD,
    Finding.VSD: _VSD,
    Finding.THICKENED_VALVES: _THICKENED,
}
_OTHER = {
    Finding.LVH: _LVH,
    Finding.SEPTAL_HYPERTROPHY: ("asymmetric septal hypertrophy", "asymmetrically thick septum"),
    Finding.RVH: ("right ventricular hypertrophy", "RVH, right ventricular wall thickened"),
    Finding.HYPOPLASTIC_LV: ("hypoplastic left ventricle",),
    Finding.HYPOPLASTIC_RV: ("hypoplastic right ventricle",),
    Finding.COMMON_AV_VALVE: ("common atrioventricular valve", "common AV valve"),
    Finding.PERICARDIAL_EFFUSION: ("pericardial effusion", "fluid in the pericardium"),
}
_THICK_WALLS = frozenset({Finding.LVH, Finding.SEPTAL_HYPERTROPHY, Finding.RVH})
_VALVES = frozenset({Finding.THICKENED_VALVES, Finding.COMMON_AV_VALVE})


def write_caption(heart: Described, view: View, rng: np.random.Generator) -> str:
    """Write about 23 words: findings, then what is normal, view, phase, and child or adult."""

    def pick(choices: tuple[str, ...]) -> str:
        return choices[int(rng.integers(len(choices)))]

    found = {finding.name for finding in heart.findings}
    parts = []
    for finding in heart.findings:
        if finding.name in _BY_KIND:
            parts.append(pick(_BY_KIND[finding.name][finding.kind]))
        elif finding.name in _OTHER:
            parts.append(pick(_OTHER[finding.name]))
    dilated = [name for finding, name in _DILATED.items() if finding in found]
    if dilated:
        sides = " and ".join(dilated)
        parts.append(pick((f"dilated {sides}", f"{sides} dilated", f"enlarged {sides}")))
    if not found:
        parts.append(pick(_HEALTHY))
    parts += [pick(choices) for choices in _choices_unchanged(heart)]
    if not found & _VALVES and rng.random() < 0.3:
        parts.append(pick(_NORMAL.valves))
    return ", ".join([*parts, write_view(heart, view, rng)])


def write_unchanged(heart: Described, view: View, rng: np.random.Generator, share: float) -> str:
    """Name each normal part with probability `share`, then the view; findings are not mentioned.

    A part that is not named may be normal too.
    """
    choices = [*([] if heart.findings else [_HEALTHY]), *_choices_unchanged(heart)]
    if not {finding.name for finding in heart.findings} & _VALVES:
        choices.append(_NORMAL.valves)
    parts = [c[int(rng.integers(len(c)))] for c in choices if rng.random() < share]
    return ", ".join([*parts, write_view(heart, view, rng)])


def _choices_unchanged(heart: Described) -> list[tuple[str, ...]]:
    """Wordings for each part without a finding: septa, walls, cavities."""
    found = {finding.name for finding in heart.findings}
    choices = []
    if not found & {Finding.ASD, Finding.VSD}:
        choices.append(_NORMAL.septa)
    if not found & _THICK_WALLS:
        choices.append(_NORMAL.walls)
    if not found & {*_DILATED, Finding.HYPOPLASTIC_LV, Finding.HYPOPLASTIC_RV}:
        choices.append(_NORMAL.cavities)
    return choices


def write_view(heart: Described, view: View, rng: np.random.Generator) -> str:
    """Write view, phase, and child or adult; nothing about findings."""
    choices = (_VIEWS[view], _PHASES[heart.phase])
    parts = [choice[int(rng.integers(len(choice)))] for choice in choices]
    return ", ".join([*parts, f"echocardiogram of the {heart.age_group}"])
