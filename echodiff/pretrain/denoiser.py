"""Train the UNet of the embedded base on cached latents and a frozen text encoder.

The first of two stages has attention at 8x8 and 4x4 only. It learns the heart as a whole at two
thirds of the cost. The second stage adds attention at 16x16, where a position covers 8 pixels of
the frame: a hole in a septum is too small for the positions of 8x8, and a LoRA of the
cross-attention changes only what cross-attention reaches.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextModel

from echodiff.pretrain.autoencoder import LATENT_CHANNELS, LATENT_SIZE
from echodiff.pretrain.language import TEXT_WIDTH
from echodiff.pretrain.stage import Stage, autocast_bf16, cosine, follow, set_rate, step_generators

NULL_SHARE = 0.12
"""Share of captions replaced by the empty prompt, for classifier-free guidance."""

FOREIGN_SHARE = 0.2
"""Share of captions replaced by one of another heart in the same view and phase, which names that
heart's findings. Words that say nothing of the frame teach the UNet no finding; they teach it to
draw a whole heart whatever a prompt names. Without them, twice as many hearts of prompts with a
finding were broken as of prompts without."""


def build_unet(attention_levels: int = 3) -> UNet2DConditionModel:
    """Build the UNet for 32x32 latents: 8.2M parameters, attention at 4x4, 8x8 and 16x16.

    attention_levels: number of resolutions with attention, from the lowest.
    """
    is_attended = [level >= 4 - attention_levels for level in range(4)]
    unet: UNet2DConditionModel = UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(32, 64, 112, 160),
        layers_per_block=1,
        down_block_types=["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in is_attended],
        up_block_types=["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in is_attended[::-1]],
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    return unet


def add_attention(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Add attention at 16x16, with output projections of zero that leave the output unchanged."""
    deeper = build_unet()
    missing = deeper.load_state_dict(unet.state_dict(), strict=False).missing_keys
    parameters = dict(deeper.named_parameters())
    for name in missing:
        if ".proj_out." in name:
            nn.init.zeros_(parameters[name])
    return deeper


def build_scheduler() -> DDPMScheduler:
    """Build the noise schedule of Stable Diffusion 1.5."""
    scheduler: DDPMScheduler = DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
    )
    return scheduler


@dataclass(frozen=True)
class Material:
    """The training data of the denoiser."""

    latents: tuple[Tensor, Tensor]
    """Scaled posterior mean and std, each (N, 4, 32, 32)."""
    ids: Tensor
    """(N, 77) tokens of the captions."""
    foreign: Tensor
    """(N, 77) tokens of captions of other hearts, with findings."""
    null: Tensor
    """(1, 77) tokens of the empty prompt."""
    text_encoder: CLIPTextModel
    drawn: NDArray[np.intp]
    """Rows to draw batches from; those that occur twice are seen twice as often."""


@dataclass(frozen=True)
class Course:
    """One stage of the training."""

    name: str
    stream: int
    """Number of the random stream, which differs from that of other stages."""
    steps: int
    rate: float
    """Highest learning rate."""


def train_denoiser(
    material: Material,
    folder: Path,
    steps: tuple[int, int],
    batch_size: int,
    seed: int,
    device: str,
    start: UNet2DConditionModel | None = None,
) -> UNet2DConditionModel:
    """Train for steps[0] without and steps[1] with attention at 16x16; return averaged weights.

    start: a trained UNet that takes the place of the first stage.
    """
    if start is None:
        torch.manual_seed(seed)
        first = Course("denoiser", stream=2, steps=steps[0], rate=8e-4)
        unet = _train(build_unet(2), material, first, folder, batch_size, seed, device)
        torch.manual_seed(seed)
        start = add_attention(unet)
    second = Course("detail", stream=5, steps=steps[1], rate=5e-4)
    return _train(start, material, second, folder, batch_size, seed, device)


def _train(
    unet: UNet2DConditionModel,
    material: Material,
    course: Course,
    folder: Path,
    batch_size: int,
    seed: int,
    device: str,
) -> UNet2DConditionModel:
    unet, text_encoder = unet.to(device), material.text_encoder.to(device)
    average = copy.deepcopy(unet).requires_grad_(False)
    optimizer = torch.optim.AdamW(unet.parameters(), betas=(0.9, 0.99), weight_decay=0.01)
    stage = Stage(
        folder / f"{course.name}.pt",
        course.steps,
        {"network": unet, "average": average, "opt": optimizer},
    )
    schedule = build_scheduler().alphas_cumprod
    for step, bar in stage.run(course.name):
        set_rate(optimizer, course.rate * cosine(step, course.steps, 200))
        batch = _draw_batch(material, schedule, batch_size, (seed, course.stream, step))
        noisy, t, words, noise, weight = (part.to(device) for part in batch)
        with torch.no_grad():
            embedded = text_encoder(words)[0]
        with autocast_bf16(device):
            predicted = unet(noisy, t, embedded).sample.float()
        loss = (weight * (predicted - noise).square().mean((1, 2, 3))).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        follow(average, unet, min(0.9995, (1 + step) / (10 + step)))
        if step % 20 == 0:
            bar.set_postfix(loss=f"{float(loss.detach()):.4f}")
    return average.eval().cpu()


def _draw_batch(
    material: Material, schedule: Tensor, batch_size: int, key: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Draw noisy latents, timesteps, token ids, noise and min-SNR weights (Hang et al. 2023, gamma
    5)."""
    rng, generator = step_generators(*key)
    chosen = torch.from_numpy(material.drawn[rng.integers(len(material.drawn), size=batch_size)])
    mean, std = material.latents[0][chosen], material.latents[1][chosen]
    clean = mean + std * torch.randn(mean.shape, generator=generator)
    noise = torch.randn(mean.shape, generator=generator)
    # Stratified over the batch, so that every step sees the whole range of noise.
    offsets = (np.arange(batch_size) + rng.random(batch_size)) / batch_size
    t = torch.from_numpy((offsets * 1000).astype(np.int64))
    alpha = schedule[t][:, None, None, None]
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    drop = torch.from_numpy(rng.random(batch_size) < NULL_SHARE)[:, None]
    words = torch.where(drop, material.null, material.ids[chosen])
    swap = torch.from_numpy(rng.random(batch_size) < FOREIGN_SHARE)[:, None] & ~drop
    words = torch.where(swap, material.foreign[chosen], words)
    snr = (alpha / (1 - alpha)).flatten()
    return noisy, t, words, noise, snr.clamp(max=5) / snr
