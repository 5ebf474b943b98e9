"""Read prompt files: one prompt per line, ``#`` comments, options of a line after a ``|``.

    # comment
    ASD of the secundum type, heart cavities not dilated, 4-chamber position
    LVH, thick septum, 4-chamber position | guidance=4 weight=2 negative="dilated cavities"

``weight`` is an integer: a prompt of weight 2 is drawn twice as often. ``guidance`` and
``negative`` replace the settings of the command for this line. The syntax of web UIs is read or
ignored with one warning, see `web_ui`.
"""

from __future__ import annotations

import codecs
import logging
import math
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

from echodiff.captions.language import describe_cyrillic
from echodiff.diffusion.sampling import web_ui
from echodiff.errors import InputError
from echodiff.files import shipped
from echodiff.frames.rows import MAX_TEXT

logger = logging.getLogger(__name__)

CUT = f"lines of more than {MAX_TEXT} letters are cut there"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Prompt of one image, with its options."""

    text: str
    guidance: float | None = None
    """Classifier-free guidance scale, >= 1; None takes the command's own."""
    negative: str = ""
    """Text of the unconditional half; the null text unless given."""
    weight: int = 1
    """Turns of this prompt in the cycle, 1..1000."""


def load_prompts(path: Path) -> list[Prompt]:
    """Read a prompt file; a malformed line raises InputError that names file and line.

    `prompts/asd.txt` and its neighbours are shipped, and found where there is no clone, too.
    """
    place = path if path.is_file() else _find_shipped(path)
    prompts: list[Prompt] = []
    said = dict[str, int]()
    for number, line in enumerate(_read_text(place).split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            left_out = _take_line(line[:MAX_TEXT], prompts)
            if len(line) > MAX_TEXT:
                left_out |= {CUT}
        except ValueError as error:
            raise InputError(f"--prompt-file {path}, line {number}: {error}") from None
        for sentence in sorted(left_out):
            said.setdefault(sentence, number)
    for sentence, number in said.items():
        logger.warning("--prompt-file %s, line %d: %s", path, number, sentence)
    if not prompts:
        raise InputError(f"--prompt-file {path}: contains no prompt")
    if counted := describe_cyrillic([prompt.text for prompt in prompts]):
        logger.warning("--prompt-file %s: %s", path, counted)
    return prompts


def _find_shipped(path: Path) -> Path:
    if path.parent == Path("prompts"):
        with suppress(FileNotFoundError):
            return shipped(path.as_posix())
    raise InputError(f"--prompt-file {path}: no such file")


def _read_text(path: Path) -> str:
    """Read UTF-8, or UTF-16 with its mark; lines end at a line feed."""
    data = path.read_bytes()
    is_wide = data[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}
    try:
        text = data.decode("utf-16" if is_wide else "utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"--prompt-file {path}: not UTF-8 text ({error.reason})") from None
    if "\0" in text:
        raise InputError(f"--prompt-file {path}: not UTF-8 text (a zero byte)")
    if "\r" in text:
        raise InputError(
            f"--prompt-file {path}: lines end at carriage returns; save with line feeds"
        )
    return text


def _take_line(line: str, prompts: list[Prompt]) -> frozenset[str]:
    """Add the prompt of a line, or a negative prompt to the last one; return what was ignored."""
    line, left_out = web_ui.cut_settings(line)
    written, negative = web_ui.split_negative(line)
    if written:
        text, bar, options = written.partition("|")
        if text.rfind("[") > text.rfind("]"):
            raise ValueError("[a|b] changes during sampling, which is not supported")
        text, more = web_ui.clean(text)
        prompts.append(parse_prompt(text + bar + options))
        left_out |= more
    if negative is not None:
        if not prompts:
            raise ValueError("a negative prompt before any prompt")
        if prompts[-1].negative:
            raise ValueError("the prompt has two negative prompts")
        prompts[-1] = replace(prompts[-1], negative=negative)
    if prompts and prompts[-1].negative:
        negative, more = web_ui.clean(prompts[-1].negative)
        prompts[-1] = replace(prompts[-1], negative=negative)
        left_out |= more
    return left_out


def parse_prompt(line: str) -> Prompt:
    """Split ``text | key=value ...``; ValueError describes an error in the line."""
    text, _, options = line.partition("|")
    if not text.strip():
        raise ValueError("no prompt before the '|'")
    values: dict[str, str] = {}
    for option in shlex.split(options):
        key, has_value, value = option.partition("=")
        if not has_value or key not in _OPTIONS:
            raise ValueError(f"{option!r} is not one of {', '.join(_OPTIONS)} as key=value")
        if key in values:
            raise ValueError(f"{key} is given twice")
        values[key] = value
    return Prompt(
        text=" ".join(text.split()),
        guidance=_parse_guidance(values["guidance"]) if "guidance" in values else None,
        negative=values.get("negative", ""),
        weight=_parse_weight(values.get("weight", "1")),
    )


def cycle_prompts(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return the cycle of prompts: image i takes entry ``i mod len``.

    Weights repeat in rounds (A B A, not A A B), so the first images already show every prompt.
    """
    rounds = max(prompt.weight for prompt in prompts)
    return [prompt for turn in range(rounds) for prompt in prompts if prompt.weight > turn]


_OPTIONS = tuple(field.name for field in fields(Prompt) if field.name != "text")


def _parse_guidance(value: str) -> float:
    try:
        guidance = float(value)
    except ValueError:
        raise ValueError(f"guidance={value} is not a number") from None
    if not math.isfinite(guidance) or guidance < 1:
        raise ValueError(f"guidance={value} must be a number of at least 1")
    return guidance


def _parse_weight(value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= 1000:
        raise ValueError(f"weight={value} must be an integer, 1..1000")
    return int(value)
