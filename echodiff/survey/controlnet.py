"""The arm `controlnet`: a ControlNet of a base model, by `echodiff train-controlnet`.

It is shown the scanner in words. Its base was trained before, on other frames, and stays as it is:
only the operations of its own training are counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.images import read_gray_u8, read_mask_u8, resize_mask, write_image
from echodiff.segmentation.training import is_trained
from echodiff.survey.compute import StepCost, measure_step
from echodiff.survey.decoder import FittedDecoder
from echodiff.survey.frames import TEST, TRAIN, load_part, vendor_of
from echodiff.survey.latents import collect_decoder
from echodiff.survey.sets import Asked, write_words
from echodiff.survey.survey_config import CONTROLNET, SurveyConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

    from echodiff.diffusion.controlnet_config import TrainControlNetConfig

SCHEDULER = "ddim"
GUIDANCE = 2.0
"""That of `generate.py --masks`. Without any, the words say too little of the scanner."""
WORDS = "words"
"""Folder in `data` of the frames with captions that name the scanner."""


def build_settings(
    config: SurveyConfig, data: Path, *, num_steps: int, number: int
) -> TrainControlNetConfig:
    """Settings of training `number`; its own rate, and no comparison while it trains."""
    from echodiff.diffusion.controlnet_config import TrainControlNetConfig

    return TrainControlNetConfig(
        base=config.base, data=data, resolution=config.resolution, max_steps=num_steps,
        batch_size=config.batch_size, seed=config.seed + number, obedience_images=0,
        held_out_frames=0, label_dropout=0.0, checkpoint_every=config.checkpoint_every,
        mixed_precision="no", compile="none", threads=config.threads,
        out=config.out / "arms" / CONTROLNET / f"seed-{number}",
    )  # fmt: skip


def measure_controlnet(config: SurveyConfig, num_labels: int, accelerator: Accelerator) -> StepCost:
    """Count and time a step on blank frames; InputError where --base does not fit."""
    from echodiff.diffusion.dataset import TrainingSet, encode_set
    from echodiff.diffusion.mask_trainer import build_trainer, load_parts

    settings = build_settings(config, config.out, num_steps=10, number=0)
    parts, side = load_parts(settings), config.resolution
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_image(folder / "blank.png", np.zeros((side, side), np.uint8))
        frame = Frame(file_name="blank.png", text="", patient_id="")
        dataset = TrainingSet(
            folder, [frame], held_out=[], watched=[], max_value=None, trained_on={}
        )
        encoded, _ = encode_set(settings, dataset, side, accelerator.device, folder)
        blank = torch.zeros(len(encoded), 1, side, side, dtype=torch.uint8)
        encoded = replace(encoded, condition=blank)
        trainer, network = build_trainer(
            settings, parts, accelerator, encoded, num_labels, torch.float32
        )
        num = sum(one.numel() for one in network.parameters())
        trained = sum(one.numel() for one in network.parameters() if one.requires_grad)
        cost = measure_step(trainer, num, trained)
        del trainer, encoded  # they map files of the folder
    return cost


def train_controlnet(config: SurveyConfig, folder: Path, num_steps: int, number: int) -> Path:
    """Train in a run folder, resume there, or leave what was trained there; returns the folder."""
    from echodiff.diffusion.command import main

    settings = build_settings(
        config, write_words_folder(config, folder), num_steps=num_steps, number=number
    )
    assert settings.out is not None
    if not is_trained(settings.out):
        main(_to_words(settings))
    return settings.out


def write_words_folder(config: SurveyConfig, folder: Path) -> Path:
    """Write the frames with captions that name their scanner; those of the test are held out."""
    out = config.out / "data" / WORDS
    if not (out / "metadata.jsonl").is_file():
        with FramesWriter(out, fingerprint={"settings": {"normalisation": WORDS}}) as writer:
            for row in (*load_part(folder, TRAIN), *load_part(folder, TEST)):
                name = Path(row.file_name).name
                if name not in writer:
                    image = read_gray_u8(folder / row.file_name)
                    mask = read_mask_u8(folder / str(row.mask_file_name))
                    text = write_words(row, vendor_of(row))
                    writer.add(replace(row, file_name=name, text=text), image, mask)
    return out


@dataclass(frozen=True)
class ControlledBase:
    """A base with its ControlNet, ready to draw."""

    model: Any
    run_dir: Path
    seed: int
    decoder_sha256: str
    """Empty where no decoder was fitted."""

    @property
    def weights_sha256(self) -> str:
        """Of the ControlNet."""
        return str(self.model.weights_sha256)

    def draw_set(self, asked: Asked, rows: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Images (S, S) of some rows."""
        from echodiff.diffusion.sampling.mask_control import MaskControl
        from echodiff.diffusion.sampling.sampler import sample_images

        masked = self.model.masked

        def read(row: int, side: int) -> NDArray[np.uint8]:
            mask = read_mask_u8(asked.folder / str(asked.rows[row].mask_file_name))
            numbers: NDArray[np.uint8] = masked.channels.number(resize_mask(mask, (side, side)))
            return numbers

        drawn = sample_images(
            self.model.pipeline, asked.captions, seed=self.seed, indices=rows,
            steps=asked.num_steps, guidance=GUIDANCE, scheduler=SCHEDULER,
            batch_size=len(rows), resolution=self.model.resolution,
            control=MaskControl(masked.network, read),
        )  # fmt: skip
        images = dict(drawn)
        return [images[row] for row in rows]


def load_controlnet(
    config: SurveyConfig,
    folder: Path,
    run_dir: Path,
    number: int,
    device: torch.device,
    decoder: FittedDecoder | None,
) -> ControlledBase:
    """Open what a training left in `run_dir`; folder: any frames folder with masks."""
    from echodiff.diffusion.sampling.pipeline import load_model
    from echodiff.diffusion.sampling.settings import GenerateConfig

    settings = GenerateConfig(
        masks=folder, weights=str(run_dir), base=config.base, mixed_precision="no", lora="none"
    )
    model, sha256 = load_model(settings, device), ""
    if decoder is not None:
        decoder.load_into(collect_decoder(model.pipeline.vae))
        sha256 = decoder.sha256
    return ControlledBase(model, run_dir, config.seed + number, sha256)


def _to_words(settings: TrainControlNetConfig) -> list[str]:
    """The command line of `train-controlnet` for these settings."""
    given = {
        "base": settings.base, "data": settings.data, "out": settings.out,
        "resolution": settings.resolution, "max-steps": settings.max_steps,
        "batch-size": settings.batch_size, "seed": settings.seed, "obedience-images": 0,
        "held-out-frames": 0, "label-dropout": 0.0,
        "checkpoint-every": settings.checkpoint_every, "mixed-precision": "no",
        "compile": "none",
    }  # fmt: skip
    if settings.threads is not None:
        given["threads"] = settings.threads
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]
