"""Small U-Net that labels chambers, walls and valves of an apical echo frame.

It is trained on phantom frames, sound and broken, by `echodiff pretrain --parts segmenter`; on
other frames its labels are meaningless. `metrics.criteria` judges the label maps.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from echodiff.anatomy import Label
from echodiff.documents import read_record
from echodiff.errors import InputError
from echodiff.files import shipped
from echodiff.fingerprints import sha256_file
from echodiff.images import resize_u8

SIZE = 128
"""Side of the images that the network reads, pixels."""
LABELS = (
    Label.BACKGROUND, Label.LV, Label.LV_MYOCARDIUM, Label.LA, Label.RV, Label.RA,
    Label.RV_MYOCARDIUM, Label.ATRIAL_WALL, Label.VALVE, Label.AORTA,
)  # fmt: skip
"""Labels that are told apart, in the order of the output; all others are background."""
CHANNELS = (24, 40, 64, 96)
"""Channels at 1/2, 1/4, 1/8 and 1/16 of the resolution."""
WEIGHTS, CONFIG = "model.safetensors", "config.json"
BATCH_SIZE = 32


class SegmenterNetwork(nn.Module):
    """(B, 1, 128, 128) in [-1, 1] to logits (B, K, 128, 128), K labels.

    Ronneberger et al. 2015 with group normalisation. Blocks of 2 x 2 pixels become channels first
    and are unfolded last: the cost of a network at half the resolution, and lines of one pixel.
    """

    def __init__(self, channels: Sequence[int] = CHANNELS, num_labels: int = len(LABELS)) -> None:
        super().__init__()
        self.down = nn.ModuleList(_build_block(*pair) for pair in pairwise((4, *channels)))
        self.up = nn.ModuleList(
            _build_block(coarse + fine, fine) for fine, coarse in pairwise(channels)
        )
        self.head = nn.Conv2d(channels[0], 4 * num_labels, 1)

    def forward(self, image_pm1: Tensor) -> Tensor:
        x = functional.pixel_unshuffle(image_pm1, 2)
        levels: list[Tensor] = []
        for number, block in enumerate(self.down):
            x = block(functional.avg_pool2d(x, 2) if number else x)
            levels.append(x)
        for fine, block in zip(levels[-2::-1], reversed(self.up), strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, fine], dim=1))
        logits: Tensor = functional.pixel_shuffle(self.head(x), 2)
        return logits


def _build_block(before: int, after: int) -> nn.Module:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
    return nn.Sequential(*layers)


@dataclass(frozen=True)
class Segmenter:
    """A trained network, ready to read uint8 frames."""

    network: SegmenterNetwork
    name: str
    sha256: str
    resize: str = f"padded to a square, {SIZE} px, antialiased"

    def __call__(self, images_u8: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """`Label` values (N, 128, 128) of N grey square frames (H, H) uint8 of any size."""
        table = np.array(LABELS, np.uint8)
        found = []
        with torch.inference_mode():
            for start in range(0, len(images_u8), BATCH_SIZE):
                batch = torch.stack([_to_input(i) for i in images_u8[start : start + BATCH_SIZE]])
                found.append(table[self.network(batch).argmax(1).numpy()])
        return np.concatenate(found)

    def measure_doubt(self, images_u8: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """How unsure the labels of each image are, (N,): entropy in nats, summed over the image, a
        pixel of the heart.

        Unclear hearts have more, and so have hearts of a kind that was not trained on.
        """
        doubts = []
        with torch.inference_mode():
            for start in range(0, len(images_u8), BATCH_SIZE):
                batch = torch.stack([_to_input(i) for i in images_u8[start : start + BATCH_SIZE]])
                logs = self.network(batch).double().log_softmax(1)
                entropy = -(logs.exp() * logs).sum(dim=(1, 2, 3))
                doubts.append(entropy / (logs.argmax(1) > 0).sum(dim=(1, 2)).clamp(min=1))
        return torch.cat(doubts).numpy()


def _to_input(image_u8: NDArray[np.uint8]) -> Tensor:
    if image_u8.shape != (SIZE, SIZE):
        image_u8 = resize_u8(image_u8, (SIZE, SIZE))
    return torch.from_numpy(image_u8.astype(np.float32) / 127.5 - 1)[None]


@functools.cache
def load_segmenter(folder: Path | None = None) -> Segmenter:
    """The network in `folder` (`model.safetensors`, `config.json`); the shipped one by default.

    config.json holds `name`, `channels` and `labels`. InputError where the folder does not hold
    such a network.
    """
    folder = shipped("assets/segmenter") if folder is None else folder
    weights, described = folder / WEIGHTS, folder / CONFIG
    for path in (weights, described):
        if not path.is_file():
            raise InputError(f"--segmenter {folder}: {path.name} is missing")
    config = read_record(described, {"name": str, "channels": list[int], "labels": list[str]})
    name, channels = str(config.get("name") or folder.resolve().name), config.get("channels")
    ours = [label.name.lower() for label in LABELS]
    if config.get("labels") != ours:
        raise InputError(f"--segmenter {folder}: labels of {CONFIG} must be {', '.join(ours)}")
    if not channels or any(width < 8 or width % 8 for width in channels):
        raise InputError(f"--segmenter {folder}: channels of {CONFIG} must be multiples of 8")
    network = SegmenterNetwork(channels)
    try:
        network.load_state_dict({k: v.float() for k, v in load_file(weights).items()})
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"--segmenter {weights}: not the weights of {CONFIG} ({reason})") from None
    for tensor, values in network.named_parameters():
        if not values.isfinite().all():
            raise InputError(f"--segmenter {weights}: {tensor} holds values that are not finite")
    return Segmenter(network.eval().requires_grad_(False), name, sha256_file(weights))


def describe_network(network: SegmenterNetwork, channels: Sequence[int]) -> dict[str, Any]:
    """The part of config.json that `load_segmenter` reads."""
    return {
        "name": "anatomy-tiny",
        "channels": list(channels),
        "labels": [label.name.lower() for label in LABELS],
        "parameters": sum(weight.numel() for weight in network.parameters()),
    }
