"""What the numbers of `echodiff utility` mean: intervals, worth, ejection fraction, arms."""

import numpy as np
import pytest

from echodiff.anatomy import Label, Phase, View
from echodiff.frames.rows import Frame
from echodiff.utility.arms import Arm, choose_rows
from echodiff.utility.contrasts import average_table, compare_arms
from echodiff.utility.ejection import compute_ejection_fraction
from echodiff.utility.worth import measure_worth

Q975_OF_7 = 2.364624


def test_without_spread_between_seeds_the_interval_is_that_of_the_patients():
    patients = np.array([0.1, 0.3, 0.2, 0.4, 0.25, 0.15, 0.35, 0.05])
    mean, p = average_table(np.tile(patients, (3, 1)))
    reach = Q975_OF_7 * patients.std(ddof=1) / 8**0.5
    assert (mean.low, mean.high) == pytest.approx((mean.value - reach, mean.value + reach))
    assert p < 0.01


def test_intervals_hold_the_truth_where_patients_seeds_and_rest_vary():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        table = 0.05 * rng.normal(size=(1, 20)) + 0.02 * rng.normal(size=(3, 1))
        mean, _ = average_table(table + 0.03 * rng.normal(size=(3, 20)))
        held += mean.low <= 0 <= mean.high
    assert 0.93 <= held / 400 <= 0.99


def test_few_patients_have_no_interval():
    assert average_table(np.ones((3, 3)))[0].low is None


def test_contrasts_are_paired_and_corrected_by_holm():
    rng = np.random.default_rng(1)
    base = rng.normal(size=(1, 12)) + np.zeros((3, 1))
    tables = {
        "a": base, "b": base + 0.01 + 0.002 * rng.normal(size=(3, 12)),
        "c": base + 0.001 * rng.normal(size=(3, 12)),
    }  # fmt: skip
    first, second = compare_arms(tables, [("b", "a"), ("c", "a")])
    assert 0 < first.low < 0.01 < first.high < 0.02  # the spread of the patients cancels
    assert first.p_holm == pytest.approx(2 * first.p)
    assert second.p_holm == second.p


def test_worth_is_read_off_the_curve_of_real_frames():
    patients = np.zeros((3, 10))
    curve = {10.0: patients + 0.7, 40.0: patients + 0.76, 160.0: patients + 0.8}
    options = {"share": 6, "synthetic": "lora", "num_synthetic": 300, "seed": 0}
    worth = measure_worth(curve, patients + 0.73, num_real=10.0, **options)
    assert worth.value == pytest.approx(10)  # 20 frames lie half-way between 10 and 40
    assert (worth.low, worth.high) == pytest.approx((10, 10))
    assert worth.write_verdict() == (
        "Added to 10 real frames (6 % of the patients), 300 synthetic frames (lora) are worth 10 "
        "more real ones (95 % interval 10 to 10)."
    )
    beyond = measure_worth(curve, patients + 0.9, num_real=40.0, **options)
    assert "are worth at least 120 more real ones" in beyond.write_verdict()
    harmful = measure_worth(curve, patients + 0.73, num_real=40.0, **options)
    assert harmful.value == pytest.approx(-20)
    assert "are worth no real frame" in harmful.write_verdict()
    rng = np.random.default_rng(0)
    noisy = {num: table + 0.02 * rng.normal(size=table.shape) for num, table in curve.items()}
    unsure = measure_worth(noisy, patients + 0.705, num_real=10.0, **options)
    assert unsure.low == 0
    assert unsure.write_verdict().endswith(": they may be worth none.")


def ellipse(long, short, angle=0.0):
    y, x = np.mgrid[-60:60, -60:60] + 0.5
    cos, sin = np.cos(angle), np.sin(angle)
    along, across = cos * y + sin * x, -sin * y + cos * x
    return ((along / long) ** 2 + (across / short) ** 2 < 1).astype(np.uint8) * Label.LV


def masks(views, end_systole=(40, 16), angle=0.3):
    return {
        (view, phase): (ellipse(*axes, angle), 0.5)
        for view in views
        for phase, axes in ((Phase.ED, (50, 20)), (Phase.ES, end_systole))
    }


@pytest.mark.parametrize("views", [[View.A4C], [View.A2C], [View.A4C, View.A2C]])
def test_the_ejection_fraction_of_ellipsoids_is_known(views):
    # Volumes are as long x short x short: half of it is left of 50 x 20 x 20 at 40 x 16 x 16.
    assert compute_ejection_fraction(masks(views)) == pytest.approx(100 * (1 - 0.512), abs=0.5)


def test_there_is_no_ejection_fraction_without_both_phases_or_a_ventricle():
    one = masks([View.A4C])
    del one[View.A4C, Phase.ES]
    assert compute_ejection_fraction(one) is None
    empty = {key: (np.zeros((9, 9), np.uint8), 1.0) for key in masks([View.A4C])}
    assert compute_ejection_fraction(empty) is None


def test_shares_hold_whole_patients_and_each_other():
    frames = [Frame(file_name=f"{i}.png", text="", patient_id=f"p{i // 3}") for i in range(60)]
    rows = {share: choose_rows(Arm(share), frames, 0, seed=4)[0] for share in (10, 25, 50, 100)}
    assert [len(own) for own in rows.values()] == [6, 15, 30, 60]
    for share, own in rows.items():
        assert {row // 3 for row in own} == {row // 3 for row in own if row % 3 == 0}
        assert {*own} <= {*rows[100]}, share
    assert {*rows[10]} < {*rows[25]} < {*rows[50]}
    with_synthetic = choose_rows(Arm(25, "lora"), frames, 90, seed=4)
    assert with_synthetic == (rows[25], [*range(90)])
    assert choose_rows(Arm(10), frames, 0, seed=5)[0] != rows[10]
    one, two = (choose_rows(Arm(100, "lora", k), frames, 200, seed=4)[1] for k in (1, 2))
    assert (len(one), len(two)) == (60, 120)
    assert {*one} < {*two}
