"""The verdict in words: a line an axis, of arms that passed their gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from echodiff.metrics.copies import NEAR_SHARE
from echodiff.report.tables import score_name

SEEN, UNSEEN = "test", "unseen"
LEVEL = 0.05
"""Of p, corrected for the number of comparisons."""


def write_verdicts(result: Mapping[str, Any]) -> dict[str, str]:
    """A sentence each on fidelity, speed, utility, privacy and scanner, of a survey.json."""
    arms = {name: one for name, one in result["arms"].items() if one["gate"]["passed"]}
    failed = [name for name in result["arms"] if name not in arms]
    told = f" Not compared, failed at the gate: {', '.join(failed)}." if failed else ""
    return {
        "fidelity": _on_fidelity(arms, result["distance"]) + told,
        "speed": _on_speed(result),
        "utility": _on_utility(arms, result["segmentations"], SEEN),
        "privacy": _on_privacy(arms, result["copies"]),
        "scanner": _on_scanner(arms, result),
    }


def write_interval(one: Mapping[str, Any], digits: int = 3, sign: str = "") -> str:
    """A value with its interval, or with a word where it has none."""
    if one["low"] is None or one["high"] is None:
        return f"{one['value']:{sign}.{digits}f} (no interval)"
    return (
        f"{one['value']:{sign}.{digits}f} (95 % interval {one['low']:{sign}.{digits}f} to "
        f"{one['high']:{sign}.{digits}f})"
    )


def _on_fidelity(arms: Mapping[str, Any], distance: str) -> str:
    known = {name: one["scores"][distance] for name, one in arms.items()
             if one["scores"].get(distance)}  # fmt: skip
    if not known:
        return "No arm passed its gate."
    order = sorted(known, key=lambda name: known[name]["value"])
    best = known[order[0]]
    text = f"Nearest to real frames: {order[0]}, {score_name(distance)} {write_interval(best)}"
    if len(order) == 1:
        return f"{text}."
    alike = [name for name in order[1:] if not _is_apart(best, known[name])]
    if alike:
        return f"{text}; its interval overlaps with that of {', '.join(alike)}."
    return f"{text}; the intervals of all others lie above."


def _on_speed(result: Mapping[str, Any]) -> str:
    ratio = result["flow_over_diffusion"]
    if ratio is None:
        return "Flow and diffusion were not both compared at the steps asked for."
    name = f"flow at {ratio['flow_steps']} steps against diffusion at {ratio['diffusion_steps']}"
    known = {distance: joined for distance, joined in ratio["ratios"].items()
             if joined is not None and joined["high"] is not None}  # fmt: skip
    if not known:
        return f"{name}: no ratio with an interval, because a distance is near 0."
    # The first network decides, unless both arms are too near to real frames for a ratio there.
    distance = result["distance"] if result["distance"] in known else next(iter(known))
    joined = known[distance]
    text = f"{score_name(distance)} of {name}: {write_interval(joined, 2)} times"
    if joined["high"] <= 1.1:
        return f"{text}, within 10 %."
    return f"{text}, not shown to be within 10 %."


def _on_utility(arms: Mapping[str, Any], found: Mapping[str, Any], part: str) -> str:
    gains = {name: found[f"real + {name}"][part]["gain"] for name in arms
             if f"real + {name}" in found and part in found[f"real + {name}"]}  # fmt: skip
    if not gains:
        return "No arm passed its gate."
    best = max(gains, key=lambda name: gains[name]["value"])
    one = gains[best]
    cell = write_interval(one, 3, "+")
    text = f"Largest gain in Dice over real frames alone: {best}, {cell}"
    if _is_gain(one):
        return f"{text}."
    if one["high"] is not None and one["high"] < 0:
        return f"No arm gains Dice over real frames alone. Least loss: {best}, {cell}."
    return f"{text}, not distinguishable from none."


def _on_privacy(arms: Mapping[str, Any], name: str) -> str:
    known = {arm: one["scores"][name] for arm, one in arms.items() if one["scores"].get(name)}
    if not known:
        return "Copies: not measured, for want of arms or of held-out frames."
    near = [arm for arm, one in known.items()
            if one["low"] is not None and one["low"] > NEAR_SHARE]  # fmt: skip
    limit = f"{100 * NEAR_SHARE:.0f} %"
    if near:
        told = f"Images of {', '.join(near)} are nearer to training frames than unseen real ones"
        return f"{told} (share of near ones above {limit})."
    most = max(known, key=lambda arm: known[arm]["value"])
    return (
        f"No arm is shown to draw more near copies of training frames than unseen real frames are; "
        f"most: {most}, {write_interval(known[most])}. Copies are a part of privacy, not all of it."
    )


def _on_scanner(arms: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    found, held = result["segmentations"], ", ".join(result["held_out"])
    if not held:
        return "No vendor was held out."
    dice = [write_interval(found["real"][part]["dice"]) for part in (UNSEEN, SEEN)]
    alone = f"Trained on real frames alone, Dice is {dice[0]} on {held}, {dice[1]} on the others."
    gains = {name: found[f"real + {name}, random styles"][UNSEEN]["gain"] for name in arms
             if UNSEEN in found.get(f"real + {name}, random styles", {})}  # fmt: skip
    if not gains:
        return f"{alone} Random styles need two training vendors, and an arm that passed its gate."
    best = max(gains, key=lambda name: gains[name]["value"])
    one = gains[best]
    text = (
        f"{alone} Random styles of {best} change that on {held}, which nothing was trained on, by "
        f"{write_interval(one, 3, '+')}"
    )
    if _is_gain(one):
        return f"{text}: above 0."
    return f"{text}: not shown to be above 0."


def _is_gain(one: Mapping[str, Any]) -> bool:
    """Whether the largest of several gains is above 0: the best of many is above 0 by chance."""
    low, p = one["low"], one["p_holm"]
    return bool(low is not None and low > 0 and p is not None and p < LEVEL)


def _is_apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one["high"] is None or other["low"] is None:
        return False
    return bool(one["high"] < other["low"])
