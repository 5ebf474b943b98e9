"""Prompt faithfulness: does a frame show the finding its prompt names?

For each finding, the share of frames whose prompt names it in which the classifier finds it; their
mean over the findings named is the score. Specificity is the mirror: of the frames whose prompt
does not name it, the share in which it is not found. A classifier errs, so both are read beside
the same shares on real frames, where the caption is true.

Intervals: Wilson's for one share, Newcombe's (1998, method 10) for a difference, and for a mean of
shares the same square-and-add of distances to the Wilson limits (Zou and Donner 2008).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot, sqrt

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Finding
from echodiff.metrics.resampling import Z_95
from echodiff.metrics.scores import Network, Score


@dataclass(frozen=True)
class Estimate:
    """A share, a mean of shares, or a difference of two, with its 95 % interval."""

    value: float
    low: float
    high: float
    num: int
    """Frames behind it; of a difference, those of both sets."""


@dataclass(frozen=True)
class Faithfulness:
    """What the classifier says of one set of frames and their captions."""

    found: Mapping[Finding, Estimate]
    """Of the frames whose caption names the finding, the share in which it is found."""
    absent: Mapping[Finding, Estimate]
    """Of the frames whose caption does not, the share in which it is not found."""

    def average_found(self, findings: Iterable[Finding] | None = None) -> Estimate | None:
        """Mean over the given findings, or over all that are named; None where none is named."""
        wanted = self.found if findings is None else findings
        return _average([self.found[f] for f in wanted if f in self.found])

    def average_absent(self, findings: Iterable[Finding] | None = None) -> Estimate | None:
        """Mean specificity over the given findings, or over all."""
        wanted = self.absent if findings is None else findings
        return _average([self.absent[f] for f in wanted if f in self.absent])


def compute_faithfulness(
    probabilities: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    named: Sequence[frozenset[Finding] | None],
) -> Faithfulness:
    """Compare classifier probabilities (N, F), columns as in `Finding`, with what captions name.

    thresholds: (F,) probability from which a finding counts as found.
    named: findings of each frame's caption; None where the frame has no caption to hold it to.
    """
    detected = probabilities >= np.asarray(thresholds)[None, :]
    is_told = np.array([findings is not None for findings in named], dtype=bool)
    found, absent = {}, {}
    for column, finding in enumerate(Finding):
        is_named = np.array([finding in (findings or ()) for findings in named], dtype=bool)
        positive, negative = detected[is_named, column], detected[is_told & ~is_named, column]
        if len(positive):
            found[finding] = compute_share(int(positive.sum()), len(positive))
        if len(negative):
            absent[finding] = compute_share(int((~negative).sum()), len(negative))
    return Faithfulness(found, absent)


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


def _average(shares: Sequence[Estimate]) -> Estimate | None:
    if not shares:
        return None
    num = len(shares)
    value = sum(share.value for share in shares) / num
    return Estimate(
        value,
        value - hypot(*(share.value - share.low for share in shares)) / num,
        value + hypot(*(share.high - share.value for share in shares)) / num,
        sum(share.num for share in shares),
    )


def score_faithfulness(
    generated: Faithfulness, reference: Faithfulness, network: Network
) -> dict[str, Score]:
    """`faithfulness` and `specificity`, whole and by finding, beside the same of real frames.

    `real` is what the classifier gets right where the caption is true: the most to hope for.
    """
    named = list(generated.found)
    pairs = {
        "faithfulness": (generated.average_found(), reference.average_found(named)),
        "specificity": (generated.average_absent(), reference.average_absent()),
    }
    pairs |= {f"faithfulness_{f}": (generated.found[f], reference.found.get(f)) for f in named}
    pairs |= {
        f"specificity_{f}": (generated.absent[f], reference.absent.get(f)) for f in generated.absent
    }
    return {
        name: _record(estimate, network) | {
            "n_reference": real.num if real else 0,
            "real": real.value if real else None,
            "real_low": real.low if real else None,
            "real_high": real.high if real else None,
        }
        for name, (estimate, real) in pairs.items() if estimate is not None
    }  # fmt: skip


def compare_faithfulness(
    first: Faithfulness, second: Faithfulness, network: Network
) -> dict[str, Score]:
    """Second minus first: `faithfulness_gain`, `specificity_gain`, `faithfulness_gain_<finding>`,
    over the findings that both sets can be held to."""
    named = [finding for finding in second.found if finding in first.found]
    absent = [finding for finding in second.absent if finding in first.absent]
    pairs: dict[str, tuple[Estimate | None, Estimate | None]] = {}
    if named:
        pairs["faithfulness_gain"] = (second.average_found(named), first.average_found(named))
    if absent:
        pairs["specificity_gain"] = (second.average_absent(absent), first.average_absent(absent))
    pairs |= {f"faithfulness_gain_{f}": (second.found[f], first.found[f]) for f in named}
    return {
        name: _record(compute_difference(now, then), network)
        | {"first": then.value, "second": now.value, "n_first": then.num, "n": now.num}
        for name, (now, then) in pairs.items() if now is not None and then is not None
    }  # fmt: skip


def _record(estimate: Estimate, network: Network) -> Score:
    return {
        "value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.num,
        "features": network.name, "features_sha256": network.sha256, "resize": network.resize,
        "scale": 1,
    }  # fmt: skip
