from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echodiff.data.splits import (
    SPLITS,
    check_patients_apart,
    draw_training_frames,
    parse_fractions,
    patient_of,
    split_for_training,
    split_patients,
)
from echodiff.errors import InputError
from echodiff.frames.rows import Frame

patients = st.sets(st.text(min_size=1, max_size=4), min_size=1, max_size=40)
fractions = st.tuples(*[st.integers(0, 100)] * 3).filter(any)
seeds = st.integers(0, 2**32)


def frames_of(owners, texts=None):
    texts = texts or ["a heart"] * len(owners)
    return [
        Frame(file_name=f"images/{index}.png", text=text, patient_id=owner)
        for index, (owner, text) in enumerate(zip(owners, texts, strict=True))
    ]


@given(patients, fractions, seeds)
def test_every_patient_has_one_split_and_shares_are_kept(names, shares, seed):
    homes = split_patients(names, shares, seed=seed)
    assert set(homes) == names
    assert set(homes.values()) <= set(SPLITS)
    counts = Counter(homes.values())
    wanted = [split for split, share in zip(SPLITS, shares, strict=True) if share]
    assert set(homes.values()) <= set(wanted)
    for split, share in zip(SPLITS, shares, strict=True):
        assert abs(counts[split] - len(names) * share / sum(shares)) < 3
    if len(names) >= len(wanted):
        assert set(homes.values()) == set(wanted)


@given(patients, seeds)
def test_the_order_and_repetition_of_frames_do_not_matter(names, seed):
    listed = sorted(names)
    again = [*reversed(listed), *listed]
    assert split_patients(listed, (7, 2, 1), seed=seed) == split_patients(
        again, (7, 2, 1), seed=seed
    )


def test_another_seed_is_another_split():
    names = [str(number) for number in range(40)]
    first, second = (split_patients(names, (70, 15, 15), seed=seed) for seed in (0, 1))
    assert first != second
    assert Counter(first.values()) == {"train": 28, "val": 6, "test": 6}


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), min_size=1, max_size=40),
    st.integers(0, 20),
    st.integers(0, 20),
    seeds,
)
@pytest.mark.filterwarnings("ignore:.*frames requested:UserWarning")
def test_a_draw_never_shares_a_patient_with_what_is_held_out(rows, num, num_null, seed):
    frames = frames_of([o for o, _ in rows], ["text" * has_text for _, has_text in rows])
    drawn = draw_training_frames(frames, num_captioned=num, num_regularization=num_null, seed=seed)
    trained = [*drawn.captioned, *drawn.regularization]
    assert not {patient_of(f) for f in trained} & {patient_of(f) for f in drawn.held_out}
    assert len({f.file_name for f in trained}) == len(trained)
    assert len(drawn.captioned) <= num
    assert len(drawn.regularization) <= num_null
    assert all(frame.text for frame in drawn.captioned)
    assert not any(frame.text for frame in drawn.regularization)
    again = draw_training_frames(frames, num_captioned=num, num_regularization=num_null, seed=seed)
    assert again == drawn


def test_patients_are_taken_in_turn():
    frames = frames_of(["a"] * 20 + ["b", "c"])
    split = [Frame(**(frame.to_row() | {"split": "train"})) for frame in frames]
    drawn = draw_training_frames(split, num_captioned=3, num_regularization=0, seed=0)
    assert {frame.patient_id for frame in drawn.captioned} == {"a", "b", "c"}


def test_too_few_frames_are_told_and_taken():
    frames = [Frame(file_name=f"{i}.png", text="t", split="train") for i in range(5)]
    with pytest.warns(UserWarning, match="40 captioned frames requested, 5 available"):
        drawn = draw_training_frames(frames, num_captioned=40, num_regularization=0, seed=0)
    assert len(drawn.captioned) == 5
    with pytest.warns(UserWarning, match="400 regularization frames requested, 1 available"):
        drawn = draw_training_frames(frames, num_captioned=4, num_regularization=400, seed=0)
    assert [frame.text for frame in drawn.regularization] == [""]


def test_the_split_of_the_rows_is_kept():
    rows = [("a", "train"), ("b", "test"), ("c", "val"), ("a", "train")]
    frames = [
        Frame(file_name=f"{i}.png", text="t", patient_id=p, split=s)
        for i, (p, s) in enumerate(rows)
    ]
    drawn = draw_training_frames(frames, num_captioned=2, num_regularization=0, seed=0)
    assert [frame.patient_id for frame in drawn.held_out] == ["b", "c"]


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        (("train", "test"), "patient p is in test and in train"),
        (("train", "holdout"), "split 'holdout' is not one of"),
    ],
)
def test_a_leak_is_an_input_error_that_names_the_frame(splits, words):
    frames = [
        Frame(file_name=f"{i}.png", text="", patient_id="p", split=s) for i, s in enumerate(splits)
    ]
    with pytest.raises(InputError, match=rf"1\.png: {words}"):
        check_patients_apart(frames)


def test_a_set_without_train_frames_or_half_split_is_refused():
    held = [Frame(file_name="a.png", text="t", split="test")]
    with pytest.raises(InputError, match="no frame is in the train split"):
        draw_training_frames(held, num_captioned=1, num_regularization=0, seed=0)
    with pytest.raises(InputError, match="some rows have no split"):
        draw_training_frames(
            [*held, Frame(file_name="b.png", text="t")],
            num_captioned=1,
            num_regularization=0,
            seed=0,
        )


@pytest.mark.parametrize("text", ["70/30", "a/b/c", "0/0/0", "-1/1/1", "nan/1/1", "inf/1/1", ""])
def test_bad_shares_are_an_input_error(text):
    with pytest.raises(InputError, match="--split"):
        parse_fractions(text)


def test_shares_sum_to_one():
    assert parse_fractions("70/15/15") == pytest.approx((0.7, 0.15, 0.15))
    assert parse_fractions("1/0/0") == (1, 0, 0)


def test_frames_without_patient_stand_for_themselves_and_pairs_together():
    assert patient_of(Frame(file_name="a.png", text="")) == "a.png"
    assert patient_of(Frame(file_name="a.png", text="", pair_id="7")) == "7"


@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    shares=st.sampled_from([(0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (0.8, 0.2, 0)]),
    seed=st.integers(0, 99),
)
def test_every_group_of_patients_is_shared_out_evenly(sizes, shares, seed):
    strata = {f"{group}-{i}": str(group) for group, size in enumerate(sizes) for i in range(size)}
    homes = split_patients(strata, shares, seed=seed, strata=strata)
    assert set(homes) == set(strata)
    plain = split_patients(strata, shares, seed=seed)
    assert Counter(homes.values()) == Counter(plain.values())
    for group, size in enumerate(sizes):
        counts = Counter(homes[name] for name, own in strata.items() if own == str(group))
        for split, share in zip(SPLITS, shares, strict=True):
            exact = share * size
            assert abs(counts[split] - exact) < 2.6 + size / sum(sizes)


def test_ids_in_another_spelling_are_one_patient():
    frames = frames_of(["P01", "p01", " P01 ", "Ｐ01"])
    assert {patient_of(frame) for frame in frames} == {"p01"}
    split = [replace(f, split=s) for f, s in zip(frames, ["train", "test"] * 2, strict=True)]
    with pytest.raises(InputError, match="patient p01 is in test and in train"):
        check_patients_apart(split)


owners = st.dictionaries(
    st.text("abcdefghij", min_size=1, max_size=2),
    st.lists(st.booleans(), min_size=1, max_size=4),
    min_size=1,
    max_size=30,
)


@given(owners, st.integers(0, 12), st.integers(0, 40), seeds)
def test_a_split_for_training_keeps_what_the_training_needs(who, num, num_null, seed):
    frames = {
        name: frames_of([name] * len(texts), ["text" * has_text for has_text in texts])
        for name, texts in who.items()
    }
    shares = (0.7, 0.15, 0.15)
    homes = split_for_training(frames, shares, num_captioned=num, num_null=num_null, seed=seed)
    assert set(homes) == set(frames)
    train = [frame for name, own in frames.items() if homes[name] == "train" for frame in own]
    num_text = sum(has_text for texts in who.values() for has_text in texts)
    kept = sum(bool(frame.text) for frame in train)
    assert kept >= min(num, num_text)
    if sum(map(len, frames.values())) - num >= num_null:
        assert len(train) - min(num, num_text) >= num_null
    # No more patients are held out than the shares say.
    plain = split_patients(frames, shares, seed=seed)
    held_out = [sum(home != "train" for home in one.values()) for one in (homes, plain)]
    assert held_out[0] <= max(held_out[1], 2)
