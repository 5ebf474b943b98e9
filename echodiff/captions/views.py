"""Read the view and the age group that a caption states: `view_in`, `is_child_in`."""

import re

from echodiff.anatomy import View

_VIEWS = {
    View.A4C: re.compile(r"\b(a4c|ap4|4ch|(four|4)[- ]?chamber)\b"),
    View.A2C: re.compile(r"\b(a2c|ap2|2ch|(two|2)[- ]?chamber)\b"),
    View.PLAX: re.compile(r"\b(plax|(parasternal )?long[- ]axis)\b"),
    View.SAX: re.compile(r"\b(p?sax|short[- ]axis)\b"),
}
_CHILD = re.compile(
    r"\b(child|children|p(a)?ediatric|infant|neonat(e|al)|newborn|baby|boy|girl|adolescent)\b"
)


def view_in(text: str) -> View | None:
    """The view that a caption states; None where it states none, or more than one."""
    text = text.lower()
    found = [view for view, pattern in _VIEWS.items() if pattern.search(text)]
    return found[0] if len(found) == 1 else None


def is_child_in(text: str) -> bool:
    """Whether a caption speaks of a child."""
    return _CHILD.search(text.lower()) is not None
