"""Split patients into train, val and test, and draw training frames. Patients are never split."""

import dataclasses
import logging
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from echodiff.errors import InputError
from echodiff.frames.maker import GENERATED, MASK_SOURCE
from echodiff.frames.rows import Frame

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
OWN_SHARES = (0.85, 0.15, 0.0)
"""Train, val and test of a folder without a split column. Its held-out patients are val: they are
looked at during training, so they are no test set."""
NULL_PER_CAPTIONED = 10
"""Null-text frames to a captioned one in the paper's recipe, the preset cmc2024: 400 to 40."""


class TrainingFrames(NamedTuple):
    """Frames of one fine-tuning: those it trains on, and those held out."""

    captioned: list[Frame]
    regularization: list[Frame]
    """The same kind of frames with their text emptied."""
    held_out: list[Frame]
    """Frames of all other patients, each with its split."""


def parse_fractions(text: str) -> tuple[float, float, float]:
    """Parse `70/15/15` or `0.7/0.15/0.15` into fractions of train, val and test that sum to 1."""
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
    """Assign every patient to train, val or test; the result depends only on the set of patients,
    their strata and `seed`.

    Counts are the fractions rounded by largest remainder; a requested split gets at least one
    patient if there are enough. `strata` gives the group of each patient, such as the scanner
    vendor. Every group is divided as close to the fractions as whole patients allow.
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


def fold_id(patient_id: str) -> str:
    """Normalise a patient id: case, character width, and space at the ends do not matter."""
    return unicodedata.normalize("NFKC", patient_id).casefold().strip()


def patient_of(frame: Frame) -> str:
    """Return the patient of a frame; without one, the frame or its pair counts as a patient."""
    return known_patient(frame) or frame.file_name


def known_patient(frame: Frame) -> str | None:
    """Return the patient of a row as splits identify it; None if the row names none."""
    return fold_id(frame.patient_id or "") or frame.pair_id or None


def source_of_patient(frame: Frame) -> str:
    """Return the data set that a frame's patient is of; "" where it is unknown.

    That is `source`, and for an image that was generated for a mask the `source` of the mask.
    """
    if frame.source == GENERATED:
        return str(frame.extra.get(MASK_SOURCE) or "")
    return frame.source or ""


def find_without_patient(frames: Iterable[Frame]) -> list[Frame]:
    """Return real frames without patient_id and pair_id; generated frames have no patient."""
    return [f for f in frames if patient_of(f) == f.file_name and not f.weights]


def warn_without_patient(folder: Path, frames: Sequence[Frame]) -> None:
    """Log one line if rows have no patient_id."""
    if unnamed := find_without_patient(frames):
        logger.warning(
            "%s: %d of %d rows have no patient_id: each counts as a patient of its own, so frames "
            "of one person may be on both sides of a split; `echodiff prepare folder "
            "--patient-regex` reads patients from file names",
            folder,
            len(unnamed),
            len(frames),
        )


def choose_rows(
    folder: Path, frames: Sequence[Frame], split: str | None, *, usual: Sequence[str], flag: str
) -> list[Frame]:
    """Choose the rows of a folder that a command reads.

    split: value of `--split`, words separated by commas; None means `usual`. A folder without a
    split column is read whole. InputError naming `flag` and the folder if no row is left, if only
    some rows have a split, or if a patient is in two splits.
    """
    place = f"{flag} {folder}"
    words = [word.strip() for word in split.split(",")] if split is not None else [*usual]
    if unknown := [word for word in words if word not in SPLITS]:
        raise InputError(f"--split {split}: {unknown[0]!r} is not one of {', '.join(SPLITS)}")
    try:
        has_split = check_split_column(frames)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    if not has_split:
        if split is not None:
            raise InputError(f"--split {split}: {place} has no split column")
        return list(frames)
    chosen = [frame for frame in frames if frame.split in words]
    if not chosen:
        counts = Counter(frame.split for frame in frames)
        there = ", ".join(f"{name} {counts[name]}" for name in SPLITS if counts[name])
        raise InputError(f"{place}: no row is of split {' or '.join(words)} (there are: {there})")
    return chosen


def check_split_column(frames: Sequence[Frame]) -> bool:
    """Whether rows have a split; InputError if only some have one, or a patient is in two."""
    check_patients_apart(frames)
    without = sum(frame.split is None for frame in frames)
    if 0 < without < len(frames):
        raise InputError(f"some rows have no split ({without} of {len(frames)})")
    return without == 0


def check_patients_apart(frames: Sequence[Frame]) -> None:
    """Raise InputError if a patient has frames in two splits."""
    home: dict[str, str] = {}
    for frame in frames:
        if frame.split is None:
            continue
        if frame.split not in SPLITS:
            raise InputError(
                f"{frame.file_name}: split {frame.split!r} is not one of {', '.join(SPLITS)}"
            )
        if home.setdefault(patient_of(frame), frame.split) != frame.split:
            raise InputError(
                f"{frame.file_name}: patient {patient_of(frame)} is in {frame.split} and in "
                f"{home[patient_of(frame)]}"
            )


def split_for_training(
    frames: Mapping[str, Sequence[Frame]],
    fractions: Sequence[float],
    *,
    num_captioned: int,
    num_null: int,
    seed: int,
    strata: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Same as `split_patients` for a fine-tuning on `num_captioned` frames with text and `num_null`
    without.

    frames: frames of each patient. If the usual split leaves enough of both in train, it is used.
    Otherwise patients with text are kept in train until there are enough, and others are held out:
    as many as the fractions say, or fewer if train would lack frames without text. If all frames
    together are too few, only the captions are kept.
    """
    num_all = sum(map(len, frames.values()))
    num_null = num_null if num_all - num_captioned >= num_null else 0
    homes = split_patients(frames, fractions, seed=seed, strata=strata)
    num_text, num_train = _count_train(frames, homes)
    if num_text >= num_captioned and num_train - num_captioned >= num_null:
        return homes
    kept: list[str] = []
    left: list[str] = []
    num_text = 0
    order = np.random.default_rng(seed).permutation(len(frames))
    for name in (sorted(frames)[place] for place in order):
        num_own = sum(bool(frame.text) for frame in frames[name])
        is_kept = num_own > 0 and num_text < num_captioned
        (kept if is_kept else left).append(name)
        num_text += num_own * is_kept
    _, *held_out = _shares(len(frames), fractions)
    num_held_out = min(sum(held_out), len(left))
    while True:
        shares = [share / max(1, sum(held_out)) * num_held_out for share in held_out]
        homes = dict.fromkeys(kept, "train")
        if left:
            fit = (len(left) - num_held_out, *shares)
            homes |= split_patients(left, fit, seed=seed, strata=strata)
        missing = num_null - (_count_train(frames, homes)[1] - min(num_captioned, num_text))
        if missing <= 0 or num_held_out == 0:
            return {name: homes[name] for name in sorted(frames)}
        # No fewer patients than these have as many frames as are missing.
        num_held_out = max(0, num_held_out - -(-missing // max(map(len, frames.values()))))


def _count_train(
    frames: Mapping[str, Sequence[Frame]], homes: Mapping[str, str]
) -> tuple[int, int]:
    """Count the train frames with text, and all train frames."""
    train = [frame for name, own in frames.items() if homes[name] == "train" for frame in own]
    return sum(bool(frame.text) for frame in train), len(train)


def draw_training_frames(
    frames: Sequence[Frame], *, num_captioned: int, num_regularization: int | None, seed: int
) -> TrainingFrames:
    """Draw the captioned and regularisation frames of one fine-tuning, from train patients only.

    Frames without a `split` are split by patient first (`OWN_SHARES`). Captioned frames are drawn
    among those with text; regularisation frames among those without, then among the captioned
    ones left over (None: all of them). Patients take turns, so that no clip fills the set. If
    there are too few, all of them are used, with a warning that gives the counts.
    """
    if not check_split_column(frames):
        homes = split_patients(map(patient_of, frames), OWN_SHARES, seed=seed)
        frames = [dataclasses.replace(frame, split=homes[patient_of(frame)]) for frame in frames]
    train = [frame for frame in frames if frame.split == "train"]
    held_out = [frame for frame in frames if frame.split != "train"]
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
        warnings.warn(f"{wanted} {kind} frames requested, {available} available", stacklevel=3)


def _in_turn(frames: list[Frame], rng: np.random.Generator) -> list[Frame]:
    """Shuffle, then take one frame of every patient, a second of every patient, and so on."""
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
