"""Read untrusted JSON and YAML to plain values, or refuse it in one line.

Refused are aliases, anchors and tags, repeated fields, nesting beyond `MAX_DEPTH`, whole numbers
beyond 64 bits, NaN and infinity, and halves of surrogate pairs: they overflow, hide content, or
cannot be written again. Every record, table of rows and settings file is read by this module.
"""

import json
import math
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from echodiff.errors import InputError

MAX_DEPTH = 32
"""Most levels of nesting; records of this package have six."""
MAX_YAML = 300_000
"""Most characters of a settings file, or of the head of a card."""
_LARGEST = 2**64
_BEYOND = "a whole number beyond 64 bits"
_YAML_ERRORS = (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError)
"""TypeError and ValueError come from dates that do not exist, for example."""

Record = dict[str, Any]
Kinds = Mapping[str, Any]
"""Type of every field that is read: `str`, `int`, `float`, `bool`, `dict`, `list[str]`, or one of
these `| None`."""


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON text; InputError says what is wrong with it."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text") from error
    except RecursionError as error:
        raise InputError(_too_deep()) from error
    except ValueError as error:
        raise InputError(_BEYOND if "int_max_str_digits" in str(error) else str(error)) from error
    _check(value)
    return value


def read_json(path: Path) -> Any:
    """Read the value of a JSON file; InputError names the file."""
    try:
        return parse_json(path.read_bytes())
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_record(path: Path, kinds: Kinds | None = None) -> Record:
    """Read a JSON object whose fields have `kinds`; InputError names file and field."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object")
    try:
        check_kinds(value, kinds or {})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return value


def parse_yaml(text: str) -> Any:
    """Parse a YAML text; InputError says what is wrong with it."""
    if len(text) > MAX_YAML:
        raise InputError(f"{len(text)} characters of YAML, more than {MAX_YAML}")
    try:
        _check_events(text)
        value = yaml.load(text, Loader=_Loader)
    except InputError:
        raise
    except _YAML_ERRORS as error:
        reason = " ".join(str(error).split()).replace(' in "<unicode string>",', " in")
        raise InputError(_BEYOND if "int_max_str_digits" in reason else reason) from error
    _check(value)
    return value


def read_yaml(path: Path) -> Any:
    """Read the value of a YAML file; InputError names the file."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_yaml_record(path: Path) -> Record:
    """Read the `key: value` lines of a YAML file, which may be empty; InputError names the file."""
    value = read_yaml(path)
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected `key: value` lines")
    return {str(key): inner for key, inner in value.items()}


def check_kinds(record: Mapping[str, Any], kinds: Kinds) -> None:
    """Raise InputError for a field of `record` that is not of its kind; fields may be missing."""
    for name, kind in kinds.items():
        if name in record and not _is_kind(record[name], kind):
            raise InputError(f"{name!r} must be {_name_kind(kind)}, not {_short(record[name])}")


def _is_kind(value: Any, kind: Any) -> bool:
    if isinstance(kind, types.UnionType):
        return any(_is_kind(value, part) for part in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is_kind(item, *get_args(kind)) for item in value)
    if get_origin(kind) is dict:
        _, inner = get_args(kind)
        return isinstance(value, dict) and all(_is_kind(item, inner) for item in value.values())
    if kind in (int, float) and isinstance(value, bool):
        return False
    if kind is Any:
        return True
    return isinstance(value, int | float if kind is float else get_origin(kind) or kind)


def _name_kind(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        return " or ".join(map(_name_kind, get_args(kind)))
    if get_origin(kind) is list:
        return f"a list of {_name_kind(*get_args(kind))}"
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return {**names, types.NoneType: "null"}.get(kind, "an object")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and value.isidentifier() else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


# --- What is refused -----------------------------------------------------------------------------


def _unique(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError(f"a field occurs twice: {_find_twice(name for name, _ in pairs)}")
    return record


def _find_twice(names: Iterable[str]) -> str:
    """Return the first repeated name; in YAML, two spellings may be one value."""
    seen = set[str]()
    for name in names:
        if name in seen:
            return _short(name)
        seen.add(name)
    return "two spellings of one name"


def _check(value: Any) -> None:
    """Raise InputError for a refused value. Iterates by level, as recursion could overflow."""
    level: list[tuple[str, Any]] = [("", value)]
    for _ in range(MAX_DEPTH + 1):
        below: list[tuple[str, Any]] = []
        for name, item in level:
            if isinstance(item, dict):
                below += [("a field's name", key) for key in item]
                below += [(str(key), inner) for key, inner in item.items()]
            elif isinstance(item, list | tuple):
                below += [(name, inner) for inner in item]
            elif fault := _find_fault(item):
                place = f"{_short(name)}: " if name else ""
                raise InputError(f"{place}{fault}")
        level = below
    if level:
        raise InputError(_too_deep())


def _find_fault(item: Any) -> str | None:
    if isinstance(item, str):
        # UTF-8 cannot encode halves of a surrogate pair: such text cannot be written again.
        is_sound = item.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in item)
        return None if is_sound else f"{_short(item)} holds half of a surrogate pair"
    if isinstance(item, int):
        return None if -_LARGEST < item < _LARGEST else _BEYOND
    if isinstance(item, float) and not math.isfinite(item):
        return f"{item} is not a finite number"
    return None


def _too_deep() -> str:
    return f"is nested deeper than {MAX_DEPTH} levels"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader that also refuses repeated fields."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        mapping = super().construct_mapping(node, deep=deep)
        if isinstance(node, yaml.MappingNode) and len(mapping) < len(node.value):
            twice = _find_twice(str(key.value) for key, _ in node.value)
            raise ValueError(f"a field occurs twice: {twice}")
        return mapping


def _check_events(text: str) -> None:
    """Raise InputError for aliases, anchors, tags and deep nesting, before values are built."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        for mark, name in (("anchor", "an anchor or an alias (& or *)"), ("tag", "a tag (!)")):
            if getattr(event, mark, None) is not None:
                line = 1 if event.start_mark is None else event.start_mark.line + 1
                raise InputError(
                    f"line {line}: has {name}, which is refused; write the value itself"
                )
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InputError(_too_deep())
