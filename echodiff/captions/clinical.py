"""Write captions as clinicians do (after CMC 2024, 81(3):4503-4523), from what a heart has.

Findings come first, with grade and size, then what is normal, the view, the phase and the patient.
A caption never calls normal what a finding concerns.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple, Protocol

import numpy as np

from echodiff.anatomy import AgeGroup, Finding, Grade, GradedFinding, Level, Phase, Sex, View
from echodiff.captions.wordings import BY_KIND, OTHERS, PARTIAL_AVSD

_VIEWS = {
    View.A4C: ("apical four-chamber view", "apical four-chamber view", "4-chamber position"),
    View.A2C: ("apical two-chamber view", "apical two-chamber view", "2-chamber position"),
    View.A3C: ("apical long-axis view", "apical three-chamber view"),
    View.A5C: ("apical five-chamber view", "5-chamber position"),
    View.PLAX: ("parasternal long-axis view",),
    View.PSAX: ("parasternal short-axis view",),
    View.SAX: ("short-axis view",),
    View.SUBCOSTAL: ("subcostal four-chamber view", "subcostal view"),
}
_PHASES = {
    Phase.ED: ("end of diastole", "end-diastolic frame"),
    Phase.ES: ("end of systole", "end-systolic frame"),
}
_ADVERBS = {Grade.MILD: "mildly", Grade.MODERATE: "moderately", Grade.SEVERE: "severely"}
_DEFECT_SIZES = {Grade.MILD: "small", Grade.MODERATE: "moderate", Grade.SEVERE: "large"}
_CHAMBERS = {
    Finding.DILATED_LV: "left ventricle",
    Finding.DILATED_RV: "right ventricle",
    Finding.DILATED_LA: "left atrium",
    Finding.DILATED_RA: "right atrium",
}
_GROUPS = {
    "all chambers": frozenset(_CHAMBERS),
    "both ventricles": frozenset({Finding.DILATED_LV, Finding.DILATED_RV}),
    "both atria": frozenset({Finding.DILATED_LA, Finding.DILATED_RA}),
    "left chambers": frozenset({Finding.DILATED_LV, Finding.DILATED_LA}),
    "right chambers": frozenset({Finding.DILATED_RV, Finding.DILATED_RA}),
}
_SEPTA = {Finding.ASD: "atrial", Finding.VSD: "ventricular"}
_SMALL = frozenset({Finding.HYPOPLASTIC_LV, Finding.HYPOPLASTIC_RV})
_THICK_LV = frozenset({Finding.LVH, Finding.SEPTAL_HYPERTROPHY})
_ATRIOVENTRICULAR = frozenset({"primum", "inlet"})
"""Kinds of defects next to the atrioventricular valves."""

MANY = 3
"""Findings above which each is told in the fewest words: a text encoder reads 77 tokens."""
_HEALTHY = ("normal heart", "heart unchanged", "healthy heart")


class _Scope(NamedTuple):
    """What of a normal heart a view shows."""

    septa: frozenset[Finding]
    """Defects that would be seen."""
    chambers: frozenset[Finding]
    """Dilations that would be seen."""
    valves: tuple[str, ...]


_WHOLE = _Scope(
    frozenset(_SEPTA),
    _GROUPS["all chambers"],
    ("mitral and tricuspid leaflets thin", "atrioventricular valves thin", "valves unchanged"),
)
_LEFT = _Scope(
    frozenset(), _GROUPS["left chambers"], ("mitral leaflets thin", "mitral valve unchanged")
)
_VENTRICLES = _Scope(frozenset({Finding.VSD}), _GROUPS["both ventricles"], ())
_SHORT_AXIS = _VENTRICLES._replace(septa=frozenset())
"""Without septa: one level says nothing of a whole septum."""
_SCOPES = {
    View.A4C: _WHOLE, View.SUBCOSTAL: _WHOLE, View.A2C: _LEFT, View.A3C: _LEFT, View.PLAX: _LEFT,
    View.A5C: _VENTRICLES, View.PSAX: _SHORT_AXIS, View.SAX: _SHORT_AXIS,
}  # fmt: skip


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


def write_caption(
    heart: Described, view: View, rng: np.random.Generator, level: Level | None = None
) -> str:
    """Write about 23 words: findings, then what is normal, view, phase, and patient.

    level: where a short axis cuts the ventricle.
    """
    parts = list(_describe_findings(heart, rng))
    parts += [_pick(choices, rng) for choices in _list_healthy(heart, view)]
    normal = _list_normal(heart, view, is_partial=True)
    parts += [_pick(choices, rng) for choices in normal[: max(0, 4 - len(parts))]]
    valves = _list_valves(heart, view)
    if not heart.findings and valves and rng.random() < 0.3:
        parts.append(_pick(valves, rng))
    return ", ".join([*parts, write_view(heart, view, rng, level)])


def write_unchanged(heart: Described, view: View, rng: np.random.Generator, share: float) -> str:
    """Name each normal part with probability `share`, then the view; findings are not mentioned.

    A part that is not named may be normal too.
    """
    choices = _list_healthy(heart, view)
    choices += _list_normal(heart, view, is_partial=False)
    choices += [valves] if (valves := _list_valves(heart, view)) else []
    parts = [_pick(choice, rng) for choice in choices if rng.random() < share]
    return ", ".join([*parts, write_view(heart, view, rng)])


def write_view(
    heart: Described, view: View, rng: np.random.Generator, level: Level | None = None
) -> str:
    """Write view, level of a short axis, phase, and age group; nothing about findings."""
    parts = [_pick(_VIEWS[view], rng), *([f"{level} level"] if level else [])]
    parts.append(_pick(_PHASES[heart.phase], rng))
    return ", ".join([*parts, f"echocardiogram of the {heart.age_group}"])


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _list_healthy(heart: Described, view: View) -> list[tuple[str, ...]]:
    """Wordings for a heart without findings, where the view shows all of it."""
    return [_HEALTHY] if _SCOPES[view] is _WHOLE and not heart.findings else []


def _describe_findings(heart: Described, rng: np.random.Generator) -> Iterator[str]:
    names = {finding.name for finding in heart.findings}
    is_brief = len(names) > MANY
    is_common = Finding.COMMON_AV_VALVE in names
    near_valves = [f for f in heart.findings if f.kind in _ATRIOVENTRICULAR]
    for finding in heart.findings:
        if finding.name in _CHAMBERS:
            continue
        choices = BY_KIND.get(finding.name, {}).get(finding.kind) or OTHERS[finding.name]
        if finding.kind == "primum" and not is_common and len(near_valves) == 1:
            choices = (*choices, *PARTIAL_AVSD)
        template = choices[0] if is_brief else _pick(choices, rng)
        yield _fill(template, replace(finding, size_mm=None) if is_brief else finding, rng)
    dilated = sorted(
        (finding for finding in heart.findings if finding.name in _CHAMBERS),
        key=lambda finding: list(Grade).index(finding.grade),
        reverse=True,
    )
    for grade, group in groupby(dilated, key=lambda finding: finding.grade):
        chambers = _name_chambers({finding.name for finding in group})
        adverb = _grade(_ADVERBS[grade], rng)
        before: tuple[str, ...] = (f"{adverb}dilated {chambers}", f"{adverb}enlarged {chambers}")
        if chambers.startswith(("all ", "both ")):  # not "dilated both atria"
            before = (f"{chambers} {adverb}enlarged",)
        yield _pick((*before, f"{chambers} {adverb}dilated"), rng)


def _fill(template: str, finding: GradedFinding, rng: np.random.Generator) -> str:
    """Fill in grade and size: the grade three times of four, the size one time of two.

    Sizes are rounded down to whole millimetres, so that none reaches the limit of the next grade.
    """
    size = f"{int(finding.size_mm)} mm" if finding.size_mm and rng.random() < 0.5 else ""
    return template.format(
        size=_grade(_DEFECT_SIZES[finding.grade], rng),
        grade=_grade(finding.grade, rng),
        adverb=_grade(_ADVERBS[finding.grade], rng),
        mm=f", {size}" if size else "",
        walls=f", walls {size}" if size else "",
    )


def _grade(word: str, rng: np.random.Generator) -> str:
    return f"{word} " if rng.random() < 0.75 else ""


def _name_chambers(dilated: Set[Finding]) -> str:
    """Name chambers one by one, or as a group."""
    for name, chambers in _GROUPS.items():
        if dilated == chambers:
            return name
    return " and ".join(name for finding, name in _CHAMBERS.items() if finding in dilated)


def _list_normal(heart: Described, view: View, *, is_partial: bool) -> list[tuple[str, ...]]:
    """Wordings for what is normal: septa, walls, cavities, as far as the view shows them.

    is_partial: whether the healthy one of two parts may be named ("ventricular septum intact").
    """
    found = {finding.name for finding in heart.findings}
    scope = _SCOPES[view]
    choices: list[tuple[str, ...]] = []
    intact = scope.septa - found
    if intact == set(_SEPTA):
        choices.append((
            "atrial and ventricular septum intact",
            "septa intact without defects",
            "no septal defect",
        ))  # fmt: skip
    elif intact and (is_partial or intact == scope.septa):
        (name,) = (_SEPTA[defect] for defect in intact)
        choices.append((f"{name} septum intact", f"inter{name} septum without defects"))
    if not found & _THICK_LV:
        walls = (
            "left ventricular walls of normal thickness",
            "left ventricular walls not thickened",
        )
        general = ("walls not thickened", "myocardium without hypertrophy")
        is_left_only = Finding.RVH in found or scope.chambers == _GROUPS["left chambers"]
        choices.append(walls if is_left_only else (*walls, *general))
    choices += _list_cavities(found, scope.chambers, is_partial=is_partial)
    return choices


def _list_cavities(
    found: set[Finding], shown: frozenset[Finding], *, is_partial: bool
) -> list[tuple[str, ...]]:
    if not found & shown:
        if shown != set(_CHAMBERS):
            return [(f"{_name_chambers(shown).removeprefix('both ')} not dilated",)]
        sizes = ("cavities of normal size",) if not found & (_THICK_LV | _SMALL) else ()
        sides = ("right and left side unchanged",) if not found else ()
        return [("heart cavities not dilated", *sizes, *sides)]
    if is_partial and shown == set(_CHAMBERS):
        for side in ("left chambers", "right chambers"):
            if not found & _GROUPS[side]:
                return [(f"{side} not dilated",)]
    return []


def _list_valves(heart: Described, view: View) -> tuple[str, ...]:
    found = {finding.name for finding in heart.findings}
    if found & {Finding.THICKENED_VALVES, Finding.COMMON_AV_VALVE}:
        return ()
    has_shared = any(finding.kind in _ATRIOVENTRICULAR for finding in heart.findings)
    valves = _SCOPES[view].valves
    return tuple(words for words in valves if not (has_shared and words == "valves unchanged"))
