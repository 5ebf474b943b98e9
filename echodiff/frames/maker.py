"""Recognise the command that wrote a frames folder by the files it leaves there."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from echodiff.documents import parse_json
from echodiff.errors import InputError
from echodiff.frames.layout import METADATA
from echodiff.frames.rows import Frame, parse_row
from echodiff.frames.shards import list_shards

GENERATE, TRANSLATE, PREPARE = "generate.py", "echodiff translate", "echodiff prepare"
PHANTOM = "echodiff phantom"
"""Also the `source` of its rows."""
GENERATED, MASK_SOURCE = "generated", "mask_source"
"""`source` of the rows of generate.py, and the column that holds that of the mask's frame."""
ATTEMPT, REFUSED = "attempt", "refused"
"""Settings of an image that was chosen from several draws: which of them it is, from 0, and whether
even this one was refused."""
_RECORDS = {"generate.json": GENERATE, "translate.json": TRANSLATE}


def find_maker(out: Path) -> str | None:
    """Return the command that wrote or began the frames folder `out`; None if unknown."""
    for name, command in _RECORDS.items():
        if (out / name).is_file():
            return command
    with suppress(OSError, UnicodeDecodeError):
        if "\n## In this folder\n" in (out / "README.md").read_text(encoding="utf-8"):
            return PREPARE
    for rows in (out / METADATA, *list_shards(out)):
        with suppress(OSError, InputError), rows.open("rb") as file:
            if parse_row(file.readline()).source == PHANTOM:
                return PHANTOM
    return None


def attempt_of(frame: Frame) -> int | None:
    """Which draw an image of `generate.py --retries` is (0 is the first); None for any other."""
    found = _settings_of(frame).get(ATTEMPT)
    return found if type(found) is int and found >= 0 else None


def share_of_firsts(frames: Iterable[Frame]) -> float | None:
    """Share of the images of `generate.py --retries` whose first draw was sound; None without."""
    chosen = [frame for frame in frames if attempt_of(frame) is not None]
    kept = [attempt_of(one) == 0 and not _settings_of(one).get(REFUSED) for one in chosen]
    return sum(kept) / len(kept) if kept else None


def _settings_of(frame: Frame) -> dict[str, Any]:
    """Settings of a generated frame; empty where a foreign row has something else there."""
    with suppress(InputError):
        found = parse_json(frame.settings or "{}")
        return found if isinstance(found, dict) else {}
    return {}


def refuse_maker(out: Path, command: str) -> None:
    """Raise InputError if another command than `command` wrote the folder to clear."""
    maker = find_maker(out)
    if maker not in (None, command):
        raise InputError(
            f"{out}: was written by {maker}; {command} --overwrite replaces only its own "
            "folders: move it away, or choose another --out"
        )
