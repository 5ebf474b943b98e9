"""Format scores and settings as rows of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echodiff.anatomy import Finding
from echodiff.documents import read_yaml_record
from echodiff.metrics.score import Score, read_scores
from echodiff.metrics.score_name import COVERAGES, DISTANCES, OF_MASKS, Kind, ScoreName
from echodiff.runs import Run

if TYPE_CHECKING:
    from echodiff.metrics.comparison import Difference

FINDING_NAMES = {
    Finding.ASD: "ASD",
    Finding.VSD: "VSD",
    Finding.LVH: "LV hypertrophy",
    Finding.DILATED_LV: "Dilated LV",
    Finding.DILATED_RV: "Dilated RV",
    Finding.DILATED_LA: "Dilated LA",
    Finding.DILATED_RA: "Dilated RA",
    Finding.SEPTAL_HYPERTROPHY: "Septal hypertrophy",
    Finding.RVH: "RV hypertrophy",
    Finding.HYPOPLASTIC_LV: "Hypoplastic LV",
    Finding.HYPOPLASTIC_RV: "Hypoplastic RV",
    Finding.THICKENED_VALVES: "Thickened valves",
    Finding.COMMON_AV_VALVE: "Common AV valve",
    Finding.PERICARDIAL_EFFUSION: "Pericardial effusion",
}

LOOK_NAMES: dict[Kind, str] = {
    Kind.MS_SSIM: "MS-SSIM within the set",
    Kind.SSIM: "SSIM to the target",
    Kind.PSNR: "PSNR to the target, dB (peak 255)",
    Kind.PSNR_MIXED: "PSNR, 8-bit peak over an error of 0 to 1, dB (48.13 too high)",
    Kind.MAE: "Mean absolute error, grey levels",
    Kind.MSE: "Mean squared error, grey levels squared",
    Kind.SPECKLE_SNR: "Speckle: mean over standard deviation",
    Kind.SPECTRUM_DEVIATION: "Spectrum: largest deviation of a band, %",
    Kind.SECTOR_SHARE: "Sector: share of the image",
    Kind.SECTOR_APEX: "Sector: column of the apex",
    Kind.SECTOR_SYMMETRY: "Sector: symmetry of its outline",
    Kind.BALANCE: "Grey right less left of the apex",
    Kind.CHROMA: "Chroma (CIELAB)",
    Kind.COLOUR_DRIFT: "Frames with colours the reference has not",
    Kind.SECTOR_DRIFT: "Frames with a sector unlike the reference",
}
MASK_NAMES: dict[Kind, str] = {
    Kind.MASK_DICE: "Dice with the asked-for mask",
    Kind.MASK_HD95: "HD95",
    Kind.MASK_ASSD: "ASSD",
    Kind.OBEDIENCE: "Obedience to masks",
}
DECISIVE = ("intact", "obedience", "mmd_", "faithfulness", "copies_", "ssim", "psnr", "mae")
"""Scores for the terminal, in this order; one that ends in `_` is of each feature network."""
_SHARES = frozenset({Kind.INTACT, Kind.FAITHFULNESS, Kind.SPECIFICITY})
_OF_SETS = frozenset({*COVERAGES, Kind.COPIES})


def score_name(name: str) -> str:
    """Return the display name of a key of metrics.json."""
    parsed = ScoreName.parse(name)
    return name if parsed is None else _describe(parsed)


def _describe(name: ScoreName) -> str:
    if name.kind in LOOK_NAMES:
        return LOOK_NAMES[name.kind]
    if name.kind in OF_MASKS:
        label = name.label.replace("_", " ").replace("lv", "LV").replace("la", "LA")
        return f"{MASK_NAMES[name.kind]}, {label or 'mean over labels'}"
    if name.kind in _OF_SETS:
        return f"{name.kind.capitalize()} ({name.features})"
    match name.kind:
        case Kind.MMD:
            return f"MMD² ({name.features})"
        case Kind.KID:
            return f"KID × 1000 ({name.features})"
        case Kind.FD:
            return f"FD ({name.features}), n = {name.count}"
        case Kind.FID:
            return f"FID, n = {name.count}"
        case Kind.MMD_RATIO:
            return f"MMD² ratio ({name.features})"
        case Kind.FAITHFULNESS | Kind.SPECIFICITY if not name.finding:
            return f"{name.kind.capitalize()}, mean over findings"
        case Kind.INTACT if name.criterion:
            return f"Intact anatomy: {name.criterion.replace('_', ' ')}"
        case Kind.INTACT:
            return "Intact anatomy, all criteria"
    return str(name)


def build_score_rows(
    titles: Sequence[str], records: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Build rows of intact anatomy, distances and mean shares, with the sets under each measure."""
    scores = [read_scores(one) for one in records]
    names = dict.fromkeys(score.name for one in scores for score in one.values())
    shown = [name for name in names if name.kind in DISTANCES]
    shown += [ScoreName(kind) for kind in (Kind.FAITHFULNESS, Kind.SPECIFICITY)]
    shown = [ScoreName(Kind.INTACT), *shown]
    rows: list[dict[str, Any]] = []
    for name in shown:
        for title, of_set in zip(titles, scores, strict=True):
            if (score := of_set.get(str(name))) is None:
                continue
            is_share = name.kind in _SHARES
            real = score.real if is_share else score.floor
            has_floor = not is_share and real is not None
            rows.append({
                **_shown(name, title, score, rows, is_share),
                "n_reference": score.n_reference,
                "real": "–" if real is None else format_number(real, is_share),
                "same_n": score.floor_n if has_floor else "",
                "at_same_n": format_number(score.value_at_floor_n, False) if has_floor else "",
            })  # fmt: skip
    return rows


def build_look_rows(
    titles: Sequence[str], records: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Build rows of single criteria of anatomy, diversity, copies, pairs and appearance, next to
    those of real frames."""
    scores = [read_scores(one) for one in records]
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(score.name for one in scores for score in one.values()):
        if name.kind not in _OF_SETS and name.kind not in LOOK_NAMES and not name.criterion:
            continue
        is_share = name.kind in _SHARES
        for title, of_set in zip(titles, scores, strict=True):
            if (score := of_set.get(str(name))) is None:
                continue
            real = score.floor if name.kind in COVERAGES else score.real
            same_n = score.floor_n
            rows.append({
                **_shown(name, title, score, rows, is_share),
                "real": "–" if real is None else format_number(real, is_share),
                "same_n": same_n or score.n_reference,
                "at_same_n": format_number(score.value_at_floor_n, False) if same_n else "",
            })  # fmt: skip
    return rows


def build_mask_rows(
    titles: Sequence[str], records: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Build rows of the agreement with masks: value, ceiling (real frames and their own masks),
    floor (the same frames and the masks of other patients)."""
    scores = [read_scores(one) for one in records]
    rows: list[dict[str, Any]] = []
    names = dict.fromkeys(score.name for one in scores for score in one.values())
    order = {kind: place for place, kind in enumerate((Kind.OBEDIENCE, *MASK_NAMES))}
    shown = [name for name in names if name.kind in OF_MASKS]
    for name in sorted(shown, key=lambda one: order[one.kind]):
        for title, of_set in zip(titles, scores, strict=True):
            if (score := of_set.get(str(name))) is not None:
                rows.append({
                    **_shown(name, title, score, rows, False),
                    "unit": score.unit or "",
                    "ceiling": format_number(score.real, False),
                    "floor": format_number(score.floor, False),
                    "missed": "–" if score.num_missed is None else score.num_missed,
                })  # fmt: skip
    return rows


def _shown(
    name: ScoreName, title: str, score: Score, above: Sequence[Mapping[str, Any]], is_share: bool
) -> dict[str, Any]:
    """Return what all rows share; a repeated name is left out."""
    return {
        "name": "" if above and above[-1]["key"] == str(name) else _describe(name),
        "key": str(name),
        "set": title,
        "value": format_number(score.value, is_share),
        "interval": format_interval(score.low, score.high, is_share),
        "n": score.n,
    }


def build_difference_rows(differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """Build rows of pairwise comparisons; below zero, the first set is nearer to the reference."""
    return [
        {
            "name": score_name(one.score),
            "sets": f"{one.first} less {one.second}",
            "value": format_number(one.value, False),
            "interval": format_interval(one.low, one.high, False),
            "p": "–" if one.p_holm is None else _p_value(one.p_holm),
            "nearer": one.first if one.value < 0 else one.second,
            "is_sure": one.p_holm is not None and one.p_holm < 0.05,
        }
        for one in differences
    ]


def _p_value(p: float) -> str:
    """Below 0.001 a normal tail is not informative."""
    return f"{p:.2g}" if p >= 0.001 else "< 0.001"


def format_number(value: float | None, is_share: bool) -> str:
    if value is None:
        return "–"
    if is_share:
        return without_minus_0(f"{100 * value:.0f} %").replace("-", "−")
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return without_minus_0(text).replace("-", "−")


def without_minus_0(text: str) -> str:
    """A number as written, without the sign where all of its digits are 0."""
    digits = text.partition("e")[0]
    return text if any(digit in digits for digit in "123456789") else text.replace("-", "")


def format_interval(low: float | None, high: float | None, is_share: bool) -> str:
    if low is None or high is None:
        return "–"
    return f"{format_number(low, is_share)} to {format_number(high, is_share)}"


def list_networks(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """List (feature network, preprocessing of images, hash) of all scores."""
    every = [score for one in records for score in read_scores(one).values() if score.features]
    found = {s.features: (s.features, s.resize, s.features_sha256) for s in every}
    return list(found.values())


def list_training_facts(run: Run) -> list[tuple[str, str]]:
    """List the main settings of a training."""
    path = run.run_dir / "config.yaml"
    config = read_yaml_record(path) if path.is_file() else {}
    record = run.record
    facts = {
        "Run folder": run.run_dir,
        "Base": f"{record.get('base', '?')} ({str(record.get('base_sha256', '?'))[:12]})",
        "Weights": str(record.get("weights_sha256", "?"))[:12],
        "Frames with caption": record.get("num_captioned"),
        "Frames with empty prompt": record.get("num_null_text"),
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
        "LoRA scale": settings.get("lora_scale"),
        "Prompt file": config.get("prompt_file"),
        "Masks": config.get("masks"),
        "Kind": settings.get("kind"),
        "Conditioning scale": settings.get("conditioning_scale"),
        "Images": config.get("num_images"),
        "Sampler": f"{settings.get('scheduler', '?')}, {settings.get('steps', '?')} steps",
        "Guidance": settings.get("guidance"),
        "Guidance interval": _interval_of_steps(settings.get("guidance_interval")),
        "Retries": settings.get("retries"),
        "Resolution": settings.get("resolution"),
        "Precision": settings.get("dtype"),
        "Seed": config.get("seed"),
        "Drawn in": _duration(job.get("seconds"), job.get("num_drawn")),
    }
    return [(key, str(value)) for key, value in facts.items() if value is not None]


def _interval_of_steps(interval: Sequence[float] | None) -> str | None:
    """A part of the steps in words; None for all steps."""
    if interval is None or list(interval) == [0, 1]:
        return None
    return f"{100 * interval[0]:g} to {100 * interval[1]:g} % of the steps"


def _duration(seconds: float | None, num_images: int | None) -> str | None:
    if not seconds or not num_images:
        return None
    return f"{seconds:.0f} s, {1000 * seconds / num_images:.0f} ms an image"


def format_difference(one: Difference) -> str:
    """Format a comparison: below zero, the first set is nearer to the reference."""
    text = f"{one.score}: {one.first} less {one.second} {one.value:.4g}"
    if one.p_holm is None:
        return text
    return f"{text}  [{one.low:.4g}, {one.high:.4g}]  p {_p_value(one.p_holm)} (Holm)"


def summary_lines(result: Mapping[str, Any], place: Path) -> list[str]:
    """List the main scores for the terminal: MMD² and its baseline, faithfulness, notes, alarms.

    result: scores of one set, as `metrics.json` in the folder `place` holds them. Copies and pairs
    are shown if requested. The last line gives the file of all scores.
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
    rows += [("Note", note) for note in result.get("notes", ())]
    rows += [("Alarm", alarm) for alarm in result["alarms"]] or [("Alarms", "none")]
    rest = f"{len(scores)} scores in {place / 'metrics.json'}"
    rows.append(("Report", f"{place / 'report.html'}; all {rest}"))
    width = max(len(title) for title, _ in rows) + 2
    return [f"{title:<{width}}{text}" for title, text in rows]


def _state(name: str, score: Mapping[str, Any]) -> str:
    """One score in words: value, 95 % interval, baseline, counts."""
    is_share = name.startswith(("intact", "faithfulness", "copies_"))
    text = format_number(score["value"], is_share)
    if score["low"] is not None:
        text += f" ({format_interval(score['low'], score['high'], is_share)})"
    if score.get("floor_n") is not None:
        text += (
            f"; real against real {format_number(score['floor'], False)} at n {score['floor_n']}"
        )
        if score["floor_n"] != score["n"]:
            text += f", generated there {format_number(score['value_at_floor_n'], False)}"
    if name == Kind.OBEDIENCE:
        ends = format_number(score["floor"], False), format_number(score["real"], False)
        text += f"; Dice at the floor {ends[0]}, at the ceiling {ends[1]}"
    elif score.get("real") is not None:
        text += f"; real frames {format_number(score['real'], is_share)}"
    if score.get("data_range") is not None:
        text += f"; data range {score['data_range']}"
    return f"{text}; n {score['n']}, reference {score['n_reference']}"
