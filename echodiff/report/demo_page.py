"""Report what the demo's fine-tuning changed, on the terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from echodiff.report.tables import without_minus_0
from echodiff.runs import Run

NOT_TOLD_APART = "not distinguishable from 0"


GAIN_NAMES = {
    "mmd_ratio_tiny": "MMD² (tiny), LoRA over base",
    "mmd_ratio_texture": "MMD² (texture), LoRA over base",
    "faithfulness_gain": "Faithfulness, LoRA minus base",
    "specificity_gain": "Specificity, LoRA minus base",
}
"""Gains for the terminal, in this order; those of single findings stand in the report."""


def gain_lines(gains: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The comparison for the terminal, one line per number."""
    return [
        f"{title:<32}{without_minus_0('{:.2f}'.format(gains[name]['value'])):>6}  "
        f"{_interval(gains[name], 1, '{:.2f}')}"
        + (f", {NOT_TOLD_APART}" if name.startswith("mmd") and reaches_0(gains[name]) else "")
        for name, title in GAIN_NAMES.items()
        if name in gains
    ]


def reaches_0(ratio: Mapping[str, Any]) -> bool:
    """Whether a ratio of MMD^2 may be 0. The images are then not distinguishable from real ones,
    and the ratio, which may be negative, is not meaningful by itself."""
    return bool((ratio["value"] if ratio["low"] is None else ratio["low"]) <= 0)


def write_demo_page(
    out: Path,
    run: Run,
    pictures: Sequence[Path],
    gains: Mapping[str, Any],
    commands: Sequence[str],
) -> Path:
    """Write report.html into the demo's folder and return it; pictures: the held-out frames."""
    from echodiff.report.page import ImageSet, write_report

    summary = (
        "A small Stable Diffusion model that knows simulated hearts from two scanners was "
        f"fine-tuned on {run.record['num_captioned']} described frames of a third. Base and tuned "
        "model then drew the same descriptions of held-out hearts, and both sets were measured "
        f"against {len(pictures)} held-out frames. All frames, real ones included, are simulated."
    )
    path = out / "report.html"
    write_report(
        path,
        title="What fine-tuning to a new hospital changed",
        summary=summary,
        sets=[
            ImageSet(title="Base", folder=out / "base", note="The model before."),
            ImageSet(title="LoRA", folder=out / "lora", note="The model after."),
            ImageSet(title="LoRA, ASD prompts", folder=out / "asd", note="prompts/asd.txt."),
        ],
        reference=pictures,
        reference_text=f"{len(pictures)} held-out frames of the new hospital (simulated)",
        reference_title="Held out",
        run=run,
        headlines=headlines(gains),
        commands=commands,
    )
    return path


def headlines(gains: Mapping[str, Any]) -> list[Any]:
    """Build the numbers at the top of the page, with their targets."""
    from echodiff.report.page import Headline

    cards = []
    for features, what in (("tiny", "anatomy"), ("texture", "speckle and gain")):
        if (ratio := gains.get(f"mmd_ratio_{features}")) is not None:
            cards.append(Headline(
                label=f"Distance to the real frames in {what}, LoRA over base",
                value=without_minus_0(f"{ratio['value']:.2f} ×").replace("-", "−"),
                interval=_interval(ratio, 1, "{:.2f}"),
                note=(f"{NOT_TOLD_APART.capitalize()}. " if reaches_0(ratio) else "")
                + "Aim: at most 0.5.",
                is_good=is_near(ratio),
            ))  # fmt: skip
    for key, what in (
        ("faithfulness_gain", "Findings shown when asked for, LoRA minus base"),
        ("faithfulness_gain_asd", "The same for septal defects (ASD)"),
        ("specificity_gain", "Findings absent when not asked for, LoRA minus base"),
    ):
        if (gain := gains.get(key)) is not None:
            is_aim = key != "specificity_gain"
            cards.append(Headline(
                label=what,
                value=without_minus_0(f"{100 * gain['value']:+.0f} points").replace("-", "−"),
                interval=_interval(gain, 100, "{:+.0f}"),
                note=(f"From {100 * gain['first']:.0f} % to {100 * gain['second']:.0f} %."
                      + (" Aim: 30 points, interval above 0." if is_aim else "")),
                is_good=gain["value"] >= 0.3 and (gain["low"] or 0) > 0 if is_aim else None,
            ))  # fmt: skip
    return cards


def is_near(ratio: Mapping[str, Any]) -> bool | None:
    """Whether the target of at most 0.5 is reached; None if a ratio around 0 is too uncertain."""
    if not reaches_0(ratio):
        return bool(ratio["value"] <= 0.5)
    return True if ratio["high"] is not None and ratio["high"] <= 0.5 else None


def _interval(gain: Mapping[str, Any], scale: float, form: str) -> str:
    if gain["low"] is None:
        return f"no interval at n {gain['n']}"
    low, high = (without_minus_0(form.format(gain[end] * scale)) for end in ("low", "high"))
    return f"95 % interval {low} to {high}, n {gain['n']}".replace("-", "−")
