"""Data cards: describe a data set, and whether weights trained on it may be shared.

A card is a Hugging Face dataset card (YAML between two lines of dashes, then text). `prepare`
copies it into the frames folder as its README.md with the real counts filled in; `check` and `push`
read it there.
"""

from collections import Counter
from pathlib import Path
from typing import Any, Protocol

from echodiff.documents import parse_yaml
from echodiff.errors import InputError
from echodiff.files import shipped, write_text_atomic

CARD = "README.md"
COUNTS = "<!-- counts -->"
"""Line of a card that the counts take the place of."""


class Counted(Protocol):
    """Facts about the frames next to a card."""

    frames: int
    captioned: int
    patients: dict[str, str]
    counts: Counter[tuple[str, str]]


def write_card(
    card: Path | None, name: str, folder: Path, tally: Counted, *, skipped: int = 0
) -> None:
    """Copy a card into a frames folder and fill in the counts."""
    path = shipped("data_cards") / f"{name}.md" if card is None else card
    text = _read_text(path)
    read_head(path)
    facts = "\n".join(list_counts(tally, skipped))
    block = f"## In this folder\n{facts}\n"
    text = text.replace(COUNTS, block) if COUNTS in text else f"{text.rstrip()}\n\n{block}"
    write_text_atomic(folder / CARD, text)


def list_counts(tally: Counted, skipped: int = 0) -> list[str]:
    """Return a Markdown table of frames and patients."""
    homes = Counter(tally.patients.values())
    lines = ["| | frames | patients |", "|---|---|---|"]
    lines += [f"| all | {tally.frames} | {len(tally.patients)} |"]
    for (column, value), number in sorted(tally.counts.items()):
        patients = str(homes[value]) if column == "split" else ""
        lines.append(f"| {column}: {value} | {number} | {patients} |")
    lines.append(f"| captioned | {tally.captioned} | |")
    if skipped:
        lines.append(f"| files skipped as bad | {skipped} | |")
    return lines


def read_head(path: Path) -> dict[str, Any]:
    """Read the YAML block of a card."""
    text = _read_text(path)
    parts = text.split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        raise InputError(f"{path}: not a data card: it must begin with YAML between lines of ---")
    try:
        head = parse_yaml(parts[1])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(head, dict):
        raise InputError(f"{path}: not a data card: expected `key: value` lines between the ---")
    return head


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
