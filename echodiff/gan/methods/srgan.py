"""One training step of SRGAN with a pixel loss (Ledig et al., CVPR 2017, its SRGAN-MSE)."""

from collections.abc import Mapping
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from echodiff.gan.losses import compute_adversarial
from echodiff.gan.names import Adversarial
from echodiff.gan.pool import ImagePool
from echodiff.gan.updates import Autocast, detached, frozen, update


class Srgan:
    """Discriminator first, then generator; batch norms see real and fake apart.

    nets: G, D. optimizers: G, D. Sources are the targets at half the side. Draws nothing beside
    images.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        *,
        reconstruction_weight: float = 1000.0,
        adversarial: Adversarial = "log",
        autocast: Autocast = nullcontext,
    ) -> None:
        self.nets, self.optimizers = nets, optimizers
        self.pools: Mapping[str, ImagePool] = {}
        self.names: tuple[str, ...] = ("D_real", "D_fake", "G", "reconstruction")
        self.reconstruction_weight = reconstruction_weight
        self.adversarial, self.autocast = adversarial, autocast

    def sample(self, stream: np.random.Generator, step: int, count: int) -> None:
        """Nothing."""

    def step(
        self, source: torch.Tensor, target: torch.Tensor, draw: None
    ) -> dict[str, torch.Tensor]:
        """Train on source (N, C, H, W) and target (N, C, 2 H, 2 W) in -1..1."""
        generator, discriminator = self.nets["G"], self.nets["D"]

        # --- Discriminator
        with self.autocast():
            fake = generator(source)
        with self.autocast():
            judged_real, judged_fake = discriminator(target), discriminator(fake.detach())
        losses = {
            "D_real": compute_adversarial(judged_real, is_real=True, kind=self.adversarial),
            "D_fake": compute_adversarial(judged_fake, is_real=False, kind=self.adversarial),
        }
        update(self.optimizers["D"], losses["D_real"] + losses["D_fake"])

        # --- Generator
        with frozen(discriminator), self.autocast():
            fooled = discriminator(fake)
        losses["G"] = compute_adversarial(fooled, is_real=True, kind=self.adversarial)
        losses["reconstruction"] = F.mse_loss(fake, target)
        total = losses["G"] + self.reconstruction_weight * losses["reconstruction"]
        update(self.optimizers["G"], total)
        return detached(losses)
