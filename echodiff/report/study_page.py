"""The page of `echodiff study analyze`: verdict, cards, figures, and all tables of the analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from echodiff.files import write_text_atomic
from echodiff.report.cards import NUM_CARDS, SIGNIFICANT_P, Card
from echodiff.report.study_charts import Figures, draw_aucs, draw_experience, draw_scores
from echodiff.report.template import write_page

NONE = "–"
PREDICTORS = {"experience_years": "Years of experience", "weekly_readings": "Weekly readings"}
AGREEMENT = {"alpha": "Krippendorff's alpha, ordinal", "kappa": "Weighted kappa, mean of pairs",
             "icc": "ICC(A,1)"}  # fmt: skip
RELIABILITY = {"kappa": "Weighted kappa", "same": "Same score", "within_one": "At most one apart",
               "drift": "Second less first score"}  # fmt: skip


def write_study_page(out: Path, result: Mapping[str, Any], *, figures: Path) -> None:
    """Write the page of an analysis.json, and its figures as SVG files to a folder."""
    drawn = draw_figures(result)
    for name, one in drawn.items():
        write_text_atomic(figures / f"{name}.svg", one.document)
    design = result.get("design")
    write_page(
        out,
        "study.html.jinja",
        title="Reader study",
        summary=write_summary(design),
        verdict=result["verdict"],
        cards=build_cards(result),
        charts={name: one.chart for name, one in drawn.items()},
        auc_rows=build_auc_rows(result),
        pair_rows=build_pair_rows(result),
        means=result.get("main", {}).get("means", []),
        published=result.get("as_published"),
        model=result.get("model"),
        agreement=name_rows(result.get("agreement"), AGREEMENT),
        reliability=name_rows(result.get("reliability"), RELIABILITY),
        experience=[row | {"title": PREDICTORS[row["predictor"]]}
                    for row in result.get("experience", [])],
        ticks=pivot_ticks(result.get("ticks", []), design),
        sources=[] if design is None else list(design["num_images"]),
        times=result.get("times", []),
        diagnosis=result.get("diagnosis"),
        variety=result.get("variety"),
        notes=result["notes"],
        settings=list_settings(result),
        show=show, show_p=show_p, show_interval=show_interval, show_share=show_share,
    )  # fmt: skip


def write_summary(design: Mapping[str, Any] | None) -> str:
    """Say what was rated, in one or two sentences."""
    if design is None:
        return "Diagnoses of the same cases with and without generated images."
    images = ", ".join(f"{name} {count}" for name, count in design["num_images"].items())
    return (
        f"{design['num_readers']} readers gave {design['num_ratings']} ratings from 1 (very "
        f"unlikely real) to 5 (very likely real), blinded to the source. Images: {images}; "
        f"{design['num_shared_images']} of them were rated by several readers. Repeats of the same "
        f"image: {design['num_repeats']}."
    )


def draw_figures(result: Mapping[str, Any]) -> dict[str, Figures]:
    """Draw the figures that the analysis has numbers for, by name."""
    found: dict[str, Figures] = {}
    if "main" not in result:
        return found
    if result["main"]["auc"]:
        found["auc"] = draw_aucs(result["main"]["auc"])
    found["scores"] = draw_scores(result["as_published"]["means"])
    for predictor in PREDICTORS:
        one = draw_experience(result["main"]["means"], result["readers"], predictor)
        if one is not None:
            found[predictor] = one
    return found


def build_cards(result: Mapping[str, Any]) -> list[Card]:
    """Build a card per generated source, and one of diagnoses."""
    cards = []
    for row in result.get("main", {}).get("auc", []):
        equal = row["equivalence"]
        cards.append(Card(
            label=f"AUC of real images against {row['source']}",
            value=show(row["value"]),
            interval=f"95 % interval {show_interval(row)}, n {row['n']} readers",
            note=f"Chance: 0.5. Different from it: p {show_p(row['p_holm'])}. Within "
                 f"±{equal['margin']:g} of it: p {show_p(equal['p_holm'])}.",
        ))  # fmt: skip
    found = result.get("diagnosis")
    if found and "left_out" not in found:
        cards.append(Card(
            label="Gain in diagnostic accuracy with generated images",
            value=f"{100 * found['value']:+.1f} points",
            interval=f"95 % interval {show_interval(found, 100)}, n {found['n']} readers",
            note=f"p {show_p(found['p'])}. Published: {100 * found['published']:.0f} points.",
        ))  # fmt: skip
    return cards[:NUM_CARDS]


def build_auc_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Build a row per source: main test, equivalence, variance over images, coverage."""
    both = {row["source"]: row for row in result.get("multireader", [])}
    return [
        row | {"both": both.get(row["source"]),
               "coverage": (result.get("variety") or {}).get(row["source"])}
        for row in result.get("main", {}).get("auc", [])
    ]  # fmt: skip


def build_pair_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Build a row of every two sources, which names the one that is scored as more real."""
    both = {(row["first"], row["second"]): row for row in result.get("multireader_pairs", [])}
    rows = []
    for row in result.get("main", {}).get("pairs", []):
        is_open = row["p_holm"] >= SIGNIFICANT_P
        nearer = row["second"] if row["value"] > 0 else row["first"]
        rows.append({
            **row,
            "nearer": "no significant difference" if is_open else nearer,
            "both": both.get((row["first"], row["second"])),
        })  # fmt: skip
    return rows


def name_rows(found: Mapping[str, Any] | None, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the rows that are there with their titles, or the reason why there are none."""
    if found is None:
        return {"left_out": "", "rows": []}
    rows = [found[key] | {"title": title} for key, title in names.items() if key in found]
    return {"left_out": found.get("left_out", ""), "rows": rows}


def pivot_ticks(
    rows: Sequence[Mapping[str, Any]], design: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Arrange shares of tick boxes as a row per box and a cell per source."""
    sources = [] if design is None else list(design["num_images"])
    cells = {(row["tick"], row["source"]): row for row in rows}
    return [
        {"name": tick.replace("_", " ").capitalize(),
         "cells": [cells.get((tick, source)) for source in sources]}
        for tick in dict.fromkeys(row["tick"] for row in rows)
    ]  # fmt: skip


def list_settings(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List settings and the hashes of the files that were read."""
    settings = [
        (key.replace("_", " ").capitalize(), str(value))
        for key, value in result["settings"].items()
        if value not in (None, [])
    ]
    return settings + [(f"SHA-256 of {name}", sha) for name, sha in result["inputs"].items()]


def show(value: float | None, digits: int = 2) -> str:
    """Write a number, or a dash."""
    return NONE if value is None else f"{value:.{digits}f}".replace("-", "−")


def show_p(value: float | None) -> str:
    """Write a p-value."""
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def show_interval(row: Mapping[str, Any], factor: float = 1, ends: str = "") -> str:
    """Write the interval of a row, times a factor, or a dash."""
    low, high = row[f"low{ends}"], row[f"high{ends}"]
    if low is None or high is None:
        return NONE
    digits = 2 if factor == 1 else 1
    return f"{show(low * factor, digits)} to {show(high * factor, digits)}"


def show_share(row: Mapping[str, Any] | None) -> str:
    """Write a share with its interval in percent, or a dash."""
    if row is None:
        return NONE
    if row["low"] is None:
        return f"{100 * row['value']:.0f} %"
    return f"{100 * row['value']:.0f} % ({100 * row['low']:.0f} to {100 * row['high']:.0f})"
