"""Ranges of settings: each stands in the type of its field, and is checked by `check_ranges`."""

import math
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

from echodiff.settings.fields import flag_of


class Range(NamedTuple):
    """Numbers that a field may hold."""

    words: str
    """The range after "must be", in an error message."""
    contains: Callable[[float], bool]


def at_least(low: float) -> Range:
    """`low` and everything above it."""
    return Range(f"{low:g} or more", lambda value: math.isfinite(value) and value >= low)


def at_most(high: float) -> Range:
    """`high` and everything below it."""
    return Range(f"{high:g} or less", lambda value: math.isfinite(value) and value <= high)


def between(low: float, high: float) -> Range:
    """Everything between the two ends, which are left out."""
    return Range(f"between {low:g} and {high:g}", lambda value: low < value < high)


Count = Annotated[int, at_least(1)]
Steps = Annotated[int, at_least(0)]
"""Steps from one occasion to the next; 0 is never."""
Positive = Annotated[float, Range("above 0", lambda value: math.isfinite(value) and value > 0)]
NotNegative = Annotated[float, at_least(0)]
Share = Annotated[float, Range("0 to 1", lambda value: 0 <= value <= 1)]
ShareBelowOne = Annotated[float, Range("0 to below 1", lambda value: 0 <= value < 1)]
Seed = Annotated[int, at_least(0), Range("below 2^64", lambda value: value < 2**64)]


def check_ranges(config: Any) -> None:
    """ValueError for the first number of a settings dataclass outside the range at its field; it
    names the flag. None and text are left alone."""
    for name, hint in typing.get_type_hints(type(config), include_extras=True).items():
        value = getattr(config, name)
        if not isinstance(value, int | float):
            continue
        for allowed in _ranges_in(hint):
            if not allowed.contains(value):
                raise ValueError(f"{flag_of(name)} {value}: must be {allowed.words}")


def _ranges_in(hint: Any) -> Iterator[Range]:
    """Ranges annotated to a type, or to a part of a union: `Annotated[int, RANGE] | None`."""
    yield from (extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Range))
    for part in typing.get_args(hint):
        if part is not hint and not isinstance(part, Range):
            yield from _ranges_in(part)
