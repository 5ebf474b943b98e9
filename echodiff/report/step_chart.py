"""Chart of the quality of images against the number of sampler steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from echodiff.report.charts import COLOURS, Chart, _build_figure, _draw_lines, _to_element

_NAMES = ("base", "tuned", "soft")


def draw_by_steps(title: str, curves: Mapping[str, Mapping[str, Any]]) -> Chart | None:
    """Draw a distance of each arm against its steps, with 95 % intervals, steps on a log axis.

    curves: by arm and number of steps, records with `value`, `low` and `high`.
    """
    known = {
        arm: sorted((int(steps), one) for steps, one in rows.items() if one is not None)
        for arm, rows in curves.items()
    }
    known = {arm: rows for arm, rows in known.items() if len(rows) > 1}
    if not known:
        return None
    figure, axes = _build_figure(640, 300, right=120)
    axes.set_xscale("log", base=2)
    colours = {arm: _NAMES[place % len(_NAMES)] for place, arm in enumerate(known)}
    for arm, rows in known.items():
        for steps, one in rows:
            if one["low"] is not None and one["high"] is not None:
                axes.plot([steps, steps], [one["low"], one["high"]], alpha=0.5, linewidth=2.2,
                          color=COLOURS[colours[arm]])  # fmt: skip
    lines: dict[str, Sequence[tuple[float, float]]] = {
        arm: [(float(steps), float(one["value"])) for steps, one in rows]
        for arm, rows in known.items()
    }
    _draw_lines(axes, lines, colours)
    ticks = sorted({steps for points in lines.values() for steps, _ in points})
    axes.set_xticks(ticks, [f"{steps:g}" for steps in ticks])
    axes.minorticks_off()
    axes.set_xlabel("sampler steps", loc="right")
    axes.set_ylabel(title)
    return Chart(title, _to_element(figure, f"{title} against sampler steps"))
