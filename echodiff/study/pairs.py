"""Cases of a paired study: real frames with a known diagnosis, and the generated image of each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from echodiff.errors import InputError
from echodiff.study.candidates import Candidate, SourceFrames, name_stem
from echodiff.study.pools import Seen, list_sound

NORMAL = "normal"


class Pair(NamedTuple):
    """One case."""

    real: Candidate
    companion: Candidate
    truth: str
    is_practice: bool


def draw_pairs(
    real: SourceFrames,
    generated: SourceFrames,
    *,
    column: str,
    cases: int,
    practice: int,
    generator: np.random.Generator,
) -> tuple[list[Pair], tuple[str, ...], dict[str, Any]]:
    """Draw `cases` cases and `practice` practice cases, each of another patient.

    A generated frame belongs to the real one with the same pair_id, or with the same patient and
    file name. Diagnoses are drawn in turn, so that they are as even as the frames allow. Returns
    the pairs, the diagnoses (normal first) and what was left out. InputError if there are too few,
    or fewer than two diagnoses.
    """
    companions = {_pair_key(one): one for one in generated.candidates}
    removed: Counter[str] = Counter()
    by_truth: dict[str, list[Candidate]] = {}
    sound = list_sound(real, generated.trainings, Seen(), generator, removed)
    for one in sound:
        truth = read_truth(one, column)
        if _pair_key(one) not in companions:
            removed["without a generated image"] += 1
        elif truth is None:
            removed["without one known diagnosis"] += 1
        else:
            by_truth.setdefault(truth, []).append(one)
    diagnoses = tuple(sorted(by_truth, key=lambda name: (name != NORMAL, name)))
    if len(diagnoses) < 2:
        raise InputError(
            f"--truth {column}: a paired study needs frames of two diagnoses or more; "
            f"found {', '.join(diagnoses) or 'none'}"
        )
    chosen = _choose([by_truth[name] for name in diagnoses], cases + practice)
    if len(chosen) < cases + practice:
        told = ", ".join(f"{n} {why}" for why, n in removed.items()) or "none"
        raise InputError(
            f"--images {cases}: {len(chosen)} cases of different patients, "
            f"{practice} of them for practice; left out: {told}"
        )
    pairs = [
        Pair(
            one,
            replace(companions[_pair_key(one)], patient=one.patient),  # one heart, two names
            str(read_truth(one, column)),
            place < practice,
        )
        for place, one in enumerate(chosen)
    ]
    counts = Counter(pair.truth for pair in pairs if not pair.is_practice)
    notes = {"cases": dict(counts), "left_out": {real.name: dict(removed)}}
    return pairs, diagnoses, notes


def read_truth(candidate: Candidate, column: str) -> str | None:
    """The one diagnosis of a frame: `normal` for an empty list of findings; None if it is unknown
    or if there are several."""
    row = candidate.frame.to_row()
    value = row.get(column)
    if isinstance(value, list):
        return NORMAL if not value else str(value[0]).lower() if len(value) == 1 else None
    return None if value in (None, "") else str(value).lower()


def _pair_key(one: Candidate) -> str:
    return one.frame.pair_id or f"{one.patient} {name_stem(one.frame)}"


def _choose(groups: Sequence[Sequence[Candidate]], count: int) -> list[Candidate]:
    """Frames of each group in turn, all of different patients."""
    streams, taken = [iter(group) for group in groups], set[str]()
    chosen: list[Candidate] = []
    while streams and len(chosen) < count:
        for stream in list(streams):
            one = next((one for one in stream if one.patient not in taken), None)
            if one is None:
                streams.remove(stream)
            elif len(chosen) < count:
                taken.add(one.patient)
                chosen.append(one)
    return chosen
