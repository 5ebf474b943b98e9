"""Charts of a score against the number of images: what the count does, and what the generator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from echodiff.report.charts import (
    CURVE_BOTTOM,
    CURVE_LEFT,
    CURVE_TOP,
    Line,
    Point,
    Tick,
    nice_ticks,
    spread_labels,
)


@dataclass(frozen=True)
class CountChart:
    """A score against the number of images: generated, and real against real."""

    title: str
    lines: list[Line]
    band: str
    """SVG points of the spread of the generated curve, empty without one."""
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    width: float = 520.0
    height: float = 230.0
    left: float = CURVE_LEFT
    right: float = 520.0 - 108.0
    top: float = CURVE_TOP
    bottom: float = 230.0 - CURVE_BOTTOM


def build_counts(rows: Sequence[Mapping[str, Any]]) -> list[CountChart]:
    """Charts of `metrics.sample_size` rows: MMD^2 and the Frechet distance of each feature network.

    The axis of counts is logarithmic, that of scores begins at zero or at the lowest score below.
    """
    charts = []
    for features in dict.fromkeys(row["features"] for row in rows):
        own = [row for row in rows if row["features"] == features]
        if len(own) > 1:
            charts += [
                _build_count_chart(own, key, f"{name} ({features})")
                for key, name in (("mmd", "MMD²"), ("fd", "Fréchet distance"))
            ]
    return charts


def _build_count_chart(rows: Sequence[Mapping[str, Any]], key: str, title: str) -> CountChart:
    counts = [math.log(row["n"]) for row in rows]
    floors = [(n, row[f"{key}_floor"]) for n, row in zip(counts, rows, strict=True)]
    curves = {
        "generated": [(n, row[key]) for n, row in zip(counts, rows, strict=True)],
        "real": [(n, floor) for n, floor in floors if floor is not None],
    }
    ends = [row[end] for row in rows for end in (f"{key}_low", f"{key}_high") if end in row]
    values = [y for points in curves.values() for _, y in points] + ends + [0.0]
    y_ticks = nice_ticks(min(values), max(values), 4)
    low, high = min(y_ticks[0], *values), max(y_ticks[-1], *values)
    empty = CountChart(title, [], "", [], [])

    def place(x: float, y: float) -> Point:
        across = (x - counts[0]) / (counts[-1] - counts[0])
        return (
            empty.left + across * (empty.right - empty.left),
            empty.top + (high - y) / (high - low) * (empty.bottom - empty.top),
        )

    lines = []
    for name, points in curves.items():
        placed = [place(*point) for point in points]
        if placed:
            text = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
            lines.append(Line(name, text, *placed[-1], label_y=placed[-1][1]))
    band = ""
    if f"{key}_low" in rows[0]:
        lower = [place(n, row[f"{key}_low"]) for n, row in zip(counts, rows, strict=True)]
        upper = [place(n, row[f"{key}_high"]) for n, row in zip(counts, rows, strict=True)]
        band = " ".join(f"{x:.1f},{y:.1f}" for x, y in lower + upper[::-1])
    return CountChart(
        title,
        spread_labels(lines),
        band,
        [Tick(place(n, low)[0], str(row["n"])) for n, row in zip(counts, rows, strict=True)],
        [Tick(place(counts[0], y)[1], f"{y:g}") for y in y_ticks],
    )
