"""Find the matches of several regular expressions in a text, without overlaps."""

import re
from collections.abc import Callable, Iterator, Sequence

Span = tuple[int, int]


def find_forms(
    text: str,
    forms: Sequence[re.Pattern[str]],
    accept: Callable[[str], bool] = lambda found: True,
) -> Iterator[Span]:
    """Yield start and end of the matches that `accept` takes; later forms do not see earlier ones.

    The time is linear in the length of `text` if that of each expression is.
    """
    for form in forms:
        spans = [match.span() for match in form.finditer(text) if accept(match.group())]
        yield from spans
        text = blank(text, spans)


def blank(text: str, spans: Sequence[Span]) -> str:
    """Replace `spans`, which are sorted and disjoint, by as many spaces."""
    if not spans:
        return text
    pieces, end = [], 0
    for start, stop in spans:
        pieces += [text[end:start], " " * (stop - start)]
        end = stop
    return "".join([*pieces, text[end:]])
