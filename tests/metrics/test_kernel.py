"""Kernel statistics: unbiased, exact, the same in one pass as one by one."""

import numpy as np
import pytest

from echodiff.metrics import kernel as kernel_module
from echodiff.metrics.kernel import (
    Choices,
    build_pairs,
    build_rbf_kernel,
    compute_bandwidth,
    compute_mmd2,
    compute_mmd2_draws,
    compute_permutation_p,
    cubic_kernel,
    sweep_pairs,
)


def by_hand(x, y, kernel):
    """The U-statistic as its sums are written down."""
    within = [
        np.mean(
            [
                kernel(build_pairs(z[i : i + 1], z[j : j + 1]))
                for i in range(len(z))
                for j in range(len(z))
                if i != j
            ]
        )
        for z in (x, y)
    ]
    return within[0] + within[1] - 2 * np.mean(kernel(build_pairs(x, y)))


@pytest.mark.parametrize("name", ["rbf", "cubic"])
def test_is_the_u_statistic(name):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 3)), 0.5 + rng.standard_normal((5, 3))
    kernel = cubic_kernel if name == "cubic" else build_rbf_kernel(1.7)
    assert compute_mmd2(x, y, kernel) == pytest.approx(by_hand(x, y, kernel), abs=1e-12)


@pytest.mark.parametrize("num", [4, 20])
@pytest.mark.parametrize("name", ["rbf", "cubic"])
def test_is_unbiased_under_the_null_at_any_count(num, name):
    rng = np.random.default_rng(num)
    kernel = cubic_kernel if name == "cubic" else build_rbf_kernel(3.0)
    values = [
        compute_mmd2(rng.standard_normal((num, 5)), rng.standard_normal((2 * num, 5)), kernel)
        for _ in range(600)
    ]
    assert abs(np.mean(values)) < 3.5 * np.std(values) / np.sqrt(len(values))


def test_equals_the_closed_form_of_two_shifted_gaussians():
    rng, kernel = np.random.default_rng(1), build_rbf_kernel(2.0)
    values = [
        compute_mmd2(rng.standard_normal((200, 1)), 1.0 + rng.standard_normal((200, 1)), kernel)
        for _ in range(200)
    ]
    # E exp(-(x-y)^2 / 2s^2) with x-y ~ N(d, 2): s / sqrt(s^2 + 2) exp(-d^2 / (2 (s^2 + 2)))
    s2 = 4.0
    expected = 2 * np.sqrt(s2 / (s2 + 2)) * (1 - np.exp(-1 / (2 * (s2 + 2))))
    assert np.mean(values) == pytest.approx(expected, rel=0.03)


def test_sees_a_collapse_to_half_the_variance():
    rng = np.random.default_rng(2)
    real, collapsed = rng.standard_normal((100, 32)), np.sqrt(0.5) * rng.standard_normal((100, 32))
    kernel = build_rbf_kernel(compute_bandwidth(real))
    null = compute_mmd2(rng.standard_normal((100, 32)), real, kernel)
    assert compute_mmd2(collapsed, real, kernel) > 10 * abs(null)


def test_draws_equal_the_statistic_on_the_chosen_rows(monkeypatch):
    monkeypatch.setattr(kernel_module, "BLOCK_ROWS", 5)
    rng = np.random.default_rng(3)
    pooled = rng.standard_normal((17, 4))
    first = np.zeros((6, 17))
    second = np.zeros((6, 17))
    for draw in range(6):
        order = rng.permutation(17)
        first[draw, order[:6]], second[draw, order[6:13]] = 1, 1
    kernel = build_rbf_kernel(2.0)
    expected = [
        compute_mmd2(pooled[a > 0], pooled[b > 0], kernel)
        for a, b in zip(first, second, strict=True)
    ]
    assert np.allclose(compute_mmd2_draws(pooled, kernel, first, second), expected, atol=1e-12)


def test_one_sweep_serves_every_kernel_and_the_rows_left_over(monkeypatch):
    monkeypatch.setattr(kernel_module, "BLOCK_ROWS", 4)
    rng = np.random.default_rng(5)
    pooled, groups = rng.standard_normal((14, 3)), np.arange(14) // 2
    first = np.zeros((5, 14))
    for draw in range(5):
        first[draw, np.isin(groups, rng.permutation(7)[:3])] = 1
    dealt, spelled = Choices(first, None), Choices(first, 1.0 - first)
    kernels = build_rbf_kernel(2.0), cubic_kernel
    swept = sweep_pairs(pooled, [(kernel, [dealt, spelled]) for kernel in kernels], groups)
    for kernel, one in zip(kernels, swept, strict=True):
        by_rest, by_name = one.draws
        expected = compute_mmd2_draws(pooled, kernel, first, 1.0 - first, groups)
        assert np.allclose(by_name, expected, atol=1e-12)
        assert np.allclose(by_rest, expected, atol=1e-12)


def test_bandwidth_is_the_median_distance_of_the_reference():
    assert compute_bandwidth(np.array([[0.0], [1.0], [3.0]])) == pytest.approx(2.0)


def test_bandwidth_of_many_frames_looks_at_some_of_them(monkeypatch):
    x = np.random.default_rng(4).standard_normal((400, 8))
    whole = compute_bandwidth(x)
    monkeypatch.setattr(kernel_module, "BANDWIDTH_MAX_COUNT", 100)
    assert compute_bandwidth(x) == pytest.approx(whole, rel=0.05)


def test_bandwidth_of_equal_frames_is_refused():
    with pytest.raises(ValueError, match="same features"):
        compute_bandwidth(np.ones((5, 3)))


def test_permutation_p_counts_the_observed_statistic():
    assert compute_permutation_p(2.0, np.array([1.0, 2.0, 3.0, 0.0])) == pytest.approx(3 / 5)
    assert compute_permutation_p(9.0, np.zeros(999)) == pytest.approx(0.001)


def test_pairs_of_one_patient_are_left_out():
    rng, kernel = np.random.default_rng(9), build_rbf_kernel(2.0)
    groups = np.array([0, 0, 1, 2, 2, 2, 3, 3, 4, 5])
    pooled = rng.standard_normal((10, 3))
    first = (groups < 3).astype(float)[None]
    k = kernel(build_pairs(pooled, pooled))

    def mean_over(rows, columns):
        pairs = [(i, j) for i in rows for j in columns if groups[i] != groups[j]]
        return np.mean([k[i, j] for i, j in pairs])

    x, y = range(6), range(6, 10)
    expected = mean_over(x, x) + mean_over(y, y) - 2 * mean_over(x, y)
    value = compute_mmd2_draws(pooled, kernel, first, 1.0 - first, groups)
    assert value == pytest.approx([expected], abs=1e-12)


def test_is_unbiased_when_frames_come_in_clips():
    rng, kernel = np.random.default_rng(10), build_rbf_kernel(3.0)
    groups = np.repeat(np.arange(12), 5)
    first = (groups < 4).astype(float)[None]
    by_patient, by_frame = [], []
    for _ in range(400):
        clips = rng.standard_normal((12, 5))[groups] + 0.1 * rng.standard_normal((60, 5))
        by_patient += compute_mmd2_draws(clips, kernel, first, 1.0 - first, groups).tolist()
        by_frame += compute_mmd2_draws(clips, kernel, first, 1.0 - first).tolist()
    error = np.std(by_patient) / np.sqrt(400)
    assert abs(np.mean(by_patient)) < 3.5 * error
    assert np.mean(by_frame) > 10 * error
