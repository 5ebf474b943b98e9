"""Read the known facts about a patient from tables and Info.cfg files."""

from collections.abc import Mapping
from pathlib import Path

from echodiff.errors import InputError

RANGES = {
    "ef": (1, 100),
    "edv_ml": (1, 1000),
    "esv_ml": (1, 1000),
    "age_years": (1, 120),
    "height_cm": (30, 250),
    "weight_kg": (1, 400),
}
"""Plausible ranges. A number outside, such as 0, means that the value is unknown."""
_UNKNOWN = frozenset({"", "nan", "na", "n/a", "none", "unknown", "-"})


def read_info(path: Path, *, needed: tuple[str, ...]) -> dict[str, str]:
    """Read the `KEY: value` lines of an Info.cfg, as CAMUS and ACDC have them."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
    pairs = (line.partition(":") for line in text.split("\n"))
    info = {key.strip(): value.strip() for key, _, value in pairs}
    for key in needed:
        if not info.get(key):
            raise InputError(f"{path}: has no {key}")
    return info


def frame_number(info: Mapping[str, str], key: str, place: Path, *, first: int, end: int) -> int:
    """Read the number of a frame, `first` to `end` - 1, as the data set counts."""
    text = info[key].strip()
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not (number.is_integer() and first <= number < end):
        raise InputError(f"{place}: {key} is {text!r}, not a frame from {first} to {end - 1}")
    return int(number)


def known_facts(values: Mapping[str, str], columns: Mapping[str, str]) -> dict[str, str | float]:
    """Return the known facts of a row; columns: {fact: name of its column}."""
    facts: dict[str, str | float] = {}
    for fact, column in columns.items():
        text = (values.get(column) or "").strip()
        if text.lower() in _UNKNOWN:
            continue
        if fact == "sex":
            if text.upper() in {"F", "M"}:
                facts[fact] = text.upper()
        elif fact in RANGES:
            least, most = RANGES[fact]
            try:
                number = float(text)
            except ValueError:
                continue
            if least <= number <= most:
                facts[fact] = number
        else:
            facts[fact] = text
    return facts
