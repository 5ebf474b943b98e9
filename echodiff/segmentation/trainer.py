"""Trains a segmentation network on frames with masks, by the loop of every training."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from echodiff.segmentation.augmentation import STRENGTHS, apply_augmentation, sample_augmentation
from echodiff.segmentation.networks import list_weights, restore_weights
from echodiff.segmentation.segmentation_config import TrainSegmentationConfig
from echodiff.training.checkpoints import Checkpoint, optimizer_tensors, restore_optimizer
from echodiff.training.streams import Stream, build_stream

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises."""
WEIGHT_DECAY = 0.01


class SegmentationTrainer:
    """Dice and cross entropy on random batches (`training.loop.Trainer`).

    images_u8: (N, S, S). targets: (N, S, S), channel of the network for each pixel. names: of the
    frames, for messages. Batches are drawn with replacement: a step is a function of (seed, step),
    and every set of frames, however small, is trained for as many steps.
    """

    names: tuple[str, ...] = ("loss",)

    def __init__(
        self,
        config: TrainSegmentationConfig,
        network: nn.Module,
        images_u8: NDArray[np.uint8],
        targets: NDArray[np.uint8],
        names: list[str],
        device: torch.device,
    ) -> None:
        from monai.losses.dice import DiceCELoss

        self._config, self._network, self._names = config, network.to(device), names
        self._images = torch.from_numpy(images_u8).to(device)
        self._targets = torch.from_numpy(targets).to(device)
        self._device, self._num_labels = device, len(config.labels) + 1
        self._strength = STRENGTHS[config.augmentation]
        self._loss = DiceCELoss(softmax=True)
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=WEIGHT_DECAY
        )
        self.num_steps = config.steps

    def run(self, step: int) -> Tensor:
        """Take step number `step` (0 is the first), and return its loss (1,)."""
        stream, rows = self._draw_rows(step)
        size = len(rows), self._config.resolution
        draws, noise = (
            drawn.to(self._device) for drawn in sample_augmentation(stream, self._strength, *size)
        )
        images = self._images[rows][:, None].float() / 255
        masks = F.one_hot(self._targets[rows].long(), self._num_labels).movedim(-1, 1).float()
        images, masks = apply_augmentation(images, masks, draws, noise, self._strength)
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        self._network.train()
        loss: Tensor = self._loss(self._network(2 * images - 1), masks)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return loss.detach()[None]

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to 0."""
        warm_up = max(1, round(WARM_UP * self.num_steps))
        if step < warm_up:
            return self._config.learning_rate * (step + 1) / warm_up
        share = (step - warm_up) / max(1, self.num_steps - warm_up)
        return self._config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def tensors(self) -> dict[str, Tensor]:
        """Network and optimizer."""
        tensors = {f"net.{name}": value for name, value in list_weights(self._network).items()}
        return tensors | optimizer_tensors(self._optimizer, self._parameters())

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put back what `tensors` returned."""
        restore_weights(self._network, {
            name.removeprefix("net."): value
            for name, value in checkpoint.tensors.items() if name.startswith("net.")
        })  # fmt: skip
        restore_optimizer(self._optimizer, self._parameters(), checkpoint.tensors)

    def averaged(self) -> AbstractContextManager[Any]:
        """Yield the network."""
        return nullcontext(self._network)

    def frames_of(self, step: int) -> str:
        """Names of the frames of step number `step`."""
        return ", ".join(self._names[row] for row in self._draw_rows(step)[1].tolist())

    def _parameters(self) -> list[str]:
        return [name for name, _ in self._network.named_parameters()]

    def _draw_rows(self, step: int) -> tuple[np.random.Generator, Tensor]:
        """The stream of a step after its first draw, and that draw: the rows of the batch."""
        stream = build_stream(self._config.seed, Stream.STEP, step)
        rows = stream.integers(len(self._names), size=self._config.batch_size)
        return stream, torch.from_numpy(rows).to(self._device)
