"""Looks at the adapter while it trains: sample grids, and scores of what it draws.

Held-out real frames stand above what the adapter draws for their captions, or are what it is
scored against. Captions and noise are the same at every look.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from echodiff.contact_sheet import contact_sheet
from echodiff.diffusion.base import load_base
from echodiff.diffusion.dataset import choose_held_out
from echodiff.diffusion.encoding import read_image_pm1
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.sampling.sampler import sample_images
from echodiff.images import from_pm1, write_image

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from echodiff.diffusion.dataset import TrainingSet

Score = Callable[[Sequence[NDArray[np.uint8]]], Mapping[str, float]]
"""Grey images (H, W) to named values."""

DRAWN_AT_ONCE = 4
"""Images in one call of the networks: memory stays that of a grid, however many are scored."""


class SampleGrids:
    """Writes `samples/step-<step>.png`: one column a caption, real above generated, same scale."""

    has_start = False

    def __init__(
        self, config: TrainLoraConfig, dataset: "TrainingSet", samples_dir: Path, resolution: int
    ) -> None:
        captioned = [frame for frame in dataset.watched if frame.text]
        frames = (captioned or dataset.train)[: config.num_samples]
        self.captions = [frame.text for frame in frames]
        self.labels = ["real (held out)" if captioned else "real (trained on)"] * len(frames)
        self.real_u8 = [
            from_pm1(
                read_image_pm1(dataset.folder / frame.file_name, resolution, dataset.max_value)[0]
            )
            for frame in frames
        ]
        self.config, self.samples_dir, self.resolution = config, samples_dir, resolution
        self.every = config.sample_every

    def __call__(self, unet: "UNet2DConditionModel", step: int) -> Mapping[str, float]:
        """Draw the captions with `unet` as it stands; nothing for the curves."""
        count = len(self.captions)
        generated_u8 = draw_captions(self.config, unet, self.captions, count, self.resolution)
        labels: Sequence[str] = [*self.labels, *(f"step {step}" for _ in generated_u8)]
        sheet = contact_sheet(
            [*self.real_u8, *generated_u8],
            columns=len(self.real_u8),
            labels=labels,
            cell=max(128, min(256, self.resolution)),
        )
        write_image(self.samples_dir / f"step-{step:06d}.png", sheet)
        return {}


class SampleScores:
    """Draws captions of held-out frames and hands the images to `score`.

    Without a captioned held-out frame the null text is drawn, the look alone.
    """

    has_start = True

    def __init__(
        self, config: TrainLoraConfig, dataset: "TrainingSet", score: Score, resolution: int
    ) -> None:
        frames = choose_held_out(dataset.val, config.evaluate_images, config.seed)
        self.captions = [frame.text for frame in frames if frame.text] or [""]
        self.config, self.score, self.resolution = config, score, resolution
        self.every = config.evaluate_every

    def __call__(self, unet: "UNet2DConditionModel", step: int) -> Mapping[str, float]:
        """Scores of `unet` as it stands."""
        count = self.config.evaluate_images
        return self.score(draw_captions(self.config, unet, self.captions, count, self.resolution))


def draw_captions(
    config: TrainLoraConfig,
    unet: "UNet2DConditionModel",
    captions: Sequence[str],
    count: int,
    resolution: int,
) -> list[NDArray[np.uint8]]:
    """Draw `count` images (H, W) of the captions in turn; image i always has the same noise."""
    # Read anew each time: between looks the VAE and the text encoder take no memory.
    pipeline = load_base(config.base, torch.float32, unet=unet)
    pipeline.vae.to(unet.device)
    pipeline.text_encoder.to(unet.device)
    drawn = sample_images(
        pipeline,
        captions,
        seed=config.seed,
        indices=range(count),
        steps=config.sample_steps,
        guidance=config.sample_guidance,
        batch_size=DRAWN_AT_ONCE,
        resolution=resolution,
    )
    return [image for _, image in sorted(drawn, key=lambda pair: pair[0])]
