"""Join the lines of a report that were broken inside a sentence."""

from itertools import pairwise

from echodiff.captions.tokens import Kind, Token, read_tokens

LINE = 40
"""Letters from which a line counts as full, so that its sentence may go on in the next."""
_DANGLING = frozenset({
    "of", "no", "or", "in", "is", "the", "a", "an", "and", "with", "without", "out", "are", "for",
    "not", "at", "to", "left", "right", "both", "either", "neither", "nor",
})  # fmt: skip
"""Words after which a sentence goes on."""
_ENDS = frozenset({Kind.COMMA, Kind.LINK, Kind.STOP, Kind.COLON, Kind.AND, Kind.EXCEPT})
_OPENERS = frozenset({Kind.NEGATION, Kind.DOUBT, Kind.PAST, Kind.RELATIVE})
_NOUNS = frozenset({Kind.PART, Kind.STATE, Kind.MENTION})


def join_lines(text: str) -> str:
    """Join lines that were broken inside a sentence.

    A list in small letters is no broken sentence: a line that begins a statement of its own ends
    the one before. Where neither is sure, the next statement is marked as possible.
    """
    lines = [line.strip() for line in text.splitlines()]
    joined = lines[0] if lines else ""
    for last, line in pairwise(lines):
        joined += _find_break(last, line) + line
    return joined


def _find_break(last: str, line: str) -> str:
    """What stands between two lines."""
    if not last or not line:
        return "\n"
    if last.rpartition(" ")[2].lower() in _DANGLING:
        return " "
    if not line[0].islower():
        return "\n"
    if not _is_statement(read_tokens(line)):
        return " "
    phrase = _take_last_phrase(read_tokens(last))
    openers = [
        place for place, token in enumerate(phrase)
        if token.kind in _OPENERS
        or (token.kind is Kind.DENIAL and not any(t.kind in _NOUNS for t in phrase[:place]))
    ]  # fmt: skip
    if not openers:
        return "\n"
    denied = {token.kind for token in phrase[openers[0] + 1 :]}
    if not denied & {Kind.WORD, *_NOUNS}:  # "does not show"
        return " "
    is_complete = bool(denied & _NOUNS) or len(last) < LINE
    return "\n" if is_complete else ". Possible "  # "no clot", or "no haemodynamically relevant"


def _is_statement(tokens: list[Token]) -> bool:
    """Whether a line begins with what it speaks of: "left atrium dilated", "dilated atria"."""
    kinds = [token.kind for token in tokens if token.kind is not Kind.QUALIFIER]
    first = kinds[0] if kinds else Kind.STOP
    end = next((i for i, kind in enumerate(kinds) if kind in _ENDS), len(kinds))
    names_part = bool({Kind.PART, Kind.MENTION} & set(kinds[:end]))
    return first in (Kind.PART, Kind.MENTION, Kind.NEGATION) or (
        first in (Kind.STATE, Kind.WORD) and names_part
    )


def _take_last_phrase(tokens: list[Token]) -> list[Token]:
    start = 0
    for place, token in enumerate(tokens):
        if token.kind in _ENDS:
            start = place + 1
    return tokens[start:]
