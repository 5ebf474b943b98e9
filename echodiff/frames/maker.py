"""Which command wrote a frames folder, by what it leaves there."""

from contextlib import suppress
from pathlib import Path

from echodiff.errors import InputError
from echodiff.frames.layout import METADATA
from echodiff.frames.rows import parse_row
from echodiff.frames.unfinished import list_parts

GENERATE, TRANSLATE, PREPARE = "generate.py", "echodiff translate", "echodiff prepare"
PHANTOM = "echodiff phantom"
"""Also the `source` of its rows."""
_RECORDS = {"generate.json": GENERATE, "translate.json": TRANSLATE}


def find_maker(out: Path) -> str | None:
    """The command that wrote or began the frames folder `out`; None where nothing tells."""
    for name, command in _RECORDS.items():
        if (out / name).is_file():
            return command
    with suppress(OSError, UnicodeDecodeError):
        if "\n## In this folder\n" in (out / "README.md").read_text(encoding="utf-8"):
            return PREPARE
    for rows in (out / METADATA, *list_parts(out)):
        with suppress(OSError, InputError), rows.open("rb") as file:
            if parse_row(file.readline()).source == PHANTOM:
                return PHANTOM
    return None


def refuse_maker(out: Path, command: str) -> None:
    """InputError where another command than `command` wrote the folder that it shall clear."""
    maker = find_maker(out)
    if maker not in (None, command):
        raise InputError(
            f"{out}: was written by {maker}, and {command} --overwrite clears only what it wrote "
            "itself: move it away first, or choose another --out"
        )
