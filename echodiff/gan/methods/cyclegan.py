"""One training step of CycleGAN (Zhu et al., ICCV 2017).

Networks have their published names: G_A goes from source to target, where D_A judges; G_B and
D_B the other way.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from echodiff.gan.losses import compute_adversarial
from echodiff.gan.names import Adversarial
from echodiff.gan.pool import ImagePool, PoolDraw
from echodiff.gan.updates import Autocast, detached, frozen, run_together, update


class CycleGanDraw(NamedTuple):
    """What a step draws at random beside its images."""

    pool_a: PoolDraw
    pool_b: PoolDraw


class CycleGan:
    """Generators first, then discriminators, which see fakes from a pool.

    nets: G_A, G_B, D_A, D_B. optimizers: G and D, each of both networks. pools: A of fakes that
    D_A judges, B of those that D_B judges. `identity_weight` is absolute: the published
    lambda_identity of 0.5 is half the cycle weight of 10. `together` says that no layer mixes the
    images of a batch: then the fake and the identity, and real and fake, share a pass.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        pools: Mapping[str, ImagePool],
        *,
        cycle_weight: float = 10.0,
        identity_weight: float = 5.0,
        adversarial: Adversarial = "squares",
        together: bool = True,
        autocast: Autocast = nullcontext,
    ) -> None:
        self.nets, self.optimizers, self.pools = nets, optimizers, pools
        self.cycle_weight, self.identity_weight = cycle_weight, identity_weight
        identity = () if identity_weight == 0 else ("identity_A", "identity_B")
        self.names: tuple[str, ...] = ("G_A", "G_B", "cycle_A", "cycle_B", *identity, "D_A", "D_B")
        self.adversarial = adversarial
        self.together, self.autocast = together, autocast

    def sample(self, stream: np.random.Generator, step: int, count: int) -> CycleGanDraw:
        """Draw for step number `step` (0 is the first) of `count` images each."""
        draws = [self.pools[n].sample(stream, step * count, count) for n in ("A", "B")]
        return CycleGanDraw(*draws)

    def step(
        self, source: torch.Tensor, target: torch.Tensor, draw: CycleGanDraw
    ) -> dict[str, torch.Tensor]:
        """Train on source and target (N, C, H, W) each in -1..1; return every term, unweighted."""
        nets = self.nets

        # --- Generators
        with frozen(nets["D_A"], nets["D_B"]), self.autocast():
            fake_target, same_target = self._translate("G_A", source, target)
            fake_source, same_source = self._translate("G_B", target, source)
            cycled_source, cycled_target = nets["G_B"](fake_target), nets["G_A"](fake_source)
            judged_target, judged_source = nets["D_A"](fake_target), nets["D_B"](fake_source)
        losses = {
            "G_A": compute_adversarial(judged_target, is_real=True, kind=self.adversarial),
            "G_B": compute_adversarial(judged_source, is_real=True, kind=self.adversarial),
            "cycle_A": F.l1_loss(cycled_source, source),
            "cycle_B": F.l1_loss(cycled_target, target),
        }
        total = losses["G_A"] + losses["G_B"]
        total = total + self.cycle_weight * (losses["cycle_A"] + losses["cycle_B"])
        if same_target is not None and same_source is not None:
            losses["identity_A"] = F.l1_loss(same_target, target)
            losses["identity_B"] = F.l1_loss(same_source, source)
            same = losses["identity_A"] + losses["identity_B"]
            total = total + self.identity_weight * same
        update(self.optimizers["G"], total)

        # --- Discriminators
        old_target = self.pools["A"].exchange(fake_target.detach(), draw.pool_a)
        old_source = self.pools["B"].exchange(fake_source.detach(), draw.pool_b)
        with self.autocast():
            judged_a = run_together(nets["D_A"], [target, old_target], together=self.together)
            judged_b = run_together(nets["D_B"], [source, old_source], together=self.together)
        losses["D_A"], losses["D_B"] = self._judge(*judged_a), self._judge(*judged_b)
        update(self.optimizers["D"], losses["D_A"] + losses["D_B"])
        return detached(losses)

    def _translate(
        self, name: str, images: torch.Tensor, own: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Translations of `images`, and of `own`, which are of the generator's own target."""
        if self.identity_weight == 0:
            return self.nets[name](images), None
        fake, same = run_together(self.nets[name], [images, own], together=self.together)
        return fake, same

    def _judge(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """Half the sum: D learns at half the rate of G."""
        return 0.5 * (
            compute_adversarial(real, is_real=True, kind=self.adversarial)
            + compute_adversarial(fake, is_real=False, kind=self.adversarial)
        )
