"""Read the masks of images: by a network trained on frames with masks, or by the shipped one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from echodiff.anatomy import Label
from echodiff.fingerprints import sha256_file
from echodiff.images import pad_square, resize_mask, resize_u8
from echodiff.metrics.score import Source
from echodiff.metrics.segmenter import LABELS, Segmenter, load_segmenter
from echodiff.segmentation.networks import WEIGHTS, load_network

BATCH_SIZE = 16
Mask = NDArray[np.uint8]


class MaskReader(Source, Protocol):
    """Something that reads masks."""

    @property
    def labels(self) -> tuple[Label, ...]:
        """Labels that it tells apart, the background first."""
        ...

    def __call__(self, images_u8: Sequence[NDArray[np.uint8]]) -> list[Mask]:
        """Masks (H, W) of grey images (H, W) of any sizes, as `Label` values."""
        ...


@dataclass(frozen=True)
class NetworkReader:
    """A trained network of MONAI."""

    network: nn.Module
    labels: tuple[Label, ...]
    resolution: int
    name: str
    sha256: str
    device: str = "cpu"

    @property
    def resize(self) -> str:
        return f"padded to a square, {self.resolution} px, antialiased"

    def __call__(self, images_u8: Sequence[NDArray[np.uint8]]) -> list[Mask]:
        """Masks at the size of each image: logits are interpolated, labels never."""
        table = np.array(self.labels, np.uint8)
        was_training = self.network.training
        self.network.eval()
        masks = []
        with torch.inference_mode():
            for start in range(0, len(images_u8), BATCH_SIZE):
                batch = images_u8[start : start + BATCH_SIZE]
                given = torch.stack([self._to_input(image) for image in batch])
                logits = self.network(given.to(self.device)).cpu()
                masks += [table[place] for place in _to_sizes(logits, batch)]
        self.network.train(was_training)
        return masks

    def _to_input(self, image_u8: NDArray[np.uint8]) -> Tensor:
        square = resize_u8(pad_square(image_u8), (self.resolution, self.resolution))
        return torch.from_numpy(square.astype(np.float32) / 127.5 - 1)[None]


def _to_sizes(logits: Tensor, images_u8: Sequence[NDArray[np.uint8]]) -> Iterator[Mask]:
    """Channel with the largest logit, at every pixel of each image."""
    for one, image in zip(logits, images_u8, strict=True):
        side = max(image.shape)
        large = F.interpolate(one[None], (side, side), mode="bilinear", align_corners=False)[0]
        yield _cut_padding(large.argmax(0).to(torch.uint8).numpy(), image)


def _cut_padding(square: Mask, image_u8: NDArray[np.uint8]) -> Mask:
    """Undo `pad_square`."""
    height, width = image_u8.shape
    top, left = (len(square) - height) // 2, (len(square) - width) // 2
    return square[top : top + height, left : left + width]


@dataclass(frozen=True)
class ShippedReader:
    """The network behind the score `intact`, trained on phantom frames."""

    segmenter: Segmenter
    labels: tuple[Label, ...] = LABELS

    @property
    def name(self) -> str:
        return self.segmenter.name

    @property
    def sha256(self) -> str:
        return self.segmenter.sha256

    @property
    def resize(self) -> str:
        return self.segmenter.resize

    def __call__(self, images_u8: Sequence[NDArray[np.uint8]]) -> list[Mask]:
        """Masks at the size of each image, by nearest neighbour."""
        found = self.segmenter([pad_square(image) for image in images_u8])
        return [
            _cut_padding(resize_mask(labels, (max(image.shape),) * 2), image)
            for labels, image in zip(found, images_u8, strict=True)
        ]


def load_mask_reader(folder: Path | None = None) -> MaskReader:
    """The network in the run folder of a segmentation, or the shipped one."""
    if folder is None:
        return ShippedReader(load_segmenter())
    network, architecture = load_network(folder)
    return NetworkReader(
        network, architecture.labels, architecture.resolution, folder.resolve().name,
        sha256_file(folder / WEIGHTS),
    )  # fmt: skip
