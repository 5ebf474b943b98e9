"""Gather survey.json: every cell with its n, interval and trainings; nothing that is timed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from echodiff.metrics.frame_features import Networks
from echodiff.runs import versions
from echodiff.segmentation.label_names import name_label
from echodiff.settings.fields import as_dict
from echodiff.survey.compute import LEAST_DECODER_STEPS, ArmPlan
from echodiff.survey.frames import SurveyFrames
from echodiff.survey.gate import check_gate, join_trainings
from echodiff.survey.sets import OWN
from echodiff.survey.stages import join_styles
from echodiff.survey.survey_config import CONTROLNET, DECODER, SurveyConfig, draws_latents
from echodiff.survey.verdict import write_verdicts

_PLACES = ("out", "data", "threads", "checkpoint_every", "dry_run")


def name_distance(networks: Networks) -> str:
    """Name of the distance that decides the gate."""
    return f"mmd_{networks.opened[0].name}"


def list_kept(networks: Networks) -> list[str]:
    """Names of the scores in the table, of all feature networks."""
    names = [network.name for network in networks.opened]
    kinds = ("mmd", "density", "coverage", "copies")
    return [*(f"{kind}_{name}" for name in names for kind in kinds), "obedience"]


def build_table(
    config: SurveyConfig,
    frames: SurveyFrames,
    networks: Networks,
    plan: Mapping[str, ArmPlan],
    scores: Mapping[str, list[dict[str, Any]]],
    *,
    noise: Mapping[str, Any],
    classifier: Mapping[str, Any] | None,
    autoencoder: Mapping[str, Any] | None,
    segmentations: Mapping[str, Any],
    speed: Mapping[str, Any] | None,
    audits: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of survey.json. scores: of every training of every arm."""
    distance = name_distance(networks)
    arms = {}
    for arm, trainings in scores.items():
        own = [one[OWN]["scores"] for one in trainings]
        arms[arm] = {
            "training": {
                "num_steps": plan[arm].num_steps,
                "teraflops": round(plan[arm].flops / 1e12, 6),
                "num_parameters": plan[arm].cost.num_parameters,
                "num_trained": plan[arm].cost.num_trained,
            },
            "gate": check_gate(
                [one[OWN] for one in trainings], noise["scores"][distance]["value"], distance
            ).to_record(),
            "scores": {
                name: join_trainings([one.get(name) for one in own]) for name in list_kept(networks)
            },
            "curve": _join_curve(trainings, distance),
            "styles": join_styles(trainings),
            "audit": audits[arm],
            "alarms": sorted({alarm for one in trainings for alarm in one[OWN]["alarms"]}),
        }
    result: dict[str, Any] = {
        "distance": distance,
        "copies": distance.replace("mmd_", "copies_"),
        "arms": arms,
        "noise": noise["scores"][distance]["value"],
        "classifier": classifier,
        "autoencoder": autoencoder,
        "segmentations": segmentations,
        "flow_over_diffusion": speed,
        "held_out": list(config.held_out),
        "vendors": list(frames.vendors),
        "labels": [name_label(label) for label in frames.segmented],
        "counts": {
            "train": len(frames.train), "test": len(frames.test),
            "unseen": len(frames.unseen) if frames.unseen else 0,
        },
        "notes": [*frames.notes, *networks.notes, *_find_notes(config, plan)],
        "settings": {k: v for k, v in as_dict(config).items() if k not in _PLACES},
        "versions": versions(),
    }  # fmt: skip
    return {"verdict": write_verdicts(result), **result}


def _join_curve(trainings: list[dict[str, Any]], distance: str) -> dict[str, Any]:
    steps = trainings[0]["curve"] if trainings else {}
    return {
        str(one): join_trainings([training["curve"][one].get(distance) for training in trainings])
        for one in steps
    }


def _find_notes(config: SurveyConfig, plan: Mapping[str, ArmPlan]) -> list[str]:
    """What of the plan a reader of the table must know."""
    notes = []
    sizes = {arm: one.cost.num_parameters for arm, one in plan.items()
             if arm not in (CONTROLNET, DECODER)}  # fmt: skip
    if max(sizes.values(), default=0) > 1.1 * min(sizes.values(), default=0):
        told = ", ".join(f"{arm} {num:,}" for arm, num in sizes.items())
        notes.append(f"sizes could not be matched within 10 % of each other: {told} weights")
    if config.seeds < 2:
        notes.append("one training of each arm: intervals do not hold what another would change")
    if CONTROLNET in plan:
        notes.append(
            "controlnet counts the operations of its own training, and of the decoder where one is "
            "fitted, not those of its base, which was trained before on other frames"
        )
    if DECODER not in plan and any(draws_latents(arm, config.space) for arm in config.arms):
        notes.append(
            f"the decoder of --base {config.base} is as it was: none was asked for, or its share "
            f"of the operations pays for fewer than {LEAST_DECODER_STEPS} steps"
        )
    return notes
