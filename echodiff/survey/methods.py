"""How each kind of arm learns from a batch, and how it draws images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echodiff.diffusion.objective import Objective, denoising_losses
from echodiff.survey.networks import Discriminator, SpadeAutoencoder, SpadeGenerator, StyledUNet
from echodiff.survey.preconditioning import compute_scales
from echodiff.survey.samplers import sample_denoised

MAX_GRADIENT_NORM = 1.0
GENERATOR_RATE = 0.5
"""Step size of the GAN's generator over that of its discriminator (Heusel et al. 2017)."""
FEATURE_WEIGHT, KL_WEIGHT, PIXEL_WEIGHT = 10.0, 0.05, 10.0
"""Of feature matching and of the code of the GAN (Park et al. 2019), and of its absolute error."""
LEAST_ERROR = 1e-5
"""Squared error of the VAE below which its likelihood grows no more: 8-bit images are no finer."""
GENERATOR = "generator"


@dataclass(frozen=True)
class Batch:
    """What one step is given, on the device."""

    images: Tensor
    """(B, C, s, s): images in -1..1, or latents."""
    mask: Tensor
    """(B, L, s, s): share of each label."""
    style: Tensor
    """(B, V): weights of the training vendors."""
    noise: Tensor
    """(B, ...) standard normal, of the method's `noise_shape`."""
    shares: Tensor
    """(B,) uniform in 0..1, float64: the times of the denoising arms."""


class Method(Protocol):
    """One kind of generator."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the values of a step."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """All that is trained; `generator` draws the images."""

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """One for each network."""

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Of the noise of one image."""

    def update(self, batch: Batch) -> Tensor:
        """Take one optimizer step; its values (len(names),)."""

    def draw(self, noise: Tensor, mask: Tensor, style: Tensor, num_steps: int) -> Tensor:
        """Images in -1..1 or latents (B, C, s, s) for noise (B, ...)."""


class Denoising:
    """Diffusion and flow matching: one network, told apart by objective and scheduler alone.

    deviation: root mean square of the images or latents, which the network is scaled by.
    """

    names: tuple[str, ...] = ("loss",)

    def __init__(
        self,
        network: StyledUNet,
        objective: Objective,
        scheduler: Any,
        *,
        shape: tuple[int, ...],
        deviation: float,
        learning_rate: float,
    ) -> None:
        self._network, self._objective, self._scheduler = network, objective, scheduler
        self._deviation = deviation
        self.networks = {GENERATOR: network}
        self.optimizers = {GENERATOR: build_optimizer(network, learning_rate)}
        self.noise_shape = shape

    def update(self, batch: Batch) -> Tensor:
        objective = self._objective
        times = objective.draw_times(batch.shares.cpu()).to(batch.images.device)
        noisy = objective.mix(batch.images, batch.noise, times)
        predicted = self._predict(noisy, times, batch.mask, batch.style)
        target = objective.target(batch.images, batch.noise, times)
        loss = objective.weight * denoising_losses(predicted, target).mean()
        take_step(self.optimizers[GENERATOR], self._network, loss)
        return loss.detach()[None]

    def use_scheduler(self, scheduler: Any) -> None:
        """Draw with another sampler from now on."""
        self._scheduler = scheduler

    def draw(self, noise: Tensor, mask: Tensor, style: Tensor, num_steps: int) -> Tensor:
        predict = partial(self._predict, mask=mask, style=style)
        return sample_denoised(predict, self._scheduler, noise, num_steps)

    def _predict(self, noisy: Tensor, times: Tensor, mask: Tensor, style: Tensor) -> Tensor:
        scales = compute_scales(self._objective, times, self._deviation)
        out: Tensor = self._network(scales.inside * noisy, times, mask, style)
        return scales.skip * noisy + scales.out * out


class Adversarial:
    """SPADE: hinge loss, feature matching, and a code that an encoder reads from real frames.

    The loss of Park et al. (2019) in VGG features needs weights trained on photographs: the mean
    absolute error of pixels stands in its place (Isola et al. 2017).
    """

    names: tuple[str, ...] = (
        "loss", "discriminator_loss", "features_loss", "pixel_loss", "kl"
    )  # fmt: skip

    def __init__(
        self, generator: SpadeGenerator, discriminator: Discriminator, *, learning_rate: float
    ) -> None:
        self._generator, self._discriminator = generator, discriminator
        self.networks = {GENERATOR: generator, "discriminator": discriminator}
        self.optimizers = {
            GENERATOR: build_optimizer(generator, GENERATOR_RATE * learning_rate, (0.0, 0.9)),
            "discriminator": build_optimizer(discriminator, learning_rate, (0.0, 0.9)),
        }
        self.noise_shape = generator.code_shape

    def update(self, batch: Batch) -> Tensor:
        condition = batch.mask, batch.style
        mean, log_variance = self._generator.encode(batch.images, *condition)
        code = mean + batch.noise * (0.5 * log_variance).exp()
        fake = self._generator.decode(code, *condition)

        # --- Discriminator
        judged = [self._discriminator(one, *condition)[-1] for one in (batch.images, fake.detach())]
        judge_loss = F.relu(1 - judged[0]).mean() + F.relu(1 + judged[1]).mean()
        take_step(self.optimizers["discriminator"], self._discriminator, judge_loss)

        # --- Generator
        self._discriminator.requires_grad_(False)
        of_fake = self._discriminator(fake, *condition)
        with torch.no_grad():
            of_real = self._discriminator(batch.images, *condition)
        pairs = list(zip(of_fake[:-1], of_real[:-1], strict=True))
        matching = torch.stack([F.l1_loss(ours, theirs) for ours, theirs in pairs]).mean()
        kl = compute_kl(mean, log_variance).mean()
        error = F.l1_loss(fake, batch.images)
        supervised = FEATURE_WEIGHT * matching + PIXEL_WEIGHT * error
        loss = -of_fake[-1].mean() + supervised + KL_WEIGHT * kl
        take_step(self.optimizers[GENERATOR], self._generator, loss)
        self._discriminator.requires_grad_(True)
        return torch.stack([loss, judge_loss, matching, error, kl]).detach()

    @torch.no_grad()
    def draw(self, noise: Tensor, mask: Tensor, style: Tensor, num_steps: int) -> Tensor:
        return self._generator.decode(noise, mask, style)


class Variational:
    """VAE whose decoder's variance is the best one for each batch (Rybkin et al., ICML 2021).

    There is then no weight between likelihood and KL to tune: the loss is the negative evidence
    lower bound in nats a pixel, less a constant.
    """

    names: tuple[str, ...] = ("loss", "squared_error", "kl")

    def __init__(self, network: SpadeAutoencoder, *, learning_rate: float) -> None:
        self._network = network
        self.networks = {GENERATOR: network}
        self.optimizers = {GENERATOR: build_optimizer(network, learning_rate)}
        self.noise_shape = network.code_shape

    def update(self, batch: Batch) -> Tensor:
        condition = batch.mask, batch.style
        mean, log_variance = self._network.encode(batch.images, *condition)
        code = mean + batch.noise * (0.5 * log_variance).exp()
        error = F.mse_loss(self._network.decode(code, *condition), batch.images)
        kl = compute_kl(mean, log_variance).mean()
        loss = 0.5 * error.clamp(min=LEAST_ERROR).log() + kl / batch.images[0].numel()
        take_step(self.optimizers[GENERATOR], self._network, loss)
        return torch.stack([loss, error, kl]).detach()

    @torch.no_grad()
    def draw(self, noise: Tensor, mask: Tensor, style: Tensor, num_steps: int) -> Tensor:
        return self._network.decode(noise, mask, style)


def compute_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence (B,) of N(mean, variance) from N(0, 1), in nats, summed over the code."""
    terms = mean.square() + log_variance.exp() - 1 - log_variance
    return 0.5 * terms.flatten(1).sum(dim=1)


def build_optimizer(
    network: nn.Module, rate: float, betas: tuple[float, float] = (0.9, 0.99)
) -> torch.optim.Optimizer:
    """AdamW without weight decay, whose rate a trainer scales."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, betas=betas, weight_decay=0.0)
    for group in optimizer.param_groups:
        group["initial_lr"] = rate  # the trainer scales it
    return optimizer


def take_step(optimizer: torch.optim.Optimizer, network: nn.Module, loss: Tensor) -> None:
    """One step of an optimizer, the gradient clipped."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
    optimizer.step()
