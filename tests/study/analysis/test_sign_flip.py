"""The sign-flip test, its interval and equivalence are counts of all flips."""

import itertools

import numpy as np
import pytest

from echodiff.study.analysis.sign_flip import flip_many, flip_signs


def count_flips(values, null):
    """Two-sided p by writing out every flip."""
    centred = values - null
    sums = [abs(centred @ signs) for signs in itertools.product((-1, 1), repeat=len(values))]
    return np.mean([one >= abs(centred.sum()) - 1e-9 for one in sums])


@pytest.mark.parametrize("seed", range(6))
def test_p_is_the_share_of_flips(seed):
    generator = np.random.default_rng(seed)
    values = np.round(generator.normal(0.55, 0.1, 9), 2)  # with ties
    flips = flip_signs(values, generator)
    for null in (0.3, 0.5, 0.57):
        assert flips.p_differs(null) == pytest.approx(count_flips(values, null))


def test_the_interval_is_what_the_test_does_not_reject():
    generator = np.random.default_rng(0)
    flips = flip_signs(generator.normal(0.6, 0.1, 10), generator)
    for level in (0.9, 0.95):
        low, high = flips.interval(level)
        alpha = 1 - level
        assert flips.p_differs(low + 1e-6) > alpha
        assert flips.p_differs(low - 1e-6) <= alpha
        assert flips.p_differs(high - 1e-6) > alpha
        assert flips.p_differs(high + 1e-6) <= alpha


def test_five_readers_cannot_reject_and_have_no_interval():
    flips = flip_signs(np.full(5, 0.9), np.random.default_rng(0))
    assert flips.p_differs(0.5) == 2 / 2**5
    assert flips.interval() == (None, None)


def test_equivalence_needs_both_sides():
    generator = np.random.default_rng(0)
    near = flip_signs(generator.normal(0.5, 0.04, 12), generator)
    assert near.p_equivalent(0.5, 0.1) < 0.001
    assert near.p_equivalent(0.5, 0.001) > 0.05
    low, high = near.interval(0.9)
    assert (near.p_equivalent(0.5, 0.03) <= 0.05) == (low > 0.47 and high < 0.53)


def test_many_readers_are_sampled_and_many_studies_agree_with_one():
    generator = np.random.default_rng(0)
    values = generator.normal(0.53, 0.1, 25)
    sampled = flip_signs(values, generator).p_differs(0.5)
    exact = flip_signs(values[:8], generator)
    greater, less = flip_many(values[None, :8], 0.5, generator)
    assert (greater[0], less[0]) == (exact.p_greater(0.5), exact.p_less(0.5))
    many, fewer = flip_many(values[None], 0.5, generator, num_flips=20000)
    assert 2 * min(many[0], fewer[0]) == pytest.approx(sampled, abs=0.02)
