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

    TOLD and TOO_REAL: the AUC differs from chance. SAME: equivalence within the margin is shown.
    SAME takes precedence: a difference may be significant, and yet within the margin.
    """
    if row["equivalence"]["p_holm"] < ALPHA:
        return SAME
    if row["p_holm"] < ALPHA:
        return TOLD if row["value"] > CHANCE else TOO_REAL
    return UNKNOWN


def write_verdict(rows: Sequence[Mapping[str, Any]], *, num_readers: int, num_ratings: int) -> str:
    """State the verdict on every source. rows: `main.auc` of an analysis."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(judge(row), []).append(_name(row))
    margin = rows[0]["equivalence"]["margin"] if rows else 0.0
    parts = []
    if TOLD in groups:
        parts.append(f"told {join(groups[TOLD])} from real images")
    if TOO_REAL in groups:
        parts.append(f"scored {join(groups[TOO_REAL])} above real images")
    if SAME in groups:
        parts.append(f"did not distinguish {join(groups[SAME])} from real images "
                     f"(within ±{margin:g} of an AUC of 0.5)")  # fmt: skip
    if UNKNOWN in groups:
        verb = "are" if len(groups[UNKNOWN]) > 1 else "is"
        parts.append(f"leave open whether {join(groups[UNKNOWN])} {verb} distinguishable")
    return f"{num_readers} readers ({num_ratings} ratings) {'; they '.join(parts)}."


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['source']} (AUC {row['value']:.2f})"
