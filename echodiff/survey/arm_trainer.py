"""Trains any arm by the loop of every training: same frames, order, rate and average for all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from echodiff.survey.methods import GENERATOR, Batch, Method
from echodiff.training.average import average_pull, averaged, update_average
from echodiff.training.checkpoints import Checkpoint, optimizer_tensors, restore_optimizer
from echodiff.training.streams import Stream, build_stream, sample_normal

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises."""


@dataclass(frozen=True)
class TrainingTensors:
    """The frames that an arm is trained on."""

    images: Tensor
    """(N, C, s, s) float32: images in -1..1, or the means of latents."""
    deviations: Tensor | None
    """(N, C, s, s) of the latents, which every step draws anew; None of images."""
    masks: Tensor
    """(N, S, S) uint8: channel of every pixel."""
    styles: Tensor
    """(N,) int64: place of the vendor."""
    names: tuple[str, ...]
    num_labels: int
    num_styles: int


class ArmTrainer:
    """`training.loop.Trainer` of one arm.

    A step is a function of (seed, step): rows, times and dropped styles are the same in all arms.
    """

    def __init__(
        self,
        method: Method,
        data: TrainingTensors,
        device: torch.device,
        *,
        num_steps: int,
        batch_size: int,
        learning_rate: float,
        ema_decay: float,
        style_dropout: float,
        seed: int,
    ) -> None:
        self.names = method.names
        self.num_steps = num_steps
        self._method, self._data, self._device = method, data, device
        self._batch_size, self._seed = batch_size, seed
        self._rate, self._ema_decay, self._style_dropout = learning_rate, ema_decay, style_dropout
        for network in method.networks.values():
            # Convolutions on a CPU are a fifth faster so.
            network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self._parameters = dict(method.networks[GENERATOR].named_parameters())
        self._average = {name: one.detach().clone() for name, one in self._parameters.items()}

    def run(self, step: int) -> Tensor:
        """Take step number `step` (0 is the first)."""
        share = self.learning_rate(step) / self._rate
        for optimizer in self._method.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * share
        values = self._method.update(self.draw_batch(step))
        update_average(self._average, self._parameters, average_pull(self._ema_decay, step + 1))
        return values

    def draw_batch(self, step: int) -> Batch:
        """The batch of a step, on the device."""
        stream, rows = self._draw_rows(step)
        count, data = self._batch_size, self._data
        shares = torch.from_numpy(stream.random(count))
        is_dropped = torch.from_numpy(stream.random(count) < self._style_dropout)
        images = data.images[rows]
        if data.deviations is not None:
            drawn = sample_normal(stream, images.shape)
            images = images + data.deviations[rows] * drawn
        noise = sample_normal(stream, (count, *self._method.noise_shape))
        style = F.one_hot(data.styles[rows], data.num_styles).float()
        return Batch(
            images=images.to(self._device),
            mask=encode_masks(data.masks[rows], data.num_labels, images.shape[-1]).to(self._device),
            style=style.masked_fill(is_dropped[:, None], 0.0).to(self._device),
            noise=noise.to(self._device),
            shares=shares,
        )

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to 0."""
        warm_up = max(1, round(WARM_UP * self.num_steps))
        if step < warm_up:
            return self._rate * (step + 1) / warm_up
        share = (step - warm_up) / max(1, self.num_steps - warm_up)
        return self._rate * 0.5 * (1 + math.cos(math.pi * share))

    def tensors(self) -> dict[str, Tensor]:
        """Networks, optimizers and the average."""
        tensors = {f"average.{name}": value for name, value in self._average.items()}
        for title, network in self._method.networks.items():
            names = [name for name, _ in network.named_parameters()]
            tensors |= {f"{title}.{name}": one.detach() for name, one in network.named_parameters()}
            state = optimizer_tensors(self._method.optimizers[title], names)
            tensors |= {f"{title}-{name}": value for name, value in state.items()}
        return tensors

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put back what `tensors` returned."""
        with torch.no_grad():
            for name, value in self._average.items():
                value.copy_(checkpoint.tensors[f"average.{name}"])
            for title, network in self._method.networks.items():
                for name, one in network.named_parameters():
                    one.copy_(checkpoint.tensors[f"{title}.{name}"])
        for title, network in self._method.networks.items():
            names = [name for name, _ in network.named_parameters()]
            own = {name.removeprefix(f"{title}-"): value
                   for name, value in checkpoint.tensors.items()
                   if name.startswith(f"{title}-")}  # fmt: skip
            restore_optimizer(self._method.optimizers[title], names, own)

    @contextmanager
    def averaged(self) -> Iterator[Method]:
        """Yield the method, its generator averaged."""
        with averaged(self._parameters, self._average):
            yield self._method

    def frames_of(self, step: int) -> str:
        """Names of the frames of step number `step`."""
        return ", ".join(self._data.names[row] for row in self._draw_rows(step)[1].tolist())

    def _draw_rows(self, step: int) -> tuple[np.random.Generator, Tensor]:
        """The stream of a step after its first draw, and that draw: the rows of the batch."""
        stream = build_stream(self._seed, Stream.STEP, step)
        rows = stream.integers(len(self._data.names), size=self._batch_size)
        return stream, torch.from_numpy(rows)


def encode_masks(masks: Tensor, num_labels: int, side: int) -> Tensor:
    """(B, S, S) channels of pixels to (B, L, side, side): the share of every label in a pixel."""
    one_hot = F.one_hot(masks.long(), num_labels).movedim(-1, 1).float()
    factor = masks.shape[-1] // side
    return F.avg_pool2d(one_hot, factor) if factor > 1 else one_hot
