"""The order of the images: rows and crops of a step are a function of (seed, step) alone."""

from typing import NamedTuple

import numpy as np
import torch

from echodiff.training.streams import Stream, build_stream


class StepRows(NamedTuple):
    """Which images a step shows, and which part of each."""

    source: torch.Tensor
    """(B,) rows of the source domain."""
    target: torch.Tensor
    """(B,) rows of the target domain."""
    source_corners: torch.Tensor
    """(B, 2) top and left of the crop (pixels)."""
    target_corners: torch.Tensor
    """(B, 2); the same as the source's where rows are pairs."""


class Order:
    """The endless order of images: epoch e is a permutation drawn from (seed, e).

    An epoch is as long as the larger domain. The source goes through it in turn, again and again
    where it is the smaller; targets are drawn at random for each step, or are the sources'
    partners. Batches go on over the end of an epoch, so all have the same size.
    """

    def __init__(
        self,
        num_source: int,
        num_target: int,
        *,
        is_paired: bool,
        has_replacement: bool,
        slack: int,
        seed: int,
    ) -> None:
        self.num_source, self.num_target = num_source, num_target
        self.is_paired, self.has_replacement = is_paired, has_replacement
        self.slack = slack
        """Pixels by which a crop may be moved either way."""
        self.seed = seed
        self._epoch: tuple[int, torch.Tensor] = (-1, torch.empty(0))

    def __len__(self) -> int:
        return max(self.num_source, self.num_target)

    def take(self, step: int, count: int, stream: np.random.Generator) -> StepRows:
        """Rows of step number `step` (0 is the first); `stream` is the step's own."""
        target = torch.from_numpy(stream.integers(self.num_target, size=count))
        corners = torch.from_numpy(stream.integers(self.slack + 1, size=(2, count, 2)))
        if self.has_replacement:
            source = torch.from_numpy(stream.integers(self.num_source, size=count))
        else:
            source = torch.stack([self._row(step * count + i) for i in range(count)])
        if self.is_paired:
            # One crop for both: pixels of a pair belong together.
            return StepRows(source, source, corners[0], corners[0])
        return StepRows(source, target, corners[0], corners[1])

    def _row(self, position: int) -> torch.Tensor:
        epoch, offset = divmod(position, len(self))
        if self._epoch[0] != epoch:
            shuffled = build_stream(self.seed, Stream.ORDER, epoch).permutation(len(self))
            self._epoch = (epoch, torch.from_numpy(shuffled))
        return self._epoch[1][offset] % self.num_source
