"""Recognise the command that wrote a frames folder by the files it leaves there."""

import json
from contextlib import suppress
from pathlib import Path

from echodiff.errors import InputError
from echodiff.frames.layout import METADATA
from echodiff.frames.rows import Frame, parse_row
from echodiff.frames.shards import list_shards

GENERATE, TRANSLATE, PREPARE = "generate.py", "echodiff translate", "echodiff prepare"
PHANTOM = "echodiff phantom"
"""Also the `source` of its rows."""
GENERATED, MASK_SOURCE = "generated", "mask_source"
"""`source` of the rows of generate.py, and the column that holds that of the mask's frame."""
ATTEMPT = "attempt"
"""Setting of an image that was chosen from several draws: which of them it is, from 0."""
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
    with suppress(ValueError, TypeError):
        found = json.loads(frame.settings or "").get(ATTEMPT)
        return found if isinstance(found, int) and found >= 0 else None
    return None


def refuse_maker(out: Path, command: str) -> None:
    """Raise InputError if another command than `command` wrote the folder to clear."""
    maker = find_maker(out)
    if maker not in (None, command):
        raise InputError(
            f"{out}: was written by {maker}; {command} --overwrite replaces only its own "
            "folders: move it away, or choose another --out"
        )
