"""Second stage of the VAE: the decoder learns to draw speckle while the encoder is frozen.

Latents have a quarter as many numbers as a frame. They carry the coarse detail; the decoder has to
invent the finest, so the loss compares its statistics instead of its pixels. The latents do not
change, so the denoiser does not depend on this stage.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from echodiff.pretrain.autoencoder import (
    WINDOW,
    GrainCritic,
    hinge_loss,
    window_power,
    window_spectra,
)
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
    """Return the log of the mean power plus `floor` in groups of frequencies, (B, windows, groups).

    The power of speckle in a single bin is distributed exponentially: L1 on its logarithm is
    minimal at the median, 30 per cent below the mean, and the image becomes too soft. Groups of
    bins have hardly any such bias.
    """
    return torch.log(window_power(image).flatten(2) @ groups + floor)


def build_groups(device: torch.device) -> Tensor:
    """Return weights (bins, groups) that average the bins of a window's rfft2 in groups: six rings,
    each split into axial, oblique and lateral."""
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
    """Discriminator of windows that sees only the logarithm of their spectra.

    Speckle that is too soft, too even or too strong for its grey level stands out there.
    """

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
        """Map images (B, 1, H, W) to logits (B, windows, 1)."""
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
    """Refine the decoder on frames (N, 128, 128) uint8; the state is saved in `folder`.

    The weights are those of the last step. An average over steps would draw no speckle, because the
    speckle of each step is different.
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
        # Values below -1 are displayed as black, so they are correct where the frame is black.
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
        hinges = [hinge_loss(critic, real, fake.detach()) for critic in critics]
        critic_optimizer.zero_grad(set_to_none=True)
        torch.stack(hinges).sum().backward()
        critic_optimizer.step()
        if step % 20 == 0:
            shown = {"l1": coarse, "spectrum": spectrum, "grain": hinges[0], "window": hinges[1]}
            bar.set_postfix({name: f"{float(value.detach()):.3f}" for name, value in shown.items()})
    return vae.requires_grad_(False).eval()
