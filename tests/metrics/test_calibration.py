"""Simulated sets with a known truth: intervals hold it, p is uniform, the collapse alarm fires.

The benchmark of the same name simulates them; docs/evaluation.md has its table of 2,000 repeats.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "calibration.py"


@pytest.fixture(scope="module")
def simulated():
    spec = importlib.util.spec_from_file_location("calibration", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def allowed(share, repeats):
    """Three standard errors of a share measured so often."""
    return 3.0 * np.sqrt(share * (1.0 - share) / repeats)


def assert_intervals_hold(simulated, count, case, repeats):
    for share in simulated.measure_cover(count, case, repeats, seed=1):
        assert share >= 0.92 - allowed(0.92, repeats)
        if count >= 100 and case != "collapse":
            assert share <= 0.97 + allowed(0.97, repeats)


@pytest.mark.parametrize("case", ["hint", "shift", "collapse"])
def test_intervals_of_40_frames_hold_the_truth(simulated, case):
    assert_intervals_hold(simulated, 40, case, 200)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", ["hint", "shift", "collapse"])
@pytest.mark.parametrize(("count", "repeats"), [(40, 2000), (100, 2000), (400, 400), (800, 150)])
def test_intervals_hold_the_truth_at_every_count(simulated, count, repeats, case):
    assert_intervals_hold(simulated, count, case, repeats)


def assert_uniform(shares, repeats):
    for level, share in zip((0.01, 0.05, 0.1, 0.5), shares, strict=True):
        assert share == pytest.approx(level, abs=allowed(level, repeats))


def test_p_is_uniform_when_nothing_differs(simulated):
    assert_uniform(simulated.measure_p(40, 200, seed=1), 200)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [40, 100])
def test_p_is_uniform_over_2000_repeats(simulated, count):
    assert_uniform(simulated.measure_p(count, 2000, seed=1), 2000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_alarm_fires_for_half_the_variance_and_not_for_honest_sets(simulated):
    assert simulated.measure_alarms(100, 0.5, 2000, seed=1) >= 0.95
    assert simulated.measure_alarms(100, 1.0, 2000, seed=1) < 0.05
