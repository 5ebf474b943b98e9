"""Privacy on the page of a training: does it show its frames, and what was spent on hiding them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from echodiff.report.charts import COLOURS, Chart, draw_marked_line

MEMBERSHIP = "membership_p"
"""Name in `metrics.jsonl`."""
USUAL_LIMIT = 0.05
TITLE = "Training frames against held-out ones (p)"


def read_membership(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of `metrics.jsonl` with a test of membership."""
    return [row for row in rows if row.get(MEMBERSHIP) is not None]


def draw_membership(rows: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> Chart | None:
    """Draw the p over the steps, and where it first fell below the limit of `record`, the entry
    `membership` of run.json."""
    read = read_membership(rows)
    if len(read) < 2:
        return None
    limit = record.get("stop")
    below = next((row for row in read if limit is not None and row[MEMBERSHIP] < limit), None)
    return draw_marked_line(
        TITLE,
        [(float(row["step"]), float(row[MEMBERSHIP])) for row in read],
        baselines={} if limit is None else {f"limit {limit:g}": float(limit)},
        mark=None if below is None else (float(below["step"]), "stopped here"),
        colour=COLOURS["tuned"],
    )


def describe_membership(rows: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> str:
    """Say in one sentence whether the training frames show at the end; empty without a test."""
    read = read_membership(rows)
    if not read:
        return ""
    last, limit = read[-1], record.get("stop")
    told = (
        f"p {last[MEMBERSHIP]:.2g}, gap "
        f"{100 * last['membership_gap']:.2g} % [{100 * last['membership_gap_low']:.2g}, "
        f"{100 * last['membership_gap_high']:.2g}], {record.get('num_members', '?')} patients "
        f"against {record.get('num_others', '?')}"
    )
    if limit is not None and last[MEMBERSHIP] < limit:
        return f"Stopped at step {last['step']}: as a set, the training frames show ({told})."
    if last[MEMBERSHIP] < USUAL_LIMIT:
        return f"As a set, the training frames show ({told})."
    return f"At the last test the training frames do not stand out as a set ({told})."


def describe_guarantee(record: Mapping[str, Any]) -> str:
    """Say in one sentence what differential privacy guarantees; empty without it.

    record: the entry `differential_privacy` of run.json.
    """
    if not record:
        return ""
    if record["noise"] == "seeded":
        return (
            "Trained with the noise of differential privacy, but drawn from the public seed: it "
            "can be taken off, so nothing is guaranteed."
        )
    return (
        f"Differential privacy: for each of {record['num_patients']} patients the weights satisfy "
        f"(epsilon, delta) = ({record['epsilon']:.3g}, {record['delta']:.0e}); on the gradient of "
        f"a step the noise is {record['noise_to_signal']:.3g} times the clip."
    )
