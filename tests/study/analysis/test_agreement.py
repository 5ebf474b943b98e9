"""Agreement equals published examples, and says when it cannot be estimated."""

import numpy as np
import pytest

from echodiff.study.analysis.agreement import (
    compute_alpha,
    compute_icc,
    compute_kappa,
    compute_repeat_kappa,
)

# Krippendorff's own example: 4 observers, 12 units (Computing Krippendorff's Alpha, 2011).
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
]
# Shrout and Fleiss (1979), table 2: 6 targets, 4 judges; ICC(2,1) is .29.
JUDGES = [[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]]


def test_alpha_is_that_of_the_published_example():
    table = np.array(OBSERVERS, dtype=float)
    table[table == 0] = np.nan
    assert compute_alpha(table) == pytest.approx(0.815, abs=5e-4)


def test_icc_is_that_of_the_published_example():
    assert compute_icc(np.array(JUDGES, dtype=float))["value"] == pytest.approx(0.29, abs=5e-3)


def test_kappa_by_its_definition():
    first, second = np.array([1, 2, 3, 4, 5, 5]), np.array([1, 3, 3, 5, 5, 4])
    observed, expected = np.zeros((5, 5)), np.zeros((5, 5))
    for a, b in zip(first, second, strict=True):
        observed[a - 1, b - 1] += 1 / 6
    for a in first:
        for b in second:
            expected[a - 1, b - 1] += 1 / 36
    weights = (np.arange(5)[:, None] - np.arange(5)) ** 2
    assert compute_kappa(first, second) == pytest.approx(
        1 - (weights * observed).sum() / (weights * expected).sum()
    )
    assert compute_kappa(first, first) == 1
    assert compute_kappa(np.full(3, 2), np.full(3, 2)) is None


def test_a_shared_block_and_repeats_are_measured(analyse, simulate):
    _, found, _ = analyse(simulate(shared=6, repeats=3, seed=4))
    agreement = found["agreement"]
    assert agreement["num_images"] == 12
    for name in ("alpha", "kappa", "icc"):
        row = agreement[name]
        assert row["low"] < row["value"] < row["high"]
        assert row["n"] == 12
    same = found["reliability"]["same"]
    assert same["n"] == 8 * 2 * 3
    assert same["unit"] == "repeats of 8 readers"
    assert 0 < same["low"] <= same["value"] <= same["high"] <= 1
    assert found["design"]["num_repeats"] == 48
    assert found["design"]["num_ratings"] == 96


def test_without_a_shared_block_it_says_so(analyse, simulate):
    _, found, _ = analyse(simulate())
    assert "0 images were rated by two readers" in found["agreement"]["left_out"]
    assert "0 hidden repeats" in found["reliability"]["left_out"]


def test_readers_of_other_levels_do_not_agree_with_themselves_by_chance():
    """Scores drawn at random around each reader's own level repeat nothing."""
    generator = np.random.default_rng(0)
    reader = np.repeat(np.arange(200), 8)
    first, second = (np.repeat(np.arange(200) % 3, 8) + generator.integers(1, 4, 1600)
                     for _ in range(2))  # fmt: skip
    assert compute_kappa(first, second) > 0.4
    assert abs(compute_repeat_kappa(first, second, reader)) < 0.1
    assert compute_repeat_kappa(first, first, reader) == 1
    assert compute_repeat_kappa(np.full(4, 2), np.full(4, 2), np.arange(4)) is None
    one = np.zeros(1600, dtype=int)
    assert compute_repeat_kappa(first, second, one) == pytest.approx(compute_kappa(first, second))
