"""Read the findings of a report: each is present, absent or unknown."""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from echodiff.anatomy import Finding
from echodiff.captions.phrases import CHAMBERS, Item, Mode, read_sentences
from echodiff.captions.tokens import read_tokens


class Presence(StrEnum):
    """What a text says of a finding."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"
    """Not mentioned, in doubt, contradicted, or history."""


class _Statement(NamedTuple):
    finding: Finding
    presence: Presence
    level: int
    """2: of this part by name; 1: of several parts; 0: in general ("normal heart")."""
    is_past: bool = False


_Findings = Mapping[str, Finding]
_DILATED: _Findings = {
    "LV": Finding.DILATED_LV, "RV": Finding.DILATED_RV,
    "LA": Finding.DILATED_LA, "RA": Finding.DILATED_RA,
}  # fmt: skip
_THICK: _Findings = dict.fromkeys(("LV", "LV-wall", "WALL", "SEPTUM", "IVS"), Finding.LVH)
_OPEN: _Findings = {"IAS": Finding.ASD, "IVS": Finding.VSD}
_STATES: Mapping[str, tuple[tuple[_Findings, Presence], ...]] = {
    "dilated": ((_DILATED, Presence.PRESENT),),
    "small": ((_DILATED, Presence.ABSENT),),
    "narrow": ((_DILATED, Presence.ABSENT),),
    "normal size": ((_DILATED, Presence.ABSENT),),
    "thick": ((_THICK, Presence.PRESENT),),
    "thin": ((_THICK, Presence.ABSENT),),
    "normal thickness": ((_THICK, Presence.ABSENT),),
    "open": ((_OPEN, Presence.PRESENT),),
    "intact": ((_OPEN, Presence.ABSENT),),
    "closed": ((_OPEN, Presence.ABSENT),),
    "normal": ((_DILATED, Presence.ABSENT), (_THICK, Presence.ABSENT), (_OPEN, Presence.ABSENT)),
}
"""Findings by part, and what a state of the part says of them."""

_TERMS: Mapping[str, tuple[Finding, ...]] = {
    "asd": (Finding.ASD,),
    "vsd": (Finding.VSD,),
    "septal-defects": (Finding.ASD, Finding.VSD),
    "avsd": (Finding.ASD,),
    "partial-avsd": (Finding.ASD,),
    "complete-avsd": (Finding.ASD, Finding.VSD),
    "fallot": (Finding.VSD,),
    "lvh": (Finding.LVH,),
    "septal-hypertrophy": (Finding.LVH,),
    "both-hypertrophied": (Finding.LVH,),
    "dilated-lv": (Finding.DILATED_LV,),
    "dilated-rv": (Finding.DILATED_RV,),
    "dilated-la": (Finding.DILATED_LA,),
    "dilated-ra": (Finding.DILATED_RA,),
}
"""Findings of the terms that name part and state at once."""
_COMPOSED = frozenset({"avsd", "partial-avsd", "complete-avsd", "fallot"})
"""Terms whose denial says nothing of their parts."""
_OPPOSITE = {Presence.PRESENT: Presence.ABSENT, Presence.ABSENT: Presence.UNKNOWN}


def read_findings(text: str) -> dict[Finding, Presence]:
    """Return what a text in English says of each finding.

    A finding that the text does not mention, doubts ("possible", "cannot be excluded"), contradicts
    or reports as history ("status post closure of an ASD") is unknown, never absent.
    """
    statements = list(_list_statements(text))
    return {finding: _decide([s for s in statements if s.finding is finding]) for finding in Finding}


def findings_in(text: str) -> frozenset[Finding]:
    """Return the findings that a text states as present."""
    read = read_findings(text).items()
    return frozenset(finding for finding, presence in read if presence is Presence.PRESENT)


def _list_statements(text: str) -> Iterator[_Statement]:
    defects = list[Finding]()
    for sentence in read_sentences(read_tokens(text)):
        side = ""
        for item in sentence:
            if item.state == "repaired":
                yield from (_Statement(f, Presence.UNKNOWN, 3, is_past=True) for f in defects)
                continue
            side = next((p[:2] for p in item.parts if p[:2] in ("LV", "RV")), side)
            for statement in _state(item, side):
                defects += [statement.finding] * (statement.finding in _OPEN.values())
                yield statement


def _state(item: Item, side: str) -> Iterator[_Statement]:
    """What an item says; `side` is the ventricle last named, whose wall a bare "wall" is."""
    if item.mode is Mode.DROPPED:
        return
    for finding, presence, level in _find_affected(item, side):
        if item.mode in (Mode.DOUBTED, Mode.PAST):
            yield _Statement(finding, Presence.UNKNOWN, level, item.mode is Mode.PAST)
        elif item.mode is Mode.DENIED:
            is_opened = item.state in ("intact", "closed")
            denied = Presence.PRESENT if is_opened else _OPPOSITE[presence]
            if denied is not Presence.UNKNOWN:
                yield _Statement(finding, denied, level)
        else:
            yield _Statement(finding, presence, level)


def _find_affected(item: Item, side: str) -> Iterator[tuple[Finding, Presence, int]]:
    term = item.state.removesuffix("-kind")
    if term in _TERMS:
        is_general = term == "septal-defects"
        if item.mode is Mode.DENIED and term in _COMPOSED:
            return
        for finding in _TERMS[term]:
            # "Septal defect" alone does not say which.
            is_vague = is_general and item.mode is Mode.STATED
            presence = Presence.UNKNOWN if is_vague else Presence.PRESENT
            yield finding, presence, 1 if is_general else 2
        return
    state, parts = item.state, item.parts
    if state == "abnormal":  # denied: "no abnormality"
        if item.mode is not Mode.DENIED:
            return
        ...
