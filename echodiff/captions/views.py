"""Read the view and the age group that a caption states: `view_in`, `is_child_in`."""

import re

from echodiff.anatomy import View

_VIEWS = {
    View.SUBCOSTAL: r"sub-?(costal|xiphoid(al)?)( (four|4)[- ]?chamber)?|s4c|sc4c",
    View.A3C: r"a3c|ap3|3ch|(three|3)[- ]?chamber|apical long[- ]axis|aplax",
    View.A5C: r"a5c|ap5|5ch|(five|5)[- ]?chamber",
    View.A4C: r"a4c|ap4|4ch|(four|4)[- ]?chamber",
    View.A2C: r"a2c|ap2|2ch|(two|2)[- ]?chamber",
    View.PSAX: r"psax|parasternal short[- ]axis",
    View.PLAX: r"plax|(parasternal )?long[- ]axis",
    View.SAX: r"sax|short[- ]axis",
}
"""A view stands before those whose name its own contains: its words are read once."""
_CHILD = re.compile(
    r"\b(child|children|p(a)?ediatric|infant|neonat(e|al)|newborn|baby|boy|girl|adolescent)\b"
)


def view_in(text: str) -> View | None:
    """The view that a caption states; None where it states none, or more than one."""
    text = text.lower()
    found = []
    for view, pattern in _VIEWS.items():
        text, num = re.subn(rf"\b({pattern})\b", " ", text)
        if num and not (view is View.SAX and View.PSAX in found):
            found.append(view)
    return found[0] if len(found) == 1 else None


def is_child_in(text: str) -> bool:
    """Whether a caption speaks of a child."""
    return _CHILD.search(text.lower()) is not None
