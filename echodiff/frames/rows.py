"""One row of a frames folder: its columns, their types, and the JSON line they make."""

import codecs
import dataclasses
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from echodiff.documents import parse_json
from echodiff.errors import InputError

logger = logging.getLogger(__name__)

MAX_TEXT = 2000
"""Letters of a caption or prompt that are read; a text encoder takes about 300."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """One row of `metadata.jsonl`; what is None is not written."""

    file_name: str
    """Image, relative to the folder, with forward slashes."""
    text: str
    """Caption; empty for an empty prompt."""
    mask_file_name: str | None = None
    """Index mask of the image's size, relative to the folder."""
    patient_id: str | None = None
    """Patient; a row without one counts as a patient of its own."""
    view: str | None = None
    """A `View`."""
    phase: str | None = None
    """A `Phase`, or the index of the frame in its clip."""
    modality: str | None = None
    """echo, mr, ct or pseudo."""
    vendor: str | None = None
    """Vendor or style of the scanner."""
    spacing_mm: float | None = None
    """Side of a square pixel, in mm."""
    white_level: int | None = None
    """Grey value shown as white: of the image if it has more than 8 bits, else of its source."""
    split: str | None = None
    """train, val or test."""
    source: str | None = None
    """Data set or simulator it came from."""
    pair_id: str | None = None
    """Shared by images of the same anatomy in several modalities."""
    findings: list[str] | None = None
    """`Finding`s known to be there; an empty list says that there are none."""
    record: str | None = None
    """JSON of all random parameters of a simulated frame."""
    prompt: str | None = None
    """Prompt of a generated frame."""
    seed: int | None = None
    """Seed of a generated frame."""
    weights: str | None = None
    """SHA-256 of the weights that made it."""
    settings: str | None = None
    """JSON of the generator's settings."""
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Unknown columns, kept unchanged."""

    def to_row(self) -> dict[str, Any]:
        """Return the JSON object of this frame."""
        known = {name: getattr(self, name) for name in _KINDS}
        return {k: v for k, v in known.items() if v is not None} | self.extra


def cut_texts(frames: list[Frame], place: Path) -> list[Frame]:
    """Frames with texts and prompts of at most MAX_TEXT letters; one warning counts the others."""
    num_cut = 0
    for number, frame in enumerate(frames):
        if len(frame.text) > MAX_TEXT or len(frame.prompt or "") > MAX_TEXT:
            num_cut += 1
            prompt = None if frame.prompt is None else frame.prompt[:MAX_TEXT]
            frames[number] = dataclasses.replace(frame, text=frame.text[:MAX_TEXT], prompt=prompt)
    if num_cut:
        logger.warning(
            "%s: %d captions are longer than %d letters: cut there", place, num_cut, MAX_TEXT
        )
    return frames


_OTHER_KINDS = {"spacing_mm": float, "white_level": int, "seed": int, "findings": list}
_KINDS: dict[str, type] = {
    f.name: _OTHER_KINDS.get(f.name, str) for f in dataclasses.fields(Frame) if f.name != "extra"
}


def to_line(frame: Frame) -> str:
    return json.dumps(frame.to_row(), ensure_ascii=False, allow_nan=False)


def parse_row(line: str | bytes) -> Frame:
    """The frame of one JSON line that this project wrote."""
    return _from_row(parse_json(line))


def read_rows(metadata: Path) -> list[tuple[int, Frame]]:
    """Rows with their line numbers, from 1; checks each by itself and that names are unique."""
    frames: list[tuple[int, Frame]] = []
    for number, row in scan_rows(metadata):
        if isinstance(row, InputError):
            raise InputError(f"{metadata}, line {number}: {row}")
        frames.append((number, row))
    return frames


def scan_rows(metadata: Path) -> Iterator[tuple[int, Frame | InputError]]:
    """Every row with its line number, from 1, or what is wrong with it."""
    seen: dict[str, int] = {}
    lines = metadata.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            frame = parse_row(line)
        except InputError as error:
            yield number, error
        else:
            if frame.file_name in seen:
                reason = f"{frame.file_name} is also in line {seen[frame.file_name]}"
                yield number, InputError(reason)
            else:
                seen[frame.file_name] = number
                yield number, frame


def _from_row(row: Any) -> Frame:
    if not isinstance(row, dict):
        raise InputError("expected a JSON object")
    for key in ("file_name", "text"):
        if row.get(key) is None:
            raise InputError(
                f'key "{key}" is missing' + (' (the empty prompt is "")' * (key == "text"))
            )
    known: dict[str, Any] = {}
    for key, kind in _KINDS.items():
        value = row.get(key)
        if value is None:
            continue
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f'"{key}" must be {kind.__name__}, got {value!r}')
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f'"{key}" is not a finite number')
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            raise InputError(f'"{key}" must be a list of words')
        known[key] = value
    for key in ("file_name", "mask_file_name"):
        if key in known:
            check_inside(known[key], key)
    return Frame(**known, extra={k: v for k, v in row.items() if k not in _KINDS})


def check_inside(name: str, key: str) -> None:
    path = PurePosixPath(name)
    if not name or "\\" in name or "\0" in name or path.is_absolute() or ".." in path.parts:
        raise InputError(f'"{key}" {name!r} must be a path inside the folder')
