"""The baseline without an adversary: a network that is told the target of each source image."""

from collections.abc import Mapping
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from echodiff.gan.pool import ImagePool
from echodiff.gan.updates import Autocast, detached, update


class Regression:
    """Mean absolute error to the target. nets: G. optimizers: G. Draws nothing beside images."""

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        *,
        autocast: Autocast = nullcontext,
    ) -> None:
        self.nets, self.optimizers, self.autocast = nets, optimizers, autocast
        self.pools: Mapping[str, ImagePool] = {}
        self.names: tuple[str, ...] = ("reconstruction",)

    def sample(self, stream: np.random.Generator, step: int, count: int) -> None:
        """Nothing."""

    def step(
        self, source: torch.Tensor, target: torch.Tensor, draw: None
    ) -> dict[str, torch.Tensor]:
        """Train on source and target (N, C, H, W) each in -1..1."""
        with self.autocast():
            output = self.nets["G"](source)
        loss = F.l1_loss(output, target)
        update(self.optimizers["G"], loss)
        return detached({"reconstruction": loss})
