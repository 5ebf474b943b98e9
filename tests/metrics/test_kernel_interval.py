"""Intervals of kernel statistics: every part of their variance, and the test that they invert."""

import numpy as np
import pytest
from scipy.stats import chi2, ncx2

from echodiff.metrics import kernel_spread
from echodiff.metrics.feature_set import FeatureSet, pool_groups
from echodiff.metrics.kernel import (
    Choices,
    build_pairs,
    build_rbf_kernel,
    cubic_kernel,
    sweep_pairs,
)
from echodiff.metrics.kernel_interval import (
    Form,
    compute_kernel_interval,
    compute_share_below,
)
from echodiff.metrics.kernel_spread import Side, Spread, measure_spread


def measure(generated, reference, kernel):
    both = np.repeat(np.eye(2), [len(generated), len(reference)], axis=1)
    features = np.concatenate([generated.features, reference.features])
    tests = [(kernel, [Choices(both[:1], both[1:])])]
    (swept,) = sweep_pairs(features, tests, pool_groups(generated, reference), both)
    return measure_spread(float(swept.draws[0][0]), swept, generated, reference, kernel)


def build_clips(rng, frames, *, shift=0.0):
    """Frames of 20 patients, as many of each as `frames` says in turn."""
    groups = np.repeat(np.arange(20), np.resize(frames, 20))
    hearts = rng.standard_normal((20, 4))
    return FeatureSet(shift + hearts[groups] + 0.5 * rng.standard_normal((len(groups), 4)), groups)


def simulate(frames, shift, repeats):
    """Spreads of simulated pairs of sets, and their values."""
    rng, kernel = np.random.default_rng(1), build_rbf_kernel(3.0)
    spreads = [
        measure(build_clips(rng, frames, shift=shift), build_clips(rng, frames), kernel)
        for _ in range(repeats)
    ]
    return spreads, np.array([spread.value for spread in spreads])


@pytest.mark.parametrize("frames", [[1], [3], [1, 2, 6]])
def test_without_a_difference_all_variance_is_degenerate(frames):
    spreads, values = simulate(frames, 0.0, 400)
    assert np.mean([one.degenerate for one in spreads]) == pytest.approx(values.var(), rel=0.25)
    assert abs(np.mean([one.linear for one in spreads])) < 0.2 * values.var()


@pytest.mark.parametrize("frames", [[1], [3], [1, 2, 6]])
def test_both_parts_make_up_the_variance_of_shifted_sets(frames):
    spreads, values = simulate(frames, 0.8, 400)
    variance = np.mean([one.linear + one.degenerate for one in spreads])
    assert variance == pytest.approx(values.var(), rel=0.25)
    assert np.mean([one.degenerate for one in spreads]) < 0.3 * variance


def test_a_part_of_the_patients_tells_the_degenerate_part(monkeypatch):
    rng = np.random.default_rng(2)
    sets = [
        FeatureSet(rng.standard_normal((n, 6)), np.arange(n) // frames)
        for n, frames in ((300, 1), (600, 2))
    ]
    whole = measure(*sets, cubic_kernel)
    monkeypatch.setattr(kernel_spread, "MAX_PATIENTS", 150)
    part = measure(*sets, cubic_kernel)
    assert part.degenerate != whole.degenerate
    assert part.degenerate == pytest.approx(whole.degenerate, rel=0.2)
    assert compute_kernel_interval(part) == pytest.approx(compute_kernel_interval(whole), rel=0.1)


def test_the_order_of_frames_and_patients_does_not_matter():
    rng = np.random.default_rng(3)
    reference = build_clips(rng, [1, 2, 6], shift=0.4)
    generated = build_clips(rng, [2])
    order, names = rng.permutation(len(reference)), rng.permutation(20)
    mixed = FeatureSet(reference.features[order], names[reference.groups[order]])
    kernel = build_rbf_kernel(2.0)
    expected = compute_kernel_interval(measure(generated, reference, kernel))
    assert compute_kernel_interval(measure(generated, mixed, kernel)) == pytest.approx(expected)


def build_normal_spread(true, value, *, count=50, directions=3):
    """Spread of |z + m|^2 - E |z|^2 with |m|^2 = true, z normal in as many equal directions."""
    variance = 1.0 / count
    degenerate = 2.0 * directions * variance**2
    shares = np.full(1000, 1e-3)
    witness = np.resize([1.0, -1.0], 1000)
    witness *= np.sqrt((4.0 * true * variance + 2.0 * degenerate) / (8.0 * 1e-3))
    side = Side(shares, witness)
    return Spread(
        value, side, side, degenerate / 2, degenerate / 2, 0.0, trace=directions * variance,
        degenerate_cube=8.0 * directions * variance**3, largest=variance,
        mixed_cube=24.0 * true * variance**2,
    )  # fmt: skip


@pytest.mark.parametrize("directions", [1, 3])
def test_equal_sets_have_the_tails_of_a_chi_squared_variable(directions):
    for share in (0.025, 0.5, 0.975):
        value = float(chi2.ppf(share, directions) - directions) / 50
        spread = build_normal_spread(0.0, value, directions=directions)
        assert compute_share_below(spread, 0.0) == pytest.approx(share, abs=0.012)


@pytest.mark.parametrize("true", [0.02, 0.1, 1.0])
def test_interval_of_a_known_distribution_holds_the_truth(true):
    rng, held = np.random.default_rng(4), 0
    for z in rng.standard_normal((300, 3)) / 50**0.5:
        z[0] += true**0.5
        # What is measured stands for the truth in its own variance, too.
        value = float(z @ z) - 3 / 50
        share = compute_share_below(build_normal_spread(max(value, 0.0), value), true)
        held += 0.025 <= share <= 0.975
    assert 0.92 <= held / 300 <= 0.99


def test_the_degenerate_part_is_that_of_the_eigenvalues():
    rng, kernel = np.random.default_rng(5), build_rbf_kernel(2.0)
    x, y = (FeatureSet(rng.standard_normal((400, 2)), np.arange(400)) for _ in range(2))
    centre = np.eye(800) - 1 / 800
    features = np.concatenate([x.features, y.features])
    matrix = centre @ kernel(build_pairs(features, features)) @ centre
    eigenvalues = np.linalg.eigvalsh(matrix) / 800 * 2 / 400
    spread = measure(x, y, kernel)
    assert spread.degenerate == pytest.approx(2 * np.sum(eigenvalues**2), rel=0.03)
    assert spread.degenerate_cube == pytest.approx(8 * np.sum(eigenvalues**3), rel=0.03)


@pytest.mark.parametrize("degrees", [1.0, 4.0, 30.0])
def test_the_saddlepoint_is_near_the_chi_squared_distribution(degrees):
    form = Form(sizes=(0.5, 0.5), degrees=(degrees, 0.0), linear_variance=0.0, linear_size=0.0)
    for share in (0.005, 0.025, 0.5, 0.975, 0.995):
        deviation = 0.5 * float(chi2.ppf(share, degrees) - degrees)
        assert form.share_below(deviation) == pytest.approx(share, abs=0.006)
    assert form.share_below(-0.5 * degrees) == 0.0
    assert form.share_below(0.0) == pytest.approx(float(chi2.cdf(degrees, degrees)), abs=0.01)


def test_the_saddlepoint_is_near_the_noncentral_chi_squared_distribution():
    # (z_1 + 3)^2 + z_2^2 has the linear part 2 * 3 z_1, of variance 36.
    form = Form(sizes=(1.0, 1.0), degrees=(2.0, 0.0), linear_variance=36.0, linear_size=1.0)
    assert form.variance == pytest.approx(ncx2.var(2, 9))
    assert form.skewness == pytest.approx(float(ncx2.stats(2, 9, moments="s")))
    for share in (0.005, 0.025, 0.5, 0.975, 0.995):
        deviation = float(ncx2.ppf(share, 2, 9)) - 11.0
        assert form.share_below(deviation) == pytest.approx(share, abs=0.003)


@pytest.mark.parametrize("scales", [(3.0, *[0.3] * 40), (1.0, 1e-3)])
def test_equal_sets_that_vary_in_one_direction_hold_zero(scales):
    rng, kernel, missed = np.random.default_rng(6), build_rbf_kernel(4.0), 0
    for _ in range(300):
        sets = [FeatureSet(rng.standard_normal((60, len(scales))) * scales, np.arange(60))
                for _ in range(2)]  # fmt: skip
        # Least of all values, where the variable is near zero: no test may call that too small.
        missed += compute_share_below(measure(*sets, kernel), 0.0) < 0.025
    assert missed <= 12


def test_heavy_tails_leave_fewer_degrees_of_freedom():
    rng, kernel = np.random.default_rng(7), cubic_kernel
    normal, heavy = (
        measure(*(FeatureSet(shift + rows(), np.arange(200)) for shift in (1.0, 0.0)), kernel)
        for rows in (
            lambda: rng.standard_normal((200, 4)),
            lambda: rng.standard_t(3, (200, 4)),
        )
    )
    assert heavy.degrees < 0.3 * normal.degrees
    still = Side(np.full(10, 0.1), np.zeros(10))
    assert Spread(0.0, still, still, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0).degrees > 1e5


@pytest.mark.parametrize("frames", [1, 3])
def test_the_trace_is_what_the_distance_has_too_much(frames):
    rng, kernel = np.random.default_rng(8), build_rbf_kernel(2.0)
    first, second = build_clips(rng, [frames], shift=0.5), build_clips(rng, [1, 2])
    squares = [
        float(kernel(build_pairs(one.features, other.features)).mean())
        for one, other in ((first, first), (second, second), (first, second))
    ]
    spread = measure(first, second, kernel)
    biased = squares[0] + squares[1] - 2.0 * squares[2]
    assert spread.value + spread.trace == pytest.approx(biased, abs=1e-12)


def test_sets_without_any_spread_have_an_interval_of_no_width():
    still = FeatureSet(np.ones((8, 3)), np.arange(8))
    spread = measure(still, still, cubic_kernel)
    assert compute_kernel_interval(spread) == pytest.approx([0.0, 0.0], abs=1e-9)
