"""One training of one arm: its settings, its method, and the generator that it left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from echodiff.anatomy import Label
from echodiff.segmentation.label_names import name_label
from echodiff.survey.decoder import Decoding
from echodiff.survey.frames import SurveyFrames
from echodiff.survey.latents import LatentSpace
from echodiff.survey.methods import GENERATOR, Adversarial, Denoising, Method, Variational
from echodiff.survey.networks import (
    Discriminator,
    Sizes,
    SpadeAutoencoder,
    SpadeGenerator,
    StyledUNet,
    build_matched,
    build_seeded,
    count_parameters,
)
from echodiff.survey.samplers import build_arm_objective, build_scheduler
from echodiff.survey.sets import Asked, draw_batch
from echodiff.survey.survey_config import DECODER, DENOISING, SurveyConfig, find_deviation

WEIGHTS = "G.safetensors"
"""The averaged generator, in the run folder of a training."""


@dataclass(frozen=True, kw_only=True)
class ArmSettings:
    """All that decides the result of one training, besides its frames."""

    arm: str
    """One of `ARMS`, or `decoder`."""
    num_steps: int
    resolution: int
    channels: int
    patch: int
    space: str
    base: str
    """Of latents or decoder; empty without either."""
    batch_size: int
    learning_rate: float
    ema_decay: float
    style_dropout: float
    labels: tuple[str, ...]
    vendors: tuple[str, ...]
    deviation: float
    """Of `compute_scales`; 0 of arms without noise."""
    seed: int
    out: Path
    overwrite: bool = False
    """Always False: a run is resumed or refused."""
    continue_: bool = False
    """Always False: the number of steps is fixed."""


def build_arm_settings(
    config: SurveyConfig, frames: SurveyFrames, arm: str, *, num_steps: int, number: int
) -> ArmSettings:
    """Settings of training `number` (0 is the first) of an arm, or of the decoder."""
    space = config.space if arm in DENOISING else "pixel"
    base = config.base if space == "latent" or arm == DECODER else ""
    return ArmSettings(
        arm=arm, num_steps=num_steps, resolution=config.resolution, channels=config.channels,
        patch=config.patch, space=space, base=base,
        batch_size=config.batch_size, learning_rate=config.learning_rate,
        ema_decay=config.ema_decay, style_dropout=config.style_dropout,
        labels=tuple(name_label(label) for label in frames.labels), vendors=frames.vendors,
        deviation=find_deviation(arm, space), seed=config.seed + number,
        out=config.out / "arms" / arm / f"seed-{number}",
    )  # fmt: skip


def build_method(config: ArmSettings, latents: LatentSpace | None) -> Method:
    """The networks that a training of an arm begins with, how they learn and how they draw.

    latents: of `config.base`, for arms on latents and for the decoder.
    """
    rate, seed = config.learning_rate, config.seed
    if config.arm == DECODER:
        assert latents is not None
        return Decoding(latents, side=config.resolution, learning_rate=rate)
    shape = (1, config.resolution, config.resolution)
    if config.space == "latent":
        assert latents is not None
        shape = latents.shape(config.resolution)
    sizes = Sizes(config.resolution, len(config.labels), len(config.vendors))
    build_unet = partial(
        StyledUNet, channels=config.channels, in_channels=shape[0], side=shape[1],
        patch=config.patch,
    )  # fmt: skip
    if config.arm in DENOISING:
        unet = cast(StyledUNet, build_seeded(build_unet, sizes, seed=seed))
        return Denoising(
            unet, build_arm_objective(config.arm, config.space),
            build_scheduler(config.arm, "ddim", config.space), shape=shape,
            deviation=config.deviation,
            learning_rate=rate,
        )  # fmt: skip
    with torch.device("meta"):
        num = count_parameters(build_unet(sizes))
    if config.arm == "vae":
        vae = build_matched(SpadeAutoencoder, sizes, num, seed=seed)
        return Variational(cast(SpadeAutoencoder, vae), learning_rate=rate)
    generator = cast(SpadeGenerator, build_matched(SpadeGenerator, sizes, num, seed=seed))
    judge = build_seeded(Discriminator, sizes, seed=seed + 1, width=config.channels)
    return Adversarial(generator, cast(Discriminator, judge), learning_rate=rate)


@dataclass(frozen=True)
class Generator:
    """A trained arm, ready to draw."""

    method: Method
    latents: LatentSpace | None
    """None on pixels."""
    labels: tuple[Label, ...]
    weights_sha256: str
    run_dir: Path
    seed: int
    device: torch.device
    decoder_sha256: str
    """Empty where no decoder was fitted."""

    def draw_set(self, asked: Asked, rows: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Images (S, S) of some rows."""
        shape = self.method.noise_shape
        return draw_batch(
            self._draw, asked, rows, self.labels, noise_shape=shape,
            mask_side=None if self.latents is None else shape[-1], seed=self.seed,
        )  # fmt: skip

    @torch.no_grad()
    def _draw(self, noise: Tensor, mask: Tensor, style: Tensor, num_steps: int) -> Tensor:
        """Images (B, 1, S, S) in -1..1 on the CPU, one for each row of the arguments."""
        noise, mask, style = (one.to(self.device) for one in (noise, mask, style))
        drawn = self.method.draw(noise, mask, style, num_steps)
        if self.latents is not None:
            drawn = self.latents.decode(drawn)
        return drawn.clamp(-1, 1).float().cpu()


def load_generator(
    config: ArmSettings,
    labels: tuple[Label, ...],
    latents: LatentSpace | None,
    sha256: str,
    sampler: str,
    device: torch.device,
    decoder_sha256: str,
) -> Generator:
    """Open what a training left in `config.out`."""
    method = build_method(config, latents)
    if isinstance(method, Denoising):
        method.use_scheduler(build_scheduler(config.arm, sampler, config.space))
    network = method.networks[GENERATOR]
    network.load_state_dict(load_file(config.out / WEIGHTS))
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval().requires_grad_(False)
    own = latents if config.space == "latent" else None
    return Generator(method, own, labels, sha256, config.out, config.seed, device, decoder_sha256)
