"""Alarms of a set, with the images to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from echodiff.report.pictures import Picture, Scale, Shown

NUM_SHOWN = 8
NUM_NAMED = 12
"""Most images of an alarm that are shown, and that are named by their files."""
FRAMES_OF = {
    "sector": "sector_drift",
    "colour drift": "colour_drift",
    "broken hearts": "intact",
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
        rows = metrics.get("alarm_frames", {}).get(text) or score.get("frames")
        chosen = _choose(pictures, rows)
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
