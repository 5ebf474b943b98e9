"""UNet of the embedded base, trained on cached latents and the words of a frozen text encoder."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from echodiff.pretrain.autoencoder import LATENT_CHANNELS, LATENT_SIZE
from echodiff.pretrain.language import TEXT_WIDTH, tokenize
from echodiff.pretrain.stage import Stage, cosine, follow, set_rate, step_generators

NULL_SHARE = 0.12
"""Share of captions replaced by the empty text, for classifier-free guidance."""


def build_unet() -> UNet2DConditionModel:
    """7.9M parameters at 32x32 latents; attention at 8x8 and 4x4 alone, where it is cheap."""
    unet: UNet2DConditionModel = UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(32, 64, 112, 160),
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2 + ("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",) * 2,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    return unet


def build_scheduler() -> DDPMScheduler:
    """The noise schedule of SD 1.5."""
    scheduler: DDPMScheduler = DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
    )
    return scheduler


def train_denoiser(
    latents: tuple[Tensor, Tensor],
    texts: list[str],
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    folder: Path,
    steps: int,
    batch_size: int,
    seed: int,
    device: str,
) -> UNet2DConditionModel:
    """Train on scaled posterior (mean, std) of (N, 4, 32, 32); return the averaged weights."""
    torch.manual_seed(seed)
    unet, text_encoder = build_unet().to(device), text_encoder.to(device)
    average = copy.deepcopy(unet).requires_grad_(False)
    optimizer = torch.optim.AdamW(unet.parameters(), betas=(0.9, 0.99), weight_decay=0.01)
    stage = Stage(
        folder / "denoiser.pt", steps, {"network": unet, "average": average, "opt": optimizer}
    )
    ids, null = tokenize(tokenizer, texts), tokenize(tokenizer, [""])
    schedule = build_scheduler().alphas_cumprod
    for step, bar in stage.run("denoiser"):
        set_rate(optimizer, 8e-4 * cosine(step, steps, 200))
        batch = _draw_batch(latents, ids, null, schedule, batch_size, (seed, step))
        noisy, t, words, noise, weight = (part.to(device) for part in batch)
        with torch.no_grad():
            embedded = text_encoder(words)[0]
        with torch.autocast(device, torch.bfloat16):
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
    latents: tuple[Tensor, Tensor],
    ids: Tensor,
    null: Tensor,
    schedule: Tensor,
    batch_size: int,
    key: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Noisy latents, timesteps, token ids, noise and min-SNR weight (Hang et al. 2023, gamma 5)."""
    rng, generator = step_generators(key[0], 2, key[1])
    chosen = torch.from_numpy(rng.integers(len(ids), size=batch_size))
    mean, std = latents[0][chosen], latents[1][chosen]
    clean = mean + std * torch.randn(mean.shape, generator=generator)
    noise = torch.randn(mean.shape, generator=generator)
    # Stratified over the batch: every step sees the whole range of noise.
    offsets = (np.arange(batch_size) + rng.random(batch_size)) / batch_size
    t = torch.from_numpy((offsets * 1000).astype(np.int64))
    alpha = schedule[t][:, None, None, None]
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    drop = torch.from_numpy(rng.random(batch_size) < NULL_SHARE)[:, None]
    words = torch.where(drop, null, ids[chosen])
    snr = (alpha / (1 - alpha)).flatten()
    return noisy, t, words, noise, snr.clamp(max=5) / snr
