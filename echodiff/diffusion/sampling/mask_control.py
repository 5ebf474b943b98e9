"""Masks in the sampler: which mask image i obeys, encoded once an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from echodiff.diffusion.mask_networks import MaskedUNet


class MaskedSteps(nn.Module):
    """What the sampler calls at every step: latents, time, text and encoded masks to noise."""

    def __init__(self, network: MaskedUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.network.predict(*inputs)

    def compile_repeated_blocks(self, **options: Any) -> None:
        """Compile the transformer blocks, as of a diffusers model."""
        self.network.compile_repeated_blocks(**options)


@dataclass(frozen=True)
class MaskControl:
    """A network that obeys masks, and the masks."""

    network: MaskedUNet
    masks: Callable[[int, int], NDArray[np.uint8]]
    """Index and side S of an image to its mask (S, S) of channel numbers (`condition.Channels`)."""
    scale: float = 1.0
    """Strength of the masks; at 0 the images are those of the base."""

    @cached_property
    def steps(self) -> MaskedSteps:
        return MaskedSteps(self.network)

    def encode(self, indices: Sequence[int], side: int, *, has_empty: bool) -> tuple[Tensor, ...]:
        """Encode the masks of a batch; has_empty: the empty mask for each of them before.

        side: of the images, pixels.
        """
        masks = np.stack([self.masks(index, side) for index in indices])
        assert masks.shape[1:] == (side, side), masks.shape
        condition = torch.from_numpy(masks[:, None]).to(self.network.device)
        encoded = self.network.encode(condition, self.scale)
        if not has_empty:
            return encoded
        empty = self.network.encode(torch.zeros_like(condition[:1]), self.scale)
        pairs = zip(empty, encoded, strict=True)
        return tuple(torch.cat([one.expand_as(given), given]) for one, given in pairs)
