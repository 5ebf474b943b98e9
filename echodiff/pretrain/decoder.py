"""Second stage of the VAE: the decoder alone learns to draw grain, the encoder stays as it is.

Latents do not change, so the denoiser can train beside it. Half of the frames are varied (zoom,
grey map, sharpness), so that the decoder draws grain of sizes and contrasts that no known scanner
has.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from echodiff.pretrain.autoencoder import window_spectra
from echodiff.pretrain.stage import Stage, Stateful, cosine, set_rate, step_generators, to_pm1


class GrainCritic(nn.Module):
    """Patches of 18 pixels, one logit each; sees the frame and, magnified, its fine detail.

    Grain is a small part of a frame's contrast: without the second channel a small network spends
    its first thousand steps on the big shapes, which the decoder gets right anyway.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 32, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 1, 1),
        )

    def forward(self, image_pm1: Tensor) -> Tensor:
        """(B, 1, H, W) to logits (B, 1, H / 4, W / 4)."""
        detail = 4 * (image_pm1 - functional.avg_pool2d(image_pm1, 5, 1, 2))
        y: Tensor = self.body(torch.cat([image_pm1, detail], dim=1))
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
    """Refine the decoder on frames (N, 128, 128) uint8; state in `folder`."""
    torch.manual_seed(seed)
    vae = vae.to(device).requires_grad_(False)
    decoder = nn.ModuleDict({"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv})
    decoder.requires_grad_(True)
    critic = GrainCritic().to(device)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=5e-4, betas=(0.7, 0.98))
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.9))
    parts: dict[str, Stateful] = {
        "decoder": decoder,
        "critic": critic,
        "opt": optimizer,
        "critic_opt": critic_optimizer,
    }
    stage = Stage(folder / "decoder.pt", steps, parts)
    for step, bar in stage.run("decoder"):
        rng, noise = step_generators(seed, 4, step)
        chosen = rng.integers(len(images_u8), size=batch_size)
        real = _vary(to_pm1(images_u8[chosen], torch.device(device)), rng)
        set_rate(optimizer, 8e-4 * cosine(step, steps, 50))
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            posterior = vae.encode(real.expand(-1, 3, -1, -1)).latent_dist
        drawn = torch.randn(posterior.mean.shape, generator=noise).to(device)
        with torch.autocast(device, torch.bfloat16):
            decoded = vae.decode((posterior.mean + posterior.std * drawn).float()).sample
        decoded = decoded.float()
        fake = decoded.mean(1, keepdim=True)
        spectrum = (window_spectra(fake, 3e-5) - window_spectra(real, 3e-5)).abs().mean()
        coarse = functional.avg_pool2d(decoded - real, 5, 1, 2).abs().mean()
        grey = (decoded - fake).abs().mean()
        outside = ((decoded - real).abs() * (real < -0.99)).mean()  # black must be black
        loss = coarse + grey + 2 * outside + 0.1 * spectrum - 0.1 * critic(fake).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        hinge = torch.relu(1 - critic(real)).mean() + torch.relu(1 + critic(fake.detach())).mean()
        critic_optimizer.zero_grad(set_to_none=True)
        hinge.backward()
        critic_optimizer.step()
        if step % 20 == 0:
            shown = {"l1": coarse, "spectrum": spectrum, "critic": hinge}
            bar.set_postfix({name: f"{float(value.detach()):.3f}" for name, value in shown.items()})
    return vae.eval()


def _vary(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Half of a batch (B, 1, H, W) in [-1, 1] zoomed, sharpened, or shown with another grey map."""
    varied = []
    side = images.shape[-1]
    for image in images.split(1):
        if rng.random() < 0.5:
            varied.append(image)
            continue
        cut = int(side / rng.uniform(1.0, 1.5))
        top, left = (int(v) for v in rng.integers(0, side - cut + 1, size=2))
        crop = image[..., top : top + cut, left : left + cut]
        zoomed = functional.interpolate(crop, (side, side), mode="bicubic", align_corners=False)
        soft = functional.avg_pool2d(functional.pad(zoomed, (1, 1, 1, 1), mode="replicate"), 3, 1)
        sharp = zoomed + float(rng.uniform(0, 0.8)) * (zoomed - soft)
        grey = ((sharp.clamp(-1, 1) + 1) / 2) ** float(np.exp(rng.normal(0, 0.3)))
        varied.append(2 * grey - 1)
    return torch.cat(varied)
