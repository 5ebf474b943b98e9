"""The frames of a comparison: real, synthetic and test, checked before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from echodiff.anatomy import Label
from echodiff.data.leaks import count_shared, find_trainings
from echodiff.data.reference import (
    RealFrames,
    build_training,
    choose_reference,
    choose_trained,
    refuse_trained,
)
from echodiff.data.splits import patient_of, warn_without_patient
from echodiff.errors import InputError
from echodiff.frames.maker import PHANTOM
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.white_level import find_white_level
from echodiff.metrics.resampling import MIN_GROUPS
from echodiff.segmentation.label_names import name_labels, parse_label
from echodiff.segmentation.labelled_frames import (
    LabelledFrames,
    load_labelled_frames,
)
from echodiff.utility.utility_config import UtilityConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """What is trained on and tested on."""

    real: LabelledFrames
    synthetic: Mapping[str, LabelledFrames]
    """By the name of the folder."""
    test: RealFrames
    """Frames that have a mask."""
    labels: tuple[Label, ...]
    """Labels that are segmented, the background aside."""
    notes: tuple[str, ...]
    """What a reader of the results must know."""
    white_level: int | None
    """Of the real frames, if they have more than 8 bits: test frames are read by the same."""


def open_sources(config: UtilityConfig) -> Sources:
    """Read and check all frames; InputError for what makes the comparison wrong.

    Refused are test frames or patients that were trained on, by the networks or by a generator,
    generated frames among the real ones, and synthetic frames whose generator's training is not
    known, unless --unknown-training.
    """
    real = choose_trained(config.real, flag="--real")
    test = choose_reference(config.test, config.split, flag="--test")
    test = replace(test, frames=[frame for frame in test.frames if frame.mask_file_name])
    for one, flag in ((real, "--real"), (test, "--test")):
        _refuse_generated(one, flag)
    sets = {folder.resolve().name: folder for folder in config.synthetic}
    rows = {name: load_frames(folder) for name, folder in sets.items()}
    notes = _check_test(config, real, test, sets, rows)
    warn_without_patient(real.folder, real.frames)
    warn_without_patient(test.folder, test.frames)
    if config.hold_out:
        real = replace(real, frames=_keep_in(config, real.frames, "--real"))
        rows = {name: _keep_in(config, own, f"--synthetic {name}") for name, own in rows.items()}
        notes.append(_describe_held_out(config, test))
    white_level = find_white_level(real.paths)
    labelled = load_labelled_frames(real.folder, real.frames, config.resolution, flag="--real")
    synthetic = {
        name: load_labelled_frames(folder, rows[name], config.resolution, flag="--synthetic")
        for name, folder in sets.items()
    }
    test_labels = load_labelled_frames(
        test.folder, test.frames, config.resolution, flag="--test", white_level=white_level
    )
    test = replace(test, frames=[*test_labels.frames])
    labels, left = _choose_labels(
        config, {"--real": labelled, "--test": test_labels, **synthetic}
    )  # fmt: skip
    return Sources(labelled, synthetic, test, labels, (*notes, *left), white_level)


def _refuse_generated(real: RealFrames, flag: str) -> None:
    made = [frame for frame in real.frames if frame.weights]
    if made:
        raise InputError(
            f"{flag} {real.source}: {len(made)} of {len(real.frames)} frames were generated, such "
            f"as {made[0].file_name}: real frames are needed here"
        )


def _check_test(
    config: UtilityConfig,
    real: RealFrames,
    test: RealFrames,
    sets: Mapping[str, Path],
    rows: Mapping[str, Sequence[Frame]],
) -> list[str]:
    """Refuse a test that was seen; return notes."""
    patients = {patient_of(frame) for frame in test.frames}
    if len(patients) < MIN_GROUPS:
        raise InputError(
            f"--test {config.test}: {len(patients)} patients with masks, and intervals need "
            f"{MIN_GROUPS}"
        )
    trainings, notes = [build_training(real, "--real")], []
    for name, folder in sets.items():
        own = RealFrames(folder, folder, [*rows[name]], "")
        trainings.append(build_training(own, "--synthetic"))
        found, problem = find_trainings(folder, rows[name])
        trainings += found
        is_simulated = all((row.source or "").startswith(PHANTOM) for row in rows[name])
        # Weights without a training are those of a base that was not fine-tuned.
        is_ours = bool(found) or any(row.weights for row in rows[name])
        if is_simulated or (is_ours and problem is None):
            continue
        problem = problem or f"{folder}: has no record of what its generator was trained on"
        if not config.unknown_training:
            raise InputError(f"--synthetic {problem}; --unknown-training accepts that")
        logger.warning("%s", problem)
        notes.append(problem)
    num_shared = sum(count_shared(own, test.frames) for own in rows.values())
    hint = "; generate.py --mask-split train draws for masks of training patients"
    refuse_trained(test, trainings, flag="--test", hint=hint if num_shared else "")
    if any((frame.source or "").startswith(PHANTOM) for frame in (*real.frames, *test.frames)):
        notes.append("real or test frames are simulated: the results are about simulated hearts")
    return notes


def _keep_in(config: UtilityConfig, frames: Sequence[Frame], flag: str) -> list[Frame]:
    """The frames that are not of the vendor or view that is held out."""
    column, _, value = str(config.hold_out).partition("=")
    kept = [frame for frame in frames if getattr(frame, column) != value]
    if not kept:
        raise InputError(f"{flag}: --hold-out {config.hold_out} leaves no frame to train on")
    return kept


def _describe_held_out(config: UtilityConfig, test: RealFrames) -> str:
    column, _, value = str(config.hold_out).partition("=")
    num = sum(getattr(frame, column) == value for frame in test.frames)
    if not num:
        known = sorted({str(getattr(frame, column)) for frame in test.frames})
        raise InputError(
            f"--hold-out {config.hold_out}: no frame of --test has that {column} (there are: "
            f"{', '.join(known)})"
        )
    return f"{column} {value} was kept out of every training; {num} test frames are of it"


def _choose_labels(
    config: UtilityConfig, sets: Mapping[str, LabelledFrames]
) -> tuple[tuple[Label, ...], list[str]]:
    """Labels of all sets, or those of --labels; and a note on those that only some have."""
    shared = set.intersection(*({*one.labels} for one in sets.values()))
    if config.labels:
        wanted = {parse_label(name) for name in config.labels} - {Label.BACKGROUND}
        for name, one in sets.items():
            if missing := sorted(wanted - {*one.labels}):
                place = name if name.startswith("--") else f"--synthetic {one.folder}"
                raise InputError(f"--labels: {name_labels(missing)} is in no mask of {place}")
        return tuple(sorted(wanted)), []
    if not shared:
        told = "; ".join(f"{name}: {name_labels(one.labels)}" for name, one in sets.items())
        raise InputError(f"no label occurs in the masks of all folders ({told})")
    left = sorted({label for one in sets.values() for label in one.labels} - shared)
    note = f"{name_labels(left)} is not in the masks of all folders, and counts as background"
    return tuple(sorted(shared)), [note] if left else []
