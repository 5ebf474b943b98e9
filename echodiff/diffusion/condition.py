"""Masks as the condition of a denoising network: channels, drop-out, and reading a training set.

A mask is stored as (1, S, S) uint8 channel numbers, 0 for background, and becomes one-hot inside
the network: one channel for each label, background included, 0 or 1. A label that is left out
becomes background, and so does all of an empty mask: background asks for nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from echodiff.anatomy import Label
from echodiff.data.labels import Table
from echodiff.data.masks import read_mask
from echodiff.diffusion.augmentation import Move, move_mask
from echodiff.errors import InputError
from echodiff.frames.rows import Frame
from echodiff.images import read_size, resize_mask
from echodiff.training.streams import Stream, build_stream

BACKGROUND_ONLY = 0
"""The channel of background."""


@dataclass(frozen=True)
class Channels:
    """Which label each channel of a condition stands for."""

    labels: tuple[Label, ...]
    """One for each channel; the first is background."""

    def __post_init__(self) -> None:
        assert self.labels[0] == Label.BACKGROUND

    @classmethod
    def of_names(cls, names: Sequence[str], place: str) -> "Channels":
        """Restore the labels from the names in a record; InputError where one is unknown."""
        unknown = [name for name in names if name not in Label.__members__]
        if unknown or list(names[:1]) != [Label.BACKGROUND.name]:
            reason = f"{unknown[0]} is no label" if unknown else "the first is not BACKGROUND"
            raise InputError(f"{place}: its labels: {reason}")
        return cls(tuple(Label[name] for name in names))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> list[str]:
        return [label.name for label in self.labels]

    def number(self, mask_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Channel numbers (H, W) of a mask of `Label` values; other labels become background."""
        numbers = np.zeros(256, np.uint8)
        numbers[list(self.labels)] = np.arange(len(self.labels))
        return numbers[mask_u8]

    def label(self, numbers: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The reverse of `number`: `Label` values (H, W) of channel numbers."""
        return np.array(self.labels, np.uint8)[numbers]


def one_hot(condition: torch.Tensor, num_channels: int, dtype: torch.dtype) -> torch.Tensor:
    """(B, 1, H, W) channel numbers to (B, num_channels, H, W) of 0 and 1."""
    numbers = torch.arange(num_channels, device=condition.device).view(1, -1, 1, 1)
    return (condition == numbers).to(dtype)


def share_of_cells(one_hot_masks: torch.Tensor, factor: int) -> torch.Tensor:
    """Share of each label (B, K, h, w) in the pixels of every latent; `factor` to a side.

    Nearest neighbour would keep one pixel of factor x factor, and lose walls and valves.
    """
    return functional.avg_pool2d(one_hot_masks, factor)


def draw_kept(
    seed: int,
    step: int,
    *,
    count: int,
    num_channels: int,
    mask_dropout: float,
    label_dropout: float,
) -> torch.Tensor:
    """Draw which channels each sample of a step keeps: (count, num_channels) bool.

    With probability `mask_dropout` a sample keeps background alone; with `label_dropout` a random
    number of labels from one to all but one, so that every subset is seen. Background is kept.
    """
    stream = build_stream(seed, Stream.MASK, step)
    num_labels = num_channels - 1
    is_empty = stream.random(count) < mask_dropout
    is_partial = stream.random(count) < label_dropout
    # All are drawn at every step: switching one of them on changes nothing else.
    places = stream.random((count, num_labels)).argsort(axis=1).argsort(axis=1)
    counts = 1 + np.floor(stream.random(count) * max(1, num_labels - 1)).astype(int)
    counts = np.where(is_partial & (num_labels > 1), counts, num_labels)
    kept = places < np.where(is_empty, 0, counts)[:, None]
    return torch.from_numpy(np.concatenate([np.ones((count, 1), bool), kept], axis=1))


def keep_channels(condition: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """(B, 1, H, W) channel numbers, background where (B, channels) `kept` leaves a channel out."""
    numbers = condition.flatten(1).long()
    return (numbers * kept.gather(1, numbers)).to(condition.dtype).view(condition.shape)


@dataclass(frozen=True)
class FrameMasks:
    """Masks of the frames of a folder, as a network is given them."""

    folder: Path
    channels: Channels
    resolution: int
    table: Table | None = None
    """Meaning of their numbers; None: they are `Label` values."""

    def __call__(self, frames: Sequence[Frame]) -> NDArray[np.uint8]:
        """Channel numbers (N, resolution, resolution)."""
        paths = [self.folder / str(frame.mask_file_name) for frame in frames]
        return np.stack(
            [
                self.channels.number(read_mask(path, self.resolution, table=self.table))
                for path in paths
            ]
        )

    def condition(self, frames: Sequence[Frame], moves: Sequence[Move | None] = ()) -> torch.Tensor:
        """The same as a condition (N, 1, resolution, resolution), copy by copy where moved."""
        if not moves:
            return torch.from_numpy(self(frames)[:, None])
        side, numbers = (self.resolution, self.resolution), []
        for number, move in enumerate(moves):
            path = self.folder / str(frames[number % len(frames)].mask_file_name)
            mask = resize_mask(move_mask(read_mask(path, None, table=self.table), move), side)
            numbers.append(self.channels.number(mask))
        return torch.from_numpy(np.stack(numbers)[:, None])


def check_sizes(folder: Path, frames: Sequence[Frame]) -> None:
    """InputError for the first mask whose size is not that of its image."""
    for frame in frames:
        path = folder / str(frame.mask_file_name)
        mask, image = read_size(path), read_size(folder / frame.file_name)
        if mask != image:
            raise InputError(f"{path}: is {mask[1]}x{mask[0]}, its image {image[1]}x{image[0]}")


KeptOfStep = Callable[[int, int], torch.Tensor]
"""Number of a step and of its samples to the channels they keep, as `draw_kept`."""
