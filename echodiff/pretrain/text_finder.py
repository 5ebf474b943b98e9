"""Train the network that finds burned-in text; `data.screens.burned_text` runs it without torch.

    echodiff phantom --num 160 --size 512 --views A4C,A2C --styles random --modality echo,mr,ct \\
        --seed 105 --out phantom
    python -m echodiff.pretrain.text_finder phantom --out text_finder

It is trained on phantoms and noise with texts and whole scanner screens drawn over them, in the
fonts that come with matplotlib and Pillow, and on no image of a patient. The scout, a smaller
network that reads the image at half its size and decides where the finder looks, is trained on the
same patches.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from echodiff.data.screens.burned_text import SCOUTED, halve_size
from echodiff.data.screens.text_network import LAYERS, SCOUT_LAYERS, STRIDE, Layer
from echodiff.errors import InputError
from echodiff.images import IMAGE_SUFFIXES, read_gray_u8, resize_u8
from echodiff.pretrain.drawn_text import list_fonts
from echodiff.pretrain.stage import Stage, Stateful, cosine, set_rate, step_generators
from echodiff.pretrain.text_patches import (
    PATCH,
    draw_patch,
    draw_scale,
    draw_screen_patches,
    draw_shapes,
    vary_levels,
)
from echodiff.progress import ProgressBar
from echodiff.settings.command_line import parse, positional, run_main

PER_SCREEN = 12
"""Number of patches per drawn screen."""
TEXT_COUNTS = 4.0
"""Weight of text relative to no text in the training of the scout."""


@dataclass(frozen=True, kw_only=True)
class TextFinderConfig:
    """Train the network that finds burned-in text, on images with text drawn over them."""

    frames: Path = positional()
    """Folder of images without text, including subfolders."""
    out: Path
    """Folder for the state of the training, model.safetensors and scout.safetensors."""
    num_patches: int = 16000
    """Number of patches to draw."""
    steps: int = 5000
    """Steps of 32 patches; in the second half, 8 of them are false alarms of the first half."""
    seed: int = 2026
    """Random seed."""


class Patches(NamedTuple):
    """Training data of the network."""

    images_u8: NDArray[np.uint8]
    """(N, PATCH, PATCH)"""
    answers: NDArray[np.float32]
    """(N, PATCH/4, PATCH/4): target, 1 for text."""
    weights: NDArray[np.float32]
    """(N, PATCH/4, PATCH/4): weight of each target in the loss."""


class TextFinder(nn.Module):
    """Maps images (B, 1, H, W) in 0..1 to logits of text (B, 1, H/4, W/4)."""

    def __init__(self, layers: Sequence[Layer] = LAYERS) -> None:
        super().__init__()
        channels = 1
        parts: list[nn.Module] = []
        for layer in layers:
            reach = layer.dilation
            parts += [
                nn.Conv2d(
                    channels, layer.channels, 3, layer.stride, reach, dilation=reach, bias=False
                ),
                nn.BatchNorm2d(layer.channels),
                nn.ReLU(),
            ]
            channels = layer.channels
        self.body = nn.Sequential(*parts)
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images))
        return logits


def main(argv: Sequence[str] | None = None) -> None:
    config = parse(TextFinderConfig, argv, prog="python -m echodiff.pretrain.text_finder")
    paths = [
        path
        for path in sorted(config.frames.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and path.parent.name != "masks"
    ]
    if not paths:
        raise InputError(f"{config.frames}: no images")
    torch.manual_seed(config.seed)
    rng, images = np.random.default_rng(config.seed), [read_gray_u8(path) for path in paths]
    patches = draw_patches(images, config.num_patches, rng)
    save_file(fold(train(patches, images, config, rng)), config.out / "model.safetensors")
    scout = train_scout(patches, images, config, rng)
    save_file(fold(scout), config.out / "scout.safetensors")


def draw_patches(
    images: Sequence[NDArray[np.uint8]], num: int, rng: np.random.Generator
) -> Patches:
    """Draw patches with and without text; two in five come from whole scanner screens."""
    fonts = list_fonts(bundled_only=True)
    of_screens = num * 2 // 5
    drawn = [
        draw_patch(images, fonts, rng)
        for _ in ProgressBar(range(num - of_screens), desc="patches", unit="patch")
    ]
    for _ in ProgressBar(range(-(-of_screens // PER_SCREEN)), desc="screens", unit="screen"):
        drawn += draw_screen_patches(images, fonts, rng, PER_SCREEN)
    return Patches(*(np.stack(part) for part in zip(*drawn, strict=True)))


def train(
    patches: Patches,
    images: Sequence[NDArray[np.uint8]],
    config: TextFinderConfig,
    rng: np.random.Generator,
) -> TextFinder:
    """Train on drawn patches, then on these and on false alarms."""
    network = TextFinder()
    train_stage(network, [(patches, 32)], config, 1)
    shapes = [draw_shapes(rng) for _ in range(config.num_patches // 4)]
    mistaken = find_mistaken(network, [*images, *images, *shapes], rng)
    train_stage(network, [(patches, 24), (mistaken, 8)], config, 2)
    return network.eval()


def train_scout(
    patches: Patches,
    images: Sequence[NDArray[np.uint8]],
    config: TextFinderConfig,
    rng: np.random.Generator,
) -> TextFinder:
    """Train the scout as the finder is trained, on the same patches at half their size.

    The finder never looks at a place that the scout misses, while a false alarm of the scout only
    costs a little time. Text therefore has a larger weight.
    """
    network, config = TextFinder(SCOUT_LAYERS), replace(config, steps=2 * config.steps)
    train_stage(network, [(halve(patches), 64)], config, 3)
    halves = [resize_u8(image, halve_size(image.shape)) for image in images]
    shapes = [draw_shapes(rng) for _ in range(config.num_patches // 4)]
    mistaken = find_mistaken(
        network, [*halves, *halves, *shapes], rng, patch=PATCH // 2, above=SCOUTED
    )
    train_stage(network, [(halve(patches), 48), (mistaken, 16)], config, 4)
    return network.eval()


def halve(patches: Patches) -> Patches:
    """Halve the size of patches; a target is text if any of its four was."""
    side = PATCH // 2
    cells = (-1, side // STRIDE, 2, side // STRIDE, 2)
    answers = patches.answers.reshape(cells).max((2, 4))
    weights = patches.weights.reshape(cells).mean((2, 4))
    return Patches(
        np.stack([resize_u8(image, (side, side)) for image in patches.images_u8]),
        answers,
        np.where(answers > 0, TEXT_COUNTS * np.maximum(weights, 0.3), weights).astype(np.float32),
    )


def train_stage(
    network: TextFinder,
    pools: Sequence[tuple[Patches, int]],
    config: TextFinderConfig,
    number: int,
) -> None:
    """Train for half of the steps. Each batch takes the given number of patches from each pool, at
    random brightness."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-3)
    steps = config.steps // 2
    parts: dict[str, Stateful] = {"network": network, "optimizer": optimizer}
    network.train()
    stage = Stage(config.out / f"stage-{number}.pt", steps, parts)
    for step, bar in stage.run(f"text finder and scout, {number} of 4"):
        rng, _ = step_generators(config.seed, number, step)
        set_rate(optimizer, (3e-3 if number % 2 else 1.5e-3) * cosine(step, steps, 100))
        rows = [(pool, rng.integers(len(pool.images_u8), size=count)) for pool, count in pools]
        images, answers, weights = (
            torch.from_numpy(np.concatenate([pool[part][chosen] for pool, chosen in rows]))
            for part in range(3)
        )
        gain = torch.from_numpy(rng.uniform(0.6, 1, (len(images), 1, 1, 1)).astype(np.float32))
        loss = functional.binary_cross_entropy_with_logits(
            network(images[:, None] / 255 * gain)[:, 0], answers, weight=weights, reduction="sum"
        )
        loss = loss / weights.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            bar.set_postfix(loss=f"{float(loss.detach()):.4f}")


@torch.no_grad()
def find_mistaken(
    network: TextFinder,
    images: Sequence[NDArray[np.uint8]],
    rng: np.random.Generator,
    *,
    patch: int = PATCH,
    above: float = 0.3,
) -> Patches:
    """Collect patches of images without text, at random scales and brightness, in which text is
    detected."""
    network.eval()
    found = []
    for source in ProgressBar(images, desc="false alarms", unit="image"):
        scale = draw_scale(rng)
        shape = tuple(max(patch, round(side * scale)) for side in source.shape)
        image = vary_levels(resize_u8(source, (shape[0], shape[1])), rng)
        answers = torch.sigmoid(network(torch.from_numpy(image)[None, None] / 255))[0, 0].numpy()
        for y, x in np.argwhere(answers == ndimage.maximum_filter(answers, patch // STRIDE)):
            if answers[y, x] > above:
                top = int(np.clip(y * STRIDE - patch // 2, 0, image.shape[0] - patch))
                left = int(np.clip(x * STRIDE - patch // 2, 0, image.shape[1] - patch))
                found.append(image[top : top + patch, left : left + patch])
    if not found:
        found = [np.zeros((patch, patch), np.uint8)]
    sides = (len(found), patch // STRIDE, patch // STRIDE)
    return Patches(np.stack(found), np.zeros(sides, np.float32), np.ones(sides, np.float32))


def fold(network: TextFinder) -> dict[str, NDArray[np.float32]]:
    """Return weights and biases of the convolutions, with the batch normalisations folded in."""
    parts: dict[str, NDArray[np.float32]] = {}
    body = list(network.body)
    for number, (conv, norm) in enumerate(zip(body[::3], body[1::3], strict=True)):
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        parts[f"{number}.weight"] = (conv.weight * scale[:, None, None, None]).detach().numpy()
        parts[f"{number}.bias"] = (norm.bias - norm.running_mean * scale).detach().numpy()
    parts["head.weight"] = network.head.weight.detach().numpy()
    assert network.head.bias is not None
    parts["head.bias"] = network.head.bias.detach().numpy()
    return {name: np.ascontiguousarray(part, dtype=np.float32) for name, part in parts.items()}


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:]), "text_finder"))
