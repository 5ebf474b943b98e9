"""Settle what stands before a colon or a dash: "LV: dilated", "Atria: RA dilated, LA normal"."""

from echodiff.captions.tokens import OTHER, Kind, Token

_CONTENT = frozenset({Kind.PART, Kind.STATE, Kind.MENTION})
_ENDS = frozenset({Kind.COMMA, Kind.LINK, Kind.AND, Kind.OR, Kind.EXCEPT, Kind.COLON, Kind.STOP})
_WITHIN = frozenset({"WALL", "SEPTUM", OTHER})
"""What a heading names the owner of: "LV: walls thickened"."""


def settle_headings(tokens: list[Token]) -> list[Token]:
    """Replace colons: a heading joins the phrase after it, or is left out where that has a subject
    of its own."""
    settled: list[Token] = []
    for place, token in enumerate(tokens):
        if token.kind is not Kind.COLON:
            settled.append(token)
            continue
        start = _find_start(settled)
        settled[start:] = _settle(settled[start:], _take_phrase(tokens[place + 1 :]))
    return settled


def name_members(tokens: list[Token], members: list[Token]) -> list[Token]:
    """Leave out the group of which members are named: "dilated chambers (LA, RA)"."""
    named = _list_parts(members)
    if tokens and named and _is_group(tokens[-1], named):
        return tokens[:-1]
    return tokens


def _settle(heading: list[Token], phrase: list[Token]) -> list[Token]:
    kinds = {token.kind for token in heading}
    named = _list_parts(phrase)
    own = named - _WITHIN
    if kinds & {Kind.PART, Kind.MENTION} and own:
        if not kinds & {Kind.STATE, Kind.MENTION, Kind.NEGATION}:  # "Atria: RA enlarged"
            return []
        if not any(token.kind is Kind.STATE for token in phrase):  # "Enlarged chambers: RA and RV"
            return [t for t in heading if not (t.kind is Kind.PART and _is_group(t, own))]
        return [*heading, Token(Kind.STOP, ".")]  # "LV dilated - RV normal"
    last = heading[-1] if heading else None
    if last is not None and "WALL" in named and last.value in ("LV", "RV"):
        return [*heading[:-1], last._replace(value=f"{last.value}-wall")]
    return heading


def _find_start(tokens: list[Token]) -> int:
    """Where the heading at the end of `tokens` begins; it may be a list of parts."""
    start = clause = len(tokens)
    while start and tokens[start - 1].kind not in (Kind.STOP, Kind.LINK):
        start -= 1
        if tokens[start].kind is Kind.COMMA and clause == len(tokens):
            clause = start + 1
    is_list = all(t.kind in (Kind.PART, Kind.COMMA, Kind.AND) for t in tokens[start:])
    return start if is_list or clause == len(tokens) else clause


def _take_phrase(tokens: list[Token]) -> list[Token]:
    """Tokens to the end of the first phrase that says anything of the heart."""
    for place, token in enumerate(tokens):
        if token.kind in _ENDS and any(t.kind in _CONTENT for t in tokens[:place]):
            return tokens[:place]
        if token.kind in (Kind.STOP, Kind.COLON):
            return tokens[:place]
    return tokens


def _list_parts(tokens: list[Token]) -> set[str]:
    return {part for t in tokens if t.kind is Kind.PART for part in t.value.split()}


def _is_group(token: Token, members: set[str]) -> bool:
    parts = set(token.value.split())
    return token.kind is Kind.PART and len(parts) > 1 and members - _WITHIN < parts
