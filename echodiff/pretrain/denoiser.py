"""Text encoder and UNet of the embedded base, trained together on cached latents."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from echodiff.pretrain.autoencoder import LATENT_CHANNELS, LATENT_SIZE
from echodiff.pretrain.stage import Stage, cosine, follow, set_rate, step_generators

TEXT_WIDTH = 128
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


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """0.6M parameters; token embeddings start wide, so that a word it never met is a direction of
    its own and a LoRA on the cross-attention can learn to read it."""
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=3 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    embedding = model.get_input_embeddings()
    nn.init.normal_(embedding.weight, std=0.5)
    return model


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


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids (N, 77)."""
    batch = tokenizer(
        texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt"
    )
    ids: Tensor = batch.input_ids
    return ids


def train_denoiser(
    latents: tuple[Tensor, Tensor],
    texts: list[str],
    tokenizer: CLIPTokenizer,
    folder: Path,
    steps: int,
    batch_size: int,
    seed: int,
    device: str,
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Train on scaled posterior (mean, std) of (N, 4, 32, 32); return the averaged weights."""
    torch.manual_seed(seed)
    unet, text_encoder = build_unet().to(device), build_text_encoder(tokenizer).to(device)
    network = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01
    )
    stage = Stage(
        folder / "denoiser.pt", steps, {"network": network, "average": average, "opt": optimizer}
    )
    ids, null = tokenize(tokenizer, texts), tokenize(tokenizer, [""])
    schedule = build_scheduler().alphas_cumprod
    for step, bar in stage.run("denoiser"):
        set_rate(optimizer, 8e-4 * cosine(step, steps, 200))
        batch = _draw_batch(latents, ids, null, schedule, batch_size, (seed, step))
        noisy, t, words, noise, weight = (part.to(device) for part in batch)
        with torch.autocast(device, torch.bfloat16):
            predicted = unet(noisy, t, text_encoder(words)[0]).sample.float()
        loss = (weight * (predicted - noise).square().mean((1, 2, 3))).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        follow(average, network, min(0.9995, (1 + step) / (10 + step)))
        if step % 20 == 0:
            bar.set_postfix(loss=f"{float(loss.detach()):.4f}")
    average.eval().cpu()
    final: Any = average
    return final["unet"], final["text_encoder"]


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
