"""Names of labels in flags, scores and records: `lv`, `lv_myocardium`, `la`."""

from __future__ import annotations

from collections.abc import Iterable

from echodiff.anatomy import Label
from echodiff.errors import InputError


def name_label(label: Label) -> str:
    """`lv_myocardium`."""
    return label.name.lower()


def name_labels(labels: Iterable[Label]) -> str:
    """Labels for a message: `lv, lv_myocardium, la`."""
    return ", ".join(map(name_label, labels))


def parse_label(name: str) -> Label:
    """Inverse of `name_label`; InputError for a name that is none."""
    try:
        return Label[name.upper()]
    except KeyError:
        known = name_labels(Label)
        raise InputError(f"{name!r} is not a label; there are {known}") from None
