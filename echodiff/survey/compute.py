"""Equal compute: the floating point operations of a step are counted, and set the steps of an arm.

Operations are those of all convolutions and matrix products, forward and backward, of all networks
that an arm trains. They are the same on every machine, so the numbers of steps are too; seconds are
measured beside them.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from echodiff.documents import read_record
from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.survey.survey_config import DECODER

PLAN_FILE = "plan.json"
TIMED_STEPS = 2
"""Steps whose mean time is taken, after one that is not timed."""


LEAST_DECODER_STEPS = 100


class Stepping(Protocol):
    """Takes steps, as every trainer does."""

    def run(self, step: int) -> Tensor: ...


@dataclass(frozen=True)
class StepCost:
    """What one optimizer step of an arm costs."""

    flops: int
    """Floating point operations, a multiplication and an addition being two."""
    seconds: float
    """On this machine."""
    num_parameters: int
    """Of the generator."""
    num_trained: int
    """Of all networks that are trained, a discriminator included."""


@dataclass(frozen=True)
class ArmPlan:
    """How long an arm is trained."""

    cost: StepCost
    num_steps: int
    decoder_flops: int = 0
    """Of the decoder that the arm draws with, fitted once for all such arms."""

    @property
    def flops(self) -> int:
        """Of the whole training, its decoder included."""
        return self.cost.flops * self.num_steps + self.decoder_flops

    @property
    def seconds(self) -> float:
        """Of the whole training, estimated."""
        return self.cost.seconds * self.num_steps


def measure_step(trainer: Stepping, num_parameters: int, num_trained: int) -> StepCost:
    """Count and time a step; the trainer is of no use afterwards."""
    with FlopCounterMode(display=False) as counter:
        trainer.run(0)
    start = time.perf_counter()
    for step in range(1, 1 + TIMED_STEPS):
        trainer.run(step).tolist()  # waits for a GPU
    seconds = (time.perf_counter() - start) / TIMED_STEPS
    return StepCost(int(counter.get_total_flops()), seconds, num_parameters, num_trained)


def plan_steps(
    costs: Mapping[str, StepCost],
    reference: StepCost,
    steps: int,
    *,
    by_decoder: Collection[str] = (),
    share: float = 0.0,
) -> dict[str, ArmPlan]:
    """Give every arm the operations of `steps` steps of `reference`, to the nearest step.

    Of those of arms `by_decoder` the decoder has `share`, if it is among the costs and that pays
    for `LEAST_DECODER_STEPS`: in fewer it is hardly fitted.
    """
    budget, shared = reference.flops * steps, 0
    plan = dict[str, ArmPlan]()
    if (cost := costs.get(DECODER)) is not None:
        num_steps = round(share * budget / cost.flops)
        if num_steps >= LEAST_DECODER_STEPS:
            plan[DECODER] = ArmPlan(cost, num_steps)
            shared = plan[DECODER].flops
    for arm, cost in costs.items():
        if arm != DECODER:
            before = shared if arm in by_decoder else 0
            plan[arm] = ArmPlan(cost, max(1, round((budget - before) / cost.flops)), before)
    return plan


def save_plan(folder: Path, plan: Mapping[str, ArmPlan]) -> None:
    """Write `plan.json`: a resumed comparison keeps its numbers of steps."""
    write_json_atomic(folder / PLAN_FILE, {
        arm: asdict(one.cost) | {"num_steps": one.num_steps, "decoder_flops": one.decoder_flops}
        for arm, one in plan.items()
    })  # fmt: skip


def load_plan(folder: Path) -> dict[str, ArmPlan] | None:
    """Read `plan.json`; None where there is none."""
    if not (folder / PLAN_FILE).is_file():
        return None
    record: dict[str, Any] = read_record(folder / PLAN_FILE, {})
    names = [field.name for field in fields(StepCost)]
    try:
        return {
            arm: ArmPlan(StepCost(**{name: one[name] for name in names}), one["num_steps"],
                         one["decoder_flops"])
            for arm, one in record.items()
        }  # fmt: skip
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / PLAN_FILE}: lacks {error}; delete it to plan anew") from error
