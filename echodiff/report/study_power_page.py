"""The page of `echodiff study power`: which designs reach the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from echodiff.report.study_charts import draw_power
from echodiff.report.template import write_page

TITLES = {"power": "Power to detect the difference",
          "equivalence": "Power to show that images are indistinguishable"}  # fmt: skip


def write_power_page(out: Path, result: Mapping[str, Any]) -> None:
    """Write the page of a power.json."""
    designs = result["designs"]
    write_page(
        out,
        "study_power.html.jinja",
        title="Size of a reader study",
        summary=(
            f"{designs[0]['power']['n']} simulated studies of each design. Difference to detect: "
            f"an AUC of {result['auc']:g} of real against generated images. Margin: "
            f"±{result['margin']:g} of 0.5. Readers: {result['scale']}; standard deviation of "
            f"readers {result['reader_sd']:.2f}, of readers by sources "
            f"{result['interaction_sd']:.2f} (log odds)."
        ),
        verdict=write_verdict(result["smallest"]["power"], result["auc"], result["target"]),
        cards=[],
        charts=[(title, draw_power(designs, key, result["target"]).chart)
                for key, title in TITLES.items()],
        rows=[[row["readers"], row["images"], row["ratings_per_reader"],
               *(write_share(row[key]) for key in ("power", "equivalence", "false_alarms"))]
              for row in designs],
        settings=[(key.replace("_", " ").capitalize(), str(value))
                  for key, value in result["settings"].items() if value not in (None, [])],
    )  # fmt: skip


def write_verdict(found: Sequence[Mapping[str, Any]], auc: float, target: float) -> str:
    """Name the designs that reach the target."""
    if not found:
        return (
            f"None of these designs detects an AUC of {auc:g} with a power of {100 * target:g} %."
        )
    designs = " or ".join(
        f"{one['readers']} readers with {one['images']} images of each source" for one in found
    )
    return f"An AUC of {auc:g} is detected with a power of {100 * target:g} % by {designs}."


def write_share(share: Mapping[str, Any]) -> str:
    """Write a share of studies with its interval."""
    return f"{share['value']:.3f} ({share['low']:.3f} to {share['high']:.3f})"
