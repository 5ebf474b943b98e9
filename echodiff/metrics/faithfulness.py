"""Prompt faithfulness: does a frame show the finding its prompt names?

For each finding, the share of frames whose prompt states it in which the classifier finds it; their
mean over the findings stated is the score. Specificity is the converse: of the frames whose prompt
denies it, the share in which it is not found. A prompt that leaves a finding open counts for
neither. A classifier errs, so both are read next to the same shares on real frames, where the
caption is true.

Intervals: Wilson's for one share, Newcombe's (1998, method 10) for a difference, and for a mean of
shares the same square-and-add of distances to the Wilson limits (Zou and Donner 2008), with a
term for every two findings that are read off the same frames.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot, sqrt

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Finding
from echodiff.captions.findings import Presence
from echodiff.metrics.resampling import Z_95
from echodiff.metrics.score import Network, Score, by_name
from echodiff.metrics.score_name import Kind


@dataclass(frozen=True)
class Estimate:
    """A share, a mean of shares, or a difference of two, with its 95 % interval."""

    value: float
    low: float
    high: float
    num: int
    """Frames behind it, each counted once; of a difference, those of both sets."""


@dataclass(frozen=True)
class Faithfulness:
    """Findings of the classifier in one set of frames, and in their captions."""

    found: Mapping[Finding, Estimate]
    """Of the frames whose caption states the finding, the share in which it is found."""
    absent: Mapping[Finding, Estimate]
    """Of the frames whose caption denies it, the share in which it is not found."""
    known: Sequence[Finding]
    """Findings that the classifier knows."""
    unknown: Sequence[Finding]
    """Findings that captions state and the classifier does not know."""
    is_named: NDArray[np.bool_]
    """(N, F) whether the frame's caption states the finding, columns as in `known`."""
    is_denied: NDArray[np.bool_]
    """(N, F) whether the frame's caption denies it; neither where it is unknown."""
    is_detected: NDArray[np.bool_]
    """(N, F) whether the classifier finds it."""

    def average_found(self, findings: Iterable[Finding] | None = None) -> Estimate | None:
        """Mean over the given findings, or over all that are named; None where none is named."""
        wanted = [f for f in (self.found if findings is None else findings) if f in self.found]
        return _average(self.found, wanted, self.known, self.is_named, self.is_detected)

    def average_absent(self, findings: Iterable[Finding] | None = None) -> Estimate | None:
        """Mean specificity over the given findings, or over all."""
        wanted = [f for f in (self.absent if findings is None else findings) if f in self.absent]
        return _average(self.absent, wanted, self.known, self.is_denied, ~self.is_detected)


def compute_faithfulness(
    probabilities: NDArray[np.float64],
    thresholds: Mapping[Finding, float],
    stated: Sequence[Mapping[Finding, Presence]],
) -> Faithfulness:
    """Compare classifier probabilities (N, F) with what captions state.

    thresholds: probability from which each finding counts as found, in the order of the columns;
    the classifier knows no others, and none is scored.
    stated: what each frame's caption says of the findings; one that is missing is unknown.
    """
    known = tuple(thresholds)
    is_detected = probabilities >= np.array([*thresholds.values()], np.float64)
    rows = [[said.get(finding, Presence.UNKNOWN) for finding in known] for said in stated]
    table = np.array(rows, dtype=object).reshape(len(stated), len(known))
    is_named, is_denied = table == Presence.PRESENT, table == Presence.ABSENT
    found, absent = {}, {}
    for column, finding in enumerate(known):
        positive = is_detected[is_named[:, column], column]
        negative = is_detected[is_denied[:, column], column]
        if len(positive):
            found[finding] = compute_share(int(positive.sum()), len(positive))
        if len(negative):
            absent[finding] = compute_share(int((~negative).sum()), len(negative))
    named = {finding for said in stated for finding in said if said[finding] == Presence.PRESENT}
    unknown = [finding for finding in Finding if finding in named - {*known}]
    return Faithfulness(found, absent, known, unknown, is_named, is_denied, is_detected)


def compute_share(hits: int, num: int) -> Estimate:
    """Share of `hits` in `num` >= 1 with Wilson's 95 % interval."""
    share, z2 = hits / num, Z_95**2
    centre = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = Z_95 / (1 + z2 / num) * sqrt(share * (1 - share) / num + z2 / (4 * num**2))
    return Estimate(
        share, min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share), num
    )


def compute_difference(first: Estimate, second: Estimate) -> Estimate:
    """first - second of two independent sets, Newcombe's interval."""
    value = first.value - second.value
    return Estimate(
        value,
        value - hypot(first.value - first.low, second.high - second.value),
        value + hypot(first.high - first.value, second.value - second.low),
        first.num + second.num,
    )


def _average(
    shares: Mapping[Finding, Estimate],
    wanted: Sequence[Finding],
    known: Sequence[Finding],
    is_asked: NDArray[np.bool_],
    is_right: NDArray[np.bool_],
) -> Estimate | None:
    """Mean of the wanted shares, with Zou and Donner's interval for estimates that go together.

    known: findings of the columns. is_asked: (N, F) frames behind each share. is_right: (N, F)
    whether the frame counts for it.
    """
    if not wanted:
        return None
    columns = [known.index(finding) for finding in wanted]
    value = float(np.mean([shares[f].value for f in wanted]))
    below = np.array([shares[f].value - shares[f].low for f in wanted])
    above = np.array([shares[f].high - shares[f].value for f in wanted])
    together = _correlate_shares(is_asked[:, columns], is_right[:, columns])
    return Estimate(
        value,
        value - sqrt(below @ together @ below) / len(wanted),
        value + sqrt(above @ together @ above) / len(wanted),
        int(is_asked[:, columns].any(axis=1).sum()),
    )


def _correlate_shares(
    is_asked: NDArray[np.bool_], is_right: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Correlation (F, F) of shares that are counted over overlapping frames; 0 over disjoint ones.

    Doubt widens the interval: a share of 0 or 1 has no spread to correlate and is taken to go with
    the others as far as their frames are the same, and a negative correlation counts as none.
    """
    named = is_asked.astype(np.float64)
    num = named.sum(axis=0)
    residuals = np.where(is_asked, is_right - (named * is_right).sum(axis=0) / num, 0.0)
    spread = np.sqrt((residuals**2).sum(axis=0))
    has_spread = np.outer(spread > 0, spread > 0)
    overlap = named.T @ named / np.sqrt(np.outer(num, num))
    correlation = residuals.T @ residuals / np.where(has_spread, np.outer(spread, spread), 1.0)
    return np.where(has_spread, correlation.clip(min=0.0), overlap)


def score_faithfulness(
    generated: Faithfulness, reference: Faithfulness, network: Network
) -> dict[str, Score]:
    """`faithfulness` and `specificity`, whole and by finding, next to the same of real frames.

    `real` is what the classifier gets right where the caption is true: the most to hope for.
    """
    named = list(generated.found)
    whole = (
        (Kind.FAITHFULNESS, generated.average_found(), reference.average_found(named)),
        (Kind.SPECIFICITY, generated.average_absent(), reference.average_absent()),
    )
    scores = [
        Score.of_classifier(kind, "", share, network, real)
        for kind, share, real in whole
        if share is not None
    ]
    for kind, shares, of_real in (
        (Kind.FAITHFULNESS, generated.found, reference.found),
        (Kind.SPECIFICITY, generated.absent, reference.absent),
    ):
        scores += [
            Score.of_classifier(kind, finding, share, network, of_real.get(finding))
            for finding, share in shares.items()
        ]
    return by_name(scores)


def compare_faithfulness(
    first: Faithfulness, second: Faithfulness, network: Network
) -> dict[str, Score]:
    """Second minus first: `faithfulness_gain`, `specificity_gain`, `faithfulness_gain_<finding>`,
    over the findings that both sets can be held to."""
    named = [finding for finding in second.found if finding in first.found]
    absent = [finding for finding in second.absent if finding in first.absent]
    pairs: list[tuple[Kind, str, Estimate | None, Estimate | None]] = []
    if named:
        means = second.average_found(named), first.average_found(named)
        pairs.append((Kind.FAITHFULNESS_GAIN, "", *means))
    if absent:
        means = second.average_absent(absent), first.average_absent(absent)
        pairs.append((Kind.SPECIFICITY_GAIN, "", *means))
    pairs += [(Kind.FAITHFULNESS_GAIN, f, second.found[f], first.found[f]) for f in named]
    return by_name([
        Score.of_gain(kind, finding, compute_difference(now, then), network, then, now)
        for kind, finding, now, then in pairs if now is not None and then is not None
    ])  # fmt: skip
