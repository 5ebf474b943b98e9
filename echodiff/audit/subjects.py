"""Members and non-members: frames that a run was trained on, and frames that it has not seen.

An attack that tells two scanners apart tells nothing of membership (CopyMark, arXiv 2410.03640), so
only patients of the same source, vendor and modality are compared with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb, prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echodiff.data.leaks import TrainedOn, count_unknown, load_trained
from echodiff.data.reference import (
    RealFrames,
    choose_held_out,
    choose_reference,
    drop_trained,
    refuse_trained,
)
from echodiff.data.run_frames import find_run_frames
from echodiff.data.splits import find_without_patient, patient_of
from echodiff.errors import InputError
from echodiff.frames.rows import Frame
from echodiff.images import read_size
from echodiff.runs import Run

MIN_PATIENTS = 8
"""Fewest patients on a side: with 8 and 8, the smallest exact p is 0.00008."""
LEAST_DEALS = 10_000
"""Fewest ways to deal the members within their strata: one over it is the smallest p. With less, an
audit could not fail whatever the weights know."""
_STRATUM = ("source", "vendor", "modality")
_SIDES = ("training", "held-out")


@dataclass(frozen=True)
class Side:
    """Frames of one folder."""

    folder: Path
    frames: list[Frame]

    @property
    def paths(self) -> list[Path]:
        return [self.folder / frame.file_name for frame in self.frames]

    @property
    def num_patients(self) -> int:
        return len({patient_of(frame) for frame in self.frames})


@dataclass(frozen=True)
class Units:
    """Patients, the units of every test: their frames are averaged."""

    of_frame: NDArray[np.int64]
    """(N,) patient of each frame, members first."""
    is_member: NDArray[np.bool_]
    """(U,)."""
    stratum: NDArray[np.int64]
    """(U,) source, vendor and modality of each patient, as a number."""

    def average(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means (U, ...) by patient of values (N, ...) by frame."""
        sums = np.zeros((len(self.is_member), *values.shape[1:]))
        np.add.at(sums, self.of_frame, values)
        counts = np.bincount(self.of_frame, minlength=len(self.is_member))
        mean: NDArray[np.float64] = sums / counts.reshape(-1, *[1] * (values.ndim - 1))
        return mean


@dataclass(frozen=True)
class Subjects:
    """Who is attacked: members, non-members, and what was left out."""

    members: Side
    others: Side
    everything: Side
    """All frames that the run was trained on: what a copy could be of."""
    notes: tuple[str, ...]
    is_cut: bool = False
    """Whether `max_frames` left frames out."""
    num_unknown: int = 0
    """Frames of `everything` whose pixels the training has not recorded."""

    def build_units(self) -> Units:
        """Patients over both sides, members first."""
        keys = [f"{side}/{patient_of(frame)}" for side, frames in
                (("in", self.members.frames), ("out", self.others.frames))
                for frame in frames]  # fmt: skip
        names = list(dict.fromkeys(keys))
        number = {name: place for place, name in enumerate(names)}
        strata = {**_name_strata(self.members.frames, "in/"),
                  **_name_strata(self.others.frames, "out/")}  # fmt: skip
        known = sorted(set(strata.values()))
        return Units(
            np.array([number[key] for key in keys]),
            np.array([name.startswith("in/") for name in names]),
            np.array([known.index(strata[name]) for name in names]),
        )


def choose_subjects(
    run: Run, *, holdout: Path | None, data: Path | None, max_frames: int, seed: int
) -> Subjects:
    """Choose the frames of both sides; InputError where they differ in more than membership."""
    folder, trained = find_run_frames(run, run.record["train"], data=data)
    everything, training = Side(folder, trained), load_trained(run)
    members, notes = _with_captions(run, everything)
    reference = find_others(run, training, holdout, data)
    subjects = match_sides(
        members, reference, everything, notes + _name_earlier(run), max_frames=max_frames,
        seed=seed, needs_masks="kind" in run.record,
    )  # fmt: skip
    return recognise(subjects, training)


def recognise(subjects: Subjects, training: TrainedOn | None) -> Subjects:
    """Count the frames that are not those of the training: --data may name another folder.

    Notes where the images of the two sides have no size in common, which a network can tell.
    """
    sizes = [
        {read_size(path) for path in side.paths} for side in (subjects.members, subjects.others)
    ]
    if sizes[0].isdisjoint(sizes[1]):
        note = "whether attacks tell members or image sizes, which all differ between the sides"
        subjects = replace(subjects, notes=(*subjects.notes, note))
    if training is None:
        note = "whether these are the training frames: the run has no record of their pixels"
        return replace(subjects, notes=(*subjects.notes, note))
    side = subjects.everything
    return replace(subjects, num_unknown=count_unknown(side.folder, side.frames, training))


def find_others(
    run: Run, training: TrainedOn | None, holdout: Path | None, data: Path | None
) -> RealFrames:
    """Frames of patients that the run has not seen; InputError where it has seen one."""
    trainings = [training] if training else []
    if holdout is None:
        if not run.record.get("held_out"):
            raise InputError(
                f"{run.run_dir}: the run held no patient out: give real frames of other patients "
                "with --holdout"
            )
        split = "val,test" if "val" in run.record else None
        return drop_trained(choose_held_out(run, split, data=data, flag="--holdout"), trainings)
    if training is None:
        raise InputError(f"{run.run_dir}: nothing says which patients it was trained on")
    reference = choose_reference(holdout, flag="--holdout")
    refuse_trained(reference, trainings, flag="--holdout")
    return reference


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
    ours, theirs = _name_strata(own), _name_strata(others)
    if others and own and not set(ours.values()) & set(theirs.values()):
        raise InputError(
            f"{flag}: is of {_list(theirs)}, the training of {_list(ours)}: an attack would tell "
            "these apart, not members; give held-out frames of the same source and vendor"
        )


def _keep_shared(sides: Sequence[list[Frame]], notes: list[str]) -> list[list[Frame]]:
    """Frames of the patients whose stratum is on both sides."""
    strata = [_name_strata(frames) for frames in sides]
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


def _with_captions(run: Run, everything: Side) -> tuple[Side, list[str]]:
    """The frames that were trained on with a caption, which know most; without any, all of them."""
    num_captioned = int(run.record.get("num_captioned", len(everything.frames)))
    captioned = everything.frames[:num_captioned]
    if not captioned:
        return Side(everything.folder, [replace(f, text="") for f in everything.frames]), []
    num_null = len(everything.frames) - num_captioned
    told = (
        f"membership of the {num_null} frames that were trained on with an empty prompt: those "
        "with a caption are attacked"
    )
    return Side(everything.folder, captioned), [told] * bool(num_null)


def _name_earlier(run: Run) -> list[str]:
    """What the weights know besides the frames of this training."""
    if run.record.get("lora"):
        return ["frames that the LoRA inside was trained on"]
    if run.record.get("init_sha256"):
        return ["frames that the weights it began with were trained on"]
    return []


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


def _name_strata(frames: Sequence[Frame], prefix: str = "") -> dict[str, str]:
    """Source, vendor and modality of every patient, in words."""
    found: dict[str, set[str]] = {}
    for frame in frames:
        words = ", ".join(f"{name} {getattr(frame, name) or 'unknown'}" for name in _STRATUM)
        found.setdefault(prefix + patient_of(frame), set()).add(words)
    return {name: " and ".join(sorted(words)) for name, words in found.items()}


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
