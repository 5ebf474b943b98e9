"""The page of a training: curves, samples, settings and hashes, in its run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from echodiff.documents import read_yaml_record
from echodiff.images import read_image_u8
from echodiff.report.cards import NUM_CARDS, Card
from echodiff.report.charts import draw_curves, draw_score_curves
from echodiff.report.pictures import embed_png
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
        verdict=write_training_verdict(rows),
        cards=build_training_cards(record, config, rows),
        curves=draw_curves(rows),
        score_charts=draw_score_curves(rows),
        samples=[(f"Step {int(path.stem.removeprefix('step-'))}", embed_png(read_image_u8(path)))
                 for path in _choose_sheets(run.samples)],
        settings=[(key, ", ".join(map(str, value)) if isinstance(value, list) else value)
                  for key, value in config.items() if value is not None],
        hashes=[(name, record[key]) for key, name in HASHES.items() if record.get(key)],
        commands=[
            f"python generate.py --prompt-file prompts/asd.txt --weights {run.run_dir}",
            f"accelerate launch train_lora.py --config {path} --out ANOTHER",
        ],
    )  # fmt: skip
    return out


def _summarise(record: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    data = config.get("data") or "simulated frames"
    return (
        f"LoRA of rank {config.get('rank', '?')} for the base {record.get('base', '?')}, trained "
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
        Card(
            label="Adapter",
            value=f"rank {config.get('rank', '?')}",
            interval=f"alpha {config.get('alpha', '?')}",
            note=f"Learning rate {config.get('learning_rate', '?')}.",
        ),
    ]
    keys = dict.fromkeys(key for row in rows for key in row)
    distances = [key for key in keys if key.startswith("mmd_")
                 and not key.endswith(("_low", "_high", "_floor"))]  # fmt: skip
    for name in ("held_out_loss", *(["intact"] if "intact" in keys else distances[:1])):
        if read := [row for row in rows if row.get(name) is not None]:
            cards.append(_build_followed_card(name, read))
    return cards if len(cards) <= NUM_CARDS else [*cards[:2], *cards[3:]]


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
