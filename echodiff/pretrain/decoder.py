"""Second stage of the VAE: the decoder alone learns to draw grain, the encoder stays as it is.

Latents hold a quarter of a frame's numbers: coarse detail passes, the finest has to be drawn. Here
it is judged by its look, no longer pixel by pixel. Latents do not change, so the denoiser can train
beside it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from echodiff.pretrain.autoencoder import WINDOW, GrainCritic, window_power, window_spectra
from echodiff.pretrain.stage import (
    Stage,
    Stateful,
    autocast_bf16,
    cosine,
    set_rate,
    step_generators,
    to_pm1,
)


def group_spectra(image: Tensor, groups: Tensor, floor: float = 1e-5) -> Tensor:
    """Log of mean power plus `floor` in groups of frequencies, (B, windows, groups).

    A single bin of speckle's power is exponential: L1 on its logarithm is met by its median, 30 per
    cent below the mean, and draws too softly. Groups of bins have no such bias to speak of.
    """
    return torch.log(window_power(image).flatten(2) @ groups + floor)


def build_groups(device: torch.device) -> Tensor:
    """Weights (bins, groups) that average the bins of a window's rfft2: six rings, each split into
    axial, oblique and lateral."""
    rows = torch.fft.fftfreq(WINDOW, 1 / WINDOW, device=device)[:, None].abs()
    cols = torch.fft.rfftfreq(WINDOW, 1 / WINDOW, device=device)[None, :]
    radius = torch.hypot(rows, cols)
    ring = torch.bucketize(radius, torch.tensor([1.0, 2.0, 3.2, 4.5, 6.0, 8.0], device=device))
    direction = torch.bucketize(torch.atan2(rows, cols), torch.tensor([0.5, 1.07], device=device))
    number = (ring - 1) * 3 + direction
    is_used = (ring >= 1) & (ring <= 6)
    one_hot = functional.one_hot(torch.where(is_used, number, 18), 19)[..., :18].flatten(0, 1)
    filled = one_hot[:, one_hot.sum(0) > 0].float()
    return filled / filled.sum(0)


class SpectrumCritic(nn.Module):
    """One logit for every window, from the logarithm of its spectrum alone: grain too soft, too
    even or too lively at that level of grey is plain to it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(WINDOW * (WINDOW // 2 + 1), 128),
            nn.LeakyReLU(0.2),
            nn.Linear(128, 128),
            nn.LeakyReLU(0.2),
            nn.Linear(128, 1),
        )

    def forward(self, image_pm1: Tensor) -> Tensor:
        """(B, 1, H, W) to logits (B, windows, 1)."""
        y: Tensor = self.body(0.3 * window_spectra(image_pm1).flatten(2) + 1)
        return y


def train_decoder(
    vae: AutoencoderKL,
    images_u8: NDArray[np.uint8],
    folder: Path,
    steps: int,
    batch_size: int,
    seed: int,
    device: str,
) -> AutoencoderKL:
    """Refine the decoder on frames (N, 128, 128) uint8; state in `folder`.

    The weights are those of the last step, not averaged over steps: each draws its own grain, and
    their average draws none.
    """
    torch.manual_seed(seed)
    vae = vae.to(device).requires_grad_(False)
    decoder = nn.ModuleDict({"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv})
    decoder.requires_grad_(True)
    critics = nn.ModuleList([GrainCritic(), SpectrumCritic()]).to(device)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-3, betas=(0.7, 0.98))
    critic_optimizer = torch.optim.Adam(critics.parameters(), lr=1e-3, betas=(0.5, 0.9))
    parts: dict[str, Stateful] = {
        "decoder": decoder,
        "critics": critics,
        "opt": optimizer,
        "critic_opt": critic_optimizer,
    }
    stage = Stage(folder / "decoder.pt", steps, parts)
    groups = build_groups(torch.device(device))
    for step, bar in stage.run("decoder"):
        rng, noise = step_generators(seed, 4, step)
        chosen = rng.integers(len(images_u8), size=batch_size)
        real = to_pm1(images_u8[chosen], torch.device(device))
        set_rate(optimizer, 1e-3 * cosine(step, steps, 50))
        with torch.no_grad(), autocast_bf16(device):
            posterior = vae.encode(real.expand(-1, 3, -1, -1)).latent_dist
        drawn = torch.randn(posterior.mean.shape, generator=noise).to(device)
        with autocast_bf16(device):
            decoded = vae.decode((posterior.mean + posterior.std * drawn).float()).sample
        # Below black is shown as black: where the frame is black, that is as good.
        is_black = real < -0.99
        decoded = torch.where(is_black, decoded.float().clamp(min=-1), decoded.float())
        fake = decoded.mean(1, keepdim=True)
        spectrum = (group_spectra(fake, groups) - group_spectra(real, groups)).abs().mean()
        coarse = functional.avg_pool2d(decoded - real, 5, 1, 2).abs().mean()
        grey = (decoded - fake).abs().mean()
        outside = ((decoded + 1) * is_black).mean()
        loss = coarse + grey + 5 * outside + 0.3 * spectrum
        for critic in critics:
            loss = loss - 0.12 * critic(fake).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        hinges = [_hinge(critic, real, fake.detach()) for critic in critics]
        critic_optimizer.zero_grad(set_to_none=True)
        torch.stack(hinges).sum().backward()
        critic_optimizer.step()
        if step % 20 == 0:
            shown = {"l1": coarse, "spectrum": spectrum, "grain": hinges[0], "window": hinges[1]}
            bar.set_postfix({name: f"{float(value.detach()):.3f}" for name, value in shown.items()})
    return vae.requires_grad_(False).eval()


def _hinge(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    return torch.relu(1 - critic(real)).mean() + torch.relu(1 + critic(fake)).mean()
