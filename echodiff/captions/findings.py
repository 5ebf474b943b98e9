"""Read the findings of a report: each is present, absent or unknown."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from echodiff.anatomy import Finding
from echodiff.captions.lines import join_lines
from echodiff.captions.phrases import ANSWER, VAGUE, Item, Mode
from echodiff.captions.scope import read_sentences
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
    """2: of this part by name; 1: of several parts; 0: in general ("normal heart"); -1: of one
    kind or grade."""
    is_past: bool = False


_Findings = Mapping[str, tuple[Finding, ...]]
_DILATED: _Findings = {
    "LV": (Finding.DILATED_LV,), "RV": (Finding.DILATED_RV,),
    "LA": (Finding.DILATED_LA,), "RA": (Finding.DILATED_RA,),
    "LV-wall": (Finding.DILATED_LV,), "RV-wall": (Finding.DILATED_RV,),
}  # fmt: skip
"""A wall stands for its ventricle: "LV walls thickened, cavity narrow"."""
_SMALL: _Findings = {"LV": (Finding.HYPOPLASTIC_LV,), "RV": (Finding.HYPOPLASTIC_RV,)}
_THICK: _Findings = {
    **dict.fromkeys(("LV", "LV-wall", "WALL"), (Finding.LVH,)),
    **dict.fromkeys(("RV", "RV-wall"), (Finding.RVH,)),
    **dict.fromkeys(("MV", "TV"), (Finding.THICKENED_VALVES,)),
}
_HYPERTROPHIED: _Findings = {
    **{part: _THICK[part] for part in ("LV", "LV-wall", "WALL", "RV", "RV-wall")},
    **dict.fromkeys(("IVS", "SEPTUM"), (Finding.SEPTAL_HYPERTROPHY,)),
}
_SEPTUM_THICK: _Findings = dict.fromkeys(
    ("IVS", "SEPTUM"), (Finding.LVH, Finding.SEPTAL_HYPERTROPHY)
)
_WET: _Findings = {"PERICARDIUM": (Finding.PERICARDIAL_EFFUSION,)}
_OPEN: _Findings = {"IAS": (Finding.ASD,), "IVS": (Finding.VSD,)}
_NORMAL: _Findings = {
    **_OPEN,
    "LV": (Finding.DILATED_LV, Finding.HYPOPLASTIC_LV, Finding.LVH, Finding.SEPTAL_HYPERTROPHY),
    "RV": (Finding.DILATED_RV, Finding.HYPOPLASTIC_RV, Finding.RVH),
    "LA": (Finding.DILATED_LA,), "RA": (Finding.DILATED_RA,),
    **{part: (*_THICK[part], Finding.SEPTAL_HYPERTROPHY) for part in ("LV-wall", "WALL")},
    "RV-wall": (Finding.RVH,),
    "MV": (Finding.THICKENED_VALVES, Finding.COMMON_AV_VALVE),
    "TV": (Finding.THICKENED_VALVES, Finding.COMMON_AV_VALVE),
    "PERICARDIUM": (Finding.PERICARDIAL_EFFUSION,),
    "HEART": tuple(Finding),
}  # fmt: skip
_PRESENT, _ABSENT, _UNKNOWN = Presence.PRESENT, Presence.ABSENT, Presence.UNKNOWN
_STATES: Mapping[str, tuple[tuple[_Findings, Presence], ...]] = {
    "dilated": ((_DILATED, _PRESENT),),
    "small": ((_DILATED, _ABSENT), (_SMALL, _PRESENT)),
    "narrow": ((_DILATED, _ABSENT), (_SMALL, _UNKNOWN)),
    "normal size": ((_DILATED, _ABSENT), (_SMALL, _ABSENT)),
    "thick": ((_THICK, _PRESENT), (_SEPTUM_THICK, _UNKNOWN)),
    "hypertrophied": ((_HYPERTROPHIED, _PRESENT),),
    "thin": ((_THICK, _ABSENT), (_SEPTUM_THICK, _ABSENT)),
    "normal thickness": ((_THICK, _ABSENT), (_SEPTUM_THICK, _ABSENT)),
    "open": ((_OPEN, _PRESENT),),
    "intact": ((_OPEN, _ABSENT),),
    "closed": ((_OPEN, _ABSENT),),
    "fluid": ((_WET, _PRESENT),),
    "normal": ((_NORMAL, _ABSENT),),
}
"""Findings by part, and what a state of the part says of them."""
_TERMS: Mapping[str, tuple[Finding, ...]] = {
    "asd": (Finding.ASD,),
    "vsd": (Finding.VSD,),
    "septal-defects": (Finding.ASD, Finding.VSD),
    "both-defects": (Finding.ASD, Finding.VSD),
    "avsd": (Finding.ASD,),
    "partial-avsd": (Finding.ASD,),
    "complete-avsd": (Finding.ASD, Finding.VSD, Finding.COMMON_AV_VALVE),
    "fallot": (Finding.VSD, Finding.RVH),
    "lvh": (Finding.LVH,),
    "hcm": (Finding.LVH, Finding.SEPTAL_HYPERTROPHY),
    "hocm": (Finding.SEPTAL_HYPERTROPHY,),
    "rvh": (Finding.RVH,),
    "both-hypertrophied": (Finding.LVH, Finding.RVH),
    "septal-hypertrophy": (Finding.SEPTAL_HYPERTROPHY,),
    "dilated-all": (
        Finding.DILATED_LV,
        Finding.DILATED_RV,
        Finding.DILATED_LA,
        Finding.DILATED_RA,
    ),
    "dilated-lv": (Finding.DILATED_LV,),
    "dilated-rv": (Finding.DILATED_RV,),
    "dilated-la": (Finding.DILATED_LA,),
    "dilated-ra": (Finding.DILATED_RA,),
    "hypoplastic-lv": (Finding.HYPOPLASTIC_LV,),
    "hypoplastic-rv": (Finding.HYPOPLASTIC_RV,),
    "common-valve": (Finding.COMMON_AV_VALVE,),
    "effusion": (Finding.PERICARDIAL_EFFUSION,),
}
"""Findings of the terms that name part and state at once."""
_DENIED: Mapping[str, tuple[Finding, ...]] = {
    "avsd": (Finding.COMMON_AV_VALVE,),
    "partial-avsd": (),
    "complete-avsd": (Finding.COMMON_AV_VALVE,),
    "fallot": (),
    "hcm": (),
    "hocm": (),
    "lvh": (Finding.LVH, Finding.SEPTAL_HYPERTROPHY),
}
"""The same where a denial says less or more."""
_ANYWHERE: Mapping[str, tuple[Finding, ...]] = {
    "dilated": (Finding.DILATED_LV, Finding.DILATED_RV, Finding.DILATED_LA, Finding.DILATED_RA),
    "thick": (Finding.LVH, Finding.SEPTAL_HYPERTROPHY),
    "hypertrophied": (Finding.LVH, Finding.SEPTAL_HYPERTROPHY, Finding.RVH),
    "abnormal": tuple(Finding),
}
"""What a denial without a part denies: "no dilatation"."""
_UNDECIDED = frozenset({"septal-defects", "hcm"})
"""Terms that do not say which of their findings is there."""
_ALL_SIZES = (*_ANYWHERE["dilated"], Finding.HYPOPLASTIC_LV, Finding.HYPOPLASTIC_RV)
_SIDES = {"lvh": "LV", "rvh": "RV"}
_THICKENING = frozenset({"thick", "hypertrophied"})
_OPPOSITE = {_PRESENT: _ABSENT, _ABSENT: _UNKNOWN, _UNKNOWN: _UNKNOWN}


def read_findings(text: str) -> dict[Finding, Presence]:
    """Return what a text in English says of each finding.

    A finding that the text does not mention, doubts ("possible", "cannot be excluded"), contradicts
    or reports as history ("status post closure of an ASD") is unknown, never absent.
    """
    statements = _list_statements(text)
    return {
        finding: _decide([s for s in statements if s.finding is finding]) for finding in Finding
    }


def findings_in(text: str) -> frozenset[Finding]:
    """Return the findings that a text states as present."""
    read = read_findings(text).items()
    return frozenset(finding for finding, presence in read if presence is Presence.PRESENT)


def findings_possible_in(text: str) -> frozenset[Finding]:
    """Return the findings that a text states as present or leaves open: in doubt, contradicted or
    history. Those it does not mention are not among them."""
    mentioned = {statement.finding for statement in _list_statements(text)}
    read = read_findings(text)
    return frozenset(one for one in mentioned if read[one] is not Presence.ABSENT)


def _list_statements(text: str) -> list[_Statement]:
    statements: list[_Statement] = []
    last: list[Item] = []
    num_last = 0
    for sentence in read_sentences(read_tokens(join_lines(text))):
        if sentence and sentence[0].state == ANSWER:  # the sentence before, as answered
            del statements[len(statements) - num_last :]
            sentence = [_answer(item, sentence[0].mode) for item in last]
        if any(item.state == "repaired" for item in sentence):
            statements = [_repair(statement) for statement in statements]
        said = list(_read_sentence(sentence, statements))
        statements += said
        last, num_last = sentence, len(said)
    return statements


def _answer(item: Item, mode: Mode) -> Item:
    """Answer a question, or doubt what the next sentence contradicts."""
    before = Mode.STATED if mode is Mode.DOUBTED else Mode.DOUBTED
    return item._replace(mode=mode) if item.mode is before else item


def _read_sentence(sentence: list[Item], spoken: list[_Statement]) -> Iterator[_Statement]:
    side = ""
    thick = {p for item in sentence if item.state in _THICKENING for p in item.parts}
    mentioned = {statement.finding for statement in spoken}
    for item in sentence:
        if item.state == "hypertrophied" and thick & {"WALL", "LV-wall", "LV"}:
            # "Hypertrophy of septum and posterior wall" is concentric.
            others = (part for part in item.parts if part not in ("IVS", "SEPTUM"))
            item = item._replace(parts=tuple(others))
        if not item.parts and item.state in ("open", "fluid"):  # the findings spoken of before
            (table, _) = _STATES[item.state][0]
            parts = tuple(part for part, found in table.items() if mentioned & set(found))
            item = item._replace(parts=parts)
        named = (_SIDES.get(item.state, ""), *(part[:2] for part in item.parts))
        side = next((part for part in named if part in ("LV", "RV")), side)
        said = list(_state(item, side))
        mentioned |= {statement.finding for statement in said}
        yield from said


def _repair(statement: _Statement) -> _Statement:
    """Make a defect that a later word calls closed part of the history."""
    is_defect = statement.finding in (Finding.ASD, Finding.VSD)
    if is_defect and statement.presence is _PRESENT:
        return statement._replace(presence=_UNKNOWN, is_past=True)
    return statement


def _state(item: Item, side: str) -> Iterator[_Statement]:
    """What an item says; `side` is the ventricle last named, whose wall a bare "wall" is."""
    if item.mode is Mode.DROPPED:
        return
    for finding, presence, level in _find_affected(item, side):
        if item.mode is Mode.NARROWED:
            yield _Statement(finding, _UNKNOWN, -1)
        elif item.mode in (Mode.DOUBTED, Mode.PAST):
            yield _Statement(finding, _UNKNOWN, level, item.mode is Mode.PAST)
        elif item.mode is Mode.DENIED:
            is_opened = item.state in ("intact", "closed")
            denied = _PRESENT if is_opened else _OPPOSITE[presence]
            if denied is not _UNKNOWN:
                yield _Statement(finding, denied, level)
        else:
            yield _Statement(finding, presence, level)


def _find_affected(item: Item, side: str) -> Iterator[tuple[Finding, Presence, int]]:
    """Findings that an item is about, what it says where it is stated, and its level."""
    is_denied = item.mode is Mode.DENIED
    term = item.state.removesuffix("-kind")
    if term == "nothing-dilated":
        yield from ((finding, _ABSENT, 1) for finding in _ANYWHERE["dilated"])
    elif term in _TERMS:
        is_vague = term in _UNDECIDED
        presence = _UNKNOWN if is_vague and not is_denied else _PRESENT
        found = _DENIED.get(term, _TERMS[term]) if is_denied else _TERMS[term]
        yield from ((finding, presence, 1 if is_vague else 2) for finding in found)
    elif item.state == "abnormal":
        if is_denied:
            normal = [f for part in item.parts for f in _NORMAL.get(part, ())]
            anything = _ANYWHERE["abnormal"] if item.is_general else ()
            yield from ((f, _PRESENT, 0) for f in normal or anything)
    else:
        affected = list(_find_of_parts(item, side))
        tables = [table for table, _ in _STATES.get(item.state, ())]
        named = {whole for part in item.parts for whole in VAGUE.get(part, (part,))}
        is_elsewhere = not any(part in table for part in named for table in tables)
        if is_denied and is_elsewhere:
            anything = _ANYWHERE.get(item.state, ()) if item.is_general else ()
            affected = [(f, _PRESENT, 1) for f in anything]
        elif item.state == "normal size" and not item.parts and item.is_general:
            affected = [(f, _ABSENT, 1) for f in _ALL_SIZES]
        yield from affected


def _find_of_parts(item: Item, side: str) -> Iterator[tuple[Finding, Presence, int]]:
    is_wide = len(item.parts) > 1
    level = 0 if item.state == "normal" or "HEART" in item.parts else 1 if is_wide else 2
    for table, presence in _STATES.get(item.state, ()):
        is_absent = (presence is _ABSENT) != (item.mode is Mode.DENIED)
        for part in item.parts:
            if part == "WALL" and side == "RV":
                part = "RV-wall"
            if part in ("MV", "TV") and is_absent and not {"MV", "TV"} <= set(item.parts):
                continue  # the other valve may be thick
            if part in VAGUE:
                sides = [finding for one in VAGUE[part] for finding in table.get(one, ())]
                is_told = is_absent and item.state != "normal"
                yield from ((one, presence if is_told else _UNKNOWN, 1) for one in sides)
            for finding in table.get(part, ()):
                yield finding, presence, level
            is_lv = part in ("LV", "LV-wall", "WALL", "VENTRICLE") and (
                table is _THICK or table is _HYPERTROPHIED
            )
            if is_lv and is_absent:
                yield Finding.SEPTAL_HYPERTROPHY, presence, min(level, 1)


def _decide(statements: list[_Statement]) -> Presence:
    """Weigh what a text says of one finding: the more specific statement holds."""
    said = [s for s in statements if not s.is_past]
    if any(s.is_past for s in statements):
        said = [s for s in said if s.level > 0]  # "status post repair, normal heart"
    if not said:
        return _UNKNOWN
    level = max(s.level for s in said)
    stated = [s.presence for s in said if s.presence is not _UNKNOWN and s.level > 0]
    if _PRESENT in stated and not any(s.level == level and s.presence is _ABSENT for s in said):
        return _PRESENT
    top = [s.presence for s in said if s.level == level]
    return _UNKNOWN if _PRESENT in top else top[-1]
