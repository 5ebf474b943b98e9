"""The image pool: discriminators see old fakes too (Shrivastava et al., CVPR 2017)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch


class PoolDraw(NamedTuple):
    """Exchange of each of N images, drawn in advance, so that applying it need not wait."""

    slot: torch.Tensor
    """(N,) place in the pool."""
    is_stored: torch.Tensor
    """(N,) bool: the image takes that place."""
    gives_old: torch.Tensor
    """(N,) bool: the image that was there is given out instead."""


class ImagePool:
    """`size` places for images of one shape (C, H, W); none: every image is given back itself.

    What is judged together must be stored together: a fake and its condition are one image of
    more channels here.
    """

    def __init__(self, size: int, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> None:
        self.images = torch.zeros(size, *shape, dtype=dtype)

    def to(self, device: torch.device) -> "ImagePool":
        """Move the images; returns the pool."""
        self.images = self.images.to(device)
        return self

    def sample(self, stream: np.random.Generator, num_before: int, count: int) -> PoolDraw:
        """Draw for `count` images after `num_before` went through.

        Places are filled in turn; from then on an image goes by, or changes places with a random
        one, each half of the time.
        """
        size = max(1, len(self.images))
        number = num_before + torch.arange(count)
        fills = number < size
        is_exchanged = torch.from_numpy(stream.random(count) > 0.5)
        place = torch.from_numpy(stream.integers(size, size=count))
        slot = torch.where(fills, number, place)
        return PoolDraw(slot, fills | is_exchanged, ~fills & is_exchanged)

    @torch.no_grad()
    def exchange(self, images: torch.Tensor, draw: PoolDraw) -> torch.Tensor:
        """Give (N, C, H, W) in and as many out; one after the other, within a batch too."""
        if not len(self.images):
            return images.detach()
        given = []
        for row in range(len(images)):
            image, slot = images[row : row + 1], draw.slot[row : row + 1]
            old = self.images.index_select(0, slot)
            given.append(torch.where(draw.gives_old[row], old, image))
            self.images.index_copy_(0, slot, torch.where(draw.is_stored[row], image, old))
        return torch.cat(given)
