"""Variance over readers and images equals that of iMRMC (reference/imrmc.R)."""

import csv
from pathlib import Path

import numpy as np
import pytest

from echodiff.study.analysis.multireader import (
    compare_images,
    estimate_auc,
    estimate_difference,
)

EXAMPLE = Path(__file__).parent / "reference" / "imrmc_example.csv"
# value, variance, degrees of freedom, p, interval
WHOLE = {
    "A": (0.692875, 0.0030358247965976, 23.938040576220, 0.0019254283103143,
          0.57889544232899, 0.8068545576710147),
    "B": (0.765625, 0.0040388480543228, 10.458067821391, 0.0018887528402067,
          0.62402247130788, 0.9072275286921192),
}  # fmt: skip
PART = {
    "A": (0.69961146187470, 0.0040631885630027, 12.622375907520, 0.0086677256414296,
          0.56072707925808, 0.8384958444913160),
    "B": (0.77460947185718, 0.0042508820858158, 7.797144093209, 0.0039764564111360,
          0.62043883423598, 0.9287801094783794),
}  # fmt: skip


DIFFERENCE = {
    False: (-0.07275, 0.0016103221975674, 30.367913685165, 0.0798633683942331),
    True: (-0.074998009982482, 0.0010437553368825, 13.942464083077, 0.0371522478539128),
}


def read_example(*, is_part):
    rows = list(csv.DictReader(EXAMPLE.read_text("utf-8").splitlines()))
    truth = {row["case"]: row["score"] == "1" for row in rows if row["reader"] == "truth"}
    return truth, [row for number, row in enumerate(rows, 1) if row["reader"] != "truth"
                   and (not is_part or number % 3 > 0 or number % 7 == 0)]  # fmt: skip


def columns(rows, cases=None):
    cases = cases or sorted({row["case"] for row in rows})
    return (np.array([int(row["reader"][1:]) - 1 for row in rows]),
            np.array([cases.index(row["case"]) for row in rows]),
            np.array([float(row["score"]) for row in rows]))  # fmt: skip


@pytest.mark.parametrize(("is_part", "expected"), [(False, WHOLE), (True, PART)])
def test_the_example_of_imrmc_comes_out(is_part, expected):
    truth, rows = read_example(is_part=is_part)
    for modality, (value, variance, freedom, p, low, high) in expected.items():
        own = [row for row in rows if row["modality"] == modality]
        real, other = ([row for row in own if truth[row["case"]] is is_real]
                       for is_real in (True, False))  # fmt: skip
        found = estimate_auc(compare_images(columns(real), columns(other), 5))
        assert found.value == pytest.approx(value, abs=1e-10)
        assert found.variance == pytest.approx(variance, abs=1e-10)
        assert found.freedom == pytest.approx(freedom, rel=1e-8)
        tested = found.test(0.5)
        assert (tested["p"], tested["low"], tested["high"]) == pytest.approx((p, low, high), 1e-8)


@pytest.mark.parametrize("is_part", [False, True])
def test_the_difference_of_two_modalities_comes_out(is_part):
    truth, rows = read_example(is_part=is_part)
    kinds = [[case for case in truth if truth[case] is is_real] for is_real in (True, False)]
    sides = []
    for modality in ("A", "B"):
        own = [row for row in rows if row["modality"] == modality]
        real, other = (columns([row for row in own if row["case"] in cases], cases)
                       for cases in kinds)  # fmt: skip
        sides.append((real, other))
    found = estimate_difference(*sides, num_readers=5)
    value, variance, freedom, p = DIFFERENCE[is_part]
    assert found.value == pytest.approx(value, abs=1e-10)
    assert found.variance == pytest.approx(variance, abs=1e-10)
    assert found.freedom == pytest.approx(freedom, rel=1e-8)
    assert found.test(0.0)["p"] == pytest.approx(p, rel=1e-8)


def test_a_negative_variance_gives_no_interval():
    # Two readers who disagree about everything: the mean is less variable than chance allows.
    readers, images = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    real, other = np.array([5.0, 1, 1, 5]), np.array([3.0, 3, 3, 3])
    found = estimate_auc(compare_images((readers, images, real), (readers, images, other), 2))
    assert found.value == 0.5
    assert found.variance <= 0
    assert found.test(0.5)["p"] is None
