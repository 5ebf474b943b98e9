"""The report's charts: what is drawn where, in text that a page can show."""

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from echodiff.anatomy import Finding
from echodiff.report.charts import (
    Chart,
    draw_counts,
    draw_curves,
    draw_losses,
    draw_score_curves,
    draw_shares,
)
from echodiff.runs import Run

NAMES = {Finding.ASD: "ASD", Finding.VSD: "VSD"}


class Drawn:
    """A chart's element, read back."""

    def __init__(self, chart: Chart) -> None:
        # As a page has it: the prefix of the few references is declared nowhere.
        self.root = ET.fromstring(chart.svg.replace("xlink:href", "href"))
        self.texts = [text.text for text in self.root.iter("text")]

    def points(self, title: str) -> list[tuple[float, float]]:
        """Corners of what is called so, SVG units."""
        (group,) = [g for g in self.root.iter("g") if g.findtext("title") == title]
        paths = [path.get("d", "") for path in group.iter("path")]
        pairs = re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", " ".join(paths))
        return [(float(x), float(y)) for x, y in pairs]

    def text_place(self, text: str) -> tuple[float, float]:
        (element,) = [one for one in self.root.iter("text") if one.text == text]
        move = re.search(r"translate\(([\d.-]+) ([\d.-]+)\)", element.get("transform", ""))
        return (
            (float(move[1]), float(move[2]))
            if move
            else (float(element.get("x", "nan")), float(element.get("y", "nan")))
        )


def share(value: float, *, real: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 20, "real": real}


def losses() -> list[dict[str, float]]:
    rows = [{"step": step, "loss": 1 / step} for step in range(10, 200, 10)]
    rows += [{"step": 0, "held_out_loss": 0.1}, {"step": 190, "held_out_loss": 0.006}]
    return [*rows, {"step": 200, "loss": math.nan}]


def test_curves_lie_inside_the_chart_and_keep_their_names_apart() -> None:
    chart = draw_curves(losses())
    assert chart is not None
    drawn = Drawn(chart)
    for name in ("training loss", "held-out loss"):
        points = drawn.points(name)
        assert len(points) == {"training loss": 19, "held-out loss": 2}[name]
        assert all(0 <= x <= 640 and 0 <= y <= 250 for x, y in points)
    places = [drawn.text_place(name) for name in ("training loss", "held-out loss")]
    assert abs(places[0][1] - places[1][1]) >= 15
    assert "optimizer steps" in drawn.texts


def test_a_chart_is_text_and_lines_that_refer_to_nothing_outside_and_come_out_the_same() -> None:
    charts = [draw_curves(losses()) for _ in range(2)]
    assert charts[0] == charts[1]
    assert charts[0] is not None
    svg = charts[0].svg
    assert not re.search(r"url\(|<style|<image|font-face|@|base64|https?:|\d{4}-\d\d-\d\d", svg)
    assert set(re.findall(r'href="#([^"]+)"', svg)) == set(re.findall(r' id="([^"]+)"', svg))
    assert "var(--tuned)" in svg


def test_no_loss_is_no_chart() -> None:
    assert draw_curves([]) is None
    assert draw_curves([{"step": 1, "loss": 0.2}]) is None


def test_a_flat_loss_has_an_axis() -> None:
    chart = draw_curves([{"step": step, "loss": 0.3} for step in (0, 10)])
    assert chart is not None
    assert "0.3" in Drawn(chart).texts


def score_row(step: int, value: float, reach: float | None = 0.25) -> dict[str, float]:
    row = {"step": step, "mmd_tiny": value, "kid_tiny": 90.0, "mmd_tiny_floor": 0.0}
    return row if reach is None else row | {
        "mmd_tiny_low": value - reach, "mmd_tiny_high": value + reach,
    }  # fmt: skip


def test_a_score_has_its_band_around_it_and_the_baseline_below() -> None:
    rows = [{"step": 0, "loss": 9.0}, score_row(0, 1.0), score_row(50, 0.5), score_row(100, 0.25)]
    (chart,) = draw_score_curves(rows)
    assert (chart.title, chart.has_band, chart.has_baseline) == ("MMD² (tiny)", True, True)
    drawn = Drawn(chart)
    line = drawn.points("MMD² (tiny)")
    # The middle of the steps is the middle of the axis, and heights are in proportion.
    assert line[1][0] == pytest.approx((line[0][0] + line[2][0]) / 2, abs=0.01)
    per_unit = (line[2][1] - line[0][1]) / 0.75
    assert line[1][1] - line[0][1] == pytest.approx(0.5 * per_unit, abs=0.01)
    band = set(drawn.points("band"))
    for x, y in line:
        for other in (y - 0.25 * per_unit, y + 0.25 * per_unit):
            assert any(math.dist((x, other), corner) < 0.02 for corner in band)


def test_a_score_without_interval_is_a_line_alone() -> None:
    (chart,) = draw_score_curves([score_row(0, 1.0, None), score_row(9, 0.5, None)])
    assert not chart.has_band
    assert "<title>band" not in chart.svg


def test_one_reading_of_a_score_is_no_chart() -> None:
    assert draw_score_curves([score_row(0, 1.0), {"step": 5, "loss": 0.2}]) == []


def test_a_name_of_features_is_shown_as_it_is() -> None:
    rows = [{"step": step, "mmd_a<$b$>&": 0.5 + step} for step in (0, 9)]
    (chart,) = draw_score_curves(rows)
    assert "MMD² (a<$b$>&)" in Drawn(chart).texts


def count_row(n: int, mmd: float, floor: float | None) -> dict[str, Any]:
    return {
        "n": n, "features": "tiny", "mmd": mmd, "mmd_floor": floor, "mmd_low": mmd - 0.1,
        "mmd_high": mmd + 0.1, "fd": 9.0, "fd_floor": None,
    }  # fmt: skip


def test_counts_stand_on_a_logarithmic_axis() -> None:
    rows = [count_row(20, 0.3, None), count_row(40, 0.25, 0.1), count_row(80, 0.2, 0.05)]
    mmd, fd = draw_counts(rows)
    assert (mmd.title, fd.title) == ("MMD² (tiny)", "Fréchet distance (tiny)")
    x = [x for x, _ in Drawn(mmd).points("generated")]
    assert x[1] == pytest.approx((x[0] + x[2]) / 2, abs=0.01)
    assert len(Drawn(mmd).points("reference")) == 2
    assert {"20", "40", "80", "images"} <= set(Drawn(mmd).texts)
    assert "reference" not in Drawn(fd).texts
    assert draw_counts(rows[:1]) == []


def test_shares_have_a_row_a_finding_and_the_mean_last() -> None:
    base = {"faithfulness_asd": share(0.2, real=0.9), "faithfulness": share(0.2)}
    tuned = {"faithfulness_asd": share(0.7, real=0.9), "faithfulness": share(0.6)}
    chart = draw_shares([base, tuned], NAMES, "faithfulness")
    assert chart is not None
    drawn = Drawn(chart)
    assert [text for text in drawn.texts if text in {"ASD", "VSD", "Mean"}] == ["ASD", "Mean"]
    titles = [title.text for title in drawn.root.iter("title")]
    assert titles == ["ASD: 20 % of 20", "ASD: 70 % of 20", "Mean: 20 % of 20", "Mean: 60 % of 20"]


def test_no_shares_is_no_chart() -> None:
    assert draw_shares([{}, {}], NAMES, "faithfulness") is None


def test_losses_of_a_run_have_a_panel_each_in_the_same_bytes(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", command="train_gan", config={"seed": 0})
    draw_losses(run)
    assert not (run.samples / "losses.svg").exists()
    for step in (10, 20):
        run.log(step, G=1 / step, D_A=0.25, learning_rate=1e-4)
        draw_losses(run)
    first = (run.samples / "losses.svg").read_bytes()
    draw_losses(run)
    assert (run.samples / "losses.svg").read_bytes() == first
    texts = [e.text for e in ET.fromstring(first).iter("{http://www.w3.org/2000/svg}text")]
    assert {"G", "D_A"} <= set(texts)
    assert b"<dc:date>" not in first
