"""A step of a training with differential privacy: patients' gradients, clipped, summed, noised.

Opacus takes the gradients of single samples from the layers, clips and sums them. Two things are
our own: a patient's samples are averaged before the clip, so that the guarantee is for patients,
and the noise comes from a key (`training.keyed_stream`), so that a resumed run repeats it.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator

from echodiff.diffusion.objective import Objective, compute_losses
from echodiff.diffusion.privacy_budget import Budget
from echodiff.diffusion.samples import Samples
from echodiff.errors import InputError
from echodiff.training.keyed_stream import keyed_normal


class KeyedOptimizer(DPOptimizer):
    """Opacus' optimizer with the noise of a key and a step."""

    def __init__(self, optimizer: torch.optim.Optimizer, budget: Budget, key: bytes) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=budget.noise_multiplier,
            max_grad_norm=budget.clip,
            expected_batch_size=budget.patients_per_step,
        )
        self._key = key
        self.step_number = 0

    def add_noise(self) -> None:
        """Add the noise of `step_number` to the summed gradients, in float64."""
        count = sum(parameter.numel() for parameter in self.params)
        scale = self.noise_multiplier * self.max_grad_norm
        noise = draw_noise(self._key, self.step_number, count) * scale
        sizes = [parameter.numel() for parameter in self.params]
        for parameter, part in zip(self.params, noise.split(sizes), strict=True):
            summed = parameter.summed_grad
            there = part.view_as(summed).to(summed.device)
            parameter.grad = (summed.double() + there).to(parameter.dtype)


def draw_noise(key: bytes, step: int, count: int) -> torch.Tensor:
    """Standard normal noise (count,) float64 of one step.

    Tests of audits put zeros in the place of this function.
    """
    return keyed_normal(key, "noise", step, count)


class PrivateGradient:
    """Takes the optimizer steps of `parameters`, those of a `network` that are trained.

    network: its trained layers must be ones that Opacus knows, and none may mix the samples of a
    batch. predict: as in `objective.compute_losses`.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        parameters: Mapping[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        *,
        objective: Objective,
        predict: Callable[[torch.Tensor, Samples], torch.Tensor],
        budget: Budget,
        key: bytes,
        patients_at_once: int,
        draws: int,
    ) -> None:
        if errors := ModuleValidator.validate(network, strict=False):
            raise InputError(f"--dp-epsilon: this network cannot be trained with it: {errors[0]}")
        self.network = network
        self._parameters: list[Any] = list(parameters.values())  # Opacus puts attributes on them
        self._objective, self._predict, self._budget = objective, predict, budget
        self._rows_at_once, self._draws = patients_at_once * draws, draws
        self._optimizer = KeyedOptimizer(optimizer, budget, key)
        self.hooks = GradSampleHooks(network, loss_reduction="sum")

    def take(self, step: int, samples: Samples, weights: torch.Tensor) -> torch.Tensor:
        """Take step number `step`; its (loss, gradient norm) on the device of the network.

        samples, weights: of `PatientSamples.draw`, possibly of no patient: then the step is noise
        alone. The loss is that of all samples over their expected number; the norm is that of the
        gradient with its noise.
        """
        device, optimizer = self._parameters[0].device, self._optimizer
        optimizer.step_number = step
        optimizer.zero_grad()
        total = torch.zeros((), device=device)
        for rows in torch.arange(len(weights)).split(self._rows_at_once) if len(weights) else ():
            there = Samples(*(tensor[rows].to(device) for tensor in samples.tensors()))
            losses = self.backward(there, weights[rows].to(device))
            total += losses.sum()
            optimizer.signal_skip_step()  # clip and sum, no more: other patients follow
            optimizer.step()
            optimizer.zero_grad()
        # The last pass has no patient, and is the only one that adds noise: so is an empty step's.
        for parameter in self._parameters:
            parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
        optimizer.step()
        norms = torch.stack([parameter.grad.norm() for parameter in self._parameters])
        total /= self._budget.patients_per_step * self._draws
        return torch.stack([total, norms.norm()])

    def backward(self, samples: Samples, weights: torch.Tensor) -> torch.Tensor:
        """Put the mean gradient of each patient (P, ...) into `grad_sample` of every parameter.

        Returns the weighted losses (B,) of its P * draws samples.
        """
        with warnings.catch_warnings():
            # A layer that reads captions has no gradient of its input; that of its output is there.
            warnings.filterwarnings("ignore", "Full backward hook is firing")
            losses = compute_losses(self._predict, self._objective, samples) * weights
            losses.sum().backward()
        for parameter in self._parameters:
            # In float32 before anything is summed: a clip is only as good as its norm.
            single = parameter.grad_sample.float()
            parameter.grad_sample = single.view(-1, self._draws, *parameter.shape).mean(dim=1)
        return losses.detach()
