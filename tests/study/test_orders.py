"""Orders of sources and sequences of images, whatever their numbers."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echodiff.errors import InputError
from echodiff.study.crossover import Case, lay_out_paired
from echodiff.study.orders import MAX_FORESEEN, MAX_RUN, list_runs, share_foreseen
from echodiff.study.sequences import (
    Card,
    Layout,
    choose_images,
    count_sequences,
    lay_out_rating,
    repeat_gap,
)

QUICK = settings(max_examples=12, deadline=None)
seeds = st.integers(0, 2**32)


def lay_out_orders(num_sources, per_source, seed):
    """Numbers of the sources that a balanced set of readers sees, (readers, images)."""
    cards = make_cards(num_sources, 2 * per_source, shared_patients=False)
    names = list(dict.fromkeys(card.source for card in cards))
    number = {card.token: names.index(card.source) for card in cards}
    layout = Layout(images=per_source, shared=0, repeats=0)
    sequences, _ = lay_out_rating(cards, [], layout, num_sources, np.random.default_rng(seed))
    return np.array([[number[task.image_token] for task in sequence] for sequence in sequences])


@QUICK
@given(num_sources=st.integers(2, 5), per_source=st.integers(3, 12), seed=seeds)
def test_a_set_of_readers_is_balanced_by_place_and_by_what_came_before(
    num_sources, per_source, seed
):
    orders = lay_out_orders(num_sources, per_source, seed)
    length = num_sources * per_source
    assert orders.shape == (num_sources, length)
    for place in range(length):
        assert sorted(orders[:, place]) == list(range(num_sources))
    followers = Counter(pair for order in orders.tolist() for pair in pairwise(order))
    assert len(followers) == num_sources**2
    assert max(followers.values()) - min(followers.values()) <= 1


@QUICK
@given(num_sources=st.integers(2, 5), per_source=st.integers(3, 12), seed=seeds)
def test_no_order_has_a_long_run_or_a_predictable_last_one(num_sources, per_source, seed):
    for order in lay_out_orders(num_sources, per_source, seed):
        assert (np.bincount(order) == per_source).all()
        assert list_runs(order).max() <= MAX_RUN
        assert share_foreseen(order, num_sources) <= MAX_FORESEEN


def test_blocks_of_one_image_a_source_are_told_to_be_predictable():
    blocks = np.concatenate([np.random.default_rng(i).permutation(4) for i in range(10)])
    assert share_foreseen(np.tile([0, 1, 2, 3], 10), 4) == 1
    assert share_foreseen(blocks, 4) > MAX_FORESEEN


def make_cards(num_sources: int, count: int, *, shared_patients: bool) -> list[Card]:
    """Images of each source; the last two sources show the same patients if `shared_patients`."""
    cards = []
    for source in range(num_sources):
        heart = min(source, num_sources - 2) if shared_patients else source
        cards += [Card(f"t{source}-{i}", f"s{source}", f"p{heart}-{i // 2}") for i in range(count)]
    return cards


@QUICK
@given(
    num_sources=st.integers(2, 4), images=st.integers(3, 8), shared=st.integers(0, 3),
    repeats=st.integers(0, 1), shared_patients=st.booleans(), seed=seeds,
)  # fmt: skip
def test_a_reader_never_sees_a_patient_twice_but_for_the_repeats(
    num_sources, images, shared, repeats, shared_patients, seed
):
    cards = make_cards(num_sources, 60, shared_patients=shared_patients)
    practice = [Card("practice", "s0", "elsewhere")]
    layout = Layout(images, shared, repeats)
    sequences, common = lay_out_rating(
        cards, practice, layout, 2 * num_sources, np.random.default_rng(seed)
    )
    by_token = {card.token: card for card in cards}
    assert len(sequences) == 2 * num_sources
    assert len(common) == shared * num_sources
    for sequence in sequences:
        assert [task.kind for task in sequence].index("practice") == 0
        rated = [task for task in sequence if task.kind != "practice"]
        first = [task for task in rated if task.kind != "repeat"]
        patients = [by_token[task.image_token].patient for task in first]
        assert len({*patients}) == len(patients) == images * num_sources
        of_source = Counter(by_token[task.image_token].source for task in rated)
        assert {*of_source.values()} == {images + repeats}
        assert {task.image_token for task in rated if task.kind == "shared"} == common
        for place, task in enumerate(rated):
            if task.kind == "repeat":
                before = [other.image_token for other in rated[:place]].index(task.image_token)
                assert place - before >= repeat_gap(len(rated))


def test_images_are_used_evenly_before_any_is_used_twice():
    cards = make_cards(2, 40, shared_patients=False)
    sequences, common = lay_out_rating(
        cards, [], Layout(5, 1, 0), 8, np.random.default_rng(0)
    )  # fmt: skip
    used = Counter(task.image_token for sequence in sequences for task in sequence)
    assert {used[token] for token in common} == {8}
    assert max(count for token, count in used.items() if token not in common) <= 2
    assert len(used) >= 2 * 4 * 8 // 2


def test_too_few_patients_are_named():
    cards = [Card(f"a{i}", "a", f"p{i}") for i in range(6)]
    cards += [Card(f"b{i}", "b", f"p{i}") for i in range(6)]
    chosen = choose_images(cards, {"a": 3, "b": 3}, {}, np.random.default_rng(0))
    assert len({card.patient for card in chosen}) == 6
    with pytest.raises(InputError, match="8 images of different patients do not exist"):
        choose_images(cards, {"a": 4, "b": 4}, {}, np.random.default_rng(0))


@pytest.mark.parametrize(("readers", "sources", "expected"), [(17, 4, 28), (24, 4, 36), (1, 3, 3)])
def test_sequences_are_whole_sets_with_a_reserve(readers, sources, expected):
    assert count_sequences(readers, sources) == expected


@QUICK
@given(num_cases=st.integers(2, 15), sittings=st.sampled_from(["crossover", "two"]), seed=seeds)
def test_every_case_is_read_once_in_each_condition_in_two_sittings(num_cases, sittings, seed):
    cases = [Case(f"c{i}", f"g{i}") for i in range(num_cases)]
    sequences = lay_out_paired(cases, [], sittings, 4, np.random.default_rng(seed))
    for one, other in ((sequences[0], sequences[1]), (sequences[2], sequences[3])):
        conditions = {(t.image_token, t.sitting): t.condition for t in one}
        assert len(conditions) == len(one) == 2 * num_cases
        for task in one:
            assert conditions[task.image_token, 3 - task.sitting] != task.condition
            assert (task.companion_token is not None) == (task.condition == "with")
        for mine, theirs in zip(one, other, strict=True):
            assert (mine.image_token, mine.sitting) == (theirs.image_token, theirs.sitting)
            assert mine.condition != theirs.condition
        first = Counter(task.condition for task in one if task.sitting == 1)
        if sittings == "two":
            assert len(first) == 1
        else:
            assert abs(first["with"] - first["without"]) <= 1
