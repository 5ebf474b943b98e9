"""The scores at the top of a card: of the weights, of the base alone, and of reference frames."""

from __future__ import annotations

from dataclasses import dataclass

from echodiff.hub.source import Generated
from echodiff.metrics.score import read_scores
from echodiff.report.cards import choose_scores, format_short, label_score, reference_value

NUM_KEY_SCORES = 3
"""All other scores follow further down."""


@dataclass(frozen=True)
class KeyScore:
    """One score, rounded; a value that is unknown is a dash."""

    name: str
    value: str
    base: str
    reference: str


def list_key_scores(generated: Generated, of_base: Generated | None) -> list[KeyScore]:
    """List the scores that decide, the most important first."""
    ours = read_scores(generated.metrics["scores"])
    theirs = read_scores(of_base.metrics["scores"]) if of_base is not None else {}
    key_scores = []
    for name in choose_scores(ours)[:NUM_KEY_SCORES]:
        score, base = ours[name], theirs.get(name)
        values = score.value, base.value if base else None, reference_value(score)
        shown = ["–" if value is None else format_short(value, score.kind) for value in values]
        key_scores.append(KeyScore(label_score(score), *shown))
    return key_scores
