"""Keep the patients that both sides of an audit may be compared by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import comb, prod

import numpy as np

from echodiff.audit.subjects import Side, Subjects, name_strata
from echodiff.data.reference import RealFrames
from echodiff.data.splits import find_without_patient, patient_of
from echodiff.errors import InputError
from echodiff.frames.rows import Frame

MIN_PATIENTS = 8
"""Fewest patients on a side: with 8 and 8, the smallest exact p is 0.00008."""
LEAST_DEALS = 10_000
"""Fewest ways to deal the members within their strata: one over it is the smallest p. With less, an
audit could not fail whatever the weights know."""
_SIDES = ("training", "held-out")


def match_sides(
    members: Side,
    reference: RealFrames,
    everything: Side,
    notes: Sequence[str],
    *,
    max_frames: int,
    seed: int,
    needs_masks: bool = False,
) -> Subjects:
    """Keep the patients whose source, vendor and modality are on both sides."""
    others, notes, flag = list(reference.frames), list(notes), f"--holdout {reference.source}"
    if needs_masks:
        others = _keep(others, [bool(f.mask_file_name) for f in others], "without a mask", notes)
    has_text = any(frame.text for frame in members.frames)
    if has_text:
        others = _keep(others, [bool(f.text) for f in others], "without a caption", notes)
    else:
        others = [replace(frame, text="") for frame in others]
    ours, theirs = ({frame.view for frame in frames} for frames in (members.frames, others))
    others = _keep(others, [f.view in ours for f in others], "of a view not trained on", notes)
    own = _keep(
        members.frames, [f.view in theirs for f in members.frames],
        "of a view that no held-out frame shows", notes, "training",
    )  # fmt: skip
    _refuse_apart(own, others, flag)
    sides = _keep_shared([own, others], notes)
    notes += _name_unknown(sides)
    drawn = [draw_by_patient(frames, max_frames, seed) for frames in sides]
    for frames, some, what in zip(sides, drawn, _SIDES, strict=True):
        if left := len(frames) - len(some):
            notes.append(f"{left} {what} frames beyond --max-frames {max_frames} are left out")
    kept = _keep_shared(drawn, notes)  # a small stratum may have lost a side
    found = Subjects(
        Side(members.folder, kept[0]), Side(reference.folder, kept[1]), everything,
        tuple(notes), is_cut=drawn != sides,
    )  # fmt: skip
    _refuse_too_few(found, (str(members.folder), flag))
    return found


def _refuse_apart(own: Sequence[Frame], others: Sequence[Frame], flag: str) -> None:
    """InputError where no patient of one side has a counterpart on the other."""
    ours, theirs = name_strata(own), name_strata(others)
    if others and own and not set(ours.values()) & set(theirs.values()):
        raise InputError(
            f"{flag}: is of {_list(theirs)}, the training of {_list(ours)}: an attack would tell "
            "these apart, not members; give held-out frames of the same source and vendor"
        )


def _keep_shared(sides: Sequence[list[Frame]], notes: list[str]) -> list[list[Frame]]:
    """Frames of the patients whose stratum is on both sides."""
    strata = [name_strata(frames) for frames in sides]
    shared = set(strata[0].values()) & set(strata[1].values())
    return [
        _keep(
            frames, [names[patient_of(frame)] in shared for frame in frames],
            "of a source or vendor that is not on both sides", notes, what,
        )
        for frames, names, what in zip(sides, strata, _SIDES, strict=True)
    ]  # fmt: skip


def _refuse_too_few(subjects: Subjects, places: Sequence[str]) -> None:
    """InputError where there are too few patients for an audit that could fail."""
    why = f"; {'; '.join(subjects.notes)}" if subjects.notes else ""
    for side, place in zip((subjects.members, subjects.others), places, strict=True):
        if side.num_patients < MIN_PATIENTS:
            raise InputError(
                f"{place}: {side.num_patients} patients to compare, {MIN_PATIENTS} are needed{why}"
            )
    units = subjects.build_units()
    rows = [units.is_member[units.stratum == one] for one in np.unique(units.stratum)]
    if prod(comb(len(one), int(one.sum())) for one in rows) < LEAST_DEALS:
        raise InputError(
            f"{places[1]}: of the same source and vendor, members and non-members are too few to "
            f"be told apart by any attack: give more held-out patients of these{why}"
        )


def draw_by_patient(frames: list[Frame], count: int, seed: int) -> list[Frame]:
    """Whole patients in random order until there are `count` frames."""
    if len(frames) <= count:
        return frames
    names = sorted({patient_of(frame) for frame in frames})
    order = np.random.default_rng(seed).permutation(len(names))
    rank = {names[place]: number for number, place in enumerate(order)}
    chosen = sorted(frames, key=lambda frame: rank[patient_of(frame)])[:count]
    last = patient_of(chosen[-1])
    is_whole = sum(patient_of(f) == last for f in frames) == sum(
        patient_of(f) == last for f in chosen
    )
    return chosen if is_whole else [frame for frame in chosen if patient_of(frame) != last]


def _name_unknown(sides: Sequence[Sequence[Frame]]) -> list[str]:
    """What the rows do not say, though the comparison rests on it."""
    frames = [frame for side in sides for frame in side]
    notes = [
        f"no row names a {name}: whether both sides have the same is unknown"
        for name in ("source", "vendor")
        if frames and all(getattr(frame, name) is None for frame in frames)
    ]
    if unnamed := len(find_without_patient(frames)):
        notes.append(
            f"{unnamed} frames name no patient, and each counts as one: p and intervals are too "
            "small if a patient has several, and one may be on both sides"
        )
    return notes


def _keep(
    frames: list[Frame], is_kept: Sequence[bool], why: str, notes: list[str], what: str = "held-out"
) -> list[Frame]:
    kept = [frame for frame, keep in zip(frames, is_kept, strict=True) if keep]
    if len(kept) < len(frames):
        notes.append(f"{len(frames) - len(kept)} {what} frames {why} are left out")
    return kept


def _list(strata: dict[str, str]) -> str:
    names = sorted(set(strata.values()))
    return "; ".join(names[:3]) + ("; ..." if len(names) > 3 else "")
