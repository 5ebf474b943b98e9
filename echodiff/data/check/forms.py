"""Find every occurrence of several regular expressions, in order, no part of a text twice."""

import re
from collections.abc import Callable, Iterator, Sequence

Span = tuple[int, int]


def find_forms(
    text: str,
    forms: Sequence[re.Pattern[str]],
    accept: Callable[[str], bool] = lambda found: True,
) -> Iterator[Span]:
    """Start and end of every match that `accept` takes; later forms do not see what earlier found.

    Time is linear in the length of `text` where each of the expressions is.
    """
    for form in forms:
        spans = [match.span() for match in form.finditer(text) if accept(match.group())]
        yield from spans
        text = blank(text, spans)


def blank(text: str, spans: Sequence[Span]) -> str:
    """`text` with spaces in place of `spans`, which are sorted and apart; its length is kept."""
    if not spans:
        return text
    pieces, end = [], 0
    for start, stop in spans:
        pieces += [text[end:start], " " * (stop - start)]
        end = stop
    return "".join([*pieces, text[end:]])
