"""How well masks are obeyed over the steps of a training: chart, and the step from which they are.

A ControlNet ignores its condition for a while and then obeys it within few steps ("sudden
convergence", Zhang et al. 2023, figure 4): its loss does not show this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from echodiff.report.charts import COLOURS, Chart, draw_marked_line

OBEDIENCE = "drawn_dice"
"""Name in `metrics.jsonl`; `_real` and `_other` are those of real frames."""
TITLE = "Masks: asked for and drawn (Dice)"
HALF = 0.5
"""Share of the way from another patient's mask to the real frame's own from which masks count as
obeyed."""
READABLE = 0.1
"""Least distance between the two for which the segmenter is believed."""


def read_obedience(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of `metrics.jsonl` with a Dice and both of its baselines."""
    names = (OBEDIENCE, f"{OBEDIENCE}_real", f"{OBEDIENCE}_other")
    return [row for row in rows if all(row.get(name) is not None for name in names)]


def find_obeyed_step(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the first step from which masks stay obeyed; None if they are not at the end."""
    read = read_obedience(rows)
    step = None
    for row in reversed(read):
        other, real = row[f"{OBEDIENCE}_other"], row[f"{OBEDIENCE}_real"]
        if real - other < READABLE or (row[OBEDIENCE] - other) / (real - other) < HALF:
            break
        step = int(row["step"])
    return step


def describe_obedience(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say in one sentence from which step masks are obeyed; empty without a reading."""
    read = read_obedience(rows)
    if not read:
        return ""
    last = read[-1]
    value, real, other = (last[OBEDIENCE + end] for end in ("", "_real", "_other"))
    told = f"Dice {value:.2f}, real frames {real:.2f}, another patient's mask {other:.2f}"
    if real - other < READABLE:
        return (
            f"Whether masks are obeyed cannot be told ({told}): the segmenter does not know these "
            "frames; --segmenter takes one that does."
        )
    step = find_obeyed_step(rows)
    if step is None:
        return f"Masks are not obeyed yet ({told}); this often comes suddenly, after more steps."
    return f"Masks are obeyed from step {step} on ({told})."


def draw_obedience(rows: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Draw the Dice over the steps, both baselines, and from where on masks are obeyed."""
    read = read_obedience(rows)
    if len(read) < 2:
        return None
    last, step = read[-1], find_obeyed_step(rows)
    return draw_marked_line(
        TITLE,
        [(float(row["step"]), float(row[OBEDIENCE])) for row in read],
        baselines={
            "real frames": float(last[f"{OBEDIENCE}_real"]),
            "another patient": float(last[f"{OBEDIENCE}_other"]),
        },
        mark=None if step is None else (float(step), "obeyed from here"),
        colour=COLOURS["tuned"],
    )
