"""The stages of a comparison after the trainings: draw the sets of an arm, and score them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from echodiff.survey.frames import TEST, TRAIN, load_part
from echodiff.survey.gate import join_trainings
from echodiff.survey.scoring import Judge, keep
from echodiff.survey.segmentations import find_set
from echodiff.survey.sets import (
    OWN,
    SYNTHETIC,
    Asked,
    Draws,
    ask_own,
    ask_random_styles,
    ask_steps,
    ask_vendor,
    write_set,
)
from echodiff.survey.survey_config import DENOISING, Arm, SurveyConfig
from echodiff.survey.timings import Timings


@dataclass(frozen=True)
class Drawing:
    """What every arm is asked to draw."""

    own: Asked
    """For held-out masks, in their own styles."""
    others: tuple[Asked, ...]
    """The rest: for the segmentation, in every style, and with other numbers of steps."""
    vendors: tuple[str, ...]

    def sets_of(self, arm: Arm) -> list[Asked]:
        """Sets of an arm: only diffusion and flow are drawn with several numbers of steps."""
        return [self.own, *(one for one in self.others
                            if arm in DENOISING or not one.title.startswith("steps-"))]  # fmt: skip


def plan_drawing(config: SurveyConfig, folder: Path, vendors: tuple[str, ...]) -> Drawing:
    """List the sets; random styles and style transfer need two vendors."""
    test, train = load_part(folder, TEST), load_part(folder, TRAIN)
    steps = config.sample_steps
    own = ask_own(OWN, folder, test, vendors, config.num_images, steps)
    synthetic = ask_own(SYNTHETIC, folder, train, vendors, config.num_synthetic, steps)
    others = [synthetic]
    if len(vendors) > 1:
        others.append(ask_random_styles(synthetic, vendors, seed=config.seed))
        others += [ask_vendor(own, vendor, vendors) for vendor in vendors]
    others += [ask_steps(own, one) for one in config.curve_steps if one != steps]
    return Drawing(own, tuple(others), vendors)


def draw_sets(
    config: SurveyConfig, arm: Arm, number: int, source: Draws, drawing: Drawing, timings: Timings
) -> None:
    """Draw all sets of one training that are missing."""
    for asked in drawing.sets_of(arm):
        seconds = write_set(
            find_set(config, arm, number, asked.title), asked, source, seed=config.seed + number
        )
        if seconds is not None and asked.title == OWN:
            timings.add(arm, number, seconds_an_image=seconds)


def score_sets_of(
    config: SurveyConfig, arm: Arm, number: int, drawing: Drawing, judge: Judge
) -> dict[str, Any]:
    """Scores of all sets of one training, from the files that keep them or anew."""

    def path(title: str) -> Path:
        return config.out / "scores" / arm / f"seed-{number}" / f"{title}.json"

    def folder(title: str) -> Path:
        return find_set(config, arm, number, title)

    found: dict[str, Any] = {OWN: keep(path(OWN), partial(judge.score_fully, folder(OWN)))}
    curve, styles = dict[int, Any](), dict[str, Any]()
    for asked in drawing.sets_of(arm):
        title = asked.title
        if title.startswith("steps-"):
            distances = keep(path(title), partial(judge.score_distances, folder(title)))
            curve[asked.num_steps] = distances["scores"]
        elif title.startswith("style-"):
            vendor = asked.vendors[0]
            styles[vendor] = keep(path(title), partial(judge.score_style, folder(title), vendor))
    if arm in DENOISING and config.sample_steps in config.curve_steps:
        curve[config.sample_steps] = found[OWN]["scores"]
    return found | {"curve": dict(sorted(curve.items())), "styles": styles}


def compare_speed(config: SurveyConfig, judge: Judge) -> dict[str, Any] | None:
    """Ratios of flow's distances with few steps to those of diffusion with many, by distance; None
    without both arms.

    Few are 8, or the next larger of --curve-steps; many are --sample-steps.
    """
    few = min((one for one in config.curve_steps if one >= 8), default=max(config.curve_steps))
    if not {"flow", "diffusion"} <= set(config.arms) or few >= config.sample_steps:
        return None
    found = []
    for number in range(config.seeds):
        sets = (find_set(config, "diffusion", number, OWN),
                find_set(config, "flow", number, f"steps-{few}"))  # fmt: skip
        path = config.out / "scores" / "flow" / f"seed-{number}" / f"over-diffusion-{few}.json"
        found.append(keep(path, partial(judge.compare, *sets))["scores"])
    names = [network.name for network in judge.networks.opened]
    ratios = {f"mmd_{name}": join_trainings([one.get(f"mmd_ratio_{name}") for one in found])
              for name in names}  # fmt: skip
    return {"flow_steps": few, "diffusion_steps": config.sample_steps, "ratios": ratios}


def join_styles(trainings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Agreement with the asked-for vendor, and Dice, by vendor: means over trainings."""
    vendors = trainings[0]["styles"] if trainings else {}
    return {
        vendor: {
            "agrees": join_trainings([one["styles"][vendor]["agrees"] for one in trainings]),
            "dice": _mean([one["styles"][vendor]["dice"] for one in trainings]),
        }
        for vendor in vendors
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
