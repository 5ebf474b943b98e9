"""Train a network that obeys masks with the denoising trainer."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from echodiff.diffusion.adapter_layouts import read_adapter
from echodiff.diffusion.base import choose_resolution, load_base
from echodiff.diffusion.condition import draw_kept
from echodiff.diffusion.controlnet_config import TrainControlNetConfig
from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.lora import find_lora, load_lora
from echodiff.diffusion.mask_networks import (
    MaskedUNet,
    build_masked,
    check_kind,
    predict_from_mask,
)
from echodiff.diffusion.objective import build_noise_schedule, build_objective
from echodiff.diffusion.sampling.schedulers import check_steps
from echodiff.diffusion.trainer import DenoisingTrainer
from echodiff.errors import InputError
from echodiff.training.checkpoints import check_finite

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Parts:
    """What of a base is trained around, and the LoRA to be merged into it."""

    pipeline: Any
    """Base in float32 without its text encoder."""
    schedule: Any
    resolution: int
    lora_sha256: str
    """Of the LoRA underneath; empty without one."""


def load_parts(config: TrainControlNetConfig) -> Parts:
    """Load the base and check it; InputError where the kind or --lora do not fit it."""
    name = config.base
    pipeline = load_base(name, torch.float32)
    check_finite(pipeline.unet.named_parameters("unet"), f"--base {name}")
    resolution = choose_resolution(pipeline, config.resolution)
    try:
        schedule = build_noise_schedule(pipeline.scheduler.config)
    except ValueError as error:
        raise InputError(f"--base {name}: {error}") from error
    check_steps(config.sample_steps, schedule.config.num_train_timesteps, "--sample-steps")
    check_kind(config.kind, pipeline.unet, name)
    digest = ""
    if config.lora is not None:
        try:
            digest = load_lora(pipeline, config.lora, 0.0)  # a check: it is merged later
            parts = {update.part for update in read_adapter(find_lora(config.lora))}
        except InputError as error:
            raise InputError(f"--lora {error}") from None
        if "text_encoder" in parts:
            raise InputError(
                f"--lora {config.lora}: changes the text encoder, which a training with masks keeps"
            )
    return Parts(pipeline, schedule, resolution, digest)


def build_trainer(
    config: TrainControlNetConfig,
    parts: Parts,
    accelerator: "Accelerator",
    encoded: EncodedFrames,
    num_channels: int,
    weight_dtype: torch.dtype,
) -> tuple[DenoisingTrainer, MaskedUNet]:
    """Build the network of --kind and its trainer; what is trained is float32.

    A ControlNet is copied from the bare base: with another LoRA it stays what it is.
    """
    pipeline, is_concat = parts.pipeline, config.kind == "concat"
    if config.lora is not None and is_concat:  # later, the layers have matrices of their own
        load_lora(pipeline, config.lora, config.lora_scale)
    network, parameters = build_masked(
        config.kind,
        pipeline.unet,
        num_channels=num_channels,
        factor=int(pipeline.vae_scale_factor),
        rank=config.rank,
        alpha=config.alpha,
        seed=config.seed,
    )
    if config.lora is not None and not is_concat:
        load_lora(pipeline, config.lora, config.lora_scale)
    for parameter in network.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(weight_dtype)
    trainer = DenoisingTrainer(
        config,
        accelerator,
        network,
        encoded,
        objective=build_objective(parts.schedule, config.min_snr_gamma),
        parameters=parameters,
        prefix="masked",
        predict=predict_from_mask,
        draw_kept=partial(_draw_kept, config, num_channels),
    )
    return trainer, network


def _draw_kept(
    config: TrainControlNetConfig, num_channels: int, step: int, count: int
) -> torch.Tensor:
    return draw_kept(
        config.seed,
        step,
        count=count,
        num_channels=num_channels,
        mask_dropout=config.mask_dropout,
        label_dropout=config.label_dropout,
    )
