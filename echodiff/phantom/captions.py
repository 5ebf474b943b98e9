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
_HEALTHY = ("normal heart", "heart unchanged", "healthy heart")
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
        parts.append(pick(_HEALTHY))
    parts += [pick(choices) for choices in _choices_unchanged(heart)]
    if rng.random() < 0.3:
        parts.append(pick(_NORMAL.valves))
    return ", ".join([*parts, write_view(heart, view, rng)])


def write_unchanged(heart: Heart, view: View, rng: np.random.Generator, share: float) -> str:
    """What is as it should be, each part of it told with the chance `share`, and the view.

    True of the heart and silent on its findings; what is left out need not be one.
    """
    choices = [*([] if heart.findings else [_HEALTHY]), *_choices_unchanged(heart), _NORMAL.valves]
    parts = [c[int(rng.integers(len(c)))] for c in choices if rng.random() < share]
    return ", ".join([*parts, write_view(heart, view, rng)])


def _choices_unchanged(heart: Heart) -> list[tuple[str, ...]]:
    """Ways to say it of each part that no finding concerns: septa, walls, cavities."""
    found = set(heart.findings)
    choices = []
    if not found & {Finding.ASD, Finding.VSD}:
        choices.append(_NORMAL.septa)
    if Finding.LVH not in found:
        choices.append(_NORMAL.walls)
    if not found & set(_DILATED):
        choices.append(_NORMAL.cavities)
    return choices


def write_view(heart: Heart, view: View, rng: np.random.Generator) -> str:
    """View, phase and age alone: true of any heart, no word on how it is."""
    choices = (_VIEWS[view], _PHASES[heart.phase])
    parts = [choice[int(rng.integers(len(choice)))] for choice in choices]
    return ", ".join([*parts, f"echocardiogram of the {'child' if heart.is_child else 'adult'}"])


# --- Reading back -------------------------------------------------------------------------------

_PATTERNS = {
    Finding.ASD: re.compile(
        r"\b(asd|(inter-?)?atrial sept(al|um) (defects?|open)|open atrial septum)\b"
    ),
    Finding.VSD: re.compile(r"\b(vsd|(inter-?)?ventricular sept(al|um) defects?)\b"),
    Finding.LVH: re.compile(r"\b(lvh|(left ventricular|lv) hypertrophy|thickened walls)\b"),
}
_ENLARGED = re.compile(r"\b(dilated|dilatation|dilation|enlarged|enlargement)\b")
_UNCHANGED = re.compile(r"\b(normal|unchanged)\b")
_DENIAL = re.compile(r"\b(no|not|non|nor|neither|without|free of|normal|intact)\b")
"""Denies the words after it: "no ASD", "dilated left ventricle without hypertrophy"."""
_ABSENCE = re.compile(r"\b(absent|closed|excluded|not (seen|present|found|visible|detected))\b")
"""Denies the words before it as well: "ASD not seen"."""
_SHARED_NOUNS = (
    (re.compile(r"\b(left|right) and (left|right) (atri\w+|ventric\w+)"), r"\1 \3 and \2 \3"),
    (
        re.compile(r"\b(atrial|ventricular) and (atrial|ventricular) (sept(?:al|um) defects?)"),
        r"\1 \3 or \2 \3",
    ),
)
"""Two things that share a noun, and the same with the noun repeated."""


def _name_chamber(side: str, noun: str, adjective: str, plural: str) -> re.Pattern[str]:
    """How a chamber is named; by its adjective only where its size, not its wall, is meant."""
    sized = r"(?=\s*$|\s+(or|cavity|chamber|size|dilat|enlarge))"
    return re.compile(
        rf"(the )?\b({side} ({noun}\b|{adjective}\b{sized})|{side[0]}{noun[0]}\b"
        rf"|both {plural}\b|(all|four) (heart )?(cavities|chambers)\b)"
    )


_CHAMBERS = {
    Finding.DILATED_LV: _name_chamber("left", "ventricles?", "ventricular", "ventricles"),
    Finding.DILATED_RV: _name_chamber("right", "ventricles?", "ventricular", "ventricles"),
    Finding.DILATED_LA: _name_chamber("left", "atri(um|a)", "atrial", "atria"),
    Finding.DILATED_RA: _name_chamber("right", "atri(um|a)", "atrial", "atria"),
}


def findings_in(text: str) -> frozenset[Finding]:
    """The findings that a caption says are there; "no ASD" and "cavities not dilated" name none.

    Works clause by clause (comma, semicolon, full stop). A denial reaches to the end of its phrase,
    that is up to "with", "and" or "but": write "no ASD or VSD" where both are denied.
    """
    text = text.lower()
    for shared, repeated in _SHARED_NOUNS:
        text = shared.sub(repeated, text)
    found: set[Finding] = set()
    for clause in re.split(r"[,;.()\n]", text):
        words = re.split(r"\b(with|and|but)\b", clause)
        phrases, links = [word.strip() for word in words[::2]], words[1::2]
        stated = [_drop_denied(phrase) for phrase in phrases]
        found |= {f for f, pattern in _PATTERNS.items() if any(map(pattern.search, stated))}
        found |= _find_enlarged(phrases, stated, links)
    return frozenset(found)


def _drop_denied(phrase: str) -> str:
    if _ABSENCE.search(phrase):
        return ""
    return re.split(_DENIAL, phrase, maxsplit=1)[0].strip()


def _find_enlarged(phrases: list[str], stated: list[str], links: list[str]) -> set[Finding]:
    """Chambers that the phrases of a clause call enlarged.

    In "dilated A and B" and in "A and B dilated", one phrase says the size of both.
    """
    is_large = [_is_enlarged(phrase, kept) for phrase, kept in zip(phrases, stated, strict=True)]
    patterns = _CHAMBERS.values()
    for i, link in enumerate(links):
        begins = any(pattern.match(stated[i + 1]) for pattern in patterns)
        if link == "and" and begins and is_large[i + 1] is None:
            is_large[i + 1] = is_large[i]
    for i, link in reversed(list(enumerate(links))):
        is_whole = any(pattern.fullmatch(stated[i]) for pattern in patterns)
        if link == "and" and is_whole and is_large[i] is None:
            is_large[i] = is_large[i + 1]
    large = [kept for kept, is_so in zip(stated, is_large, strict=True) if is_so]
    return {f for f, pattern in _CHAMBERS.items() if any(map(pattern.search, large))}


def _is_enlarged(phrase: str, stated: str) -> bool | None:
    """None where the phrase says nothing on size; `stated` is what it does not deny."""
    if _ENLARGED.search(stated):
        return True
    return False if _ENLARGED.search(phrase) or _UNCHANGED.search(phrase) else None
