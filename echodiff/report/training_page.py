"""The page of a training: curves, samples, settings and hashes, in its run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from echodiff.documents import read_yaml_record
from echodiff.images import read_image_u8
from echodiff.report.cards import NUM_CARDS, Card
from echodiff.report.charts import draw_curves, draw_score_curves
from echodiff.report.mask_curve import (
    OBEDIENCE,
    describe_obedience,
    draw_obedience,
    read_obedience,
)
from echodiff.report.pictures import embed_png
from echodiff.report.privacy_curve import (
    describe_guarantee,
    describe_membership,
    draw_membership,
)
from echodiff.report.tables import format_interval, format_number, score_name
from echodiff.report.template import write_page
from echodiff.runs import Run

REPORT = "report.html"
NUM_SHEETS = 4
"""Most sheets of samples that are shown: the last, and others in even steps."""
OVERFITTED = 0.02
"""Relative rise of the held-out loss, from its lowest reading to the last, that is pointed out."""
HASHES = {
    "weights_sha256": "Weights",
    "base_sha256": "Base model",
    "init_sha256": "Adapter it started from",
    "fingerprint": "Settings and frames",
}
"""Fields of run.json with a SHA-256, and what it is of."""


def write_training_page(run: Run) -> Path:
    """Write report.html into the run folder, from the files that are there, and return it."""
    rows = run.read_metrics()
    path = run.run_dir / "config.yaml"
    config = read_yaml_record(path) if path.is_file() else {}
    record = run.record
    out = run.run_dir / REPORT
    write_page(
        out,
        "training.html.jinja",
        title=f"Training {run.run_dir.resolve().name}",
        summary=_summarise(record, config),
        verdict=" ".join(filter(None, [
            describe_obedience(rows),
            write_training_verdict(rows),
            describe_membership(rows, record.get("membership", {})),
            describe_guarantee(record.get("differential_privacy", {})),
        ])),
        cards=build_training_cards(record, config, rows),
        curves=draw_curves(rows),
        score_charts=draw_score_curves(rows),
        obedience=draw_obedience(rows),
        membership=draw_membership(rows, record.get("membership", {})),
        samples=[(f"Step {int(path.stem.removeprefix('step-'))}", embed_png(read_image_u8(path)))
                 for path in _choose_sheets(run.samples)],
        settings=[(key, ", ".join(map(str, value)) if isinstance(value, list) else value)
                  for key, value in config.items() if value is not None],
        hashes=[(name, record[key]) for key, name in HASHES.items() if record.get(key)],
        commands=_list_commands(run, path),
    )  # fmt: skip
    return out


def _list_commands(run: Run, config: Path) -> list[str]:
    if "kind" in run.record:
        return [
            f"python generate.py --masks DIR --weights {run.run_dir}",
            f"accelerate launch -m echodiff train-controlnet --config {config} --out ANOTHER",
        ]
    return [
        f"python generate.py --prompt-file prompts/asd.txt --weights {run.run_dir}",
        f"accelerate launch train_lora.py --config {config} --out ANOTHER",
    ]


def _summarise(record: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    data = config.get("data") or "simulated frames"
    what = f"LoRA of rank {config.get('rank', '?')}"
    if kind := record.get("kind"):
        labels = ", ".join(record.get("labels", [])[1:])
        what = f"Masks ({labels}) by {kind}"
    return (
        f"{what} for the base {record.get('base', '?')}, trained "
        f"on {data} at {record.get('resolution', '?')} pixels. Sheets of samples may show frames "
        "of the training data: share this page as you would share those."
    )


def write_training_verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """State in one sentence how the held-out loss went; empty without two readings."""
    held_out = [row for row in rows if row.get("held_out_loss") is not None]
    if len(held_out) < 2:
        return ""
    first, last = held_out[0], held_out[-1]
    best = min(held_out, key=lambda row: float(row["held_out_loss"]))
    change = 100 * (last["held_out_loss"] / first["held_out_loss"] - 1)
    word = "fell" if change < 0 else "rose"
    text = f"The held-out loss {word} by {abs(change):.0f} % in {last['step']} steps"
    if last["held_out_loss"] <= (1 + OVERFITTED) * best["held_out_loss"]:
        return f"{text}."
    return f"{text}; it was lowest at step {best['step']}: later steps may have overfitted."


def build_training_cards(
    record: Mapping[str, Any], config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> list[Card]:
    """Build the cards: frames, steps, adapter, held-out loss, and the first score over the steps,
    which takes the place of the adapter."""
    cards = [
        Card(
            label="Training frames with caption",
            value=format_number(record.get("num_captioned"), False),
            interval=f"{record.get('num_null_text', 0)} with the empty prompt",
            note=f"{len(record.get('held_out', []))} frames held out.",
        ),
        Card(
            label="Optimizer steps",
            value=format_number(record.get("num_steps"), False),
            interval=f"batches of {config.get('batch_size', '?')}",
            note=_describe_time(record),
        ),
        _build_trained_card(record, config),
    ]
    keys = dict.fromkeys(key for row in rows for key in row)
    distances = [key for key in keys if key.startswith("mmd_")
                 and not key.endswith(("_low", "_high", "_floor"))]  # fmt: skip
    if read := read_obedience(rows):
        cards[2] = _build_obedience_card(read)
    for name in ("held_out_loss", *(["intact"] if "intact" in keys else distances[:1])):
        if read := [row for row in rows if row.get(name) is not None]:
            cards.append(_build_followed_card(name, read))
    return cards if len(cards) <= NUM_CARDS else [*cards[:2], *cards[3:]]


def _build_trained_card(record: Mapping[str, Any], config: Mapping[str, Any]) -> Card:
    kind, rate = record.get("kind"), f"Learning rate {config.get('learning_rate', '?')}."
    if kind in ("controlnet", "t2i-adapter"):
        return Card(label="Kind", value=kind, interval="all weights", note=rate)
    rank, alpha = f"rank {config.get('rank', '?')}", f"alpha {config.get('alpha', '?')}"
    if kind:
        return Card(label="Kind", value=kind, interval=f"{rank}, {alpha}", note=rate)
    return Card(label="Adapter", value=rank, interval=alpha, note=rate)


def _build_obedience_card(read: Sequence[Mapping[str, Any]]) -> Card:
    last = read[-1]
    return Card(
        label="Masks: asked for and drawn (Dice)",
        value=f"{read[0][OBEDIENCE]:.2f} → {last[OBEDIENCE]:.2f}",
        interval=f"steps {read[0]['step']} and {last['step']}",
        note=f"Real frames {last[OBEDIENCE + '_real']:.2f}, masks of other patients "
        f"{last[OBEDIENCE + '_other']:.2f}.",
    )


def _build_followed_card(name: str, read: Sequence[Mapping[str, Any]]) -> Card:
    """Build the card of a value that was read at several steps."""
    first, last, is_share = read[0], read[-1], name == "intact"
    low, high = last.get(f"{name}_low"), last.get(f"{name}_high")
    interval = f"steps {first['step']} and {last['step']}"
    if low is not None and high is not None:
        interval = f"95 % interval {format_interval(low, high, is_share)}"
    best = (max if is_share else min)(read, key=lambda row: float(row[name]))
    title = "Held-out loss" if name == "held_out_loss" else score_name(name)
    return Card(
        label=f"{title}, first to last",
        value=" → ".join(format_number(row[name], is_share) for row in (first, last)),
        interval=interval,
        note=f"{'Highest' if is_share else 'Lowest'} at step {best['step']}.",
    )


def _describe_time(record: Mapping[str, Any]) -> str:
    finished = str(record.get("finished", ""))[:16].replace("T", " ")
    return f"Finished {finished} UTC." if finished else "Not finished."


def _choose_sheets(folder: Path) -> list[Path]:
    """Choose sheets of samples in even steps, the last included, the oldest first."""
    paths = sorted(folder.glob("step-*.png"))
    num = min(NUM_SHEETS, len(paths))
    return [paths[-1 - (i * (len(paths) - 1)) // max(1, num - 1)] for i in range(num)][::-1]
