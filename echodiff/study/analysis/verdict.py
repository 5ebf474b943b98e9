"""One sentence that says what a study found, no more than its tests support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from echodiff.study.analysis.ratings import join

ALPHA = 0.05
CHANCE = 0.5
TOLD, TOO_REAL, SAME, UNKNOWN = "told apart", "above real", "indistinguishable", "undecided"


def judge(row: Mapping[str, Any]) -> str:
    """Classify a source by its corrected p-values.

    TOLD and TOO_REAL: the AUC differs from chance, which may be by less than the margin. SAME: no
    such difference, and equivalence within the margin is shown.
    """
    if row["p_holm"] < ALPHA:
        return TOLD if row["value"] > CHANCE else TOO_REAL
    return SAME if is_equivalent(row) else UNKNOWN


def is_equivalent(row: Mapping[str, Any]) -> bool:
    """Whether the AUC is shown to be within the margin."""
    return bool(row["equivalence"]["p_holm"] < ALPHA)


def write_verdict(rows: Sequence[Mapping[str, Any]], *, num_readers: int, num_ratings: int) -> str:
    """State the verdict on every source. rows: `main.auc` of an analysis."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(judge(row), []).append(_name(row))
    who = f"{num_readers} readers ({num_ratings} ratings)"
    done = []
    if TOLD in groups:
        done.append(f"told {join(groups[TOLD])} from real images")
    if TOO_REAL in groups:
        done.append(f"scored {join(groups[TOO_REAL])} above real images")
    if SAME in groups:
        margin = rows[0]["equivalence"]["margin"]
        done.append(f"did not distinguish {join(groups[SAME])} from real images (AUC within "
                    f"0.5 ± {margin:g})")  # fmt: skip
    unknown = groups.get(UNKNOWN, [])
    if not done and unknown:
        return f"{who} leave open whether {join(unknown)} can be told from real images."
    if unknown:
        done.append(f"left open whether {join(unknown)} can be told from real images")
    return f"{who} {join(done)}."


def write_diagnosis_verdict(found: Mapping[str, Any]) -> str:
    """State in one sentence what generated images did to diagnostic accuracy."""
    if "left_out" in found:
        return ""
    points = 100 * abs(found["value"])
    change = "rose" if found["value"] > 0 else "fell"
    if found["p"] >= ALPHA:
        change = f"did not change significantly ({'+' if found['value'] >= 0 else '-'}"
        return (f"With generated images, accuracy of {found['n']} readers {change}{points:.0f} "
                f"points, p {found['p']:.2g}).")  # fmt: skip
    return (
        f"With generated images, accuracy of {found['n']} readers {change} by {points:.0f} "
        f"points, from {100 * found['without']:.0f} to {100 * found['with']:.0f} %."
    )


def _name(row: Mapping[str, Any]) -> str:
    is_small = judge(row) in (TOLD, TOO_REAL) and is_equivalent(row)
    return f"{row['source']} (AUC {row['value']:.2f}{', within the margin' if is_small else ''})"
