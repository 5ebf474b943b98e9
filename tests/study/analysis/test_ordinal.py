"""The ordinal mixed model equals `clmm` of the R package `ordinal` (reference/clmm.R)."""

import csv
import time
from pathlib import Path

import numpy as np
import pytest

from echodiff.errors import InputError
from echodiff.study.analysis.ordinal import Term, compare_nested, fit_ordinal

RATINGS = Path(__file__).parent / "reference" / "ratings.csv"
NAMES = ("cut", "cyclegan", "sd")
# Bitterness of wine, 9 judges of 8 bottles (Randall 1989): judge by judge, bottles in order.
WINE = [
    2, 3, 3, 4, 4, 4, 5, 5, 1, 2, 1, 3, 2, 3, 5, 4, 2, 3, 3, 2, 5, 5, 4, 4, 3, 2, 3, 2, 3, 2, 5, 3,
    2, 3, 4, 3, 3, 3, 3, 3, 3, 2, 3, 2, 2, 4, 5, 4, 1, 1, 2, 2, 2, 3, 2, 3, 2, 2, 2, 3, 3, 3, 3, 4,
    1, 2, 3, 2, 3, 2, 4, 4,
]  # fmt: skip


@pytest.fixture(scope="module")
def study():
    rows = list(csv.DictReader(RATINGS.read_text("utf-8").splitlines()))
    source = np.array([row["source"] for row in rows])
    reader = np.unique([row["reader"] for row in rows], return_inverse=True)[1]
    cell = np.unique([row["reader"] + row["source"] for row in rows], return_inverse=True)[1]
    trial = np.array([float(row["trial"]) for row in rows])
    return {
        "scores": np.array([int(row["score"]) for row in rows]),
        "sources": {name: (source == name).astype(float) for name in NAMES},
        "trial": {"trial": (trial - trial.mean()) / 10},
        "terms": [Term(name="reader", group=reader), Term(name="cell", group=cell)],
    }


def test_sources_with_two_random_terms(study):
    start = time.process_time()
    fit = fit_ordinal(study["scores"], study["sources"], study["terms"])
    assert time.process_time() - start < 5
    assert fit.log_likelihood == pytest.approx(-973.707177877, abs=1e-4)
    assert fit.thresholds == pytest.approx(
        [-1.56219490871, -0.60622698111, 0.05734560344, 1.03662605986], abs=1e-4
    )
    assert [*fit.coefficients.values()] == pytest.approx(
        [-1.14674351108, -1.09892969008, 0.53777890204], abs=1e-4
    )
    assert [*fit.errors.values()] == pytest.approx([0.27217034, 0.26954362, 0.26682700], abs=1e-4)
    assert fit.variances == pytest.approx({"reader": 0.8510475664, "cell": 0.2531339168}, abs=1e-4)


def test_the_order_of_trials(study):
    without = fit_ordinal(study["scores"], study["sources"], study["terms"])
    fit = fit_ordinal(study["scores"], study["sources"] | study["trial"], study["terms"])
    assert fit.log_likelihood == pytest.approx(-972.246199742, abs=1e-4)
    assert fit.coefficients["trial"] == pytest.approx(0.10894088132, abs=1e-4)
    assert fit.errors["trial"] == pytest.approx(0.063839296, abs=1e-4)
    assert fit.test("trial")[0] == pytest.approx(0.0879, abs=1e-3)
    assert fit.variances == pytest.approx({"reader": 0.8579895135, "cell": 0.2599899122}, abs=1e-4)
    assert compare_nested(without, fit) == pytest.approx(0.0874, abs=1e-3)


def test_crossed_terms_and_a_variance_of_zero():
    judge, bottle = np.repeat(np.arange(9), 8), np.tile(np.arange(8), 9)
    warm, contact = (bottle >= 4).astype(float), (bottle // 2 % 2).astype(float)
    fixed = {"warm": warm, "contact": contact}
    judges = Term(name="judge", group=judge)
    fit = fit_ordinal(np.array(WINE), fixed, [judges])
    assert fit.log_likelihood == pytest.approx(-81.5654128, abs=1e-4)
    assert fit.coefficients == pytest.approx({"warm": 3.062997, "contact": 1.834885}, abs=1e-4)
    assert fit.variances["judge"] == pytest.approx(1.279461, abs=1e-4)
    crossed = fit_ordinal(np.array(WINE), fixed, [judges, Term(name="bottle", group=bottle)])
    assert crossed.log_likelihood == pytest.approx(-81.5654128, abs=1e-4)
    assert crossed.variances["judge"] == pytest.approx(1.279488, abs=1e-4)
    assert crossed.variances["bottle"] == pytest.approx(0, abs=1e-4)


def test_levels_that_do_not_occur_are_left_out():
    generator = np.random.default_rng(0)
    scores = generator.choice([1, 4, 5], 60)
    fit = fit_ordinal(scores, {}, [Term(name="reader", group=np.repeat(np.arange(6), 10))])
    assert fit.levels == (1, 4, 5)
    shares = np.cumsum([np.mean(scores == level) for level in (1, 4)])
    without = fit_ordinal(scores, {}, [])
    assert without.thresholds == pytest.approx(np.log(shares / (1 - shares)), abs=1e-4)


def test_one_score_is_refused():
    with pytest.raises(InputError, match="every score is 3"):
        fit_ordinal(np.full(10, 3), {}, [])


def test_scores_that_a_column_separates_are_refused():
    scores = np.repeat([1, 2, 4, 5], 15)
    terms = [Term(name="reader", group=np.tile(np.arange(6), 10))]
    for column in ((scores > 2).astype(float), np.arange(60.0) / 10):
        with pytest.raises(InputError, match="the scores are separated"):
            fit_ordinal(scores, {"x": column}, terms)
