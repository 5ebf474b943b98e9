"""Who is trained on and who is kept apart. The unit is the patient, never the frame."""

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from echodiff.config import InputError
from echodiff.frames import Frame

SPLITS = ("train", "val", "test")


class TrainingFrames(NamedTuple):
    """What one fine-tuning sees, and what it must never see."""

    captioned: list[Frame]
    regularization: list[Frame]
    """The same kind of frames with their text emptied."""
    held_out: list[Frame]


def parse_fractions(text: str) -> tuple[float, float, float]:
    """`70/15/15` or `0.7/0.15/0.15` -> fractions of train, val and test that sum to 1."""
    try:
        shares = [float(part) for part in text.split("/")]
    except ValueError as error:
        raise InputError(f"--split: expected numbers like 70/15/15, got {text!r}") from error
    if len(shares) != 3 or not all(0 <= s < float("inf") for s in shares) or sum(shares) <= 0:
        raise InputError(f"--split: expected three shares of train/val/test, got {text!r}")
    train, val, test = (share / sum(shares) for share in shares)
    return train, val, test


def split_patients(
    patients: Iterable[str],
    fractions: Sequence[float],
    *,
    seed: int,
    strata: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Assign every patient to train, val or test; depends on the set of patients, their strata and
    `seed` alone.

    Counts are the fractions rounded to the largest remainders; a split that was asked for gets at
    least one patient while there are enough for that. `strata` names the group of each patient,
    such as the scanner's maker: places are dealt out evenly over patients sorted by group, so that
    each group is shared out as nearly as whole patients allow.
    """
    names = sorted(set(patients))
    counts = _shares(len(names), fractions)
    order = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    if strata is None or len({strata[name] for name in names}) < 2:
        places = [split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    else:
        order.sort(key=lambda name: strata[name])
        evenly = [((i + 0.5) / count, split) for split, count in zip(SPLITS, counts, strict=True)
                  for i in range(count)]  # fmt: skip
        places = [split for _, split in sorted(evenly)]
    homes = dict(zip(order, places, strict=True))
    return {name: homes[name] for name in names}


def patient_of(frame: Frame) -> str:
    """The patient a frame belongs to; without one, the frame (or its pair) stands for itself."""
    return frame.patient_id or frame.pair_id or frame.file_name


def check_patients_apart(frames: Sequence[Frame]) -> None:
    """Raise InputError when a patient has frames in two splits."""
    home: dict[str, str] = {}
    for frame in frames:
        if frame.split is None:
            continue
        if frame.split not in SPLITS:
            raise InputError(f"{frame.file_name}: split {frame.split!r} is none of {SPLITS}")
        if home.setdefault(patient_of(frame), frame.split) != frame.split:
            raise InputError(
                f"{frame.file_name}: patient {patient_of(frame)} is in {frame.split} and in "
                f"{home[patient_of(frame)]}"
            )


def draw_training_frames(
    frames: Sequence[Frame], *, num_captioned: int, num_regularization: int | None, seed: int
) -> TrainingFrames:
    """Draw the annotated and the null-text frames of one fine-tuning, from train patients only.

    Frames without a `split` are split by patient first (85 % train, the rest val). Captioned
    frames are drawn among those with text; regularisation frames among those without, then among
    the captioned ones left over (None: all of them). Patients are taken in turn, so that no clip
    fills the set. Where there are too few, all there are are taken, with a warning that gives the
    counts.
    """
    check_patients_apart(frames)
    if any(frame.split is None for frame in frames):
        if any(frame.split is not None for frame in frames):
            raise InputError("some rows have a split and some have none")
        homes = split_patients(map(patient_of, frames), (0.85, 0.15, 0), seed=seed)
    else:
        homes = {patient_of(frame): str(frame.split) for frame in frames}
    train = [frame for frame in frames if homes[patient_of(frame)] == "train"]
    held_out = [frame for frame in frames if homes[patient_of(frame)] != "train"]
    if not train:
        raise InputError("no frame is in the train split")
    rng = np.random.default_rng(seed)
    with_text = _in_turn([frame for frame in train if frame.text], rng)
    without = _in_turn([frame for frame in train if not frame.text], rng)
    captioned, left_over = with_text[:num_captioned], with_text[num_captioned:]
    pool = without + left_over
    _warn_if_fewer("captioned", len(captioned), num_captioned)
    if num_regularization is not None:
        _warn_if_fewer("regularization", len(pool), num_regularization)
    nulled = [dataclasses.replace(frame, text="") for frame in pool[:num_regularization]]
    return TrainingFrames(captioned, nulled, held_out)


def _warn_if_fewer(kind: str, available: int, wanted: int) -> None:
    if available < wanted:
        warnings.warn(f"{wanted} {kind} frames asked for, {available} there", stacklevel=3)


def _in_turn(frames: list[Frame], rng: np.random.Generator) -> list[Frame]:
    """Shuffle, then one frame of every patient, the second of every patient, and so on."""
    shuffled = [frames[i] for i in rng.permutation(len(frames))]
    seen: dict[str, int] = {}
    rounds = []
    for frame in shuffled:
        rounds.append(seen.get(patient_of(frame), 0))
        seen[patient_of(frame)] = rounds[-1] + 1
    order = sorted(range(len(shuffled)), key=rounds.__getitem__)
    return [shuffled[i] for i in order]


def _shares(total: int, fractions: Sequence[float]) -> list[int]:
    exact = np.asarray(fractions, dtype=float) / sum(fractions) * total
    counts = np.floor(exact).astype(int)
    for index in np.argsort(-(exact - counts), kind="stable")[: total - counts.sum()]:
        counts[index] += 1
    wanted = [i for i, fraction in enumerate(fractions) if fraction > 0]
    for index in wanted:
        if counts[index] == 0 and total >= len(wanted):
            counts[np.argmax(counts)] -= 1
            counts[index] += 1
    return [int(count) for count in counts]
