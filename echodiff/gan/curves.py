"""Loss curves of a run as one picture: a panel a loss, by step."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from echodiff.images import write_image

if TYPE_CHECKING:
    from echodiff.runs import Run

COLUMNS, WIDTH, HEIGHT, MARGIN = 3, 320, 180, 28
"""Panels in a row; size of a panel and of its frame (pixels)."""


def draw_losses(run: "Run") -> None:
    """Write `samples/losses.png` from the rows of `metrics.jsonl` (drawn by hand: a plotting
    library takes longer to lay it out than a short training takes)."""
    rows = [row for row in run.read_metrics() if "learning_rate" in row]
    names = [name for name in rows[-1] if name not in {"step", "learning_rate"}] if rows else []
    if not names:
        return
    columns = min(COLUMNS, len(names))
    sheet = Image.new("L", (columns * WIDTH, math.ceil(len(names) / columns) * HEIGHT), 255)
    for place, name in enumerate(names):
        panel = Image.new("L", (WIDTH, HEIGHT), 255)
        _draw_panel(panel, name, rows)
        sheet.paste(panel, (place % columns * WIDTH, place // columns * HEIGHT))
    write_image(run.samples / "losses.png", np.asarray(sheet, dtype=np.uint8))


def _draw_panel(panel: Image.Image, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """A curve in its frame, with the ends of both axes written beside it."""
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(size=11)
    steps, values = [row["step"] for row in rows], [row[name] for row in rows]
    low, high = min(values), max(values)
    left, top, right, bottom = MARGIN, MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN
    across = (right - left) / max(1, steps[-1] - steps[0])
    up = (bottom - top) / (high - low) if high > low else 0.0
    line = [
        (left + (step - steps[0]) * across, bottom - (value - low) * up)
        for step, value in zip(steps, values, strict=True)
    ]
    draw.rectangle((left, top, right, bottom), outline=180)
    draw.line(line if len(line) > 1 else [*line, line[0]], fill=0, width=2)
    draw.text((left, 2), f"{name}, {low:.4g} to {high:.4g}", fill=0, font=font)
    draw.text((left, bottom + 4), f"step {steps[0]}", fill=90, font=font)
    draw.text((right, bottom + 4), f"step {steps[-1]}", fill=90, font=font, anchor="ra")
