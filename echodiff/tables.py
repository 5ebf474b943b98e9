"""Scores and settings of the report as rows of text: rounding, signs and names in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from echodiff.anatomy import Finding
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


def score_name(name: str) -> str:
    """A key of metrics.json as a reader knows it."""
    kind, _, rest = name.partition("_")
    features, _, count = rest.partition("@")
    match kind:
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
    distances = [n for n in names if not n.startswith(("faithfulness", "specificity"))]
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
    import yaml

    path = run.run_dir / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
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
    settings, config = job["settings"], job["config"]
    facts = {
        "Weights": f"{job['weights']} ({job['weights_sha256'][:12]})",
        "Prompt file": config["prompt_file"],
        "Images": config["num_images"],
        "Sampler": f"{settings['scheduler']}, {settings['steps']} steps",
        "Guidance": settings["guidance"],
        "Resolution": settings["resolution"],
        "Precision": settings["dtype"],
        "Seed": config["seed"],
        "Drawn in": _duration(job.get("seconds"), job.get("num_drawn")),
    }
    return [(key, str(value)) for key, value in facts.items() if value is not None]


def _duration(seconds: float | None, num_images: int | None) -> str | None:
    if not seconds or not num_images:
        return None
    return f"{seconds:.0f} s, {1000 * seconds / num_images:.0f} ms an image"
