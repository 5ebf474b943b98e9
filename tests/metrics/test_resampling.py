"""Draws take or leave whole patients, and as many as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echodiff.metrics.resampling import (
    build_groups,
    count_groups,
    sample_halves,
    sample_permutations,
    sample_splits,
)

keys = st.lists(st.one_of(st.none(), st.sampled_from("abcd")), min_size=4, max_size=30)


def whole_groups(rows, groups):
    return all(
        len({row[i] for i in np.flatnonzero(groups == g)}) == 1 for row in rows for g in groups
    )


def test_frames_without_a_key_stand_alone():
    assert build_groups(["p1", None, "p1", None, "p2"]).tolist() == [0, 1, 0, 2, 3]
    assert count_groups(build_groups([])) == 0


@settings(max_examples=25, deadline=None)
@given(keys)
def test_halves_are_half_of_the_patients(names):
    groups = build_groups(names)
    rows = sample_halves(groups, 5, np.random.default_rng(0))
    assert whole_groups(rows, groups)
    for row in rows:
        assert len(set(groups[row > 0])) == count_groups(groups) // 2


@settings(max_examples=25, deadline=None)
@given(keys)
def test_splits_share_no_patient(names):
    groups = build_groups(names)
    first, second = sample_splits(groups, len(names) // 2, len(names), 5, np.random.default_rng(0))
    for a, b in zip(first, second, strict=True):
        assert not set(groups[a > 0]) & set(groups[b > 0])
        assert a.sum() <= len(names) // 2


@settings(max_examples=25, deadline=None)
@given(keys, keys)
def test_permutations_deal_whole_patients(first_names, second_names):
    first, second = build_groups(first_names), build_groups(second_names)
    rows = sample_permutations(first, second, 5, np.random.default_rng(0))
    pooled = np.concatenate([first, second + count_groups(first)])
    assert whole_groups(rows, pooled)
    for row in rows:
        assert len(set(pooled[row > 0])) == count_groups(first)


def test_halves_estimate_the_standard_error_of_a_mean():
    rng = np.random.default_rng(1)
    x = rng.standard_normal(200)
    rows = sample_halves(np.arange(200), 2000, rng)
    spread = ((rows @ x) / rows.sum(axis=1)).std()
    assert spread == pytest.approx(x.std(ddof=1) / np.sqrt(200), rel=0.08)


def test_halves_of_patients_see_that_their_frames_are_alike():
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(40), 10)
    x = np.repeat(rng.standard_normal(40), 10)
    spreads = []
    for groups in (patients, np.arange(400)):
        rows = sample_halves(groups, 500, rng)
        spreads.append(((rows @ x) / rows.sum(axis=1)).std())
    assert spreads[0] > 2.5 * spreads[1]
