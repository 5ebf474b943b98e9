"""The gate of an arm: equal compute with a broken baseline proves nothing.

An arm is compared if the images of every training are nearer to real frames than half of what noise
is, and obey their masks at least half as well as real frames do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy.special import stdtrit

from echodiff.metrics.limits import LEAST_OBEDIENCE

NOISE_SHARE = 0.5
"""Most MMD² of an arm, as a share of that of noise."""
TAIL = 0.025
OBEDIENCE = "obedience"


@dataclass(frozen=True)
class Gate:
    """Whether an arm is compared, and why not."""

    passed: bool
    reasons: tuple[str, ...]

    def to_record(self) -> dict[str, Any]:
        """For survey.json."""
        return asdict(self) | {"reasons": list(self.reasons)}


def check_gate(trainings: Sequence[Mapping[str, Any]], noise: float, distance: str) -> Gate:
    """Check every training by its `scores` and the reasons in `left_out`.

    noise: the `distance` of uniform noise.
    """
    reasons = []
    for number, one in enumerate(trainings):
        scores, limit = one["scores"], NOISE_SHARE * noise
        for name in (distance, OBEDIENCE):
            if name not in scores:
                why = one["left_out"].get(name, "the images have no masks that can be read")
                reasons.append(f"training {number}: {name} has no value: {why}")
        if (found := scores.get(distance)) and found["value"] >= limit:
            reasons.append(
                f"training {number}: {distance} {found['value']:.3f}, which must be below "
                f"{limit:.3f}, half of that of noise"
            )
        if (found := scores.get(OBEDIENCE)) and found["value"] < LEAST_OBEDIENCE:
            reasons.append(
                f"training {number}: obedience {found['value']:.2f}, which must be "
                f"{LEAST_OBEDIENCE} or more"
            )
    return Gate(not reasons, tuple(reasons))


def join_trainings(scores: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Mean of one score over trainings, with a 95 % interval.

    Its half width is that of a mean of trainings (Student's) and the mean half width within a
    training, as the root of the sum of squares. The latter is not divided by the number of
    trainings: they share the real frames. Of one training, the interval is that within it.
    """
    known = [one for one in scores if one is not None]
    if not known or len(known) < len(scores):
        return None
    values = [float(one["value"]) for one in known]
    mean = sum(values) / len(values)
    joined: dict[str, Any] = {
        "value": mean, "low": None, "high": None, "n": int(sum(one.get("n") or 0 for one in known)),
        "num_trainings": len(values), "values": values,
    }  # fmt: skip
    if any(one.get(end) is None for one in known for end in ("low", "high")):
        return joined
    within = [
        sum(abs(float(one[end]) - float(one["value"])) for one in known) / len(known)
        for end in ("low", "high")
    ]
    between = 0.0
    if (num := len(values)) > 1:
        variance = sum((value - mean) ** 2 for value in values) / (num - 1)
        between = float(stdtrit(num - 1, 1 - TAIL)) * (variance / num) ** 0.5
    low, high = (float((one**2 + between**2) ** 0.5) for one in within)
    return joined | {"low": mean - low, "high": mean + high}
