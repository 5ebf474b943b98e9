"""What the place of an image in its sequence tells."""

from collections.abc import Mapping, Sequence

from echodiff.study.audit.detection import Evidence, Value
from echodiff.study.plan import PlannedTask, StudyPlan

_PERIODS = (2, 3, 4, 5, 6, 8)


def gather_order(plan: StudyPlan, labels: Mapping[str, str]) -> Evidence:
    """One row per task of all sequences: its place, and the sources before it.

    labels: source (or true finding) of each image token. Sequences of one balanced set are in one
    fold: in a set each source stands at each place once, so that three tell the fourth.
    """
    num_labels = len({*labels.values()})
    rows: list[dict[str, Value]] = []
    told: list[str] = []
    sets: list[int] = []
    for number, sequence in enumerate(plan.sequences):
        rated = [task for task in sequence if is_rated(task, labels)]
        names = [labels[task.image_token] for task in rated]
        for place, name in enumerate(names):
            rows.append(_describe(place, names[:place], {*names}))
            told.append(name)
            sets.append(number // num_labels if len(plan.sequences) >= 2 * num_labels else number)
    return Evidence("order", rows, told, sets, clusters=range(len(rows)))


def is_rated(task: PlannedTask, labels: Mapping[str, str]) -> bool:
    """Whether a task counts: not practice, and its image has a label."""
    return task.kind != "practice" and task.image_token in labels


def _describe(place: int, before: Sequence[str], names: set[str]) -> dict[str, Value]:
    row: dict[str, Value] = {"place": float(place)}
    for period in _PERIODS:
        row[f"place modulo {period}"] = float(place % period)
    row["previous"] = before[-1] if before else ""
    row["previous two"] = " ".join(before[-2:]) if len(before) > 1 else ""
    last = set(before[-(len(names) - 1) :])
    remaining = names - last
    row["remaining one"] = min(remaining) if len(remaining) == 1 else ""
    return row
