"""Callbacks of a training of an adapter alone: privacy spent, members shown, a sound adapter."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState

from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.lora import lora_parameters
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.member_losses import adapter_off
from echodiff.diffusion.membership import Membership
from echodiff.diffusion.privacy_budget import Budget
from echodiff.diffusion.trainer import DenoisingTrainer
from echodiff.errors import InputError
from echodiff.training.loop import Callback

if TYPE_CHECKING:
    from echodiff.diffusion.dataset import TrainingSet
    from echodiff.runs import Run

MOST_READINGS = 20
"""Of the epsilon spent: its computation takes up to some seconds."""


def build_lora_callbacks(
    config: TrainLoraConfig,
    dataset: "TrainingSet",
    run: "Run",
    trainer: DenoisingTrainer,
    encoded: EncodedFrames,
    held_out: EncodedFrames | None,
) -> list[Callback]:
    """Return the callbacks that `config` enables, besides those of every denoising network.

    encoded, held_out: frames of `dataset.train` and `dataset.watched`.
    """
    callbacks: list[Callback] = []
    if trainer.private is not None:
        with trainer.averaged() as unet:
            callbacks.append(AdapterCheck(unet))
        callbacks.append(PrivacySpent(trainer.private.budget, config.log_every))
    if config.membership_every:
        if held_out is None:
            raise InputError("--membership-every: no frame is of split val, to compare with")
        membership = Membership(config, dataset, encoded, held_out, trainer)
        if PartialState().is_main_process:
            run.update(membership=membership.to_record())
        callbacks.append(membership)
    return callbacks


class PrivacySpent:
    """Logs `epsilon`, what the steps so far have spent: at most MOST_READINGS times in a run."""

    has_start = False

    def __init__(self, budget: Budget, log_every: int) -> None:
        rows = -(-budget.num_steps // (log_every * MOST_READINGS))
        self.budget, self.every = budget, log_every * rows

    def __call__(self, trained: object, step: int) -> Mapping[str, float]:
        """Return the epsilon of `step` steps."""
        return {"epsilon": self.budget.spent(step)}


class AdapterCheck:
    """After the last step: the adapter has moved, and without it the network is still its base.

    Gradients of single samples are taken by hooks in the layers. Were these to miss an adapter, it
    would stay at its start without a word; were they to reach the base, that would change.
    """

    every, has_start = 0, False

    def __init__(self, unet: torch.nn.Module) -> None:
        self._before = run_base(unet)

    def __call__(self, trained: torch.nn.Module, step: int) -> Mapping[str, float]:
        """Raise RuntimeError where the trained network is not sound; nothing is logged."""
        still = [
            name
            for name, parameter in lora_parameters(trained).items()
            if ".lora_B." in name and not parameter.detach().any()
        ]
        if still:
            raise RuntimeError(f"after {step} steps the adapter has not moved: {still[0]} is zero")
        after = run_base(trained)
        is_same = torch.equal(after, self._before)
        if not is_same and (after.device.type == "cpu" or not after.allclose(self._before, 1e-3)):
            raise RuntimeError(f"after {step} steps the base without its adapter has changed")
        return {}


@torch.no_grad()
def run_base(unet: Any) -> torch.Tensor:
    """What the base behind an adapter predicts of a fixed input."""
    parameter = next(unet.parameters())
    side, config = 8, unet.config
    numbers = torch.linspace(-1, 1, config.in_channels * side * side)
    noisy = numbers.view(1, config.in_channels, side, side).to(parameter.device)
    dtype = torch.float32 if parameter.dtype == torch.float32 else parameter.dtype
    context = torch.ones((1, 4, config.cross_attention_dim), device=parameter.device)
    was_training = unet.training
    unet.eval()
    with adapter_off(unet):
        prediction: torch.Tensor = unet(
            noisy.to(dtype), torch.tensor([500], device=parameter.device), context.to(dtype)
        ).sample
    unet.train(was_training)
    return prediction
