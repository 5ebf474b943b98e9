"""Callbacks of a training: held-out loss, sample grids, scores of generated images.

Times, captions and noise are the same at every call, so that the values can be compared.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from echodiff.contact_sheet import contact_sheet
from echodiff.diffusion.base import load_base
from echodiff.diffusion.condition import FrameMasks
from echodiff.diffusion.dataset import choose_held_out
from echodiff.diffusion.denoising_config import DenoisingConfig
from echodiff.diffusion.encoding import EncodedFrames, read_image_pm1
from echodiff.diffusion.mask_networks import MaskedUNet
from echodiff.diffusion.objective import compute_losses
from echodiff.diffusion.samples import Samples, draw_held_out, gather_samples
from echodiff.diffusion.sampling.mask_control import MaskControl
from echodiff.diffusion.sampling.sampler import sample_images
from echodiff.diffusion.trainer import DenoisingTrainer
from echodiff.images import colour_mask, from_pm1, write_image
from echodiff.report.loss_curves import LossCurves
from echodiff.training.loop import Callback

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from echodiff.diffusion.dataset import TrainingSet
    from echodiff.runs import Run

Score = Callable[[Sequence[NDArray[np.uint8]], Sequence[str]], Mapping[str, float]]
"""Grey images (H, W) and their prompts to named values."""

DRAWN_AT_ONCE = 4
"""Images in one call of the networks: memory stays that of a grid, however many are scored."""


def build_callbacks(
    config: DenoisingConfig,
    dataset: "TrainingSet",
    run: "Run",
    resolution: int,
    trainer: DenoisingTrainer,
    held_out: EncodedFrames | None,
    score: Score | None,
    masks: FrameMasks | None = None,
    others: Sequence[Callback] = (),
) -> list[Callback]:
    """Return the callbacks that `config` enables and that have frames, and the loss curves.

    held_out: frames of the held-out loss. score: of generated images, for --evaluate-every. masks:
    of a training with masks. others: of one kind of training.
    """
    callbacks: list[Callback] = []
    if held_out is not None and config.held_out_frames:
        callbacks.append(HeldOutLoss(config, held_out[: config.held_out_frames], trainer))
    if config.sample_every:
        callbacks.append(SampleGrids(config, dataset, run.samples, resolution, masks))
    if score is not None:
        callbacks.append(SampleScores(config, dataset, score, resolution, masks))
    return [*callbacks, *others, LossCurves(run, every=config.sample_every)]


class HeldOutLoss:
    """The mean loss on held-out frames."""

    has_start = True

    def __init__(
        self,
        config: DenoisingConfig,
        held_out: EncodedFrames,
        trainer: DenoisingTrainer,
    ) -> None:
        self.held_out = held_out
        self.objective, self.predict = trainer.objective, trainer.predict
        self.every, self.batch_size = config.held_out_every, config.batch_size
        self.drawn = draw_held_out(
            held_out,
            num_frames=config.held_out_frames,
            spread_times=trainer.objective.spread_times,
            seed=config.seed,
        )

    @torch.no_grad()
    def __call__(self, network: torch.nn.Module, step: int) -> Mapping[str, float]:
        """Return the loss of `network` in its current state."""
        device = next(network.parameters()).device
        predict, losses = partial(self.predict, network), []
        for rows in torch.arange(len(self.drawn.indices)).split(self.batch_size):
            samples = gather_samples(self.held_out, self.drawn, rows)
            there = Samples(*(tensor.to(device) for tensor in samples.tensors()))
            losses.append(compute_losses(predict, self.objective, there))
        return {"held_out_loss": float(torch.cat(losses).mean())}


class SampleGrids:
    """Writes `samples/step-<step>.png`: one column a caption, real above generated, same scale.

    In a training with masks the mask stands above both.
    """

    has_start = False

    def __init__(
        self,
        config: DenoisingConfig,
        dataset: "TrainingSet",
        samples_dir: Path,
        resolution: int,
        masks: FrameMasks | None = None,
    ) -> None:
        captioned = [frame for frame in dataset.watched if frame.text]
        frames = (captioned or dataset.train)[: config.num_samples]
        self.captions = [frame.text for frame in frames]
        self.labels = ["held out" if captioned else "trained on"] * len(frames)
        self.masks = None if masks is None else masks(frames)
        self.above: list[NDArray[np.uint8]] = []
        if masks is not None:
            self.above = [colour_mask(masks.channels.label(one)) for one in masks(frames)]
        self.real_u8 = [
            from_pm1(
                read_image_pm1(dataset.folder / frame.file_name, resolution, dataset.max_value)[0]
            )
            for frame in frames
        ]
        self.config, self.samples_dir, self.resolution = config, samples_dir, resolution
        self.every = config.sample_every

    def __call__(self, unet: "UNet2DConditionModel | MaskedUNet", step: int) -> Mapping[str, float]:
        """Generate images of the captions with the current `unet`; nothing is logged."""
        generated_u8 = draw_captions(
            self.config, unet, self.captions, len(self.captions), self.resolution, self.masks
        )
        labels: Sequence[str] = [
            *("mask" for _ in self.above),
            *self.labels,
            *(f"step {step}" for _ in generated_u8),
        ]
        sheet = contact_sheet(
            [*self.above, *self.real_u8, *generated_u8],
            columns=len(self.real_u8),
            labels=labels,
            cell=max(128, min(256, self.resolution)),
        )
        write_image(self.samples_dir / f"step-{step:06d}.png", sheet)
        return {}


class SampleScores:
    """Draws captions of held-out frames and hands the images to `score`.

    Without a captioned held-out frame the empty prompt is drawn.
    """

    has_start = True

    def __init__(
        self,
        config: DenoisingConfig,
        dataset: "TrainingSet",
        score: Score,
        resolution: int,
        masks: FrameMasks | None = None,
    ) -> None:
        frames = choose_held_out(dataset.val, config.evaluate_images, config.seed)
        captioned = [frame for frame in frames if frame.text]
        self.captions = [frame.text for frame in captioned] or [""]
        self.masks = None if masks is None else masks(captioned or frames)
        self.config, self.score, self.resolution = config, score, resolution
        self.every = config.evaluate_every

    def __call__(self, unet: "UNet2DConditionModel | MaskedUNet", step: int) -> Mapping[str, float]:
        """Return the scores of the current `unet`."""
        count = self.config.evaluate_images
        images = draw_captions(self.config, unet, self.captions, count, self.resolution, self.masks)
        return self.score(images, [self.captions[i % len(self.captions)] for i in range(count)])


def draw_captions(
    config: DenoisingConfig,
    network: "UNet2DConditionModel | MaskedUNet",
    captions: Sequence[str],
    count: int,
    resolution: int,
    masks: NDArray[np.uint8] | None = None,
) -> list[NDArray[np.uint8]]:
    """Draw `count` images (H, W) of the captions in turn; image i always has the same noise.

    masks: (N, resolution, resolution) channel numbers for a `MaskedUNet`, taken in turn as well.
    """
    unet: Any = network.unet if isinstance(network, MaskedUNet) else network
    # Loaded each time: between calls the VAE and the text encoder take no memory.
    pipeline = load_base(config.base, torch.float32, unet=unet)
    pipeline.vae.to(unet.device)
    pipeline.text_encoder.to(unet.device)
    control: MaskControl | None = None
    context: AbstractContextManager[Any] = nullcontext()
    if isinstance(network, MaskedUNet):
        assert masks is not None
        control = MaskControl(network, lambda index, _side: masks[index % len(masks)])
        # What is trained is float32, also next to a frozen network in 16 bits.
        dtype = next(one.dtype for one in unet.parameters() if not one.requires_grad)
        if dtype != torch.float32:
            context = torch.autocast(unet.device.type, dtype)
    with context:
        drawn = dict(
            sample_images(
                pipeline,
                captions,
                seed=config.seed,
                indices=range(count),
                steps=config.sample_steps,
                guidance=config.sample_guidance,
                batch_size=DRAWN_AT_ONCE,
                resolution=resolution,
                control=control,
            )
        )
    return [drawn[index] for index in range(count)]
