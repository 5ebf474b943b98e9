"""Who is compared with whom: other vendors, and patients of the training, are refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from echodiff.audit.choosing import recognise
from echodiff.audit.matching import draw_by_patient, match_sides
from echodiff.audit.subjects import Side, Subjects
from echodiff.data.leaks import TrainedOn, describe_trained
from echodiff.data.reference import RealFrames
from echodiff.errors import InputError
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame


def rows(prefix, count, **columns):
    filled = {"source": "toys", "vendor": "oak", "view": "A4C"} | columns
    return [
        Frame(file_name=f"{prefix}{n}.png", text="a heart", patient_id=f"{prefix}{n}", **filled)
        for n in range(count)
    ]


def match(ours, theirs, max_frames=1000, **options):
    reference = RealFrames(Path("others"), Path("others"), theirs, "")
    side = Side(Path("frames"), ours)
    return match_sides(side, reference, side, [], max_frames=max_frames, seed=0, **options)


def test_another_vendor_is_refused():
    with pytest.raises(InputError) as error:
        match(rows("a", 20), rows("b", 20, vendor="elm"))
    assert "--holdout others: is of source toys, vendor elm, modality unknown" in str(error.value)
    assert "the training of source toys, vendor oak" in str(error.value)
    assert "give held-out frames of the same source and vendor" in str(error.value)


@pytest.mark.parametrize("column", ["source", "modality"])
def test_so_is_another_source_or_modality(column):
    with pytest.raises(InputError, match="an attack would tell these apart, not members"):
        match(rows("a", 20), rows("b", 20, **{column: "other"}))


def test_of_two_vendors_the_shared_one_is_compared():
    subjects = match(
        [*rows("a", 12), *rows("c", 10, vendor="fir")],
        [*rows("b", 15), *rows("d", 9, vendor="elm")],
    )
    assert {frame.vendor for side in (subjects.members, subjects.others)
            for frame in side.frames} == {"oak"}  # fmt: skip
    why = "of a source or vendor that is not on both sides are left out"
    assert subjects.notes == (f"10 training frames {why}", f"9 held-out frames {why}")


def test_two_shared_vendors_are_two_strata():
    subjects = match(
        [*rows("a", 12), *rows("c", 8, vendor="fir")], [*rows("b", 5), *rows("d", 9, vendor="fir")]
    )
    units = subjects.build_units()
    assert units.is_member.sum() == 20
    assert sorted(units.stratum[units.is_member].tolist()) == [0] * 8 + [1] * 12


def test_views_are_the_same_on_both_sides():
    """Else an attack that tells two views apart would seem to find members."""
    subjects = match([*rows("a", 12), *rows("c", 9, view="PLAX")], rows("b", 12))
    assert {frame.view for frame in subjects.members.frames} == {"A4C"}
    assert subjects.notes == (
        "9 training frames of a view that no held-out frame shows are left out",
    )


def test_a_stratum_that_lost_a_side_when_frames_were_drawn_is_left_out():
    ours = [*rows("a", 40), *rows("c", 2, vendor="fir")]
    theirs = [*rows("b", 40), *rows("d", 40, vendor="fir")]
    for seed in range(5):
        reference = RealFrames(Path("others"), Path("others"), theirs, "")
        side = Side(Path("frames"), ours)
        subjects = match_sides(side, reference, side, [], max_frames=20, seed=seed)
        units = subjects.build_units()
        for stratum in np.unique(units.stratum):
            assert len(set(units.is_member[units.stratum == stratum])) == 2
        assert "22 training frames beyond --max-frames 20 are left out" in subjects.notes
        assert subjects.is_cut


def test_strata_in_which_nothing_can_be_shown_are_refused():
    """Eight patients a side, but 1 to 7 and 7 to 1: the smallest p that there is is 1 / 64."""
    with pytest.raises(InputError, match="too few to be told apart by any attack"):
        match(
            [*rows("a", 1), *rows("c", 7, vendor="fir")],
            [*rows("b", 7), *rows("d", 1, vendor="fir")],
        )


def test_frames_of_a_patient_are_one_unit():
    ours = [*rows("a", 10), dataclasses.replace(rows("a", 1)[0], file_name="again.png")]
    units = match(ours, rows("b", 10)).build_units()
    assert len(units.is_member) == 20
    assert units.average(units.of_frame * 1.0).tolist() == [*map(float, range(20))]


def test_too_few_patients_are_refused_with_the_reason():
    with pytest.raises(InputError, match=r"others: 5 patients to compare, 8 are needed; 3 held"):
        match(rows("a", 20), [*rows("b", 5), *rows("c", 3, view="A2C")])


def test_captions_are_on_both_sides_or_on_none():
    bare = [dataclasses.replace(frame, text="") for frame in rows("b", 12)]
    with pytest.raises(InputError, match="12 held-out frames without a caption are left out"):
        match(rows("a", 20), bare)
    null = [dataclasses.replace(frame, text="") for frame in rows("a", 12)]
    assert {frame.text for frame in match(null, rows("b", 9)).others.frames} == {""}


def test_patients_are_drawn_whole():
    frames = [
        Frame(file_name=f"{p}-{n}.png", text="", patient_id=f"{p}") for p in range(20)
        for n in range(3)
    ]  # fmt: skip
    chosen = draw_by_patient(frames, 20, 0)
    assert len(chosen) == 18
    assert len({frame.patient_id for frame in chosen}) == 6
    assert draw_by_patient(frames, 60, 0) == frames


def test_what_the_rows_do_not_say_is_said():
    unnamed = {"vendor": None, "source": None}
    subjects = match(rows("a", 12, **unnamed), rows("b", 12, **unnamed))
    assert subjects.notes == tuple(
        f"no row names a {name}: whether both sides have the same is unknown"
        for name in ("source", "vendor")
    )


def test_frames_without_a_patient_are_not_taken_for_patients_in_silence():
    ours = [dataclasses.replace(frame, patient_id=None) for frame in rows("a", 12)]
    (note,) = match(ours, rows("b", 12)).notes
    assert note.startswith("12 frames name no patient, and each counts as one")


def test_frames_that_no_training_recorded_and_sizes_of_one_side_are_said(speckle, tmp_path):
    sides = []
    for name, size, seed in (("ours", 32, 0), ("theirs", 24, 50)):
        folder = speckle(tmp_path / name, train=8, test=0, size=size, seed=seed)
        sides.append(Side(folder, load_frames(folder)))
    subjects = Subjects(*sides, sides[0], ())
    assert "which all differ between the sides" in recognise(subjects, None).notes[0]
    assert recognise(subjects, None).notes[1].startswith("whether these are the training frames")
    record = describe_trained([(sides[0].folder, sides[0].frames[:6])])
    assert recognise(subjects, TrainedOn.from_record("a run", record)).num_unknown == 2
    same = dataclasses.replace(subjects, others=sides[0])
    assert recognise(same, TrainedOn.from_record("a run", record)).notes == ()
