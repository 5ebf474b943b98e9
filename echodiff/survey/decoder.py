"""The decoder of a base, fitted to the frames of a comparison.

A base that was trained on other images decodes in their style: the embedded one was trained on echo
and draws speckle into MR, so that no scanner can be told from another. The encoder stays as it is,
and with it the latents and all that was trained on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from echodiff.fingerprints import sha256_file
from echodiff.pretrain.decoder import build_groups, group_spectra
from echodiff.survey.latents import LatentSpace
from echodiff.survey.methods import GENERATOR, Batch, build_optimizer, take_step

SPECTRUM_WEIGHT = 0.4
"""Of the difference of local spectra: the absolute error alone is smallest for smooth images."""
POWER_FLOOR = 1e-4
"""Power below which spectra are not told apart: black stays black."""
DISTURBANCE = 0.5
"""Largest noise on the latents, in their deviations: those that a network draws are not exact."""


class Decoding:
    """`Method` that fits the decoder: absolute error of pixels, and of the spectra of windows."""

    names: tuple[str, ...] = ("loss", "pixel_loss", "spectrum_loss")

    def __init__(self, latents: LatentSpace, *, side: int, learning_rate: float) -> None:
        self._latents = latents
        self._decoder = latents.decoder.requires_grad_(True)
        self.networks: Mapping[str, nn.Module] = {GENERATOR: self._decoder}
        self.optimizers = {GENERATOR: build_optimizer(self._decoder, learning_rate)}
        self.noise_shape = (2, *latents.shape(side))

    def update(self, batch: Batch) -> Tensor:
        images, groups = batch.images, build_groups(batch.images.device)
        drawn, other = batch.noise.unbind(dim=1)
        latents = self._latents.sample(images, drawn)
        strength = DISTURBANCE * batch.shares.float().to(images.device)[:, None, None, None]
        decoded = self._latents.decode_colours(latents + strength * latents.std() * other)
        pixel = F.l1_loss(decoded, images.expand_as(decoded))
        grey = decoded.mean(dim=1, keepdim=True)
        ours, real = (group_spectra(one, groups, POWER_FLOOR) for one in (grey, images))
        spectrum = F.l1_loss(ours, real)
        loss = pixel + SPECTRUM_WEIGHT * spectrum
        take_step(self.optimizers[GENERATOR], self._decoder, loss)
        return torch.stack([loss, pixel, spectrum]).detach()

    @torch.no_grad()
    def draw(self, noise: Tensor, mask: Tensor, style: Tensor, num_steps: int) -> Tensor:
        """Images (B, 1, S, S) of the first latents in `noise` (B, 2, C, s, s)."""
        return self._latents.decode(noise[:, 0])


@dataclass(frozen=True)
class FittedDecoder:
    """What a training of `Decoding` left."""

    path: Path

    @property
    def sha256(self) -> str:
        """Of its weights."""
        return sha256_file(self.path)

    def load_into(self, decoder: nn.ModuleDict) -> None:
        """Put the weights into what `collect_decoder` returned."""
        decoder.load_state_dict(load_file(self.path))
