"""What a comparison will take: operations, time and disk, stated before it starts."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from echodiff.anatomy import Label
from echodiff.segmentation.label_names import name_label
from echodiff.segmentation.labelled_frames import encode_labels
from echodiff.segmentation.networks import Architecture, build_network
from echodiff.segmentation.segmentation_config import TrainSegmentationConfig
from echodiff.segmentation.trainer import SegmentationTrainer
from echodiff.survey.compute import TIMED_STEPS, ArmPlan, measure_step
from echodiff.survey.frames import SurveyFrames
from echodiff.survey.segmentations import list_segmentations
from echodiff.survey.survey_config import CONTROLNET, DECODER, DENOISING, SurveyConfig

BYTES_A_WEIGHT = 4
PASSES_A_STEP = 3
"""Passes through a network that one optimizer step costs: forward, and twice that backward."""
CHECKPOINT_COPIES = 4
"""Of the weights in a checkpoint: the average, and Adam's two moments."""
GIBI, TERA = 2**30, 1e12


def list_costs(
    config: SurveyConfig,
    frames: SurveyFrames,
    plan: Mapping[str, ArmPlan],
    device: torch.device,
) -> list[str]:
    """Lines on frames, on every arm, and on time and disk in all."""
    unseen = f", {len(frames.unseen)} of held-out vendors" if frames.unseen else ""
    lines = [
        f"{len(frames.train)} training frames of {', '.join(frames.vendors)}, "
        f"{len(frames.test)} held-out frames of other patients{unseen}"
    ]
    if config.data is None and config.dry_run:
        lines[0] += f" (a part of the {config.phantom_frames} that are simulated later)"
    lines += [
        f"{_name(arm)}: {one.cost.num_parameters:,} weights ({one.cost.num_trained:,} trained), "
        f"{one.num_steps} steps of {one.cost.flops / TERA:.4f} TFLOP{_write_shared(one)} = "
        f"{one.flops / TERA:.3f} TFLOP, about {write_time(one.seconds)} a training"
        for arm, one in plan.items()
    ]
    arms = {arm: one for arm, one in plan.items() if arm != DECODER}
    training = sum(one.seconds * (1 if name == DECODER else config.seeds)
                   for name, one in plan.items())  # fmt: skip
    num_vendors = len(frames.vendors)
    drawing = config.seeds * sum(
        _count_seconds(config, arm, one, num_vendors) for arm, one in arms.items()
    )
    num = len(list_segmentations(config, has_styles=num_vendors > 1)) * config.seeds
    segmenting = num * config.segmentation_steps * time_segmentation(config, frames, device)
    lines.append(
        f"in all {len(arms) * config.seeds} trainings, about {write_time(training)}; about "
        f"{write_time(drawing)} to draw the images; {num} segmentations of "
        f"{config.segmentation_steps} steps, about {write_time(segmenting)}; tests, scores "
        "and the audit of controlnet come on top"
    )
    lines.append(f"disk: about {_count_bytes(config, frames, plan) / GIBI:.2f} GiB")
    return lines


def _write_shared(plan: ArmPlan) -> str:
    shared = plan.decoder_flops
    return f" and {shared / TERA:.3f} TFLOP of the decoder" if shared else ""


def _name(arm: str) -> str:
    return "decoder of --base, fitted once" if arm == DECODER else arm


def time_segmentation(config: SurveyConfig, frames: SurveyFrames, device: torch.device) -> float:
    """Seconds of one step of a segmentation, as measured."""
    labels = Label.BACKGROUND, *frames.segmented
    settings = TrainSegmentationConfig(
        resolution=config.resolution, steps=1 + TIMED_STEPS, width=config.segmentation_width,
        labels=tuple(name_label(label) for label in frames.segmented), out=config.out,
    )  # fmt: skip
    shape = Architecture(settings.network, settings.width, settings.resolution, labels)
    trainer = SegmentationTrainer(
        settings, build_network(shape, 0), frames.train.images_u8,
        encode_labels(frames.train.masks_u8, labels),
        [row.file_name for row in frames.train.frames], device,
    )  # fmt: skip
    return measure_step(trainer, 0, 0).seconds


def count_images(config: SurveyConfig, arm: str, num_vendors: int) -> list[tuple[int, int]]:
    """(images, sampler steps) of every set of one training of an arm."""
    steps, has_styles = config.sample_steps, num_vendors > 1
    sets = [(config.num_images, steps), (config.num_synthetic, steps)]
    if has_styles:
        sets += [(config.num_synthetic, steps)] + [(config.num_images, steps)] * num_vendors
    if arm in DENOISING:
        sets += [(config.num_images, one) for one in config.curve_steps if one != steps]
    return sets if arm in DENOISING or arm == "controlnet" else [(num, 1) for num, _ in sets]


def write_time(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _count_seconds(config: SurveyConfig, arm: str, plan: ArmPlan, num_vendors: int) -> float:
    one_pass = plan.cost.seconds / (PASSES_A_STEP * config.batch_size)
    if arm == CONTROLNET:
        one_pass *= 2  # with its words and mask, and without
    return one_pass * sum(num * steps for num, steps in count_images(config, arm, num_vendors))


def _count_bytes(config: SurveyConfig, frames: SurveyFrames, plan: Mapping[str, ArmPlan]) -> float:
    pixels = config.resolution**2  # a grey PNG with noise has about a byte a pixel
    parts = (frames.train, frames.test, frames.unseen)
    num_frames = sum(len(one) for one in parts if one is not None)
    images = (1 + len(config.normalisation)) * num_frames
    for arm in config.arms:
        sets = count_images(config, arm, len(frames.vendors))
        images += config.seeds * sum(num for num, _ in sets)
    weights = [one.cost.num_parameters * BYTES_A_WEIGHT for one in plan.values()]
    largest = max(one.cost.num_trained for one in plan.values()) * BYTES_A_WEIGHT
    return images * pixels + config.seeds * sum(weights) + 2 * CHECKPOINT_COPIES * largest
