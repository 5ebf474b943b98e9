"""Measure the peak memory of a training at given settings on a blank frame."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from echodiff.diffusion.callbacks import DRAWN_AT_ONCE, draw_captions
from echodiff.diffusion.dataset import TrainingSet, encode_set
from echodiff.diffusion.denoising_config import DenoisingConfig
from echodiff.diffusion.encoding import EncodedFrames
from echodiff.frames.rows import Frame
from echodiff.images import write_image
from echodiff.system import read_peak_memory_gib
from echodiff.training.graphs import NUM_WARM_UP
from echodiff.training.loop import Trainer

if TYPE_CHECKING:
    from accelerate import Accelerator


def state_memory(
    config: DenoisingConfig,
    accelerator: "Accelerator",
    build_trainer: Callable[[EncodedFrames], Trainer],
    resolution: int,
) -> None:
    """Run every part of a training once, at its real size, and print its peak memory.

    A few steps are taken; nothing is written.
    """
    device = accelerator.device
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_image(Path(folder) / "blank.png", np.zeros((resolution, resolution), np.uint8))
        frame = Frame(file_name="blank.png", text="echocardiogram", patient_id="")
        dataset = TrainingSet(
            Path(folder), [frame], held_out=[], watched=[], max_value=None, trained_on={}
        )
        encoded, _ = encode_set(config, dataset, resolution, device, Path(folder))
    peaks["encoding a frame"] = take_peak_gib(device)
    trainer = build_trainer(encoded)
    for step in range(NUM_WARM_UP + 1 if device.type == "cuda" else 2):
        trainer.run(step)
    peaks["a training step"] = take_peak_gib(device)
    if config.sample_every or config.evaluate_every:
        one_step = replace(config, sample_steps=1)
        masks = np.zeros((1, resolution, resolution), np.uint8)
        with trainer.averaged() as averaged:
            draw_captions(one_step, averaged, [""], DRAWN_AT_ONCE, resolution, masks)
        peaks["drawing samples"] = take_peak_gib(device)
    if device.type == "cuda":
        title = f"peak memory on {torch.cuda.get_device_name(device)}, next to its CUDA context"
    else:
        title = "peak memory of the process, from its start to the end of"
    lines = [f"  {what:<17}{peak:6.2f} GiB" for what, peak in peaks.items()]
    accelerator.print("\n".join([f"{title}:", *lines]))


def take_peak_gib(device: torch.device) -> float:
    """Peak of what torch reserved on a GPU since the last call; elsewhere of the whole process."""
    if device.type == "cuda":
        # Reserved, not allocated: a card must hold the gaps, and what a captured step keeps.
        peak = torch.cuda.max_memory_reserved(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return peak / 2**30
    return read_peak_memory_gib()
