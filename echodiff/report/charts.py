"""Charts as SVG, by matplotlib: losses, scores over steps, scores over counts, shares of findings.

Charts for the report are elements of its page: text stays text in the page's own font, colours are
the page's variables, and nothing is embedded or referred to outside the chart. The same data gives
the same bytes.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from echodiff.anatomy import Finding
from echodiff.files import write_text_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from echodiff.runs import Run

COLOURS = {
    "base": "#9c5518", "tuned": "#0b6a75", "soft": "#56606a", "real": "#1c2126", "line": "#d5dade",
}  # fmt: skip
"""By the name of the page's variable."""
SET_COLOURS, SET_MARKERS = ("base", "tuned", "soft"), ("o", "s", "^")
"""Of the sets of a page in turn; a set alone takes the second of each."""
RC = {
    "svg.fonttype": "none", "svg.hashsalt": "echodiff", "path.simplify": False, "font.size": 12.5,
    "axes.spines.left": False, "axes.spines.right": False, "axes.spines.top": False,
    "axes.spines.bottom": False, "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True,
    "grid.color": COLOURS["line"], "grid.linewidth": 1, "lines.linewidth": 1.8,
    "xtick.bottom": False, "ytick.left": False, "xtick.labelcolor": COLOURS["soft"],
    "ytick.labelcolor": COLOURS["soft"], "axes.labelcolor": COLOURS["soft"],
    "text.color": COLOURS["real"],
}  # fmt: skip
SMOOTHING = 5
"""Readings of the loss in one running mean."""
HELD_OUT_LOSS = "held_out_loss"
"""Name in `metrics.jsonl`."""
LABEL_HEIGHT = 16.0
PANEL_COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 3, 340.0, 200.0
"""Of the chart of all losses; sizes of a panel in SVG units."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """One chart of the report."""

    title: str
    svg: str
    """`<svg>` element."""
    has_band: bool = False
    has_baseline: bool = False


# --- Charts of the report -------------------------------------------------------------------------


def draw_curves(rows: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Draw the loss of a run's `metrics.jsonl`; None where it holds fewer than two readings.

    The training loss is a running mean: single readings scatter with the time steps drawn.
    """
    curves: dict[str, Points] = {}
    for key, name in (("loss", "training loss"), (HELD_OUT_LOSS, "held-out loss")):
        points = [(float(r["step"]), float(r[key])) for r in rows if r.get(key) is not None]
        points = [(x, y) for x, y in points if math.isfinite(y)]
        if len(points) > 1:
            curves[name] = _smoothed(points) if key == "loss" else points
    if not curves:
        return None
    figure, axes = _build_figure(640, 250)
    _draw_lines(axes, curves, {"training loss": "tuned", "held-out loss": "real"})
    axes.set_xlabel("optimizer steps", loc="right")
    return Chart("Loss", _to_element(figure, "Loss over steps"))


def draw_score_curves(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Draw intact frames and MMD^2 over the steps of a run's `metrics.jsonl`, a chart per measure.

    Only where `train_lora.py --evaluate-every` left two readings or more.
    """
    ends = ("_low", "_high", "_floor", "_real")
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith(("intact", "mmd_")))
    charts = []
    for key in (key for key in keys if not key.endswith(ends)):
        read = [row for row in rows if row.get(key) is not None]
        if len(read) < 2:
            continue
        title = f"MMD² ({key.removeprefix('mmd_')})" if key != "intact" else "Intact anatomy"
        figure, axes = _build_figure(640, 250)
        has_band = all(key + end in row for row in read for end in ends[:2])
        if has_band:
            _draw_band(axes, [(row["step"], row[f"{key}_low"], row[f"{key}_high"]) for row in read])
        # One number: the real frames and their splits are the same at every step.
        baseline = read[-1].get(key + "_floor", read[-1].get(key + "_real"))
        if baseline is not None:
            axes.axhline(baseline, color=COLOURS["real"], linewidth=1, dashes=(5, 4))
        _draw_lines(axes, {title: [(row["step"], row[key]) for row in read]}, {title: "tuned"})
        axes.set_xlabel("optimizer steps", loc="right")
        svg = _to_element(figure, f"{title} over steps")
        charts.append(Chart(title, svg, has_band, baseline is not None))
    return charts


def draw_marked_line(
    title: str,
    points: Points,
    *,
    baselines: Mapping[str, float],
    mark: tuple[float, str] | None,
    colour: str,
) -> Chart:
    """Draw a share over the steps, named dashed baselines, and a place on the axis with a word."""
    figure, axes = _build_figure(640, 250)
    for name, value in baselines.items():
        axes.axhline(value, color=COLOURS["real"], linewidth=1, dashes=(5, 4))
        axes.annotate(
            name, (1, value), (9, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", color=COLOURS["soft"], fontsize=12.5, va="center",
        )  # fmt: skip
    (line,) = axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=6)
    line.set_gid(f"title:{title}")
    _set_ticks(axes)
    axes.set_ylim(0, 1)
    if mark is not None:
        axes.axvline(mark[0], color=colour, linewidth=1)
        is_late = mark[0] > (points[0][0] + points[-1][0]) / 2
        axes.annotate(
            mark[1], (mark[0], 1), (-6 if is_late else 6, -4), textcoords="offset points",
            color=colour, fontsize=12.5, va="top", ha="right" if is_late else "left",
        )  # fmt: skip
    axes.set_xlabel("optimizer steps", loc="right")
    return Chart(title, _to_element(figure, f"{title} over steps"), has_baseline=True)


def draw_counts(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Draw `metrics.by_count` rows: MMD^2 and the Frechet distance of each feature network.

    The axis of counts is logarithmic; that of scores starts at zero, or below at the lowest score.
    """
    charts = []
    for features in dict.fromkeys(row["features"] for row in rows):
        own = [row for row in rows if row["features"] == features]
        if len(own) > 1:
            charts += [
                _draw_count_chart(own, key, f"{name} ({features})")
                for key, name in (("mmd", "MMD²"), ("fd", "Fréchet distance"))
            ]
    return charts


def draw_shares(
    sets: Sequence[Mapping[str, Mapping[str, Any]]], names: Mapping[Finding, str], prefix: str
) -> Chart | None:
    """Draw `<prefix>_<finding>` of the sets' scores, one row per finding, and `<prefix>` last.

    names: finding to its name on the page, in the order of the rows. None where no set has any.
    """
    keys = {f"{prefix}_{finding}": name for finding, name in names.items()} | {prefix: "Mean"}
    shown = {k: name for k, name in keys.items() if any(k in scores for scores in sets)}
    if not shown:
        return None
    figure, axes = _build_figure(640, 50 + 34 * len(shown), left=150, right=40, top=8, bottom=26)
    styles = list(zip(SET_COLOURS, SET_MARKERS, strict=True))
    styles = styles if len(sets) > 1 else styles[1:2]
    for row, (key, name) in enumerate(shown.items()):
        scores = [one[key] for one in sets if key in one]
        if real := [score["real"] for score in scores if score.get("real") is not None]:
            axes.plot([real[0]] * 2, [row - 0.35, row + 0.35], color=COLOURS["real"], linewidth=2.5)
        for number, score in enumerate(scores):
            value, y = score["value"], row + (number - (len(scores) - 1) / 2) * 0.32
            low, high = (value if score[end] is None else score[end] for end in ("low", "high"))
            name_of_colour, marker = styles[number % len(styles)]
            colour = COLOURS[name_of_colour]
            axes.plot([low, high], [y, y], color=colour, alpha=0.55, linewidth=2.2)
            (dot,) = axes.plot([value], [y], color=colour, marker=marker, markersize=9)
            dot.set_gid(f"title:{name}: {100 * value:.0f} % of {score['n']}")
    if len(shown) > 1 and prefix in shown:
        axes.axhline(len(shown) - 1.5, xmin=-150 / 450, color=COLOURS["real"], linewidth=0.8)
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_yticks(range(len(shown)), list(shown.values()))
    axes.tick_params(axis="y", pad=0, length=0)
    for label in axes.get_yticklabels():
        label.set(color=COLOURS["real"], horizontalalignment="left", x=-150 / 450)
        label.set_fontweight("bold" if label.get_text() == "Mean" else "normal")
    return Chart("Shares", _to_element(figure, f"{prefix.capitalize()} by finding"))


def draw_dice_by_share(curves: Mapping[str, Sequence[Mapping[str, float | None]]]) -> Chart | None:
    """Draw mean Dice against the percentage of real patients, a line per curve with its intervals.

    curves: by name, "real only" first; rows of `share`, `value`, `low` and `high`. A share of 0 is
    of synthetic frames alone. None without any row.
    """
    curves = {name: rows for name, rows in curves.items() if rows}
    if not curves:
        return None
    figure, axes = _build_figure(640, 320, right=150)
    known = dict(zip(curves, ("real", "tuned", "base"), strict=False))
    colours = {name: known.get(name, "soft") for name in curves}
    lines = {name: [(float(row["share"] or 0), float(row["value"] or 0)) for row in rows]
             for name, rows in curves.items()}  # fmt: skip
    for number, (name, rows) in enumerate(curves.items()):
        for row in rows:
            low, high = row["low"], row["high"]
            if low is not None and high is not None:
                x = float(row["share"] or 0) + 0.8 * number  # next to those of other curves
                colour = COLOURS[colours[name]]
                axes.plot([x, x], [low, high], color=colour, alpha=0.5, linewidth=2.2)
    _draw_lines(axes, lines, colours)
    for name, points in lines.items():
        axes.plot(*zip(*points, strict=True), "o", color=COLOURS[colours[name]], markersize=5)
    shares = sorted({share for points in lines.values() for share, _ in points})
    axes.set_xlim(-2, 100)
    axes.set_xticks(shares, [f"{share:g} %" for share in shares])
    axes.set_xlabel("real patients", loc="right")
    axes.set_ylabel("mean Dice")
    return Chart("Dice", _to_element(figure, "Mean Dice against the share of real patients"))


# --- Losses of a run ------------------------------------------------------------------------------


def draw_losses(run: Run) -> None:
    """Write `samples/losses.svg` from `metrics.jsonl`, one panel per value of a training step.

    The held-out loss has a panel of its own. Without a logged step nothing is written.
    """
    read = run.read_metrics()
    rows = [row for row in read if "learning_rate" in row]
    if not rows:
        return
    curves = {name: rows for name in rows[-1] if name not in {"step", "learning_rate"}}
    if held_out := [row for row in read if HELD_OUT_LOSS in row]:
        curves[HELD_OUT_LOSS] = held_out
    columns = min(PANEL_COLUMNS, len(curves))
    across, down = columns * PANEL_WIDTH, math.ceil(len(curves) / columns) * PANEL_HEIGHT
    figure, *_ = _build_figure(across, down)
    figure.clear()
    figure.set_facecolor("white")
    for place, (name, readings) in enumerate(curves.items()):
        row, column = divmod(place, columns)
        left, bottom = column * PANEL_WIDTH + 60, down - (row + 1) * PANEL_HEIGHT + 30
        size = (PANEL_WIDTH - 80) / across, (PANEL_HEIGHT - 60) / down
        with _style():
            axes = figure.add_axes((left / across, bottom / down, *size))
        values = [one.get(name, math.nan) for one in readings]
        values = [value if math.isfinite(value) else math.nan for value in values]
        marker = "o" if len(readings) == 1 else "-"
        axes.plot([one["step"] for one in readings], values, marker, color="black")
        axes.set_title(name, loc="left", fontsize=12.5, parse_math=False)
        _set_ticks(axes)
    write_text_atomic(run.samples / "losses.svg", _render(figure))


# --- Parts ----------------------------------------------------------------------------------------


def _draw_count_chart(rows: Sequence[Mapping[str, Any]], key: str, title: str) -> Chart:
    counts = [row["n"] for row in rows]
    figure, axes = _build_figure(520, 230, right=108)
    axes.set_xscale("log")
    has_band = f"{key}_low" in rows[0]
    if has_band:
        _draw_band(axes, [(row["n"], row[f"{key}_low"], row[f"{key}_high"]) for row in rows])
    real = [(row["n"], row[f"{key}_floor"]) for row in rows if row[f"{key}_floor"] is not None]
    curves = {"generated": [(row["n"], row[key]) for row in rows], "reference": real}
    axes.update_datalim([(counts[0], 0.0)])
    _draw_lines(axes, curves, {"generated": "tuned", "reference": "real"})
    axes.set_xlim(counts[0], counts[-1])
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("images", loc="right")
    return Chart(title, _to_element(figure, f"{title} against the number of images"), has_band)


def _draw_lines(axes: Axes, curves: Mapping[str, Points], colours: Mapping[str, str]) -> None:
    """Draw every curve with a dot and its name at its end; two names are kept apart."""
    curves = {name: points for name, points in curves.items() if points}
    for name, points in curves.items():
        x, y = zip(*points, strict=True)
        (line,) = axes.plot(x, y, color=COLOURS[colours[name]], linewidth=1.8)
        line.set_gid(f"title:{name}")
    if axes.get_xscale() == "linear":
        axes.set_xlim(0, max(points[-1][0] for points in curves.values()))
    _set_ticks(axes)
    ends = {name: points[-1] for name, points in curves.items()}
    heights = {name: float(axes.transData.transform(end)[1]) for name, end in ends.items()}
    order = sorted(heights, key=heights.__getitem__)
    missing = max(0.0, LABEL_HEIGHT - (heights[order[-1]] - heights[order[0]])) / 2
    for name, end in ends.items():
        colour = COLOURS[colours[name]]
        axes.plot(*zip(end, strict=True), color=colour, marker="o", markersize=6)
        shift = 0.0 if len(order) == 1 else missing if name == order[-1] else -missing
        axes.annotate(
            name,
            end,
            (9, shift),
            textcoords="offset points",
            color=colour,
            fontsize=12.5,
            va="center",
        ).set_parse_math(False)


def _draw_band(axes: Axes, rows: Iterable[tuple[float, float, float]]) -> None:
    x, low, high = zip(*rows, strict=True)
    outline = [*x, *reversed(x)], [*high, *reversed(low)]
    (band,) = axes.fill(*outline, color=COLOURS["tuned"], alpha=0.15, linewidth=0)
    band.set_gid("title:band")


def _set_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.margins(x=0, y=0.04)
    for axis, count in ((axes.xaxis, 7), (axes.yaxis, 5)):
        axis.set_major_locator(MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _build_figure(
    width: float, height: float, *, left: float = 52, right: float = 128, top: float = 14,
    bottom: float = 40,
) -> tuple[Figure, Axes]:  # fmt: skip
    """Build a figure of width x height SVG units with one pair of axes, margins in SVG units."""
    from matplotlib.figure import Figure

    with _style():
        figure = Figure((width / 72, height / 72), dpi=72, facecolor="none")
        size = (width - left - right) / width, (height - top - bottom) / height
        axes = figure.add_axes((left / width, bottom / height, *size), facecolor="none")
    return figure, axes


def _style() -> Any:
    from matplotlib import rc_context

    return rc_context(RC)  # type: ignore[arg-type]


def _render(figure: Figure) -> str:
    """Render a figure as an SVG document, without the date."""
    stream = io.BytesIO()
    for artist in figure.findobj():
        artist.set_clip_on(False)
    with _style():
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator")))
    return stream.getvalue().decode("utf-8")


def _to_element(figure: Figure, label: str) -> str:
    """Render a figure as an `<svg>` element for the page; screen readers read the label.

    Ids would be the same in all charts of a page, so those that nothing refers to are removed. An
    id that begins with `title:` becomes the tooltip of its group.
    """
    text = _render(figure)
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"\s*<metadata>.*?</metadata>|\s*<defs>\s*<style.*?</defs>", "", body, flags=re.S)
    body = re.sub(r'<g id="title:([^"]*)">', r"<g><title>\1</title>", body)
    body = re.sub(r'<g id="[^"]*">', "<g>", body)
    for name, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{name})")
    width, height = (round(side * 72) for side in figure.get_size_inches())
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="{html.escape(label)}" style="stroke-linejoin: round">{body}'
    )


def _smoothed(points: Points) -> Points:
    values = np.array([y for _, y in points])
    means = [values[max(0, i + 1 - SMOOTHING) : i + 1].mean() for i in range(len(values))]
    return [(x, float(mean)) for (x, _), mean in zip(points, means, strict=True)]


build_figure, to_element, render_figure = _build_figure, _to_element, _render
"""For charts in other modules of this package."""
