"""Simulated sets with a known truth: intervals hold it, p is uniform, the collapse alarm fires.

The benchmark of the same name simulates them; docs/evaluation.md has its table.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "calibration.py"


@pytest.fixture(scope="module")
def simulated():
    spec = importlib.util.spec_from_file_location("calibration", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["calibration"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def allowed(share, repeats):
    """Three standard errors of a share measured so often."""
    return 3.0 * np.sqrt(share * (1.0 - share) / repeats)


def assert_intervals_hold(simulated, world, count, effect, repeats, *, kernels=(0, 1)):
    missed = simulated.measure_cover(simulated.WORLDS[world], count, effect, repeats, seed=1)
    shares = 1.0 - missed.sum(axis=1) / repeats
    for share in shares[list(kernels)]:
        assert 0.92 - allowed(0.92, repeats) <= share <= 0.985 + allowed(0.985, repeats)


@pytest.mark.parametrize(
    ("world", "count", "effect"),
    [
        ("k^-2", 100, "hint"),  # fell to .91, and .875 at n 400, with constants set for k^-1
        ("k^-2", 40, "shift"),
        ("k^0", 40, "null"),  # held the truth always
        ("k^-1", 40, "half"),
        ("clips of 4, k^-1", 40, "null"),
    ],
)
def test_intervals_hold_the_truth(simulated, world, count, effect):
    assert_intervals_hold(simulated, world, count, effect, 200)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("effect", ["null", "hint", "shift", "half", "collapse"])
@pytest.mark.parametrize("world", ["k^0", "k^-1", "k^-2", "t of 5, k^-1", "clips of 4, k^-1"])
@pytest.mark.parametrize(("count", "repeats"), [(40, 1000), (100, 1000), (400, 100)])
def test_intervals_hold_the_truth_in_every_world(simulated, world, count, effect, repeats):
    # KID has no variance where a sixth moment is infinite: docs/evaluation.md says how far it is.
    kernels = (0,) if world.startswith("t of") or effect == "collapse" else (0, 1)
    assert_intervals_hold(simulated, world, count, effect, repeats, kernels=kernels)


def test_the_truth_of_a_pool_is_that_of_its_frames(simulated, tmp_path):
    rng = np.random.default_rng(0)
    for end, mean in (("", 0.0), ("-other", 1.0)):
        np.save(tmp_path / f"toy{end}.npy", mean + rng.standard_normal((60, 3)))
    pool = simulated.Pool(tmp_path / "toy.npy")
    missed = simulated.measure_cover(pool, 40, "shift", 100, seed=1)
    assert 1.0 - missed.sum(axis=1) / 100 == pytest.approx([0.95, 0.95], abs=0.066)


def test_a_run_is_resumed_where_it_was_stopped(simulated, tmp_path, monkeypatch, capsys):
    out, only = tmp_path / "counts.json", "k^-2 | hint"
    for repeats in (25, 50):
        given = f"--out {out} --counts 12 --repeats {repeats}".split()
        monkeypatch.setattr("sys.argv", ["calibration.py", *given, "--only", only])
        simulated.main()
    resumed = json.loads(out.read_text())
    out.unlink()
    simulated.main()
    assert json.loads(out.read_text()) == resumed
    monkeypatch.setattr("sys.argv", ["calibration.py", "--out", str(out), "--table"])
    simulated.main()
    assert "| k^-2 | 12 | 50 |" in capsys.readouterr().out


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
    assert simulated.measure_alarms(100, "half", 2000, seed=1) >= 0.95
    assert simulated.measure_alarms(100, "null", 2000, seed=1) < 0.05
