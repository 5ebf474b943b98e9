"""Sequences of a paired study: every case with and without the generated image next to it (P4)."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from echodiff.study.orders import draw_order
from echodiff.study.plan import Condition, PlannedTask

CONDITIONS: tuple[Condition, Condition] = ("without", "with")
Sittings = Literal["crossover", "two"]


class Case(NamedTuple):
    """A real image and the generated image of the same heart."""

    token: str
    companion: str


def lay_out_paired(
    cases: Sequence[Case],
    practice: Sequence[Case],
    sittings: Sittings,
    num_sequences: int,
    generator: np.random.Generator,
) -> list[list[PlannedTask]]:
    """Two sittings a sequence; each shows every case once, and the second in the other condition.

    Sequences come in pairs, the second of which has every condition reversed. crossover: in each
    sitting half of the cases are shown with the generated image, half without, in an order without
    long runs; two: a whole sitting has one condition.
    """
    sequences: list[list[PlannedTask]] = []
    while len(sequences) < num_sequences:
        with_first = _draw_conditions(len(cases), sittings, generator)
        orders = [_draw_case_order(with_first ^ (sitting == 1), sittings, generator)
                  for sitting in range(2)]  # fmt: skip
        for is_reversed in (False, True):
            tasks = [
                _task(case, "practice", CONDITIONS[(place + is_reversed) % 2], 1)
                for place, case in enumerate(practice)
            ]
            for sitting, order in enumerate(orders):
                for place in order.tolist():
                    is_with = bool(with_first[place]) ^ (sitting == 1) ^ is_reversed
                    condition = CONDITIONS[is_with]
                    tasks.append(_task(cases[place], "shared", condition, sitting + 1))
            sequences.append(tasks)
    return sequences[:num_sequences]


def _draw_conditions(
    num_cases: int, sittings: Sittings, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """(num_cases,) whether a case is shown with its companion in the first sitting."""
    if sittings == "two":
        return np.zeros(num_cases, dtype=bool)
    return np.asarray(generator.permutation(num_cases) % 2 == 1)


def _draw_case_order(
    is_with: NDArray[np.bool_], sittings: Sittings, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Order of the cases in one sitting; conditions alternate at random, without long runs."""
    if sittings == "two" or len(is_with) < 4:
        return generator.permutation(len(is_with))
    left = [list(generator.permutation(np.flatnonzero(is_with == which))) for which in (0, 1)]
    half = min(map(len, left))
    conditions = draw_order(2, half, generator).tolist()
    order = [left[which].pop() for which in conditions]
    return np.array([*order, *left[0], *left[1]])  # an odd case comes last


def _task(
    case: Case, kind: Literal["practice", "shared"], condition: Condition, sitting: int
) -> PlannedTask:
    return PlannedTask(
        image_token=case.token,
        kind=kind,
        condition=condition,
        companion_token=case.companion if condition == "with" else None,
        sitting=sitting,
    )
