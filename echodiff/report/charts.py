"""Charts of the report as geometry for its template: points in SVG units, ticks, labels.

No plotting library: a chart is a handful of points, and text stays text in the page's own type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from echodiff.anatomy import Finding

CURVE_WIDTH, CURVE_HEIGHT = 640.0, 250.0
CURVE_LEFT, CURVE_RIGHT, CURVE_TOP, CURVE_BOTTOM = 52.0, 128.0, 14.0, 40.0
ROW_HEIGHT = 34.0
SMOOTHING = 5
"""Readings of the loss in one running mean."""

Point = tuple[float, float]
Place = Callable[[float, float], Point]
"""(step, value) to SVG units."""


@dataclass(frozen=True)
class Tick:
    """One mark of an axis."""

    at: float
    """SVG units."""
    text: str


@dataclass(frozen=True)
class Line:
    """One curve: SVG `points`, and where its name stands."""

    name: str
    points: str
    end_x: float
    end_y: float
    label_y: float
    """Height of the name; names of near ends are moved apart."""


@dataclass(frozen=True)
class CurveChart:
    """Loss over steps."""

    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    width: float = CURVE_WIDTH
    height: float = CURVE_HEIGHT
    left: float = CURVE_LEFT
    right: float = CURVE_WIDTH - CURVE_RIGHT
    top: float = CURVE_TOP
    bottom: float = CURVE_HEIGHT - CURVE_BOTTOM


@dataclass(frozen=True)
class ScoreChart:
    """A score over steps, with its interval and the floor, all as SVG `points` and heights."""

    name: str
    """Of the feature network."""
    line: str
    band: str
    """The interval, once around; empty where there is none."""
    floor_y: float | None
    """The distance of real frames from other real frames."""
    end_x: float
    end_y: float
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    width: float = CURVE_WIDTH
    height: float = CURVE_HEIGHT
    left: float = CURVE_LEFT
    right: float = CURVE_WIDTH - CURVE_RIGHT
    top: float = CURVE_TOP
    bottom: float = CURVE_HEIGHT - CURVE_BOTTOM


@dataclass(frozen=True)
class Mark:
    """A share with its interval on a row, SVG units along the axis."""

    at: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class ShareRow:
    """One finding: the sets' shares, and what the classifier gives on real frames."""

    name: str
    y: float
    marks: list[Mark]
    real: float | None


@dataclass(frozen=True)
class ShareChart:
    """Shares of several sets, a row a finding, 0 to 100 % along the axis."""

    rows: list[ShareRow]
    ticks: list[Tick]
    width: float
    height: float
    left: float
    right: float


def build_curves(rows: Sequence[Mapping[str, Any]]) -> CurveChart | None:
    """Lay out the loss of a run's `metrics.jsonl`; None where it holds none.

    The training loss is a running mean: single readings scatter with the time steps drawn.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    for key, name in (("loss", "training"), ("held_out_loss", "held-out")):
        points = [(float(r["step"]), float(r[key])) for r in rows if r.get(key) is not None]
        points = [(x, y) for x, y in points if math.isfinite(y)]
        if len(points) > 1:
            curves[name] = _smoothed(points) if key == "loss" else points
    if not curves:
        return None
    place, x_ticks, y_ticks = _axes([point for points in curves.values() for point in points])
    lines = []
    for name, points in curves.items():
        end = place(*points[-1])
        lines.append(Line(name, _points(place, points), *end, label_y=end[1]))
    if len(lines) == 2 and abs(lines[0].label_y - lines[1].label_y) < 16:
        upper = min(range(2), key=lambda i: lines[i].end_y)
        middle = (lines[0].end_y + lines[1].end_y) / 2
        for i, line in enumerate(lines):
            lines[i] = Line(
                line.name, line.points, line.end_x, line.end_y, middle + (-8 if i == upper else 8)
            )
    return CurveChart(lines=lines, x_ticks=x_ticks, y_ticks=y_ticks)


def build_score_charts(rows: Sequence[Mapping[str, Any]]) -> list[ScoreChart]:
    """Lay out MMD^2 over the steps of a run's `metrics.jsonl`, a chart a feature network.

    Only where `train_lora.py --evaluate-every` left two readings or more.
    """
    ends = ("_low", "_high", "_floor")
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("mmd_"))
    charts = []
    for key in (key for key in keys if not key.endswith(ends)):
        read = [row for row in rows if row.get(key) is not None]
        if len(read) < 2:
            continue
        steps = [float(row["step"]) for row in read]
        line = [(x, float(row[key])) for x, row in zip(steps, read, strict=True)]
        has_band = all(key + end in row for row in read for end in ends[:2])
        low, high = (
            [(x, float(row[key + end])) for x, row in zip(steps, read, strict=True) if has_band]
            for end in ends[:2]
        )
        # One number: the real frames and their splits are the same at every step.
        floor = read[-1].get(key + "_floor")
        at_floor = [] if floor is None else [(0.0, float(floor))]
        place, x_ticks, y_ticks = _axes([*line, *low, *high, *at_floor])
        charts.append(
            ScoreChart(
                key.removeprefix("mmd_"),
                _points(place, line),
                _points(place, [*high, *reversed(low)]),
                place(*at_floor[0])[1] if at_floor else None,
                *place(*line[-1]),
                x_ticks,
                y_ticks,
            )
        )
    return charts


def spread_labels(lines: list[Line]) -> list[Line]:
    """Two names that would touch are moved apart, the upper curve's upwards."""
    if len(lines) != 2 or abs(lines[0].label_y - lines[1].label_y) >= 16:
        return lines
    upper = min(range(2), key=lambda i: lines[i].end_y)
    middle = (lines[0].end_y + lines[1].end_y) / 2
    return [
        replace(line, label_y=middle + (-8 if i == upper else 8)) for i, line in enumerate(lines)
    ]


def build_shares(
    sets: Sequence[Mapping[str, Mapping[str, Any]]], names: Mapping[Finding, str], prefix: str
) -> ShareChart | None:
    """Lay out `<prefix>_<finding>` of the sets' scores, and the mean `<prefix>` last.

    `names`: finding to its name on the page, in the order of the rows. None where no set has any.
    """
    width, left, right = 640.0, 150.0, 600.0
    keys = {f"{prefix}_{finding}": name for finding, name in names.items()} | {prefix: "Mean"}
    shown = [key for key in keys if any(key in scores for scores in sets)]
    if not shown:
        return None

    def place(share: float) -> float:
        return left + share * (right - left)

    rows = []
    for number, key in enumerate(shown):
        scores = [one.get(key) for one in sets]
        real = next((s["real"] for s in scores if s and s.get("real") is not None), None)
        marks = [
            Mark(
                place(s["value"]),
                place(s["low"] if s["low"] is not None else s["value"]),
                place(s["high"] if s["high"] is not None else s["value"]),
                f"{100 * s['value']:.0f} % of {s['n']}",
            )
            for s in scores
            if s is not None
        ]
        y = 26.0 + number * ROW_HEIGHT
        rows.append(ShareRow(keys[key], y, marks, None if real is None else place(real)))
    height = 26.0 + len(shown) * ROW_HEIGHT + 24.0
    ticks = [Tick(place(share / 100), f"{share} %") for share in (0, 25, 50, 75, 100)]
    return ShareChart(rows, ticks, width, height, left, right)


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers that lie within low..high, or just around a single value."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((power * m for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - rough))
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _axes(points: Sequence[Point]) -> tuple[Place, list[Tick], list[Tick]]:
    """Where (step, value) lies in a curve chart that holds all `points`, and its two axes."""
    x_ticks = nice_ticks(0.0, max(x for x, _ in points), 5)
    y_ticks = nice_ticks(min(y for _, y in points), max(y for _, y in points), 4)
    low, high = min(y_ticks[0], *(y for _, y in points)), max(y_ticks[-1], *(y for _, y in points))
    last = max(x_ticks[-1], *(x for x, _ in points))

    def place(x: float, y: float) -> Point:
        across = CURVE_WIDTH - CURVE_LEFT - CURVE_RIGHT
        down = CURVE_HEIGHT - CURVE_TOP - CURVE_BOTTOM
        return CURVE_LEFT + x / last * across, CURVE_TOP + (high - y) / (high - low) * down

    return (
        place,
        [Tick(place(x, low)[0], f"{x:g}") for x in x_ticks],
        [Tick(place(0.0, y)[1], f"{y:g}") for y in y_ticks],
    )


def _points(place: Place, points: Sequence[Point]) -> str:
    return " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points)


def _smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    values = np.array([y for _, y in points])
    means = [values[max(0, i + 1 - SMOOTHING) : i + 1].mean() for i in range(len(values))]
    return [(x, float(mean)) for (x, _), mean in zip(points, means, strict=True)]
