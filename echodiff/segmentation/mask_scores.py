"""Faithfulness to masks: do images show the anatomy of the masks that they were generated for?

A network reads the mask of every image, and the mask that was asked for is compared with it. Dice
alone flatters: hearts are alike, so the mask of another patient fits a real frame half-way. So each
score has a ceiling, real frames and their own masks, and a floor, the same frames and the masks of
other patients. `obedience` is (Dice - floor) / (ceiling - floor): 0 at the floor, 1 at the ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from echodiff.anatomy import Label
from echodiff.metrics.limits import LEAST_OBEDIENCE
from echodiff.metrics.resampling import MIN_GROUPS, Z_95, count_groups, sample_halves
from echodiff.metrics.score import Mean, Score, by_name
from echodiff.metrics.score_name import Kind
from echodiff.segmentation.agreement import Agreement, Array
from echodiff.segmentation.label_names import name_label
from echodiff.segmentation.reader import MaskReader

CAMUS_LABELS = (Label.LV, Label.LV_MYOCARDIUM, Label.LA)
"""Labels of the mean obedience, as far as they are asked for; else all that are."""
NUM_HALVES = 400
LEAST_RANGE = 0.05
"""Distance of ceiling and floor below which a network does not tell whose mask it reads."""
_KINDS = (Kind.MASK_DICE, Kind.MASK_HD95, Kind.MASK_ASSD)
_WHOLE = ""


@dataclass(frozen=True)
class Average:
    """A mean over frames, and the same over halves of the patients (none of too few)."""

    value: float
    draws: Array

    def to_mean(self) -> Mean:
        """Its 95 % interval from the spread over halves."""
        draws = self.draws[np.isfinite(self.draws)]
        if len(draws) < NUM_HALVES // 2:
            return Mean(self.value, None, None)
        reach = Z_95 * float(np.std(draws, ddof=1))
        return Mean(self.value, self.value - reach, self.value + reach)


@dataclass(frozen=True)
class Averages:
    """Averages of one set, by label, of each column of `compute_overlap`."""

    labels: Mapping[Label, tuple[Average, Average, Average]]
    num: int
    """Frames."""

    @classmethod
    def of(cls, one: Agreement, seed: int) -> Averages:
        """Average over frames, and over halves of the patients."""
        num = NUM_HALVES if count_groups(one.groups) >= MIN_GROUPS else 0
        halves = sample_halves(one.groups, num, np.random.default_rng(seed))
        labels = {}
        for place, label in enumerate(one.labels):
            first, second, third = (_average(column, halves) for column in one.values[:, place].T)
            labels[label] = first, second, third
        return cls(labels, len(one.values))


def score_masks(
    generated: Agreement,
    reader: MaskReader,
    *,
    ceiling: Agreement | None,
    floor: Agreement | None,
    seed: int,
) -> tuple[dict[str, Score], dict[str, str], list[str]]:
    """`mask_dice_<label>`, `mask_hd95_<label>`, `mask_assd_<label>`, `obedience` and
    `obedience_<label>`; reasons for what is left out; alarms.

    ceiling, floor: reference frames and their own masks, and those of other patients; both None
    where the reference has no masks of two patients.
    """
    if not generated.labels:
        return {}, {str(Kind.MASK_DICE): f"{reader.name} reads none of the labels asked for"}, []
    own = Averages.of(generated, seed)
    real, other = (None if one is None else Averages.of(one, seed) for one in (ceiling, floor))
    scores = []
    for place, label in enumerate(generated.labels):
        num_missed = int((generated.values[:, place, 0] == 0).sum())
        for column, kind in enumerate(_KINDS):
            values = generated.values[:, place, column]
            above, below = (
                one.labels[label][column].to_mean() if one and label in one.labels else None
                for one in (real, other)
            )
            scores.append(Score.of_masks(
                kind, name_label(label), own.labels[label][column].to_mean(),
                (int(np.isfinite(values).sum()), real.num if real else 0), reader,
                ceiling=above, floor=below, unit=generated.unit if column else None,
                num_missed=num_missed,
                values=[round(v, 4) if np.isfinite(v) else None for v in values.tolist()],
            ))  # fmt: skip
    found, left_out, alarms = _score_obedience(own, real, other, reader)
    return by_name([*scores, *found]), left_out, alarms


def _score_obedience(
    own: Averages, real: Averages | None, other: Averages | None, reader: MaskReader
) -> tuple[list[Score], dict[str, str], list[str]]:
    """Obedience of every label, and their mean."""
    known = [label for label in own.labels
             if real and other and label in real.labels and label in other.labels]  # fmt: skip
    if not known or real is None or other is None:
        reason = "the reference has no masks of two patients, so no ceiling and no floor"
        return [], {str(Kind.OBEDIENCE): reason}, []
    parts = {label: tuple(one.labels[label][0] for one in (own, real, other)) for label in known}
    unclear = [label for label, (_, above, below) in parts.items()
               if above.value - below.value < LEAST_RANGE]  # fmt: skip
    reason = f"{reader.name} does not tell whose mask it reads in frames of the reference"
    left_out = {f"{Kind.OBEDIENCE}_{name_label(label)}": reason for label in unclear}
    of = [label for label in CAMUS_LABELS if label in parts] or known
    groups = {name_label(label): [label] for label in known if label not in unclear}
    if set(of) & set(unclear):
        left_out[str(Kind.OBEDIENCE)] = reason
    else:
        groups = {_WHOLE: of, **groups}
    scores = []
    for name, labels in groups.items():
        share = _join([_divide(*parts[label]) for label in labels])
        above, below = (
            _join([parts[label][place] for label in labels]).to_mean() for place in (1, 2)
        )
        scores.append(Score.of_masks(
            Kind.OBEDIENCE, name, share.to_mean(), (own.num, real.num), reader, ceiling=above,
            floor=below, unit=None, num_missed=None, values=None,
        ))  # fmt: skip
    return scores, left_out, [alarm for alarm in map(_find_alarm, scores) if alarm]


def _find_alarm(score: Score) -> str | None:
    if score.name.label or score.value >= LEAST_OBEDIENCE:
        return None
    return (
        f"masks are not obeyed, and are no labels of these images: obedience {score.value:.2f} "
        "(0: as masks of other patients, 1: as real frames)"
    )


def _divide(dice: Average, above: Average, below: Average) -> Average:
    """(Dice - floor) / (ceiling - floor)."""
    value = (dice.value - below.value) / (above.value - below.value)
    if not (len(dice.draws) and len(above.draws)):
        return Average(value, np.array([]))
    return Average(value, (dice.draws - below.draws) / (above.draws - below.draws))


def _join(parts: Sequence[Average]) -> Average:
    """Mean over labels."""
    return Average(
        float(np.mean([one.value for one in parts])),
        np.mean([one.draws for one in parts], axis=0),
    )


def _average(values: Array, halves: Array) -> Average:
    is_known = np.isfinite(values)
    weights = halves[:, is_known]
    sums = weights.sum(axis=1)
    means = np.full(len(sums), np.nan)
    np.divide(weights @ values[is_known], sums, out=means, where=sums > 0)
    return Average(float(values[is_known].mean()), means)
