"""Charts of a reader study: AUC by source, shares of scores, scores against experience, power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from echodiff.report.charts import COLOURS, Chart, build_figure, render_figure, to_element

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABEL_WIDTH = 150.0
"""Room for names of sources, in SVG units."""
LONGEST_NAME = 18
LINE_COLOURS = ("base", "tuned", "real", "soft")
WIDEST = 720.0
"""Widest chart of one panel, in SVG units."""
PAPER = "#ffffff"
PANEL = 260.0
"""Width and height of a panel, in SVG units."""


@dataclass(frozen=True)
class Figures:
    """One chart, for the page and as a file of its own."""

    chart: Chart
    document: str
    """SVG document with fixed colours."""


def draw_aucs(rows: Sequence[Mapping[str, Any]]) -> Figures:
    """Draw the AUC of each source: a dot per reader, the mean with its 95 % interval.

    rows: `main.auc` of an analysis. The band is the margin of equivalence.
    """
    height = 40 + 64 * len(rows)
    figure, axes = build_figure(720, height, left=LABEL_WIDTH, right=24, top=8, bottom=40)
    margin = rows[0]["equivalence"]["margin"]
    axes.axvspan(0.5 - margin, 0.5 + margin, color=COLOURS["soft"], alpha=0.13, linewidth=0)
    axes.axvline(0.5, color=COLOURS["real"], linewidth=1, dashes=(5, 4))
    for y, row in enumerate(rows):
        aucs = sorted(row["per_reader"].items(), key=lambda item: float(item[1]))
        for place, (reader, auc) in enumerate(aucs):
            shift = 0.2 + 0.07 * (place % 3)
            (dot,) = axes.plot([auc], [y + shift], "o", color=COLOURS["soft"], markersize=4,
                               alpha=0.7)  # fmt: skip
            dot.set_gid(f"title:{reader}: AUC {auc:.2f}")
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [y, y], color=COLOURS["tuned"], linewidth=3)
        (mean,) = axes.plot([row["value"]], [y], "s", color=COLOURS["tuned"], markersize=9)
        mean.set_gid(f"title:{row['source']}: mean AUC {row['value']:.2f}")
    _name_rows(axes, [row["source"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axes.set_xlabel("AUC of real against generated images", loc="right")
    return _finish(figure, "AUC of real against generated images, by source and reader")


def draw_scores(rows: Sequence[Mapping[str, Any]]) -> Figures:
    """Draw the shares of the scores 1 to 5 of each source. rows: `as_published.means`."""
    figure, axes = build_figure(720, 30 + 40 * len(rows), left=LABEL_WIDTH, right=24, top=4,
                                bottom=26)  # fmt: skip
    for y, row in enumerate(rows):
        left, total = 0.0, sum(row["counts"])
        for score, count in enumerate(row["counts"], 1):
            share = count / total
            (bar,) = axes.barh([y], [share], left=left, height=0.72, color=COLOURS["tuned"],
                               alpha=0.12 + 0.2 * (score - 1), linewidth=0)  # fmt: skip
            bar.set_gid(f"title:{row['source']}: score {score}, {count} of {total}")
            if share >= 0.04:
                colour = COLOURS["real"] if score < 4 else PAPER
                axes.text(left + share / 2, y, str(score), ha="center", va="center", fontsize=12.5,
                          color=colour)  # fmt: skip
            left += share
    _name_rows(axes, [row["source"] for row in rows])
    axes.grid(visible=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    return _finish(figure, "Shares of the scores 1 to 5, by source")


def draw_experience(
    means: Sequence[Mapping[str, Any]], readers: Sequence[Mapping[str, Any]], predictor: str
) -> Figures | None:
    """Draw each reader's mean score against years or weekly readings, a panel per source.

    means: `main.means`; readers: `readers` of an analysis. Bars are 95 % intervals over the
    reader's images (P1, figure 5). None with fewer than three readers of known experience.
    """
    known = {row["reader"]: row[predictor] for row in readers if row[predictor] is not None}
    is_log = predictor == "weekly_readings"
    known = {name: value for name, value in known.items() if value > 0 or not is_log}
    if len(known) < 3 or min(known.values()) == max(known.values()):
        return None
    width = 40 + PANEL * len(means)
    figure, first = build_figure(width, PANEL + 20)
    first.remove()
    for place, row in enumerate(means):
        axes = _add_panel(figure, 44 + PANEL * place, width)
        for reader, mean in row["per_reader"].items():
            if reader not in known:
                continue
            x = known[reader]
            if mean["low"] is not None:
                ends = [max(1.0, mean["low"]), min(5.0, mean["high"])]
                axes.plot([x, x], ends, color=COLOURS["tuned"], alpha=0.4, linewidth=1.5)
            (dot,) = axes.plot([x], [mean["value"]], "o", color=COLOURS["tuned"], markersize=5)
            dot.set_gid(f"title:{reader}: {mean['value']:.2f}")
        axes.set_title(_shorten(row["source"]), loc="left", fontsize=12.5, parse_math=False)
        axes.set_ylim(0.8, 5.2)
        axes.set_yticks([1, 2, 3, 4, 5])
        if is_log:
            _set_log(axes, min(known.values()), max(known.values()))
        if place == len(means) - 1:
            text = "echocardiograms a week" if is_log else "years of experience"
            axes.set_xlabel(text, loc="right")
    text = "weekly readings" if is_log else "years of experience"
    return _finish(figure, f"Mean score of each reader against {text}, by source")


def draw_power(rows: Sequence[Mapping[str, Any]], key: str, target: float) -> Figures:
    """Draw power against the number of readers, a line per number of images, with intervals."""
    figure, axes = build_figure(640, 300, right=140)
    axes.axhline(target, color=COLOURS["real"], linewidth=1, dashes=(5, 4))
    for place, images in enumerate(sorted({row["images"] for row in rows})):
        own = sorted((row for row in rows if row["images"] == images),
                     key=lambda row: int(row["readers"]))  # fmt: skip
        colour = COLOURS[LINE_COLOURS[place % len(LINE_COLOURS)]]
        x = [row["readers"] for row in own]
        for row in own:
            axes.plot([row["readers"]] * 2, [row[key]["low"], row[key]["high"]], color=colour,
                      alpha=0.5, linewidth=2.2)  # fmt: skip
        (line,) = axes.plot(x, [row[key]["value"] for row in own], color=colour, marker="o",
                            markersize=5)  # fmt: skip
        line.set_gid(f"title:{images} images")
        text = f"{images} images" if images > 1 else "1 image"
        axes.annotate(text, (1.02, 0.08 + 0.11 * place), xycoords="axes fraction", color=colour,
                      fontsize=12.5)  # fmt: skip
    axes.set_ylim(0, 1)
    axes.set_xticks(sorted({row["readers"] for row in rows}))
    axes.set_xlabel("readers", loc="right")
    return _finish(figure, f"{key.capitalize()} against the number of readers")


def _add_panel(figure: Figure, left: float, width: float) -> Axes:
    """Add a panel in the style of all charts."""
    from matplotlib import rc_context

    from echodiff.report.charts import RC

    height = PANEL + 20
    with rc_context(RC):  # type: ignore[arg-type]
        return figure.add_axes(
            (left / width, 42 / height, (PANEL - 36) / width, (height - 72) / height),
            facecolor="none",
        )


def _set_log(axes: Axes, low: float, high: float) -> None:
    axes.set_xscale("log")
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
             if low / 1.5 <= tick <= high * 1.5]  # fmt: skip
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_yticks(range(len(names)), [_shorten(name) for name in names])
    axes.tick_params(axis="y", pad=10, length=0)
    for label in axes.get_yticklabels():
        label.set(color=COLOURS["real"])
        label.set_parse_math(False)


def _shorten(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _finish(figure: Figure, label: str) -> Figures:
    element = to_element(figure, label).replace(PAPER, "var(--paper)")
    width = figure.get_figwidth() * 72
    if width > WIDEST:  # on a narrow screen, panels scroll rather than shrink to dots
        element = element.replace('style="', f'style="min-width: {0.75 * width:.0f}px; ', 1)
    return Figures(Chart(label, element), render_figure(figure))
