"""The latents of a base model, in which diffusion and flow may run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from echodiff.diffusion.base import load_base
from echodiff.diffusion.encoding import encode_image
from echodiff.errors import InputError
from echodiff.progress import ProgressBar

DECODED_AT_ONCE = 8


class LatentSpace:
    """The autoencoder of a base, frozen.

    Frames are kept as mean and deviation of their latents: a sample drawn once would put its noise
    into every step.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        pipeline = load_base(name, torch.float32)
        self.device = device
        self._vae: Any = pipeline.vae.to(device).eval().requires_grad_(False)
        self._scale = float(self._vae.config.scaling_factor)
        self._shift = float(getattr(self._vae.config, "shift_factor", None) or 0.0)
        self.factor = int(pipeline.vae_scale_factor)
        self._name = name
        self.decoder = collect_decoder(self._vae)
        """Its weights are those of `vae`."""

    def shape(self, resolution: int) -> tuple[int, int, int]:
        """Of the latents of an image; InputError where it has not a whole number of them."""
        if resolution % self.factor:
            raise InputError(
                f"--resolution {resolution}: the autoencoder of --base {self._name} needs a "
                f"multiple of {self.factor}"
            )
        side = resolution // self.factor
        return int(self._vae.config.latent_channels), side, side

    def encode(self, images_pm1: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Means and deviations (N, C, s, s) of images (N, 1, S, S), scaled for the UNet."""
        both = [
            encode_image(self._vae, torch.from_numpy(image).expand(3, -1, -1))
            for image in ProgressBar(images_pm1, desc="encoding", unit="frame")
        ]
        mean, deviation = torch.stack(both).unbind(dim=1)
        return mean.contiguous(), deviation.contiguous()

    @torch.no_grad()
    def sample(self, images: Tensor, noise: Tensor) -> Tensor:
        """Scaled latents (B, C, s, s) of images (B, 1, S, S) in -1..1; noise: standard normal."""
        posterior = self._vae.encode(images.expand(-1, 3, -1, -1)).latent_dist
        latents: Tensor = (posterior.mean + posterior.std * noise - self._shift) * self._scale
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 1, S, S) in -1..1 of latents (B, C, s, s): the mean of three colours."""
        return self.decode_colours(latents).clamp(-1, 1).mean(dim=1, keepdim=True)

    def decode_colours(self, latents: Tensor) -> Tensor:
        """Images (B, 3, S, S) in about -1..1 of latents (B, C, s, s)."""
        parts = torch.split(latents / self._scale + self._shift, DECODED_AT_ONCE)
        return torch.cat([self._vae.decode(part).sample for part in parts])


def collect_decoder(vae: Any) -> nn.ModuleDict:
    """All of a diffusers VAE that stands between latents and images."""
    parts = {"decoder": vae.decoder, "post_quant_conv": getattr(vae, "post_quant_conv", None)}
    return nn.ModuleDict({name: part for name, part in parts.items() if part is not None})
