"""Assign patients to splits, and draw the training frames of --annotated."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from echodiff.data.prepare_config import OFFICIAL, PrepareConfig
from echodiff.data.records import Case
from echodiff.data.splits import (
    NULL_PER_CAPTIONED,
    draw_training_frames,
    fold_id,
    parse_fractions,
    split_for_training,
    split_patients,
)
from echodiff.errors import InputError
from echodiff.frames.rows import Frame


def assign_splits(config: PrepareConfig, cases: Sequence[Case]) -> dict[str, str]:
    """Return the split of every patient, balanced over vendor and diagnosis if known."""
    if config.split != OFFICIAL:
        strata = find_strata(cases)
        return split_patients(
            strata, parse_fractions(config.split), seed=config.seed, strata=strata
        )
    homes: dict[str, str] = {}
    for case in cases:
        if case.split is None:
            raise InputError(f"--split official: {case.path} has no split of its own")
        if homes.setdefault(person_of(case), case.split) != case.split:
            raise InputError(
                f"--split official: {case.path}: its patient is in two official splits"
            )
    return homes


def split_again(config: PrepareConfig, rows: Sequence[tuple[Case, Frame]]) -> dict[str, str]:
    """Split again for --annotated, once it is known which patients have captions; an official split
    is kept."""
    if config.split == OFFICIAL:
        return {}
    assert config.annotated is not None
    frames: dict[str, list[Frame]] = {}
    for case, row in rows:
        frames.setdefault(person_of(case), []).append(row)
    num_null = config.regularization
    if num_null is None:
        num_null = NULL_PER_CAPTIONED * config.annotated
    strata = find_strata([case for case, _ in rows])
    return split_for_training(
        frames,
        parse_fractions(config.split),
        num_captioned=config.annotated,
        num_null=num_null,
        seed=config.seed,
        strata=strata,
    )


def person_of(case: Case) -> str:
    """Return the key by which splits keep patients together; `P1` and `p1` are the same."""
    return fold_id(case.person)


def find_strata(cases: Sequence[Case]) -> dict[str, str]:
    """Return scanner vendor and diagnosis of every patient."""
    return {
        person_of(case): sys.intern(f"{case.vendor} {case.facts.get('pathology')}")
        for case in cases
    }


def draw_texts(config: PrepareConfig, frames: Sequence[Frame]) -> dict[str, str]:
    """Draw the training frames of --annotated, and return the text of every frame that is kept.

    Some train frames keep their caption, others get the empty prompt, the rest are dropped.
    """
    assert config.annotated is not None
    drawn = draw_training_frames(
        frames,
        num_captioned=config.annotated,
        num_regularization=config.regularization,
        seed=config.seed,
    )
    kept = [*drawn.captioned, *drawn.regularization, *drawn.held_out]
    return {frame.file_name: frame.text for frame in kept}


def describe_draw(
    homes: Mapping[str, str], counts: Mapping[tuple[str, str], int], captioned: Counter[str]
) -> str:
    """Describe the result of --annotated: the training frames, and the patients held out.

    homes: split by patient. counts: frames by ("split", name). captioned: of these, by split.
    """
    num = captioned["train"]
    patients = Counter(homes.values())
    line = (
        f"--annotated: train has {num} captioned and {counts['split', 'train'] - num} null-text "
        f"frames; held out are {patients['val']} patients in val and {patients['test']} in test, "
        f"{captioned.total() - num} of their frames captioned"
    )
    if patients.keys() == {"train"}:
        line += (
            ": no patient is left for scores; add frames of further patients, or lower "
            "--regularization"
        )
    return line
