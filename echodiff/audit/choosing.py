"""Choose who is attacked: frames of the training, and frames of patients that it has not seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from echodiff.audit.matching import match_sides
from echodiff.audit.subjects import Side, Subjects
from echodiff.data.leaks import TrainedOn, count_unknown, load_trained
from echodiff.data.reference import (
    RealFrames,
    choose_held_out,
    choose_reference,
    drop_trained,
    refuse_trained,
)
from echodiff.data.run_frames import find_run_frames
from echodiff.errors import InputError
from echodiff.images import read_size
from echodiff.runs import Run


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
