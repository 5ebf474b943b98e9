"""Read the findings that a caption states: `findings_in`."""

import re

from echodiff.anatomy import Finding

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
    """Return the findings that a caption states; "no ASD" and "cavities not dilated" state none.

    A text is read clause by clause (comma, semicolon, full stop). A denial holds to the end of its
    phrase, that is up to "with", "and" or "but": write "no ASD or VSD" where both are denied.
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
