"""Train the VAE of the embedded base: 128x128 to 32x32x4 and back, with realistic speckle.

L1 alone smooths speckle away, and a loss on the spectrum of the whole frame can be satisfied by one
bright artefact in a corner. The loss therefore compares the spectra of small windows everywhere,
and a small patch discriminator sees the speckle magnified.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from echodiff.pretrain.stage import Stage, autocast_bf16, cosine, set_rate, step_generators, to_pm1
from echodiff.progress import ProgressBar

LATENT_CHANNELS = 4
LATENT_SIZE = 32
WINDOW = 16
"""Side of the windows whose spectra are compared, in pixels. Windows overlap by half."""


def build_autoencoder() -> AutoencoderKL:
    """Build the VAE: 0.65M parameters, downsampled by 4."""
    channels = (16, 32, 64)
    vae: AutoencoderKL = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=128,
        mid_block_add_attention=False,
    )
    return vae


class GrainCritic(nn.Module):
    """Discriminator of patches of 18 pixels, in the frame and in its magnified fine detail.

    Speckle is a small part of a frame's contrast. Without the second channel a small network spends
    its first thousand steps on large shapes, which the decoder reproduces anyway.
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
        """Map images (B, 1, H, W) to logits (B, 1, H / 4, W / 4)."""
        detail = 4 * (image_pm1 - functional.avg_pool2d(image_pm1, 5, 1, 2))
        y: Tensor = self.body(torch.cat([image_pm1, detail], dim=1))
        return y


def hinge_loss(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Compute the loss of a discriminator on real and decoded images."""
    return torch.relu(1 - critic(real)).mean() + torch.relu(1 + critic(fake)).mean()


def window_power(image: Tensor) -> Tensor:
    """Return the power spectrum (B, windows, 16, 9) of every tapered window of (B, 1, H, W)."""
    patches = functional.unfold(image, WINDOW, stride=WINDOW // 2).transpose(1, 2)
    taper = torch.hann_window(WINDOW, device=image.device)
    windows = patches.unflatten(2, (WINDOW, WINDOW)) * taper[:, None] * taper[None, :]
    return torch.fft.rfft2(windows, norm="ortho").abs().square()


def window_spectra(image: Tensor, floor: float = 3e-5) -> Tensor:
    """Return the logarithm of `window_power` plus `floor`, (B, windows, 16, 9)."""
    return torch.log(window_power(image) + floor)


def radial_bands(size: int, device: torch.device) -> Tensor:
    """Return the radial band 0..size // 2 of every bin of an rfft2, (size, size // 2 + 1) int64."""
    rows = torch.fft.fftfreq(size, 1 / size, device=device)[:, None]
    cols = torch.fft.rfftfreq(size, 1 / size, device=device)[None, :]
    return torch.hypot(rows, cols).round().long().clamp(max=size // 2)


def radial_power(image: Tensor, bands: Tensor) -> Tensor:
    """Return the mean power of a batch (B, 1, H, W) in every radial band, (H // 2 + 1,)."""
    field = image[:, 0] - image.mean((1, 2, 3))[:, None, None]
    power = torch.fft.rfft2(field, norm="ortho").abs().square().mean(0)
    total = torch.zeros(image.shape[-1] // 2 + 1, device=image.device)
    count = torch.bincount(bands.flatten(), minlength=total.numel())
    return total.index_add(0, bands.flatten(), power.flatten()) / count


def train_autoencoder(
    images_u8: NDArray[np.uint8],
    folder: Path,
    steps: int,
    batch_size: int,
    seed: int,
    device: str,
    start: AutoencoderKL | None = None,
) -> AutoencoderKL:
    """Train on frames (N, 128, 128) uint8; the state is saved in `folder`.

    start: a trained VAE to go on from, at a third of the learning rate.
    """
    torch.manual_seed(seed)
    rate = 1.5e-3 if start is None else 5e-4
    vae, critic = (start or build_autoencoder()).to(device), GrainCritic().to(device)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=1e-4)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.9))
    parts = {"vae": vae, "critic": critic, "opt": optimizer, "critic_opt": critic_optimizer}
    stage = Stage(folder / "autoencoder.pt", steps, parts)
    for step, bar in stage.run("autoencoder"):
        rng, noise = step_generators(seed, 1, step)
        real = to_pm1(
            images_u8[rng.integers(len(images_u8), size=batch_size)], torch.device(device)
        )
        set_rate(optimizer, rate * cosine(step, steps, 100))
        with autocast_bf16(device):
            posterior = vae.encode(real.expand(-1, 3, -1, -1)).latent_dist
        mean, std = posterior.mean.float(), posterior.std.float()
        drawn = torch.randn(mean.shape, generator=noise).to(device)
        with autocast_bf16(device):
            decoded = vae.decode(mean + std * drawn).sample
        decoded = decoded.float()
        fake = decoded.mean(1, keepdim=True)
        kl = 0.5 * (mean.square() + std.square() - 1 - 2 * std.log()).mean()
        spectrum = (window_spectra(fake) - window_spectra(real)).abs().mean()
        error = (decoded - real).abs()
        outside = (error * (real < -0.99)).mean()  # around the sector, which must stay black
        loss = error.mean() + outside + 0.06 * spectrum + 2e-4 * kl
        is_adversarial = step >= steps // 4
        if is_adversarial:
            loss = loss - 0.06 * critic(fake).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if is_adversarial:
            critic_optimizer.zero_grad(set_to_none=True)
            hinge_loss(critic, real, fake.detach()).backward()
            critic_optimizer.step()
        if step % 20 == 0:
            shown = {"l1": error.mean(), "kl": kl, "spectrum": spectrum}
            bar.set_postfix({name: f"{float(value.detach()):.3f}" for name, value in shown.items()})
    vae.register_to_config(scaling_factor=_scaling_factor(vae, images_u8[:512]))
    return vae.eval()


@torch.inference_mode()
def _scaling_factor(vae: AutoencoderKL, images_u8: NDArray[np.uint8]) -> float:
    mean, std = encode_frames(vae, images_u8)
    return float(1 / (mean + std * torch.randn_like(mean)).std())


@torch.inference_mode()
def encode_frames(vae: AutoencoderKL, images_u8: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Return posterior mean and standard deviation (N, 4, 32, 32) on the CPU, before scaling."""
    device = next(vae.parameters()).device
    means, stds = [], []
    for start in ProgressBar(
        range(0, len(images_u8), 64), desc="encode", disable=len(images_u8) < 1000
    ):
        batch = to_pm1(images_u8[start : start + 64], device).expand(-1, 3, -1, -1)
        posterior = vae.encode(batch).latent_dist
        means.append(posterior.mean.cpu())
        stds.append(posterior.std.cpu())
    return torch.cat(means), torch.cat(stds)


@torch.inference_mode()
def spectrum_ratio(vae: AutoencoderKL, images_u8: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return decoded over input radial power in each band up to 3/4 of Nyquist, (48,)."""
    bands = radial_bands(images_u8.shape[-1], torch.device("cpu"))
    mean, std = encode_frames(vae, images_u8)
    latent = mean + std * torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    device = next(vae.parameters()).device
    decoded = torch.cat([vae.decode(z.to(device)).sample.cpu() for z in latent.split(32)])
    fake = decoded.mean(1, keepdim=True).clamp(-1, 1)
    real = to_pm1(images_u8, torch.device("cpu"))
    stop = 3 * images_u8.shape[-1] // 8
    ratio = radial_power(fake, bands)[1 : stop + 1] / radial_power(real, bands)[1 : stop + 1]
    return ratio.double().numpy()
