"""Sample grids while training: held-out real frames above what the adapter draws for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from echodiff.diffusion.base import load_base
from echodiff.diffusion.batch import read_image_pm1
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.sample import sample_images
from echodiff.images import contact_sheet, from_pm1, write_image

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from echodiff.diffusion.dataset import TrainingSet


class SampleGrids:
    """Writes `samples/step-<step>.png`: one column a caption, real above generated, same scale."""

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

    def __call__(self, unet: "UNet2DConditionModel", step: int) -> None:
        """Draw the captions with `unet` as it stands; image i keeps its noise from step to step."""
        # Read anew each time: between grids the VAE and the text encoder take no memory.
        pipeline = load_base(self.config.base, torch.float32, unet=unet)
        pipeline.vae.to(unet.device)
        pipeline.text_encoder.to(unet.device)
        drawn = sample_images(
            pipeline,
            self.captions,
            seed=self.config.seed,
            indices=range(len(self.captions)),
            steps=self.config.sample_steps,
            guidance=self.config.sample_guidance,
            resolution=self.resolution,
        )
        generated_u8 = [image for _, image in sorted(drawn, key=lambda pair: pair[0])]
        labels: Sequence[str] = [*self.labels, *(f"step {step}" for _ in generated_u8)]
        sheet = contact_sheet(
            [*self.real_u8, *generated_u8],
            columns=len(self.real_u8),
            labels=labels,
            cell=max(128, min(256, self.resolution)),
        )
        write_image(self.samples_dir / f"step-{step:06d}.png", sheet)
