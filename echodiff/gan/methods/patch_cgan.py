"""One training step of the patch-cGAN from mask to echo (Abdi et al., arXiv 1911.02121)."""

from collections.abc import Mapping
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from echodiff.gan.losses import compute_adversarial
from echodiff.gan.names import Adversarial
from echodiff.gan.pool import ImagePool, PoolDraw
from echodiff.gan.updates import Autocast, detached, frozen, in_inference, update


class PatchCgan:
    """Discriminator on real, then on fake images, each with its mask; then the generator.

    nets: G, D. optimizers: G, D. As in the published code the two batches of D are two updates,
    since batch norm must not mix them, and its fakes come from G in inference mode. The pool keeps
    a fake and its mask together: an old fake beside the mask of now would teach D nonsense.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        pools: Mapping[str, ImagePool],
        *,
        reconstruction_weight: float = 100.0,
        adversarial: Adversarial = "squares",
        autocast: Autocast = nullcontext,
    ) -> None:
        self.nets, self.optimizers, self.pools = nets, optimizers, pools
        self.names: tuple[str, ...] = ("G", "reconstruction", "D_real", "D_fake")
        self.reconstruction_weight = reconstruction_weight
        self.adversarial, self.autocast = adversarial, autocast

    def sample(self, stream: np.random.Generator, step: int, count: int) -> PoolDraw:
        """Draw for step number `step` (0 is the first) of `count` masks."""
        return self.pools["pairs"].sample(stream, step * count, count)

    def step(
        self, source: torch.Tensor, target: torch.Tensor, draw: PoolDraw
    ) -> dict[str, torch.Tensor]:
        """Train on masks (N, 1, H, W) of label numbers and their images (N, C, H, W) in 0..1."""
        generator, discriminator = self.nets["G"], self.nets["D"]

        # --- Discriminator: real pairs, then fake ones
        with self.autocast():
            logits = discriminator(torch.cat([target, source], dim=1))
        real = compute_adversarial(logits, is_real=True, kind=self.adversarial)
        update(self.optimizers["D"], real)
        with in_inference(generator), torch.no_grad(), self.autocast():
            pairs = torch.cat([generator(source), source], dim=1)
        pairs = self.pools["pairs"].exchange(pairs, draw)
        with self.autocast():
            logits = discriminator(pairs)
        fake = compute_adversarial(logits, is_real=False, kind=self.adversarial)
        update(self.optimizers["D"], fake)

        # --- Generator
        with frozen(discriminator), self.autocast():
            image = generator(source)
            logits = discriminator(torch.cat([image, source], dim=1))
        fooled = compute_adversarial(logits, is_real=True, kind=self.adversarial)
        reconstruction = F.l1_loss(image, target)
        update(self.optimizers["G"], fooled + self.reconstruction_weight * reconstruction)
        return detached(
            {"G": fooled, "reconstruction": reconstruction, "D_real": real, "D_fake": fake}
        )
