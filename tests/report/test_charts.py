"""Geometry of the report's charts."""

import math

import pytest

from echodiff.anatomy import Finding
from echodiff.report.charts import (
    CURVE_HEIGHT,
    CURVE_WIDTH,
    build_curves,
    build_score_charts,
    build_shares,
    nice_ticks,
)


def share(value: float, *, real: float | None = None) -> dict[str, object]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 20, "real": real}


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 700.0, [0, 100, 200, 300, 400, 500, 600, 700]),
        (0.21, 0.63, [0.3, 0.4, 0.5, 0.6]),
        (0.0, 1.0, [0, 0.25, 0.5, 0.75, 1.0]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high, 4 if high < 1.5 else 5) == pytest.approx(ticks)


def test_one_value_still_has_an_axis() -> None:
    assert len(nice_ticks(0.3, 0.3, 4)) > 1


def test_curves_lie_inside_the_chart_and_keep_their_names_apart() -> None:
    rows = [{"step": step, "loss": 1 / step} for step in range(10, 200, 10)]
    rows += [{"step": 0, "held_out_loss": 0.1}, {"step": 190, "held_out_loss": 0.006}]
    rows += [{"step": 200, "loss": math.nan}]
    chart = build_curves(rows)
    assert chart is not None
    assert [line.name for line in chart.lines] == ["training", "held-out"]
    for line in chart.lines:
        for point in line.points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= CURVE_WIDTH
            assert 0 <= y <= CURVE_HEIGHT
    assert abs(chart.lines[0].label_y - chart.lines[1].label_y) >= 15


def test_no_loss_is_no_chart() -> None:
    assert build_curves([]) is None
    assert build_curves([{"step": 1, "loss": 0.2}]) is None


def score_row(step: int, value: float, reach: float | None = 0.25) -> dict[str, float]:
    row = {"step": step, "mmd_tiny": value, "kid_tiny": 90.0, "mmd_tiny_floor": 0.0}
    return row if reach is None else row | {
        "mmd_tiny_low": value - reach, "mmd_tiny_high": value + reach,
    }  # fmt: skip


def read_points(points: str) -> list[tuple[float, float]]:
    return [tuple(map(float, point.split(","))) for point in points.split()]  # type: ignore[misc]


def test_a_score_has_its_band_around_it_and_the_floor_below() -> None:
    rows = [{"step": 0, "loss": 9.0}, score_row(0, 1.0), score_row(50, 0.5), score_row(100, 0.25)]
    (chart,) = build_score_charts(rows)
    assert chart.name == "tiny"
    # Down from 1.25, the highest of the band, to 0, the floor, over the chart's height.
    per_unit = (chart.bottom - chart.top) / 1.25
    across = chart.right - chart.left
    expected = [
        (chart.left + x * across, chart.bottom - y * per_unit)
        for x, y in [(0, 1.0), (0.5, 0.5), (1, 0.25)]
    ]
    assert read_points(chart.line) == [pytest.approx(point, abs=0.06) for point in expected]
    band = read_points(chart.band)
    for (x, y), above, below in zip(expected, band[:3], band[:2:-1], strict=True):
        assert above == pytest.approx((x, y - 0.25 * per_unit), abs=0.06)
        assert below == pytest.approx((x, y + 0.25 * per_unit), abs=0.06)
    assert chart.floor_y == pytest.approx(chart.bottom)
    assert (chart.end_x, chart.end_y) == pytest.approx(expected[-1])


def test_a_score_without_interval_is_a_line_alone() -> None:
    (chart,) = build_score_charts([score_row(0, 1.0, None), score_row(9, 0.5, None)])
    assert chart.band == ""


def test_one_reading_of_a_score_is_no_chart() -> None:
    assert build_score_charts([score_row(0, 1.0), {"step": 5, "loss": 0.2}]) == []


def test_shares_have_a_row_a_finding_and_the_mean_last() -> None:
    base = {"faithfulness_asd": share(0.2, real=0.9), "faithfulness": share(0.2)}
    tuned = {"faithfulness_asd": share(0.7, real=0.9), "faithfulness": share(0.6)}
    chart = build_shares([base, tuned], {Finding.ASD: "ASD", Finding.VSD: "VSD"}, "faithfulness")
    assert chart is not None
    assert [row.name for row in chart.rows] == ["ASD", "Mean"]
    first, second = chart.rows[0].marks
    assert chart.left <= first.low < first.at < first.high < second.at <= chart.right
    assert first.text == "20 % of 20"
    assert chart.rows[0].real is not None


def test_no_shares_is_no_chart() -> None:
    assert build_shares([{}, {}], {Finding.ASD: "ASD"}, "faithfulness") is None
