"""The page of `echodiff utility`: verdict, Dice over the share of real patients, all arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from echodiff.report.cards import NUM_CARDS, Card
from echodiff.report.charts import Chart, draw_dice_by_share
from echodiff.report.tables import format_interval, format_number
from echodiff.report.template import write_page

SIGNIFICANT_P = 0.05
REAL_ONLY = "real only"
MEASURES = {"dice": "Dice", "hd95": "HD95", "assd": "ASSD"}


def write_utility_page(out: Path, result: Mapping[str, Any]) -> None:
    """Write the page of a utility.json."""
    arms = result["arms"]
    unit = next(iter(arms.values()))["unit"]
    write_page(
        out,
        "utility.html.jinja",
        title="Utility of synthetic frames",
        summary=(
            f"{result['settings']['network']} trained for {result['settings']['steps']} steps in "
            f"every arm, with {result['settings']['seeds']} seeds; tested on "
            f"{result['num_test']} real frames of patients that no network and no generator saw."
        ),
        verdict=result["verdict"],
        cards=build_worth_cards(result["worth"]),
        chart=draw_chart(arms),
        worth=[one["sentence"] for one in result["worth"]],
        arm_rows=build_arm_rows(arms),
        contrast_rows=build_contrast_rows(result["contrasts"]),
        label_rows=build_label_rows(arms, result["labels"]),
        subset_rows=build_subset_rows(arms),
        subsets=list_subsets(arms),
        unit="mm" if unit == "mm" else "pixels",
        left_out=list(result["left_out"].items()),
        notes=result["notes"],
        settings=[(key.replace("_", " ").capitalize(), str(value))
                  for key, value in result["settings"].items() if value not in (None, [])],
    )  # fmt: skip


def draw_chart(arms: Mapping[str, Any]) -> Chart | None:
    """Draw Dice against the share of real patients, with and without each synthetic set."""
    curves: dict[str, list[dict[str, Any]]] = {REAL_ONLY: []}
    for one in arms.values():
        if one["classical"] or one["ratio"] is not None:
            continue
        name = f"with {one['synthetic']}" if one["synthetic"] else REAL_ONLY
        dice = one["frames"]["all"]["dice"]
        curves.setdefault(name, []).append({"share": one["share"], **dice})
    for rows in curves.values():
        rows.sort(key=lambda row: float(row["share"]))
    return draw_dice_by_share(curves)


def build_worth_cards(worth: Sequence[Mapping[str, Any]]) -> list[Card]:
    """Build a card per set and share of real patients: how many real frames it is worth."""
    return [
        Card(
            label=f"{one['num_synthetic']} synthetic frames ({one['synthetic']}) with "
                  f"{one['share']} % of the real patients",
            value=_bounded(one["value"], one["most"]),
            interval=f"real frames; 95 % interval {_bounded(one['low'], one['most'])} to "
                     f"{_bounded(one['high'], one['most'])}",
            note=f"Next to {one['num_real']:.0f} real frames.",
        )
        for one in worth
    ][:NUM_CARDS]  # fmt: skip


def build_arm_rows(arms: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Build a row per arm: frames, Dice, by phase, and the error of the ejection fraction."""
    rows = []
    for name, one in arms.items():
        ejection = one["ejection"] or {}
        absolute, bias = ejection.get("absolute"), ejection.get("bias")
        rows.append({
            "name": name,
            "real": f"{one['num_real']:.0f}",
            "synthetic": one["num_synthetic"],
            **_mean("dice", one["frames"]["all"]["dice"]),
            **{phase: _write_phase(one["frames"].get(phase)) for phase in ("ED", "ES")},
            "ejection": "–" if absolute is None else format_number(absolute["value"], False),
            "ejection_interval": "–" if absolute is None
                                 else format_interval(absolute["low"], absolute["high"], False),
            "bias": "–" if bias is None else format_number(bias["value"], False),
            "ejection_n": ejection.get("num_patients", 0),
        })  # fmt: skip
    return rows


def build_contrast_rows(contrasts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Build rows of differences in mean Dice; above zero, the first arm is better."""
    return [
        {
            "name": f"{one['first']} less {one['second']}",
            **_mean("dice", one),
            "p": "–" if one["p_holm"] is None else
                 f"{one['p_holm']:.2g}" if one["p_holm"] >= 0.001 else "< 0.001",
            "better": "no significant difference"
                      if one["p_holm"] is None or one["p_holm"] >= SIGNIFICANT_P
                      else one["first"] if one["value"] > 0 else one["second"],
        }
        for one in contrasts
    ]  # fmt: skip


def build_label_rows(arms: Mapping[str, Any], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Build rows of Dice, HD95 and ASSD of every label and arm."""
    rows: list[dict[str, Any]] = []
    for label in labels:
        for name, one in arms.items():
            found = one["frames"]["all"].get(label)
            if found is None:
                continue
            is_first = not rows or rows[-1]["label"] != label
            rows.append({
                "label": label, "title": label.replace("_", " ") if is_first else "", "name": name,
                **{key: value for measure in MEASURES
                   for key, value in _mean(measure, found[measure]).items()},
                "missed": format_number(found["num_missed"], False),
            })  # fmt: skip
    return rows


def list_subsets(arms: Mapping[str, Any]) -> list[tuple[str, int]]:
    """List vendors and views of the test frames with their counts, where there are several."""
    frames = next(iter(arms.values()))["frames"]
    names = [name for name in frames if " " in name]
    kinds = [name.partition(" ")[0] for name in names]
    return [(name, frames[name]["n"]) for name, kind in zip(names, kinds, strict=True)
            if kinds.count(kind) > 1]  # fmt: skip


def build_subset_rows(arms: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Build rows of mean Dice by vendor and view."""
    subsets = [name for name, _ in list_subsets(arms)]
    return [
        (name, [_write_mean(one["frames"][subset]["dice"]) for subset in subsets])
        for name, one in arms.items()
    ]  # fmt: skip


def _mean(name: str, mean: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: format_number(mean["value"], False),
        f"{name}_interval": format_interval(mean["low"], mean["high"], False),
    }


def _write_phase(found: Mapping[str, Any] | None) -> str:
    return "–" if found is None else format_number(found["dice"]["value"], False)


def _write_mean(mean: Mapping[str, Any]) -> str:
    text = format_number(mean["value"], False)
    if mean["low"] is None:
        return text
    return f"{text} ({format_interval(mean['low'], mean['high'], False)})"


def _bounded(number: float, most: float) -> str:
    return f"{number:.0f}" if number < most else f"at least {most:.0f}"
