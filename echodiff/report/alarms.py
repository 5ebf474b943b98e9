"""Alarms of a set with the images to look at, and the images whose anatomy is not intact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from echodiff.images import read_size
from echodiff.report.pictures import Picture, Scale, Shown

NUM_SHOWN = 8
NUM_NAMED = 12
"""Most images of an alarm that are shown, and that are named by their files."""
NUM_BROKEN = 8
FRAMES_OF = {
    "sector": "sector_drift",
    "colour drift": "colour_drift",
    "intact": "intact",
}
"""First words of an alarm, and the score whose `frames` it is about."""


@dataclass(frozen=True)
class Alarm:
    """An alarm of one set."""

    text: str
    names: str = ""
    """Names of the images to look at."""
    images: Sequence[Shown] = ()


def list_alarms(
    title: str, metrics: Mapping[str, Any], pictures: Sequence[Picture], scale: Scale
) -> list[Alarm]:
    """List the alarms of a metrics.json; title: of the set, empty if there is only one."""
    alarms = []
    for text in metrics.get("alarms", []):
        score = metrics.get("scores", {}).get(FRAMES_OF.get(text.partition(":")[0], ""), {})
        chosen = _choose(pictures, score.get("frames"))
        alarms.append(Alarm(
            f"{title}: {text}" if title else text,
            name_pictures(chosen),
            [Shown(scale.embed(one.path), one.path.name, one.path.stem)
             for one in chosen[:NUM_SHOWN]],
        ))  # fmt: skip
    return alarms


def name_pictures(pictures: Sequence[Picture]) -> str:
    """Name images by their files: `000003, 000007 and 12 more`."""
    names = ", ".join(one.path.stem for one in pictures[:NUM_NAMED])
    more = len(pictures) - NUM_NAMED
    return f"{names} and {more} more" if more > 0 else names


def _choose(pictures: Sequence[Picture], rows: Any) -> list[Picture]:
    """Return the pictures of these rows; what is no row of the set is left out."""
    rows = rows if isinstance(rows, list) else []
    return [pictures[row] for row in rows
            if isinstance(row, int) and 0 <= row < len(pictures)]  # fmt: skip


def show_broken(
    metrics: Mapping[str, Any], pictures: Sequence[Picture], scale: Scale
) -> tuple[int, list[Shown]]:
    """Show the first images whose anatomy is not intact, with the first reason drawn in.

    Returns how many there are, and the images shown.
    """
    broken = [one for one in metrics.get("anatomy", {}).get("broken", [])
              if _choose(pictures, [one.get("row")])]  # fmt: skip
    shown = []
    for one in broken[:NUM_BROKEN]:
        path = pictures[one["row"]].path
        faults = one.get("faults") or [{}]
        reasons = "; ".join(str(fault.get("reason", "")) for fault in faults)
        note = f"{path.stem}: {reasons}"
        shown.append(Shown(scale.embed(path), path.name, note, _place(faults[0].get("box"), path)))
    return len(broken), shown


def _place(box: Any, path: Any) -> tuple[float, float, float, float] | None:
    """Convert left, top, right, bottom in pixels to left, top, width, height in per cent."""
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(x, int) for x in box)):
        return None
    height, width = read_size(path)[:2]
    left, top, right, bottom = box
    return (
        100 * left / width,
        100 * top / height,
        100 * (right - left) / width,
        100 * (bottom - top) / height,
    )
