"""How severe a finding is, how large that makes it, and which findings are associated with it.

Partition values: left ventricle, wall and left atrium after ASE/EACVI 2015, by sex; the right heart
has one limit there, above which the steps are this project's. Defects, effusions and leaflets have
the customary limits (atrial defects 8 and 15 mm, ventricular ones 5 and 10 mm, effusions 10 and
20 mm). In children lengths follow body size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from echodiff.anatomy import KINDS, Finding, Grade, GradedFinding, Sex
from echodiff.phantom.physiology import NormalHeart, Person

_GRADES = tuple(Grade)
Steps = tuple[float, float, float, float]
"""Where mild begins, where moderate and severe do, and the largest value drawn."""

_LENGTH_MM: dict[Finding, Steps] = {
    Finding.ASD: (4, 8, 15, 25),
    Finding.VSD: (3, 5, 10, 15),
    Finding.SEPTAL_HYPERTROPHY: (15, 18, 23, 29),
    Finding.RVH: (5.5, 7, 9, 12),
    Finding.DILATED_RV: (42, 47, 53, 61),
    Finding.THICKENED_VALVES: (4, 5, 7, 9),
    Finding.PERICARDIAL_EFFUSION: (4, 10, 20, 28),
}
_LEAST_MM = {Finding.ASD: (4.0, 5.0, 7.0, 10.0), Finding.VSD: (3.0, 4.0, 6.0, 8.0)}
"""What the steps of a defect are at least, however small the child."""
_LVH_MM = {Sex.MALE: (12, 14, 17, 21), Sex.FEMALE: (12, 13, 16, 20)}
_LV_ML_M2 = {Sex.MALE: (75, 90, 101, 145), Sex.FEMALE: (62, 71, 81, 125)}
_LV_OF_CHILD: Steps = (1.45, 1.75, 2.0, 2.6)
"""Dilation in a child, in normal volumes."""
_LA_ML_M2: Steps = (35, 42, 48.5, 68)
_RA_ML_M2 = {Sex.MALE: (33, 41, 49, 68), Sex.FEMALE: (28, 36, 44, 62)}
_SHARE_LEFT = {Grade.MILD: (0.6, 0.7), Grade.MODERATE: (0.4, 0.55), Grade.SEVERE: (0.15, 0.3)}
"""Of a hypoplastic left ventricle: volume, in normal ones."""
_RV_LEFT = {Grade.MILD: (0.66, 0.74), Grade.MODERATE: (0.52, 0.62), Grade.SEVERE: (0.36, 0.46)}
"""Of a hypoplastic right ventricle: width, in normal ones."""

KIND_SHARES = {
    Finding.ASD: (0.74, 0.18, 0.08),
    Finding.VSD: (0.35, 0.2, 0.45),
    Finding.THICKENED_VALVES: (0.6, 0.2, 0.2),
}
"""How often each of `KINDS` occurs; ostium secundum to primum is about 4 to 1."""


class _Associated(NamedTuple):
    """A finding that goes with another: its chance when the other is mild, moderate, severe, and
    by how many grades it may be milder than its cause."""

    name: Finding
    chance: tuple[float, float, float]
    milder: int = 1


_ASSOCIATED: dict[Finding, tuple[_Associated, ...]] = {
    Finding.ASD: (
        _Associated(Finding.DILATED_RA, (0.3, 1, 1)),
        _Associated(Finding.DILATED_RV, (0.1, 1, 1)),
    ),
    Finding.VSD: (
        _Associated(Finding.DILATED_LA, (0.2, 1, 1)),
        _Associated(Finding.DILATED_LV, (0, 1, 1)),
    ),
    Finding.COMMON_AV_VALVE: (
        _Associated(Finding.ASD, (1, 1, 1), 0),
        _Associated(Finding.VSD, (1, 1, 1), 0),
        _Associated(Finding.DILATED_RA, (0.5, 1, 1)),
        _Associated(Finding.DILATED_RV, (0.5, 1, 1)),
    ),
    Finding.DILATED_LV: (_Associated(Finding.DILATED_LA, (0.5, 1, 1)),),
    Finding.DILATED_RV: (_Associated(Finding.DILATED_RA, (1, 1, 1)),),
    Finding.LVH: (_Associated(Finding.DILATED_LA, (0.3, 0.7, 1), 2),),
    Finding.SEPTAL_HYPERTROPHY: (_Associated(Finding.DILATED_LA, (0.4, 0.8, 1), 2),),
    Finding.RVH: (_Associated(Finding.DILATED_RA, (0.2, 0.7, 1)),),
    Finding.HYPOPLASTIC_LV: (
        _Associated(Finding.DILATED_RV, (0.7, 1, 1)),
        _Associated(Finding.DILATED_RA, (0.7, 1, 1)),
    ),
    Finding.HYPOPLASTIC_RV: (_Associated(Finding.DILATED_RA, (0.7, 1, 1)),),
}
_EXCLUDED: tuple[frozenset[Finding], ...] = (
    frozenset({Finding.HYPOPLASTIC_LV, Finding.DILATED_LV, Finding.LVH,
               Finding.SEPTAL_HYPERTROPHY}),
    frozenset({Finding.HYPOPLASTIC_RV, Finding.DILATED_RV}),
    frozenset({Finding.HYPOPLASTIC_RV, Finding.RVH}),
    frozenset({Finding.HYPOPLASTIC_RV, Finding.ASD}),
    frozenset({Finding.HYPOPLASTIC_LV, Finding.HYPOPLASTIC_RV}),
    frozenset({Finding.HYPOPLASTIC_LV, Finding.VSD}),
    frozenset({Finding.COMMON_AV_VALVE, Finding.HYPOPLASTIC_LV}),
    frozenset({Finding.COMMON_AV_VALVE, Finding.HYPOPLASTIC_RV}),
    frozenset({Finding.COMMON_AV_VALVE, Finding.THICKENED_VALVES}),
)  # fmt: skip
"""Findings of which a heart here has one at most."""


def drop_excluded(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings in their order, without those that an earlier one excludes."""
    kept: list[Finding] = []
    for name in findings:
        if not any(name in group and group & set(kept) for group in _EXCLUDED):
            kept.append(name)
    return tuple(kept)


def grade_findings(
    rng: np.random.Generator,
    names: Iterable[Finding],
    person: Person,
    normal: NormalHeart,
    *,
    grades: Mapping[Finding, Grade],
    kinds: Mapping[Finding, str],
    visible: Iterable[Finding],
) -> tuple[GradedFinding, ...]:
    """Draw grade, kind and size of each finding and of its associated findings, in the order of
    `Finding`.

    grades, kinds: those that are not left to chance. visible: what associated findings may be.
    """
    shown = frozenset(visible)
    chosen = drop_excluded(sorted(names, key=list(Finding).index))
    graded: dict[Finding, GradedFinding] = {}
    for name in chosen:
        grade = grades.get(name) or _GRADES[int(rng.integers(3))]
        graded[name] = GradedFinding(name=name, grade=grade, kind=_draw_kind(rng, name, kinds))
    _grade_common_valve(graded)
    causes = list(chosen)
    for name in causes:  # grows: the defects of a common valve dilate chambers too
        for finding in _draw_associated(rng, graded[name]):
            known = graded.get(finding.name)
            if known is not None:
                grade = max(known, finding, key=_rank).grade
                kind = finding.kind or known.kind
                graded[finding.name] = replace(known, grade=grade, kind=kind)
            elif finding.name in shown & {*drop_excluded((*graded, finding.name))}:
                graded[finding.name] = finding
                causes.append(finding.name)
    return tuple(_measure(rng, graded[name], person, normal) for name in Finding if name in graded)


def _grade_common_valve(graded: dict[Finding, GradedFinding]) -> None:
    """Give a common valve the grade of the largest of its defects, in place."""
    common = graded.get(Finding.COMMON_AV_VALVE)
    if common is not None:
        defects = [graded[name] for name in (Finding.ASD, Finding.VSD) if name in graded]
        grade = max(common, *defects, key=_rank).grade if defects else common.grade
        graded[Finding.COMMON_AV_VALVE] = replace(common, grade=grade)


def _rank(finding: GradedFinding) -> int:
    return _GRADES.index(finding.grade)


def _draw_kind(rng: np.random.Generator, name: Finding, kinds: Mapping[Finding, str]) -> str:
    if name not in KINDS:
        return ""
    return kinds.get(name) or str(rng.choice(KINDS[name], p=KIND_SHARES[name]))


def _draw_associated(rng: np.random.Generator, finding: GradedFinding) -> list[GradedFinding]:
    """Draw the findings that go with this one. A thickened valve leaks: its atrium dilates."""
    rank = _rank(finding)
    rules = list(_ASSOCIATED.get(finding.name, ()))
    if finding.name is Finding.THICKENED_VALVES:
        sides = {"mitral": Finding.DILATED_LA, "tricuspid": Finding.DILATED_RA}
        rules = [
            _Associated(atrium, (0.1, 0.6, 1))
            for kind, atrium in sides.items() if finding.kind in (kind, "both")
        ]  # fmt: skip
    associated = []
    for rule in rules:
        if rng.random() < rule.chance[rank]:
            grade = _GRADES[max(0, rank - int(rng.integers(rule.milder + 1)))]
            kind = {Finding.ASD: "primum", Finding.VSD: "inlet"}.get(rule.name, "")
            associated.append(
                GradedFinding(name=rule.name, grade=grade, kind=kind, cause=finding.name)
            )
    return associated


def _measure(
    rng: np.random.Generator, finding: GradedFinding, person: Person, normal: NormalHeart
) -> GradedFinding:
    """Draw the size of a finding within its grade."""
    name, rank = finding.name, _rank(finding)

    def within(steps: Steps) -> float:
        low, high = steps[rank], steps[rank + 1]
        return float(rng.uniform(low, high - 0.02 * (high - low)))

    def scaled(steps: Steps) -> Steps:
        scale = {
            Finding.THICKENED_VALVES: person.leaflet_scale,
            Finding.RVH: person.rv_wall_scale,
        }.get(name, person.length_scale)
        lengths = [step * scale for step in steps]
        least = _LEAST_MM.get(name, (0.0,) * 4)
        a, b, c, d = (max(pair) for pair in zip(lengths, least, strict=True))
        return a, b, c, d

    if name in _LENGTH_MM:
        return replace(finding, size_mm=round(within(scaled(_LENGTH_MM[name])), 1))
    if name is Finding.LVH:
        return replace(finding, size_mm=round(within(scaled(_LVH_MM[person.sex])), 1))
    if name is Finding.HYPOPLASTIC_RV:
        width = normal.rv_basal_mm * float(rng.uniform(*_RV_LEFT[finding.grade]))
        return replace(finding, size_mm=round(width, 1))
    index = normal.edv_ml / person.bsa_m2
    if name is Finding.HYPOPLASTIC_LV:
        volume = index * float(rng.uniform(*_SHARE_LEFT[finding.grade]))
    elif name is Finding.DILATED_LV:
        of_child = 52 * person.bsa_m2**0.2
        volume = within(_LV_ML_M2[person.sex]) if person.is_adult else within(_LV_OF_CHILD)
        volume *= 1.0 if person.is_adult else of_child
    elif name is Finding.DILATED_LA:
        volume = within(_LA_ML_M2)
    elif name is Finding.DILATED_RA:
        volume = within(_RA_ML_M2[person.sex])
    else:
        return finding  # a common valve has the grade of its defects
    return replace(finding, volume_ml_m2=round(volume, 1))
