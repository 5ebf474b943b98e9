"""Members and non-members: frames that a run was trained on, and frames that it has not seen.

An attack that tells two scanners apart tells nothing of membership (CopyMark, arXiv 2410.03640), so
only patients of the same source, vendor and modality are compared with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echodiff.data.leaks import load_trained
from echodiff.data.reference import (
    RealFrames,
    choose_held_out,
    choose_reference,
    drop_trained,
    refuse_trained,
)
from echodiff.data.run_frames import find_run_frames
from echodiff.data.splits import patient_of
from echodiff.errors import InputError
from echodiff.frames.rows import Frame
from echodiff.runs import Run

MIN_PATIENTS = 8
"""Fewest patients on a side: with 8 and 8, the smallest exact p is 0.00008."""
_STRATUM = ("source", "vendor", "modality")


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
    everything = Side(folder, trained)
    members, notes = _with_captions(run, everything)
    reference = find_others(run, holdout, data)
    return match_sides(
        members, reference, everything, notes, max_frames=max_frames, seed=seed,
        needs_masks="kind" in run.record,
    )  # fmt: skip


def find_others(run: Run, holdout: Path | None, data: Path | None) -> RealFrames:
    """Frames of patients that the run has not seen; InputError where it has seen one."""
    training = load_trained(run)
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
    views = {frame.view for frame in members.frames}
    others = _keep(others, [f.view in views for f in others], "of a view not trained on", notes)
    ours, theirs = _name_strata(members.frames), _name_strata(others)
    shared = set(ours.values()) & set(theirs.values())
    if not shared and others:
        raise InputError(
            f"{flag}: is of {_list(theirs)}, the training of {_list(ours)}: an attack would tell "
            "these apart, not members; give held-out frames of the same source and vendor"
        )
    kept = []
    for frames, strata, what in ((members.frames, ours, "training"), (others, theirs, "held-out")):
        is_shared = [strata[patient_of(frame)] in shared for frame in frames]
        why = "of a source or vendor that is not on both sides"
        kept.append(_keep(frames, is_shared, why, notes, what))
    if all(frame.vendor is None for frame in kept[0]):
        notes.append("no row names a vendor: whether both sides have the same is unknown")
    sides = [
        Side(folder, draw_by_patient(frames, max_frames, seed))
        for folder, frames in zip((members.folder, reference.folder), kept, strict=True)
    ]
    for side, what in zip(sides, (f"{members.folder}", flag), strict=True):
        if side.num_patients < MIN_PATIENTS:
            raise InputError(
                f"{what}: {side.num_patients} patients to compare, {MIN_PATIENTS} are needed"
                f"{'; ' + '; '.join(notes) if notes else ''}"
            )
    return Subjects(sides[0], sides[1], everything, tuple(notes))


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
