"""Plan and take the trainings of all arms, one after the other; what is there is not repeated."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from echodiff.data.leaks import describe_trained
from echodiff.fingerprints import sha256_file
from echodiff.frames.reader import hash_frames
from echodiff.runs import Run
from echodiff.segmentation.labelled_frames import encode_labels
from echodiff.segmentation.training import is_trained
from echodiff.survey.arm_trainer import ArmTrainer, TrainingTensors
from echodiff.survey.arms import (
    WEIGHTS,
    ArmSettings,
    build_arm_settings,
    build_method,
    load_generator,
)
from echodiff.survey.compute import (
    ArmPlan,
    StepCost,
    load_plan,
    measure_step,
    plan_steps,
    save_plan,
)
from echodiff.survey.controlnet import (
    load_controlnet,
    measure_controlnet,
    train_controlnet,
)
from echodiff.survey.decoder import FittedDecoder
from echodiff.survey.frames import SurveyFrames, read_images_pm1
from echodiff.survey.latents import LatentSpace
from echodiff.survey.methods import GENERATOR
from echodiff.survey.networks import count_parameters
from echodiff.survey.sets import Draws
from echodiff.survey.survey_config import (
    ARMS,
    CONTROLNET,
    DECODER,
    Arm,
    SurveyConfig,
    draws_latents,
)
from echodiff.training.checkpoints import write_safetensors
from echodiff.training.folder import open_run
from echodiff.training.loop import Intervals, train
from echodiff.training.trackers import Curves

if TYPE_CHECKING:
    from pathlib import Path

    from accelerate import Accelerator

COMMAND = "compare-generators"
REFERENCE: Arm = "diffusion"
"""Arm whose steps are asked for; all others get as many operations."""
LOG_EVERY = 20
KEEP = 1
"""Checkpoints of a training."""


@dataclass(frozen=True)
class Workshop:
    """What all trainings share: frames as tensors, the device, latents if any arm uses them."""

    config: SurveyConfig
    frames: SurveyFrames
    folder: Path
    """Frames at the size of the comparison, `data/none`."""
    accelerator: Accelerator
    latents: LatentSpace | None
    pixels: TrainingTensors
    encoded: TrainingTensors | None
    """The same frames as latents."""

    def tensors_of(self, config: ArmSettings) -> TrainingTensors:
        """Frames as an arm is trained on them."""
        if config.space == "latent":
            assert self.encoded is not None
            return self.encoded
        return self.pixels


def open_workshop(
    config: SurveyConfig, frames: SurveyFrames, folder: Path, accelerator: Accelerator
) -> Workshop:
    """Make tensors of the training frames, and latents of them where --space asks for these."""
    train_set = frames.train
    images = read_images_pm1(train_set.images_u8)
    shared: dict[str, Any] = {
        "masks": torch.from_numpy(encode_labels(train_set.masks_u8, frames.labels)),
        "styles": torch.tensor(frames.vendor_of(train_set)),
        "names": tuple(frame.file_name for frame in train_set.frames),
        "num_labels": len(frames.labels), "num_styles": len(frames.vendors),
    }  # fmt: skip
    pixels = TrainingTensors(torch.from_numpy(images), None, **shared)
    latents, encoded = None, None
    if config.space == "latent":
        latents = LatentSpace(config.base, accelerator.device)
        latents.shape(config.resolution)
        encoded = TrainingTensors(*latents.encode(images), **shared)
    return Workshop(config, frames, folder, accelerator, latents, pixels, encoded)


def plan_trainings(shop: Workshop) -> dict[str, ArmPlan]:
    """Count and time a step of every arm, and of the decoder where one is fitted, once; the result
    is kept in `plan.json`."""
    config = shop.config
    # Of all arms, so that those that are added later are planned as if they had been here.
    by_decoder = [arm for arm in ARMS if draws_latents(arm, config.space)]
    has_decoder = config.decoder_share > 0 and not {*by_decoder}.isdisjoint(config.arms)
    decoder = [DECODER] if has_decoder else []
    plan = load_plan(config.out)
    if plan is not None and set(config.arms) <= plan.keys():
        return {name: plan[name] for name in [*decoder, *config.arms] if name in plan}
    costs: dict[str, StepCost] = {}
    for arm in dict.fromkeys([REFERENCE, *decoder, *config.arms]):
        if arm == CONTROLNET:
            costs[arm] = measure_controlnet(config, len(shop.frames.labels), shop.accelerator)
        else:
            costs[arm] = _measure_arm(shop, arm)
    plan = plan_steps(
        costs, costs[REFERENCE], config.max_steps, by_decoder=by_decoder, share=config.decoder_share
    )
    # The reference is left out where it is no arm here: others may give it a decoder to pay for.
    wanted = {name: plan[name] for name in [*decoder, *config.arms] if name in plan}
    save_plan(config.out, wanted)
    return wanted


def _measure_arm(shop: Workshop, arm: str) -> StepCost:
    settings = build_arm_settings(shop.config, shop.frames, arm, num_steps=10, number=0)
    trainer, method = _build_trainer(shop, settings)
    counts = {name: count_parameters(one) for name, one in method.networks.items()}
    return measure_step(trainer, counts[GENERATOR], sum(counts.values()))


def _build_trainer(shop: Workshop, settings: ArmSettings) -> tuple[ArmTrainer, Any]:
    latents = shop.latents
    if settings.arm == DECODER:
        latents = LatentSpace(settings.base, shop.accelerator.device)
    method = build_method(settings, latents)
    trainer = ArmTrainer(
        method, shop.tensors_of(settings), shop.accelerator.device, num_steps=settings.num_steps,
        batch_size=settings.batch_size, learning_rate=settings.learning_rate,
        ema_decay=settings.ema_decay, style_dropout=settings.style_dropout, seed=settings.seed,
    )  # fmt: skip
    return trainer, method


def train_arm(shop: Workshop, arm: Arm, plan: Mapping[str, ArmPlan], number: int) -> Draws:
    """Train an arm once, resume it, or open it; returns what draws its images."""
    config = shop.config
    num_steps = plan[arm].num_steps
    decoder = fit_decoder(shop, plan) if draws_latents(arm, config.space) else None
    if arm == CONTROLNET:
        run_dir = train_controlnet(config, shop.folder, num_steps, number)
        return load_controlnet(
            config, shop.folder, run_dir, number, shop.accelerator.device, decoder
        )
    settings = build_arm_settings(config, shop.frames, arm, num_steps=num_steps, number=number)
    if not is_trained(settings.out):
        _train(shop, settings)
    sha256 = Run.load(settings.out).record["weights_sha256"]
    return load_generator(
        settings, shop.frames.labels, shop.latents, str(sha256), config.sampler,
        shop.accelerator.device, "" if decoder is None else decoder.sha256,
    )  # fmt: skip


def fit_decoder(shop: Workshop, plan: Mapping[str, ArmPlan]) -> FittedDecoder | None:
    """Fit the decoder of --base, or open it; None where the plan has none."""
    if DECODER not in plan:
        return None
    settings = build_arm_settings(
        shop.config, shop.frames, DECODER, num_steps=plan[DECODER].num_steps, number=0
    )
    if not is_trained(settings.out):
        _train(shop, settings)
    fitted = FittedDecoder(settings.out / WEIGHTS)
    if shop.latents is not None:
        fitted.load_into(shop.latents.decoder)
    return fitted


def _train(shop: Workshop, settings: ArmSettings) -> None:
    train_set = shop.frames.train
    with open_run(
        command=COMMAND,
        config=settings,
        stem=settings.arm,
        data=hash_frames(train_set.folder, train_set.frames, has_masks=True),
        base_sha256="",
        mixed_precision="no",
        places=(),
    ) as run:
        run.update(trained_on=describe_trained([(train_set.folder, train_set.frames)]))
        trainer, method = _build_trainer(shop, settings)
        train(
            trainer,
            run,
            shop.accelerator,
            intervals=Intervals(
                log=LOG_EVERY, checkpoint=(shop.config.checkpoint_every,), keep=KEEP
            ),
            curves=Curves(run, shop.accelerator, project="echodiff-survey", config=settings),
        )
        with trainer.averaged():
            write_safetensors(run.run_dir / WEIGHTS, method.networks[GENERATOR].state_dict())
        run.finish(weights_sha256=sha256_file(run.run_dir / WEIGHTS))
    # A finished generator needs no optimizer: fifteen of them would fill a disk.
    shutil.rmtree(settings.out / "checkpoints", ignore_errors=True)
