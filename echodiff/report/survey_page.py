"""The page of `echodiff compare-generators`: verdicts, one table, gates, curves and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from echodiff.images import read_image_u8
from echodiff.report.charts import draw_curves
from echodiff.report.pictures import Shown, embed_png
from echodiff.report.step_chart import draw_by_steps
from echodiff.report.tables import format_interval, format_number, score_name
from echodiff.report.template import write_page
from echodiff.runs import RECORD, Run

MISSING = "not measured"
AXES = {
    "fidelity": "Fidelity", "speed": "Speed", "utility": "Utility", "privacy": "Privacy",
    "scanner": "Another scanner",
}  # fmt: skip


def write_survey_page(
    out: Path,
    result: Mapping[str, Any],
    *,
    pictures: Sequence[tuple[str, Path]],
    seconds: Mapping[str, Mapping[str, float | None]],
    curves: Mapping[str, Path],
) -> None:
    """Write the page of a survey.json.

    pictures: what each sheet shows, and its file. seconds: measured by arm, which the table of
    survey.json leaves out. curves: a run folder of each arm.
    """
    arms, counts = result["arms"], result["counts"]
    held = f" Nothing was trained on {', '.join(result['held_out'])}." if result["held_out"] else ""
    write_page(
        out,
        "survey.html.jinja",
        title="Which generator, for which scanner",
        summary=(
            f"{len(arms)} generators, each trained {_write_times(result['settings']['seeds'])} on "
            f"{counts['train']} frames of {', '.join(result['vendors'])} with equal compute, and "
            f"held against {counts['test']} frames of other patients.{held}"
        ),
        verdict=result["verdict"]["fidelity"],
        cards=[],
        axes=[(AXES[name], sentence) for name, sentence in result["verdict"].items()],
        distance=score_name(result["distance"]),
        rows=build_rows(result, seconds),
        gates=[(name, one["gate"]["reasons"]) for name, one in arms.items()
               if not one["gate"]["passed"]],
        training_rows=build_training_rows(arms, seconds),
        chart=draw_by_steps(
            score_name(result["distance"]), {arm: one["curve"] for arm, one in arms.items()}
        ),
        segmentation_rows=build_segmentation_rows(result["segmentations"]),
        style_rows=build_style_rows(arms, result["autoencoder"]),
        classifier=result["classifier"],
        has_autoencoder=bool(result["autoencoder"]),
        audits=[(name, one["audit"]["verdict"]) for name, one in arms.items()],
        sheets=[(text, Shown(embed_png(read_image_u8(path)), text)) for text, path in pictures],
        losses=list_losses(curves),
        notes=result["notes"],
        settings=[(key.replace("_", " ").capitalize(), str(value))
                  for key, value in result["settings"].items() if value not in (None, [], "")],
    )  # fmt: skip


def build_rows(
    result: Mapping[str, Any], seconds: Mapping[str, Mapping[str, float | None]]
) -> list[dict[str, Any]]:
    """Build a row per arm: one table, three axes."""
    rows, segmented = [], result["segmentations"]
    for name, one in result["arms"].items():
        scores = one["scores"]
        added = segmented.get(f"real + {name}", {})
        styled = segmented.get(f"real + {name}, random styles", {})
        first = scores.get(result["distance"]) or {}
        rows.append({
            "name": name,
            "gate": "passed" if one["gate"]["passed"] else "failed",
            "distance": write_cell(first),
            "obedience": write_cell(scores.get("obedience")),
            "coverage": write_cell(scores.get(result["distance"].replace("mmd_", "coverage_"))),
            "gain": write_cell(added.get("test", {}).get("gain"), sign=True),
            "unseen": write_cell(styled.get("unseen", {}).get("gain"), sign=True),
            "copies": write_cell(scores.get(result["copies"])),
            "audit": "measured" if one["audit"]["is_measured"] else MISSING,
            "seconds": write_seconds(seconds.get(name, {}).get("seconds_an_image")),
            "n": first.get("n", 0),
            "trainings": first.get("num_trainings", 0),
        })  # fmt: skip
    return rows


def build_training_rows(
    arms: Mapping[str, Any], seconds: Mapping[str, Mapping[str, float | None]]
) -> list[dict[str, str]]:
    """Build a row per arm: its size, its steps, its compute as counted and as timed."""
    return [
        {
            "name": name,
            "parameters": f"{one['training']['num_parameters']:,}",
            "trained": f"{one['training']['num_trained']:,}",
            "steps": f"{one['training']['num_steps']:,}",
            "teraflops": format_number(one["training"]["teraflops"], False),
            "seconds": write_seconds(seconds.get(name, {}).get("training_seconds")),
        }
        for name, one in arms.items()
    ]


def build_segmentation_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Build a row per kind of training frames: Dice, and its difference from real frames alone."""
    rows = []
    for name, one in found.items():
        row = {"name": name, "real": one["num_real"], "synthetic": one["num_synthetic"]}
        for part in ("test", "unseen"):
            own = one.get(part, {})
            row[part] = write_cell(own.get("dice"))
            row[f"{part}_gain"] = write_cell(own.get("gain"), sign=True)
            row[f"{part}_n"] = own.get("num_patients", "–")
        rows.append(row)
    return rows


def build_style_rows(
    arms: Mapping[str, Any], autoencoder: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Build a row per arm and vendor: how many images look like it, and Dice of their masks; then
    real frames behind the autoencoder, which limit what an arm on latents can draw."""
    real = [
        {"name": f"real frames, decoder {state}", "vendor": vendor, "agrees": write_cell(share),
         "n": share["n"], "dice": MISSING}
        for state, vendors in (autoencoder or {}).items()
        for vendor, share in vendors.items()
    ]  # fmt: skip
    return [
        {
            "name": name, "vendor": vendor, "agrees": write_cell(found["agrees"]),
            "n": (found["agrees"] or {}).get("n", 0), "dice": format_number(found["dice"], False),
        }
        for name, one in arms.items()
        for vendor, found in one["styles"].items()
    ] + real  # fmt: skip


def list_losses(curves: Mapping[str, Path]) -> list[tuple[str, Any]]:
    """Charts of the training losses, where a run logged two readings or more."""
    charts = []
    for name, folder in curves.items():
        if (folder / RECORD).is_file():
            chart = draw_curves(Run.load(folder).read_metrics())
            charts += [(name, chart)] if chart else []
    return charts


def write_cell(one: Mapping[str, Any] | None, *, sign: bool = False) -> str:
    """A value with its interval."""
    if not one:
        return MISSING
    text = format_number(one["value"], False)
    text = f"+{text}" if sign and one["value"] > 0 else text
    if one["low"] is None:
        return f"{text} (no interval)"
    return f"{text} ({format_interval(one['low'], one['high'], False)})"


def write_seconds(seconds: float | None) -> str:
    """Seconds, or minutes where these are many."""
    if seconds is None:
        return MISSING
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _write_times(num: int) -> str:
    return "once" if num == 1 else f"{num} times"
