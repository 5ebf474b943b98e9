"""The top of a page: up to four cards, and a verdict of one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from echodiff.metrics.limits import FALL, LEAST_OBEDIENCE
from echodiff.metrics.score import Score, read_scores
from echodiff.metrics.score_name import Kind
from echodiff.report.tables import format_number, score_name

if TYPE_CHECKING:
    from echodiff.metrics.comparison import Difference

NUM_CARDS = 4
SIGNIFICANT_P = 0.05
ORDER = (
    Kind.INTACT,
    Kind.OBEDIENCE,
    Kind.FID,
    Kind.MMD,
    Kind.FAITHFULNESS,
    Kind.COPIES,
    Kind.SPECIFICITY,
    Kind.COVERAGE,
    Kind.RECALL,
    Kind.PRECISION,
    Kind.SPECTRUM_DEVIATION,
    Kind.SPECKLE_SNR,
)
"""Kinds of scores on a card, the most important first; one card per kind."""
LOOKS = frozenset({Kind.SPECTRUM_DEVIATION, Kind.SPECKLE_SNR})
"""Kinds for which neither more nor less is better: of one set only, as near as can be."""
LABELS = {
    Kind.INTACT: "Hearts with intact anatomy",
    Kind.FAITHFULNESS: "Prompted findings that are found",
    Kind.SPECIFICITY: "Findings absent where none is prompted",
    Kind.COPIES: "Images that may copy a training frame",
}
_SHARES = frozenset({*LABELS, Kind.COVERAGE, Kind.RECALL, Kind.PRECISION})
DISTANCES = frozenset({Kind.MMD, Kind.FID})
_LESS_IS_BETTER = DISTANCES | {Kind.COPIES}


@dataclass(frozen=True, kw_only=True)
class Card:
    """One number at the top of the page."""

    label: str
    value: str
    interval: str
    note: str
    is_good: bool | None = None
    """Whether it reached its target; None if it has no target, or is too uncertain."""
    marks: tuple[str, str] = ("Target reached", "Target missed")
    """What `is_good` says in words, true and false."""


def build_cards(titles: Sequence[str], records: Sequence[Mapping[str, Any]]) -> list[Card]:
    """Build the cards of one set of scores, or of several sets that are compared."""
    sets = [read_scores(one) for one in records]
    names = choose_scores(sets[0])
    if len(sets) == 1:
        return [_build_card(sets[0][name]) for name in names[:NUM_CARDS]]
    ranked = [name for name in names
              if sets[0][name].kind not in LOOKS and all(name in one for one in sets)
              and all(one[name].first_draws is None for one in sets)]  # fmt: skip
    return [
        _build_ranking({title: one[name] for title, one in zip(titles, sets, strict=True)})
        for name in ranked[:NUM_CARDS]
    ]


def choose_scores(scores: Mapping[str, Score]) -> list[str]:
    """Names of the scores that decide, the most important first; one per kind.

    Of several feature networks it is the first of --features.
    """
    firsts = (next((n for n, s in scores.items() if _is_shown(s, kind)), None) for kind in ORDER)
    return [name for name in firsts if name is not None]


def _is_shown(score: Score, kind: Kind) -> bool:
    part = score.name.finding or score.name.criterion or score.name.label
    return score.kind is kind and not part


def _build_card(score: Score) -> Card:
    real = reference_value(score)
    return Card(
        label=label_score(score),
        value=format_short(score.value, score.kind),
        interval=_describe_interval(score),
        note="" if real is None else _describe_reference(score, format_short(real, score.kind)),
        is_good=judge(score),
    )


def label_score(score: Score) -> str:
    """Name a score for a reader who has not read the documentation."""
    name = score_name(str(score.name))
    return LABELS.get(score.kind, f"Distance, {name}" if score.kind in DISTANCES else name)


def reference_value(score: Score) -> float | None:
    """The same score of reference frames, for a distance between two parts of them."""
    return score.floor if score.real is None else score.real


def _describe_reference(score: Score, real: str) -> str:
    """State the value of reference frames, as a target where there is one."""
    level = is_level(score)
    if score.kind in DISTANCES:
        words = {True: " Not distinguishable.", False: " Distinguishable.", None: ""}[level]
        return f"Reference frames against others: {real}.{words}"
    if score.first_draws is not None:
        return describe_choice(format_short(score.first_draws, score.kind))
    if score.kind is Kind.INTACT:
        points = f"{100 * FALL:.0f}"
        return f"Target: at most {points} points below reference frames ({real})."
    if score.kind is Kind.OBEDIENCE:
        return f"0: as masks of other patients; 1: as real frames. Target: {LEAST_OBEDIENCE:g}."
    if level is None or score.kind is Kind.FAITHFULNESS:
        return f"Reference frames: {real}."
    return f"Target: not significantly worse than reference frames ({real})."


def describe_choice(kept: str) -> str:
    """Why a share of intact hearts is no merit of the weights. kept: shares of first draws."""
    return f"Chosen by their anatomy (--retries). Kept of the first draws: {kept}."


def is_level(score: Score) -> bool | None:
    """Whether a set is as good as reference frames; None if the score cannot tell."""
    match score.kind:
        case Kind.INTACT if score.first_draws is not None:
            return None  # of the choice, not of the weights
        case Kind.INTACT:
            return None if score.real is None else score.value >= score.real - FALL
        case Kind.OBEDIENCE:
            return score.value >= LEAST_OBEDIENCE
        case Kind.MMD if score.p is not None:
            return score.p >= SIGNIFICANT_P
        case Kind.MMD | Kind.FID:
            at_n, highest = score.value_at_floor_n, score.floor_high
            return None if at_n is None or highest is None else at_n <= highest
        case Kind.COVERAGE | Kind.RECALL | Kind.PRECISION:
            at_n, lowest = score.value_at_floor_n, score.floor_low
            return None if at_n is None or lowest is None else at_n >= lowest
        case Kind.COPIES:
            return None if score.real is None or score.low is None else score.low <= score.real
        case Kind.FAITHFULNESS | Kind.SPECIFICITY:
            return None if score.real is None or score.high is None else score.high >= score.real
        case _:
            return None


def judge(score: Score) -> bool | None:
    """Whether a card is marked as good or bad; None for neither.

    Generated images can nearly always be told apart from real ones, and a classifier finds more on
    real frames: that alone is not marked as bad.
    """
    level = is_level(score)
    return level or (None if score.kind in DISTANCES | {Kind.FAITHFULNESS} else level)


def _build_ranking(found: Mapping[str, Score]) -> Card:
    """One measure of several sets, the best first."""
    kind = next(iter(found.values())).kind
    sign = 1 if kind in _LESS_IS_BETTER else -1
    order = sorted(found, key=lambda title: sign * found[title].value)
    best = found[order[0]]
    return Card(
        label=f"{label_score(best)}: {'smallest' if kind in _LESS_IS_BETTER else 'highest'}",
        value=order[0],
        interval=_describe_interval(best),
        note="; ".join(f"{one} {format_short(found[one].value, kind)}" for one in order) + ".",
    )


def _describe_interval(score: Score) -> str:
    if score.low is None or score.high is None:
        return f"no interval at n {score.n}"
    low, high = (format_short(end, score.kind) for end in (score.low, score.high))
    return f"95 % interval {low} to {high}, n {score.n}"


def format_short(value: float, kind: Kind) -> str:
    """Write a number with as many digits as a card needs."""
    is_share = kind in _SHARES
    return format_number(value if is_share or abs(value) >= 1 else round(value, 3), is_share)


def write_ranking_verdict(differences: Sequence[Difference]) -> str:
    """State in one sentence which of several sets is nearest to the reference, by MMD^2.

    differences: of every pair of sets; the first feature network decides.
    """
    if not differences:
        return ""
    name = differences[0].score
    farther: dict[str, list[str]] = {}
    for one in differences:
        if one.score == name and one.p_holm is not None and one.p_holm < SIGNIFICANT_P:
            pair = one.first, one.second
            nearer, other = pair if one.value < 0 else pair[::-1]
            farther.setdefault(nearer, []).append(other)
    by = f"by {score_name(name)}"
    if not farther:
        return f"No set is significantly nearer to the reference than another, {by}."
    best = max(farther, key=lambda one: len(farther[one]))
    others = _join(farther[best])
    return f"{best} is significantly nearer to the reference than {others}, {by}."


def _join(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def write_verdict(record: Mapping[str, Any], *, num_alarms: int) -> str:
    """State in one sentence how one set of images compares with its reference.

    record: `scores` of metrics.json.
    """
    scores = read_scores(record)
    parts = []
    intact = scores.get(str(Kind.INTACT))
    if intact is not None:
        share = format_number(intact.value, True)
        real = f" (reference frames: {format_number(intact.real, True)})"
        chosen = ", chosen for it" if intact.first_draws is not None else ""
        parts.append(f"{share} of the hearts are intact{chosen}" + (real if intact.real else ""))
    levels = {s.name.features or "inception": is_level(s) for s in scores.values()
              if s.kind is Kind.MMD}  # fmt: skip
    apart = _join([name for name, level in levels.items() if level is False])
    alike = _join([name for name, level in levels.items() if level])
    said = [f"differ from the reference in {apart} features"] if apart else []
    said += [f"are not distinguishable from the reference in {alike} features"] if alike else []
    parts += [f"the images {' but '.join(said)}"] if said else []
    if (faithful := scores.get(str(Kind.FAITHFULNESS))) is not None:
        parts.append(f"a prompted finding is found in {format_number(faithful.value, True)}")
    if num_alarms:
        parts.append(f"{num_alarms} alarm{'s' * (num_alarms > 1)} below")
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "." if text else ""
