"""Convert fields of a settings dataclass to help texts, YAML and JSON."""

import ast
import dataclasses
import enum
import inspect
import itertools
import keyword
import sys
import textwrap
import types
import typing
import unicodedata
from pathlib import Path
from typing import Any

import yaml

from echodiff.files import shipped


def preset_names(cls: type | None = None) -> list[str]:
    """Return the sorted names of presets; with `cls`, those whose keys are all fields of it."""
    paths = sorted(shipped("presets").glob("*.yaml"))
    if cls is not None:
        fields = {field.name for field in dataclasses.fields(cls)}
        paths = [p for p in paths if set(yaml.safe_load(p.read_text("utf-8")) or {}) <= fields]
    return [path.stem for path in paths]


def flag_of(field: str) -> str:
    """Return the flag of a field; the trailing `_` of `continue_` avoids a Python keyword."""
    return "--" + field.rstrip("_").replace("_", "-")


def field_of(flag: str) -> str:
    """Return the field of a flag."""
    name = flag.removeprefix("--").replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


def strip_none(hint: Any) -> Any:
    """Return `X` for `X | None`."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        rest = [part for part in typing.get_args(hint) if part is not type(None)]
        return rest[0] if len(rest) == 1 else hint
    return hint


def is_bool(hint: Any) -> bool:
    return strip_none(hint) is bool


def is_list(hint: Any) -> bool:
    return typing.get_origin(strip_none(hint)) in {tuple, list}


def item_type(hint: Any) -> Any:
    """Return `X` for `X | None`, `tuple[X, ...]` or `X`."""
    return typing.get_args(strip_none(hint))[0] if is_list(hint) else strip_none(hint)


def is_optional(hint: Any) -> bool:
    return type(None) in typing.get_args(hint)


def is_text(hint: Any, value: Any) -> bool:
    """Whether `value` is text for a field that takes text, a path or one of several words."""
    kind = item_type(hint)
    texts = value if is_list(hint) and isinstance(value, list) else [value]
    words = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else None
    return all(
        isinstance(text, str) and (kind in {str, Path} if words is None else text in words)
        for text in texts
    )


def field_default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def field_help(cls: type) -> dict[str, str]:
    """Return the string under each field as one line."""
    texts = dict[str, str]()
    for owner in reversed(cls.__mro__[:-1]):
        body = typing.cast(
            ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        ).body
        for item, below in itertools.pairwise(body):
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                match below:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        texts[item.target.id] = " ".join(text.split())
    return texts


def print_help(cls: type, prog: str, description: str) -> None:
    hints, texts = typing.get_type_hints(cls), field_help(cls)
    fields = dataclasses.fields(cls)
    leading = [
        f.name.upper() + (" ..." if is_list(hints[f.name]) else "")
        for f in fields
        if f.metadata.get("positional")
    ]
    lines = [" ".join(["usage:", prog, *leading, "[--config NAME|PATH]", "[--flag VALUE ...]"]), ""]
    lines += [*textwrap.wrap(" ".join((description or cls.__doc__ or "").split()), 96), ""]
    presets = preset_names(cls)
    known = f", or a preset: {', '.join(presets)}" if presets else ""
    text = f"Settings file in YAML{known}. Flags take precedence."
    lines += ["  --config NAME|PATH", *textwrap.wrap(text, 90, initial_indent=" " * 6,
                                                    subsequent_indent=" " * 6)]  # fmt: skip
    for field in fields:
        flag = flag_of(field.name)
        shown = f"{flag} | --no-{flag[2:]}" if is_bool(hints[field.name]) else flag
        kind = "" if is_bool(hints[field.name]) else " " + type_name(hints[field.name])
        default = field_default(field)
        text = texts.get(field.name, "")
        if default is dataclasses.MISSING:
            text += " (required)"
        elif default is not None:
            text += f" (default: {yaml_value(default)})"
        elif "Default:" not in text:
            text += " (default: none)"
        lines += [
            f"  {shown}{kind}",
            *textwrap.wrap(text.strip(), 90, initial_indent=" " * 6, subsequent_indent=" " * 6),
        ]
    sys.stdout.write("\n".join(lines) + "\n")


def type_name(hint: Any) -> str:
    """Describe a type for `--help`: NUMBER, PATH, {a,b}."""
    hint = strip_none(hint)
    if typing.get_origin(hint) is typing.Literal:
        return "{" + ",".join(str(value) for value in typing.get_args(hint)) + "}"
    if is_list(hint):
        return f"{type_name(typing.get_args(hint)[0])},..."
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "{" + ",".join(member.name for member in hint) + "}"
    return {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}.get(hint, "VALUE")


def plain(value: Any) -> Any:
    """Convert the value of a field to plain types of YAML and JSON."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def as_dict(config: Any) -> dict[str, Any]:
    """Return all fields as plain types: paths and enums become strings, tuples become lists."""
    return {f.name: plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


class QuotingDumper(yaml.SafeDumper):
    """Quote every string, so that `1e3`, `no` or `null` are read back as text."""


QuotingDumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def printable(text: str) -> str:
    """Remove control and formatting characters, which could move the cursor of a terminal or hide
    text; tabs and line feeds are kept."""
    return "".join(
        letter if letter in "\t\n" or not unicodedata.category(letter).startswith("C") else "\ufffd"
        for letter in text
    )


def yaml_value(value: Any) -> str:
    text = yaml.dump(plain(value), Dumper=QuotingDumper, default_flow_style=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def yaml_line(name: str, value: Any) -> str:
    return f"{name}: {yaml_value(value)}\n"
