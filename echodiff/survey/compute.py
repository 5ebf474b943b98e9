"""Equal compute: the floating point operations of a step are counted, and set the steps of an arm.

Operations are those of all convolutions and matrix products, forward and backward, of all networks
that an arm trains. They are the same on every machine, so the numbers of steps are too; seconds are
measured beside them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from echodiff.documents import read_record
from echodiff.files import write_json_atomic

PLAN_FILE = "plan.json"
TIMED_STEPS = 2
"""Steps whose mean time is taken, after one that is not timed."""


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

    @property
    def flops(self) -> int:
        """Of the whole training."""
        return self.cost.flops * self.num_steps

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
    costs: Mapping[str, StepCost], reference: StepCost, steps: int
) -> dict[str, ArmPlan]:
    """Give every arm the operations of `steps` steps of `reference`, to the nearest step."""
    budget = reference.flops * steps
    return {arm: ArmPlan(cost, max(1, round(budget / cost.flops))) for arm, cost in costs.items()}


def save_plan(folder: Path, plan: Mapping[str, ArmPlan]) -> None:
    """Write `plan.json`: a resumed comparison keeps its numbers of steps."""
    write_json_atomic(folder / PLAN_FILE, {
        arm: asdict(one.cost) | {"num_steps": one.num_steps} for arm, one in plan.items()
    })  # fmt: skip


def load_plan(folder: Path) -> dict[str, ArmPlan] | None:
    """Read `plan.json`; None where there is none."""
    if not (folder / PLAN_FILE).is_file():
        return None
    record: dict[str, Any] = read_record(folder / PLAN_FILE, {})
    return {
        arm: ArmPlan(StepCost(**{k: v for k, v in one.items() if k != "num_steps"}),
                     one["num_steps"])
        for arm, one in record.items()
    }  # fmt: skip
