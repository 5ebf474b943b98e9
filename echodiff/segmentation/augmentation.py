"""Augmentation of frames with their masks: drawn by frame, applied to image and mask alike.

Hearts are never mirrored: a mirrored heart is a different diagnosis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from echodiff.training.streams import sample_normal, sample_uniform


@dataclass(frozen=True)
class Strength:
    """How far draws go, either way."""

    angle_deg: float = 0.0
    scale: float = 0.0
    """Of the size: 0.05 is 95 to 105 %."""
    shift: float = 0.0
    """Of the image's side."""
    gain: float = 0.0
    """Of the brightness."""
    gamma: float = 0.0
    """Exponents from 1 / (1 + gamma) to 1 + gamma."""
    noise: float = 0.0
    """Largest standard deviation, of images in 0..1."""


STRENGTHS = {
    "none": Strength(),
    "light": Strength(scale=0.05, shift=0.04, gain=0.1),
    "classical": Strength(
        angle_deg=15.0, scale=0.15, shift=0.08, gain=0.2, gamma=0.4, noise=0.06
    ),
}  # fmt: skip
"""By the value of --augmentation."""
NUM_DRAWS = 7


def sample_augmentation(
    stream: np.random.Generator, strength: Strength, batch_size: int, side: int
) -> tuple[Tensor, Tensor]:
    """Draw (B, NUM_DRAWS) numbers in -1..1, and normal noise (B, 1, S, S), or an empty tensor."""
    draws = 2 * sample_uniform(stream, (batch_size, NUM_DRAWS)) - 1
    shape = (batch_size, 1, side, side) if strength.noise else (0,)
    return draws, sample_normal(stream, shape)


def apply_augmentation(
    images_01: Tensor, masks: Tensor, draws: Tensor, noise: Tensor, strength: Strength
) -> tuple[Tensor, Tensor]:
    """Images (B, 1, S, S) in 0..1 and one-hot masks (B, K, S, S), moved and shaded as drawn.

    Images are interpolated linearly, masks by nearest neighbour; outside is black background.
    """
    angle, log_scale, across, down, gain, gamma, spread = draws.unbind(1)
    if strength.angle_deg or strength.scale or strength.shift:
        angle = angle * (strength.angle_deg * np.pi / 180)
        factor = (1 + strength.scale) ** -log_scale
        cos, sin = angle.cos() * factor, angle.sin() * factor
        # Sides of grid_sample run from -1 to 1: twice the share of a side.
        shifts = 2 * strength.shift * torch.stack([across, down], 1)
        rows = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        affine = torch.cat([rows, shifts[..., None]], 2)
        grid = F.affine_grid(affine, list(images_01.shape), align_corners=False)
        images_01 = F.grid_sample(images_01, grid, mode="bilinear", align_corners=False)
        masks = F.grid_sample(masks, grid, mode="nearest", align_corners=False)
        background = masks[:, :1] + (1 - masks.sum(1, keepdim=True))
        masks = torch.cat([background, masks[:, 1:]], 1)
    if strength.gamma:
        exponent = (1 + strength.gamma) ** gamma[:, None, None, None]
        images_01 = images_01.clamp(min=1e-6) ** exponent
    images_01 = images_01 * (1 + strength.gain * gain[:, None, None, None])
    if strength.noise:
        images_01 = images_01 + strength.noise * spread.abs()[:, None, None, None] * noise
    return images_01.clamp(0, 1), masks
