"""Scores and settings of the report as rows of text: rounding, signs and names in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from echodiff.anatomy import Finding
from echodiff.documents import read_yaml_record
from echodiff.runs import Run

FINDING_NAMES = {
    Finding.ASD: "ASD",
    Finding.VSD: "VSD",
    Finding.LVH: "LV hypertrophy",
    Finding.DILATED_LV: "Dilated LV",
    Finding.DILATED_RV: "Dilated RV",
    Finding.DILATED_LA: "Dilated LA",
    Finding.DILATED_RA: "Dilated RA",
}


LOOK_NAMES = {
    "ms_ssim": "MS-SSIM within the set",
    "ssim": "SSIM to the target",
    "psnr": "PSNR to the target, dB (peak 255)",
    "psnr_mixed": "PSNR, 8-bit peak over an error of 0 to 1, dB (48.13 too high)",
    "mae": "Mean absolute error, grey levels",
    "mse": "Mean squared error, grey levels squared",
    "speckle_snr": "Speckle: mean over standard deviation",
    "spectrum_deviation": "Spectrum: largest deviation of a band, %",
    "sector_share": "Sector: share of the picture",
    "sector_apex": "Sector: column of the apex",
    "sector_symmetry": "Sector: symmetry of its outline",
    "balance": "Grey right less left of the apex",
    "chroma": "Chroma (CIELAB)",
    "colour_drift": "Frames with colours the reference has not",
    "sector_drift": "Frames with a sector unlike the reference",
}
DISTANCES = ("mmd_", "kid_", "fid@", "fd_")
DECISIVE = ("mmd_", "faithfulness", "copies_", "ssim", "psnr", "mae")
"""Scores for the terminal, in this order; one that ends in `_` is of each feature network."""


def score_name(name: str) -> str:
    """A key of metrics.json as a reader knows it."""
    kind, _, rest = name.partition("_")
    features, _, count = rest.partition("@")
    if name in LOOK_NAMES:
        return LOOK_NAMES[name]
    match kind:
        case "precision" | "recall" | "density" | "coverage" | "copies":
            return f"{kind.capitalize()} ({features})"
        case "mmd":
            return f"MMD² ({features})"
        case "kid":
            return f"KID × 1000 ({features})"
        case "fd":
            return f"FD ({features}), n = {count}"
        case "faithfulness" | "specificity" if not rest:
            return f"{kind.capitalize()}, mean over findings"
    return f"FID, n = {name.partition('@')[2]}" if name.startswith("fid@") else name


def build_score_rows(
    titles: Sequence[str], scores: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Distances, then mean shares; set by set under each measure."""
    names = dict.fromkeys(key for one in scores for key in one)
    distances = [name for name in names if name.startswith(DISTANCES)]
    rows: list[dict[str, Any]] = []
    for name in (*distances, "faithfulness", "specificity"):
        for title, of_set in zip(titles, scores, strict=True):
            if (score := of_set.get(name)) is None:
                continue
            is_share = name in {"faithfulness", "specificity"}
            real = score.get("real") if is_share else score.get("floor")
            at_same_n = score["value"] if is_share else score.get("value_at_floor_n")
            same_n = score["n_reference"] if is_share else score.get("floor_n")
            rows.append({
                "name": "" if rows and rows[-1]["key"] == name else score_name(name),
                "key": name,
                "set": title,
                "value": _number(score["value"], is_share),
                "interval": _interval(score["low"], score["high"], is_share),
                "n": score["n"],
                "n_reference": score["n_reference"],
                "real": "–" if real is None else _number(real, is_share),
                "same_n": "" if is_share or real is None else same_n,
                "at_same_n": "" if is_share or real is None else _number(at_same_n, False),
            })  # fmt: skip
    return rows


def build_look_rows(
    titles: Sequence[str], scores: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Variety, copies, pairs and look, with the same of real frames beside it."""
    names = dict.fromkeys(key for one in scores for key in one)
    kinds = ("precision_", "recall_", "density_", "coverage_", "copies_")
    rows: list[dict[str, Any]] = []
    for name in names:
        if not name.startswith(kinds) and name not in LOOK_NAMES:
            continue
        for title, of_set in zip(titles, scores, strict=True):
            if (score := of_set.get(name)) is None:
                continue
            real = score.get("real", score.get("floor"))
            same_n = score.get("floor_n")
            rows.append({
                "name": "" if rows and rows[-1]["key"] == name else score_name(name),
                "key": name,
                "set": title,
                "value": _number(score["value"], False),
                "interval": _interval(score["low"], score["high"], False),
                "n": score["n"],
                "real": "–" if real is None else _number(real, False),
                "same_n": same_n or score["n_reference"],
                "at_same_n": _number(score["value_at_floor_n"], False) if same_n else "",
            })  # fmt: skip
    return rows


def build_difference_rows(differences: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sets compared two by two; below zero the first is nearer to the reference."""
    return [
        {
            "name": score_name(row["score"]),
            "sets": f"{row['first']} less {row['second']}",
            "value": _number(row["value"], False),
            "interval": _interval(row["low"], row["high"], False),
            "p": "–" if row["p_holm"] is None else _p_value(row["p_holm"]),
            "nearer": row["first"] if row["value"] < 0 else row["second"],
            "is_sure": row["p_holm"] is not None and row["p_holm"] < 0.05,
        }
        for row in differences
    ]


def _p_value(p: float) -> str:
    """Below 0.001 a normal tail says nothing more."""
    return f"{p:.2g}" if p >= 0.001 else "< 0.001"


def _number(value: float, is_share: bool) -> str:
    if is_share:
        return f"{100 * value:.0f} %"
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("-", "−")


def _interval(low: float | None, high: float | None, is_share: bool) -> str:
    if low is None or high is None:
        return "–"
    return f"{_number(low, is_share)} to {_number(high, is_share)}"


def list_networks(scores: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """(feature network, what images go through first, hash) of everything that was scored."""
    every = [score for one in scores for score in one.values() if "features" in score]
    found = {s["features"]: (s["features"], s["resize"], s["features_sha256"]) for s in every}
    return list(found.values())


def list_training_facts(run: Run) -> list[tuple[str, str]]:
    """Settings of the training, the ones a reader asks for first."""
    path = run.run_dir / "config.yaml"
    config = read_yaml_record(path) if path.is_file() else {}
    record = run.record
    facts = {
        "Run folder": run.run_dir,
        "Base": f"{record.get('base', '?')} ({str(record.get('base_sha256', '?'))[:12]})",
        "Weights": str(record.get("weights_sha256", "?"))[:12],
        "Frames with caption": record.get("num_captioned"),
        "Frames with null text": record.get("num_null_text"),
        "Frames held out": len(record.get("held_out", [])),
    }
    shown = ("resolution", "rank", "alpha", "learning_rate", "batch_size", "epochs", "max_steps")
    facts |= {key.replace("_", " ").capitalize(): config.get(key) for key in shown}
    facts |= {"Resolution": record.get("resolution"), "Seed": config.get("seed")}
    return [(key, str(value)) for key, value in facts.items() if value is not None]


def list_sampling_facts(job: Mapping[str, Any]) -> list[tuple[str, str]]:
    settings, config = job.get("settings", {}), job.get("config", {})
    facts = {
        "Weights": f"{job.get('weights', '?')} ({job.get('weights_sha256', '?')[:12]})",
        "Prompt file": config.get("prompt_file"),
        "Images": config.get("num_images"),
        "Sampler": f"{settings.get('scheduler', '?')}, {settings.get('steps', '?')} steps",
        "Guidance": settings.get("guidance"),
        "Resolution": settings.get("resolution"),
        "Precision": settings.get("dtype"),
        "Seed": config.get("seed"),
        "Drawn in": _duration(job.get("seconds"), job.get("num_drawn")),
    }
    return [(key, str(value)) for key, value in facts.items() if value is not None]


def _duration(seconds: float | None, num_images: int | None) -> str | None:
    if not seconds or not num_images:
        return None
    return f"{seconds:.0f} s, {1000 * seconds / num_images:.0f} ms an image"


def format_difference(row: Mapping[str, Any]) -> str:
    """One line of a comparison: below zero, the first is nearer to the reference."""
    text = f"{row['score']}: {row['first']} less {row['second']} {row['value']:.4g}"
    if row["p_holm"] is None:
        return text
    return f"{text}  [{row['low']:.4g}, {row['high']:.4g}]  p {_p_value(row['p_holm'])} (Holm)"


def summary_lines(result: Mapping[str, Any], place: Path) -> list[str]:
    """What decides, for the terminal: MMD² beside its baseline, faithfulness, alarms, counts.

    result: scores of one set, as `metrics.json` in the folder `place` holds them. Copies and pairs
    are shown where they were asked for. The last line says where all scores are.
    """
    scores, left_out = result["scores"], result["left_out"]
    shown = [name for kind in DECISIVE for name in (*scores, *left_out)
             if name == kind or (kind.endswith("_") and name.startswith(kind))]  # fmt: skip
    rows = [
        (
            score_name(name).split(",")[0],
            _state(name, scores[name]) if name in scores else f"left out, {left_out[name]}",
        )
        for name in shown
    ]
    rows += [("Alarm", alarm) for alarm in result["alarms"]] or [("Alarms", "none")]
    rest = f"{len(scores)} scores in {place / 'metrics.json'}"
    rows.append(("Report", f"{place / 'report.html'}; all {rest}"))
    width = max(len(title) for title, _ in rows) + 2
    return [f"{title:<{width}}{text}" for title, text in rows]


def _state(name: str, score: Mapping[str, Any]) -> str:
    """One score in words: value, 95 % interval, baseline, counts."""
    is_share = name.startswith(("faithfulness", "copies_"))
    text = _number(score["value"], is_share)
    if score["low"] is not None:
        text += f" ({_interval(score['low'], score['high'], is_share)})"
    if score.get("floor") is not None:
        text += f"; real against real {_number(score['floor'], False)} at n {score['floor_n']}"
        if score["floor_n"] != score["n"]:
            text += f", generated there {_number(score['value_at_floor_n'], False)}"
    if score.get("real") is not None:
        text += f"; real frames {_number(score['real'], is_share)}"
    if score.get("data_range") is not None:
        text += f"; data range {score['data_range']}"
    return f"{text}; n {score['n']}, reference {score['n_reference']}"
