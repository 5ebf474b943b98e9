"""Fill the settings of a command, a frozen dataclass, from a YAML preset and from flags.

This is the only module that uses jsonargparse. Fields, YAML keys and flags share their names
(`learning_rate`, `--learning-rate`); the string under a field is its help text. A field made with
`positional()` may also be given without its flag; if it is a list, it takes all such arguments.
"""

import dataclasses
import difflib
import gc
import math
import os
import sys
import typing
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from echodiff.documents import read_yaml_record
from echodiff.errors import InputError
from echodiff.extras import explain_missing
from echodiff.files import shipped, write_text_atomic
from echodiff.settings.fields import (
    field_default,
    field_of,
    flag_of,
    is_bool,
    is_list,
    is_optional,
    is_text,
    item_type,
    plain,
    preset_names,
    print_help,
    printable,
    yaml_line,
)
from echodiff.settings.precedence import drop_losers, tell_unused
from echodiff.system import replace_what_a_console_lacks

Config = TypeVar("Config")


def positional(**options: Any) -> Any:
    """Make a dataclass field that may be given without its flag, in field order."""
    return dataclasses.field(metadata={"positional": True}, **options)


def flag_only(**options: Any) -> Any:
    """A dataclass field that no settings file may set, and that `save` leaves out."""
    return dataclasses.field(metadata={"flag_only": True}, **options)


def repeated(**options: Any) -> Any:
    """A list whose flag is given once for each item, which may hold commas."""
    return dataclasses.field(metadata={"repeated": True}, **options)


def network_names(default: tuple[str, ...]) -> Any:
    """A dataclass field of feature networks. A settings file may not name a function in it, because
    its author would then choose code that runs."""
    return dataclasses.field(default=default, metadata={"names_networks": True})


def parse(
    cls: type[Config],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str = "",
) -> Config:
    """Fill the dataclass `cls` from `--config NAME|PATH`, then from flags, which win.

    On bad input prints one line, `error: ...`, to stderr and exits with status 2.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "-h" in arguments or "--help" in arguments:
        print_help(cls, prog, description)
        raise SystemExit(0)
    try:
        config_name, flags = read_flags(cls, arguments)
        values = {} if config_name is None else read_yaml(cls, config_name)
        values = drop_losers(cls, values, flags, config_name)
        config = build(cls, values, flags, source=config_name)
    except InputError as error:
        exit_with(error)
    tell_unused(config, flags)
    return config


def save(config: Any, path: Path) -> None:
    """Write every field as YAML that `parse` reads back to an equal config."""
    saved = [f.name for f in dataclasses.fields(config) if not f.metadata.get("flag_only")]
    values = {name: plain(getattr(config, name)) for name in saved}
    write_text_atomic(path, "".join(yaml_line(name, value) for name, value in values.items()))


def run_main(main: Callable[[], int | None], prog: str) -> int:
    """Run a command and return its exit status; bad input and disk errors print one line: 2.

    Other exceptions are bugs and keep their traceback.
    """
    replace_what_a_console_lacks()
    warnings.formatwarning = format_warning
    # Importing torch, diffusers and transformers makes objects by the million, all of which stay:
    # at the usual threshold a tenth of that time is spent on looking for garbage among them.
    gc.set_threshold(100_000, 20, 20)
    try:
        return main() or 0
    except InputError as error:
        report(prog, str(error))
        return 2
    except ModuleNotFoundError as error:
        if (told := explain_missing(error)) is None:
            raise
        report(prog, told)
        return 2
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does: nothing is left to flush at exit.
        sys.stdout = None
        return 1
    except OSError as error:
        if error.errno is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        report(prog, f"{place}{error.strerror}")
        return 2
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") == "0":  # one of several processes prints it
            report(prog, "interrupted")
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


def format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Format a warning for the user as one line; others keep the place in the source."""
    if issubclass(category, UserWarning):
        return f"warning: {' '.join(printable(str(message)).split())}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def report(prog: str, message: str) -> None:
    """Print an error as one line."""
    line = " ".join(printable(message).split())
    sys.stderr.write(f"{prog}: error: {line}\n" if prog else f"error: {line}\n")


def exit_with(error: InputError) -> NoReturn:
    report("", str(error))
    raise SystemExit(2)


# --- from the command line to values ---------------------------------------------------------


Flags = dict[str, str | list[str] | None]
"""Field -> what was written for it; a list where it was written without a flag, one by one; None
where `--no-NAME` overrides a file."""


def read_flags(cls: type, arguments: list[str]) -> tuple[str | None, Flags]:
    """Split a command line into the name of the config file and the text given for each field."""
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    waiting = [f.name for f in fields.values() if f.metadata.get("positional")]
    config_name, flags = None, Flags()
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("--"):
            if not waiting or (argument.startswith("-") and len(argument) > 1):
                raise InputError(f"unexpected argument {argument!r}; write lists as a,b,c")
            if is_list(hints[waiting[0]]):
                flags[waiting[0]] = [*(flags.get(waiting[0]) or []), argument]
            else:
                flags[waiting.pop(0)] = argument
            continue
        flag, equals, value = argument.partition("=")
        name = field_of(flag)
        if name.startswith("no_") and name not in fields and not equals:
            hint = hints.get(name.removeprefix("no_"))
            if is_bool(hint) or is_optional(hint):
                flags[name.removeprefix("no_")] = "false" if is_bool(hint) else None
                continue
        if name != "config" and name not in fields:
            raise InputError(f"{flag} is unknown{did_you_mean(name, fields, '--')}")
        if name != "config" and is_bool(hints[name]) and not equals:
            flags[name] = "true"
            continue
        if not equals:
            value = next(rest, "--")
            if value.startswith("--"):
                raise InputError(f"{flag} needs a value")
        if name == "config":
            config_name = value
        elif fields[name].metadata.get("repeated"):
            flags[name] = [*(flags.get(name) or []), value]
        elif name in waiting and is_list(hints[name]):
            flags[name] = split_list(hints[name], value)  # arguments after it are more of them
        else:
            flags[name] = value
            if name in waiting:
                waiting.remove(name)
    return config_name, flags


def read_yaml(cls: type, name: str) -> dict[str, Any]:
    """Read a preset or file; keys must be fields of `cls`."""
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"} and not path.is_file():
        path = shipped("presets") / f"{name}.yaml"
        if not path.is_file():
            raise InputError(f"--config: no preset or file {name}; {', '.join(preset_names())}")
    try:
        values = read_yaml_record(path)
    except OSError as error:
        raise InputError(f"--config: {path}: {error.strerror}") from error
    fields = {f.name for f in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise InputError(f"{path}: {key} is unknown{did_you_mean(key, fields, '')}")
    return values


def refuse_code(cls: type, values: dict[str, Any], flags: Flags, source: str | None) -> None:
    """InputError where a settings file asks for code to be run."""
    for field in dataclasses.fields(cls):
        value = values.get(field.name)
        if value is None or field.name in flags:
            continue
        place = f"{source}: {field.name}"
        if field.metadata.get("flag_only"):
            raise InputError(f"{place}: is taken from the command line alone")
        if field.metadata.get("names_networks"):
            for name in [value] if isinstance(value, str) else value:
                if ":" in str(name) and not Path(str(name)).exists():
                    raise InputError(
                        f"{place}: {name} is a function, code that the command line alone may "
                        f"name: {flag_of(field.name)} {name}"
                    )


def build(cls: type[Config], values: dict[str, Any], flags: Flags, *, source: str | None) -> Config:
    """Check types, fill in defaults, and run the checks of the dataclass."""
    from jsonargparse import ArgumentError, ArgumentParser

    refuse_code(cls, values, flags, source)
    hints = typing.get_type_hints(cls)
    given = dict(values)
    for name, text in flags.items():
        given[name] = split_list(hints[name], text) if isinstance(text, str) else text
        if item_type(hints[name]) in {int, float} and ":" in str(text):  # 1:30 is 90 in YAML
            raise InputError(f"{where(name, flags, source)}: expected a number, got {text!r}")
    # Text stays as it was written: the parser reads it as YAML, to which #x is a comment, null is
    # nothing and 1e3 a number. Defaults need no check, and building a parser for them all is slow.
    texts = {name: value for name, value in given.items() if is_text(hints[name], value)}
    parser = ArgumentParser(exit_on_error=False)
    filled, missing = {}, []
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in texts:
            filled[field.name] = take_text(field, hints[field.name], texts, flags, source)
        elif field.name in given:
            parser.add_argument(f"--{field.name}", type=hints[field.name])
        elif field_default(field) is dataclasses.MISSING:
            missing.append(flag_of(field.name))
    try:
        parsed = parser.parse_object({k: value for k, value in given.items() if k not in texts})
        filled |= {name: parsed[name] for name in given if name in parsed}
    except ArgumentError as error:
        raise InputError(explain(str(error), given, flags, source)) from error
    if missing:
        raise InputError(f"missing: {', '.join(missing)}")
    for name, value in filled.items():
        for number in value if isinstance(value, tuple | list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise InputError(f"{where(name, flags, source)}: {number} is not a finite number")
    try:
        return cls(**filled)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error


def split_list(hint: Any, text: str) -> str | list[str]:
    """Return the text given for a field; for a list, its parts between commas."""
    if not is_list(hint):
        return text
    parts = (text if item_type(hint) in {str, Path} else text.strip("[] ")).split(",")
    return [part.strip() for part in parts if part.strip()]


def take_text(
    field: "dataclasses.Field[Any]",
    hint: Any,
    texts: dict[str, Any],
    flags: Flags,
    source: str | None,
) -> Any:
    """Return the value of a text field; empty text is refused if it would mean something else."""
    kind, value = item_type(hint), texts[field.name]
    make = Path if kind is Path else str
    if is_list(hint) and isinstance(value, list):
        if kind is Path and "" in value:
            raise InputError(f"{where(field.name, flags, source)}: a path is empty")
        return tuple(make(text) for text in value)
    # A shell's variable that is not set: the default would come, or the working folder.
    if value == "" and (kind is Path or (field.name in flags and field_default(field) != "")):
        raise InputError(f"{where(field.name, flags, source)}: is empty")
    return make(value)


def explain(message: str, given: dict[str, Any], flags: Flags, source: str | None) -> str:
    """Shorten an error of jsonargparse to one line: field, expected type, given value."""
    if 'Parser key "' in message:
        name = message.split('"')[1]
        kinds = [part.split(">")[0] for part in message.split("Expected a ")[1:]]
        kinds = [k.removeprefix("<class '").strip("'").replace("typing.", "") for k in kinds]
        kinds = ["null" if k == "NoneType" else k.split(". Got")[0] for k in kinds]
        expected = " or ".join(dict.fromkeys(k.strip() for k in kinds)) or "another type"
        name = name.strip("\u200b").split(".")[0]
        return f"{where(name, flags, source)}: expected {expected}, got {given.get(name)!r}"
    return message


def where(name: str, flags: Flags, source: str | None) -> str:
    flag = flag_of(name)
    return flag if name in flags or source is None else f"{source}: {name}"


def did_you_mean(name: str, known: Any, prefix: str) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    if not close:
        return ""
    return f"; did you mean {prefix}{close[0].replace('_', '-') if prefix else close[0]}?"
