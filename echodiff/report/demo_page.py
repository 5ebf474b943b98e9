"""Report what the demo's fine-tuning changed, on the terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from echodiff.metrics.limits import FALL
from echodiff.report.cards import Card, describe_choice
from echodiff.report.tables import format_number, without_minus_0
from echodiff.runs import Run

NOT_TOLD_APART = "not distinguishable from 0"
AS_NEAR = "about as near"
FEATURES = ("tiny", "texture")
NEAR = 0.5
"""Largest ratio of distances, LoRA over base, that reaches the target."""
GAIN = 0.3
"""Smallest gain in faithfulness that reaches the target."""

GAIN_NAMES = {
    "intact_gain": "Intact anatomy, LoRA minus base",
    "mmd_ratio_tiny": "MMD² (tiny), LoRA over base",
    "mmd_ratio_texture": "MMD² (texture), LoRA over base",
    "faithfulness_gain": "Faithfulness, LoRA minus base",
    "specificity_gain": "Specificity, LoRA minus base",
}
"""Gains for the terminal, in this order; those of single findings are in the report."""

FIRSTS = "first_draws"
"""Of a gain in anatomy: shares of sound first draws of base and LoRA, if images were chosen."""

Gains = Mapping[str, Mapping[str, Any]]


def gain_lines(gains: Gains) -> list[str]:
    """The comparison for the terminal, one line per number."""
    return [
        f"{title:<32}{without_minus_0('{:.2f}'.format(gains[name]['value'])):>6}  "
        f"{_interval(gains[name], 1, '{:.2f}')}"
        + (f", {NOT_TOLD_APART}" if name.startswith("mmd") and reaches_0(gains[name]) else "")
        + (", chosen by their anatomy" if FIRSTS in gains[name] else "")
        for name, title in GAIN_NAMES.items()
        if name in gains
    ]


def write_demo_page(
    out: Path, run: Run, held_out: Sequence[Path], gains: Gains, commands: Sequence[str]
) -> Path:
    """Write report.html into the demo's folder and return it; held_out: the reference frames."""
    from echodiff.report.page import ImageSet, write_report

    summary = (
        "A small Stable Diffusion model, trained on simulated hearts of other scanners, was "
        f"fine-tuned (LoRA) on {run.record['num_captioned']} captioned frames of a new scanner. "
        "The model before (base) and after (LoRA) generated images for the same captions, and both "
        f"sets were compared with {len(held_out)} held-out frames of that scanner. All frames are "
        "simulated, the reference included."
    )
    if FIRSTS in gains.get("intact_gain", {}):
        summary += (
            " In both sets, hearts that a segmentation network found broken or unclear were drawn "
            "again."
        )
    path = out / "report.html"
    write_report(
        path,
        title="What fine-tuning to a new hospital changed",
        summary=summary,
        verdict=write_demo_verdict(gains),
        cards=build_demo_cards(gains),
        sets=[
            ImageSet(title="Base", folder=out / "base", note="The model before."),
            ImageSet(title="LoRA", folder=out / "lora", note="The model after."),
            ImageSet(title="LoRA, ASD prompts", folder=out / "asd", note="prompts/asd.txt."),
        ],
        reference=held_out,
        reference_text=f"{len(held_out)} held-out frames of the new hospital",
        run=run,
        commands=commands,
    )
    return path


# --- Verdict and cards --------------------------------------------------------------------------


CHANGES = {
    "intact_gain": "hearts are intact {} often",
    "faithfulness_gain": "prompted findings are found {} often",
    "specificity_gain": "findings that were not prompted are absent {} often",
}
"""Gains of shares in words, with `more` or `less`."""


def write_demo_verdict(gains: Gains) -> str:
    """State in one sentence what was gained and lost: only what differs significantly.

    The anatomy of images that were chosen by it is left out.
    """
    ratios = {name: gains[key] for name in FEATURES if (key := f"mmd_ratio_{name}") in gains}
    changes = {name: change for name in ratios if (change := state_change(ratios[name]))}
    nearer = [f"{changes[name]} in {name}" for name in changes if ratios[name]["value"] <= 1]
    farther = [f"{changes[name]} in {name}" for name in changes if ratios[name]["value"] > 1]
    sentence = "the images are {} the reference (by {} features)"
    gained = [sentence.format("nearer to", " and ".join(nearer))] if nearer else []
    lost = [sentence.format("farther from", " and ".join(farther))] if farther else []
    for key, words in CHANGES.items():
        if FIRSTS in gains.get(key, {}):
            continue
        if (gain := gains.get(key)) is not None and excludes_0(gain):
            first, second = (format_number(gain[name], True) for name in ("first", "second"))
            is_more = gain["value"] > 0
            sentence = words.format("more" if is_more else "less")
            (gained if is_more else lost).append(f"{sentence} ({second} instead of {first})")
    if not (gained or lost):
        return "These numbers of images show no significant change."
    text = ", but ".join(" and ".join(part) for part in (gained, lost) if part)
    return f"After fine-tuning, {text}."


def state_change(ratio: Mapping[str, Any]) -> str:
    """State by how much the distance changed, as in `92 %`; empty if not significantly."""
    low, high, value = ratio["low"], ratio["high"], ratio["value"]
    if low is None or low <= 1 <= high:
        return ""
    if reaches_0(ratio):  # the ratio itself may be 0, or below
        return f"at least {100 * (1 - high):.0f} %"
    return f"{100 * abs(1 - value):.0f} %"


def describe_ratio(ratio: Mapping[str, Any]) -> str:
    """State a ratio of distances in words: `92 % nearer`."""
    change = state_change(ratio)
    return f"{change} {'nearer' if ratio['value'] <= 1 else 'farther'}" if change else AS_NEAR


def build_demo_cards(gains: Gains) -> list[Card]:
    """Build the cards of the demo's page: anatomy, distance, findings shown, findings absent."""
    cards = []
    if (gain := gains.get("intact_gain")) is not None:
        is_kept: bool | None = gain["value"] >= -FALL
        note = f"Target: at most {100 * FALL:.0f} points lost."
        if FIRSTS in gain:
            base, lora = (format_number(share, True) for share in gain[FIRSTS])
            is_kept, note = None, describe_choice(f"{base} of the base, {lora} of the LoRA")
        cards.append(_build_gain_card("Hearts with intact anatomy", gain, note, is_kept))
    ratios = {name: gains[key] for name in FEATURES if (key := f"mmd_ratio_{name}") in gains}
    if ratios:
        cards.append(_build_distance_card(ratios))
    if (gain := gains.get("faithfulness_gain")) is not None:
        asd = gains.get("faithfulness_gain_asd")
        note = ("" if asd is None else f"Septal defects (ASD): {_from_to(asd)}. ") + (
            f"Target: {100 * GAIN:.0f} points more.")  # fmt: skip
        is_reached = gain["value"] >= GAIN and (gain["low"] or 0) > 0
        cards.append(_build_gain_card("Prompted findings that are found", gain, note, is_reached))
    if (gain := gains.get("specificity_gain")) is not None:
        is_sure = excludes_0(gain)
        note = "" if is_sure else "No significant difference."
        is_better = gain["value"] > 0 if is_sure else None
        cards.append(_build_gain_card("Findings absent where not prompted", gain, note, is_better))
    return cards


def _build_gain_card(label: str, gain: Mapping[str, Any], note: str, is_good: bool | None) -> Card:
    points = without_minus_0(f"{100 * gain['value']:+.0f}").replace("-", "−")
    return Card(
        label=f"{label}, base to LoRA",
        value=_from_to(gain),
        interval=f"{points} points, {_interval(gain, 100, '{:+.0f}')}",
        note=note,
        is_good=is_good,
    )


def _build_distance_card(ratios: Mapping[str, Mapping[str, Any]]) -> Card:
    """Build the card of the distances: the first in large, the others in its note."""
    (features, first), *others = ratios.items()
    value = describe_ratio(first)
    notes = [
        f"In {name} features: {describe_ratio(ratio)} ({_interval(ratio, 1, '{:.2f}')})."
        for name, ratio in others
    ]
    nears = [is_near(ratio) for ratio in ratios.values()]
    return Card(
        label=f"Distance to the reference in {features} features, LoRA against base",
        value=value[:1].upper() + value[1:],
        interval=f"ratio of MMD², {_interval(first, 1, '{:.2f}')}",
        note=" ".join([*notes, f"Target: at least {100 * (1 - NEAR):.0f} % nearer in each."]),
        is_good=False if False in nears else None if None in nears else True,
    )


def reaches_0(ratio: Mapping[str, Any]) -> bool:
    """Whether a ratio of MMD^2 may be 0. The images are then not distinguishable from real ones,
    and the ratio, which may be negative, is not meaningful by itself."""
    return bool((ratio["value"] if ratio["low"] is None else ratio["low"]) <= 0)


def excludes_0(gain: Mapping[str, Any]) -> bool:
    """Whether the interval of a gain excludes 0."""
    return gain["low"] is not None and (gain["low"] > 0 or gain["high"] < 0)


def is_near(ratio: Mapping[str, Any]) -> bool | None:
    """Whether the target of at most 0.5 is reached; None if a ratio around 0 is too uncertain."""
    if not reaches_0(ratio):
        return bool(ratio["value"] <= NEAR)
    return True if ratio["high"] is not None and ratio["high"] <= NEAR else None


def _from_to(gain: Mapping[str, Any]) -> str:
    return f"{format_number(gain['first'], True)} → {format_number(gain['second'], True)}"


def _interval(gain: Mapping[str, Any], scale: float, form: str) -> str:
    if gain["low"] is None:
        return f"no interval at n {gain['n']}"
    low, high = (without_minus_0(form.format(gain[end] * scale)) for end in ("low", "high"))
    return f"95 % interval {low} to {high}, n {gain['n']}".replace("-", "−")
