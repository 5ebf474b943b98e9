"""Draw images from a Stable Diffusion pipeline so that image i depends on (seed, i) alone.

The loop is our own, over diffusers' schedulers: noise comes from one stream per image, every
scheduler is deterministic, prompts are encoded one at a time and kept. What is left of the batch
is the order of floating-point sums: in fp32 on a CPU 0.0007 grey levels for the embedded base's
architecture (random weights), so at most one level after rounding; ``exact`` removes that too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from torch import Tensor

from echodiff.diffusion.sampling.acceleration import (
    AcceleratedUNet,
    Compile,
    UNetCall,
    call_eagerly,
)
from echodiff.diffusion.sampling.prompts import Prompt
from echodiff.diffusion.sampling.schedulers import build_scheduler, check_steps
from echodiff.errors import InputError
from echodiff.training.streams import Stream, build_stream, sample_normal

EXACT_BATCH = 8
"""Images in one call of the network under ``exact``; part of the picture, so never a setting."""

DECODED_PIXELS = 2**20
"""Pixels that the VAE decodes at once: enough for a GPU to be busy, whatever the batch."""


def draw_noise(seed: int, index: int, shape: Sequence[int]) -> Tensor:
    """Draw the first latent noise of image ``index``: (C, h, w) fp32 on the CPU."""
    return sample_normal(build_stream(seed, Stream.IMAGE, index), shape)


def plan_batches(indices: Sequence[int], batch_size: int, exact: bool) -> list[list[int]]:
    """Cut the indices into batches; under ``exact`` along the fixed blocks of EXACT_BATCH."""
    if not exact:
        starts = range(0, len(indices), batch_size)
        return [list(indices[start : start + batch_size]) for start in starts]
    blocks: dict[int, list[int]] = {}
    for index in indices:
        blocks.setdefault(index // EXACT_BATCH, []).append(index)
    return list(blocks.values())


def sample_images(
    pipeline: StableDiffusionPipeline,
    prompts: Sequence[str | Prompt],
    *,
    seed: int,
    indices: Sequence[int],
    steps: int = 25,
    guidance: float = 5.0,
    scheduler: str = "dpmpp",
    batch_size: int = 8,
    resolution: int | None = None,
    exact: bool = False,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (index, image) for the indices, image (H, W) uint8; see Sampler for the arguments."""
    sampler = Sampler(
        pipeline,
        prompts,
        seed=seed,
        steps=steps,
        guidance=guidance,
        scheduler=scheduler,
        resolution=resolution,
        exact=exact,
    )
    for batch in plan_batches(indices, batch_size, exact):
        yield from sampler.sample(batch)


class Sampler:
    """A pipeline with its settings, ready to draw any batch of image indices.

    ``prompts``: image i takes ``prompts[i mod len(prompts)]``.
    ``guidance``: classifier-free guidance scale, 1 = none; a Prompt may carry its own.
    ``resolution``: side in pixels, a multiple of the VAE's factor; None = the base's own.
    ``exact``: every call of the network has EXACT_BATCH rows and image i always lies in row
    ``i mod EXACT_BATCH``, so the bits do not depend on what else is asked for.
    """

    def __init__(
        self,
        pipeline: StableDiffusionPipeline,
        prompts: Sequence[str | Prompt],
        *,
        seed: int,
        steps: int,
        guidance: float,
        scheduler: str,
        resolution: int | None = None,
        exact: bool = False,
    ) -> None:
        if not prompts:
            raise InputError("no prompt to draw")
        self.pipeline = pipeline
        self.prompts = [Prompt(text=item) if isinstance(item, str) else item for item in prompts]
        self.seed, self.steps, self.guidance, self.exact = seed, steps, guidance, exact
        # One for all batches: with and without guidance the network sees other shapes.
        self.is_guided = any(self._scale_of(prompt) > 1 for prompt in self.prompts)
        self.scheduler = build_scheduler(scheduler, pipeline)
        check_steps(steps, self.scheduler.config.num_train_timesteps, "--steps")
        self.latent_shape = _latent_shape(pipeline, resolution)
        self.embeddings: dict[str, Tensor] = {}
        self.predict_noise: UNetCall = call_eagerly(pipeline.unet)
        self.min_rows = 0

    @property
    def resolution(self) -> int:
        """Side of the images, pixels."""
        return int(self.latent_shape[1] * self.pipeline.vae_scale_factor)

    def prompt_of(self, index: int) -> Prompt:
        """What image ``index`` is asked to show."""
        return self.prompts[index % len(self.prompts)]

    @contextmanager
    def accelerated(self, requested: Compile, batches: Sequence[Sequence[int]]) -> Iterator[None]:
        """Within the block the network's call is captured or compiled, to draw these batches.

        All of them then have the shape of the first, which is the largest. On a CPU only compiling
        that is asked for is done: `auto` draws there as it does without the block.
        """
        unet = self.pipeline.unet
        if not batches or (unet.device.type != "cuda" and requested in ("auto", "none")):
            yield
            return
        quicker = AcceleratedUNet(
            unet, requested, num_calls=len(batches) * self.steps, calls_per_batch=self.steps
        )
        plain, self.predict_noise, self.min_rows = self.predict_noise, quicker, len(batches[0])
        try:
            yield
        finally:
            self.predict_noise, self.min_rows = plain, 0
            quicker.release()

    def sample(self, indices: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Draw the images of one batch; under ``exact`` all of one block of EXACT_BATCH."""
        slots = list(indices)
        if self.exact:
            block = slots[0] // EXACT_BATCH
            assert all(index // EXACT_BATCH == block for index in slots)
            slots = list(range(block * EXACT_BATCH, (block + 1) * EXACT_BATCH))
        slots += [slots[-1]] * (self.min_rows - len(slots))
        with _evaluation_mode(self.pipeline):
            images = dict(zip(slots, self._draw(slots), strict=True))
        for index in indices:
            yield index, images[index]

    @torch.no_grad()
    def _draw(self, slots: Sequence[int]) -> NDArray[np.uint8]:
        """Images (N, H, W) of the indices."""
        unet = self.pipeline.unet
        prompts = [self.prompt_of(index) for index in slots]

        # --- Noise and text, row by row
        noise = torch.stack([draw_noise(self.seed, index, self.latent_shape) for index in slots])
        text = torch.cat([self._encode(p.text) for p in prompts])
        if self.is_guided:
            text = torch.cat([torch.cat([self._encode(p.negative) for p in prompts]), text])
        scale = torch.tensor([self._scale_of(p) for p in prompts]).view(-1, 1, 1, 1)

        latents = self._denoise(
            noise.to(unet.device), text.to(unet.device, unet.dtype), scale.to(unet.device)
        )
        return self._decode(latents, slots)

    def _denoise(self, latents: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """Noise (N, C, h, w) to latents, in fp32; the network has its own precision.

        Nothing here waits for the device: the scheduler's steps are counted on the CPU, and its
        coefficients are numbers to a kernel. (`unipc` alone moves them there and solves for some.)
        """
        dtype = self.pipeline.unet.dtype
        self.scheduler.set_timesteps(self.steps, device="cpu")
        timesteps = self.scheduler.timesteps
        latents = latents * self.scheduler.init_noise_sigma
        for t, t_of_network in zip(timesteps, timesteps.to(latents.device), strict=True):
            rows = torch.cat([latents, latents]) if self.is_guided else latents
            rows = self.scheduler.scale_model_input(rows, t).to(dtype)
            prediction = self.predict_noise(rows, t_of_network, text).float()
            if self.is_guided:
                without, with_text = prediction.chunk(2)
                prediction = without + scale * (with_text - without)
            latents = self.scheduler.step(prediction, t, latents).prev_sample
        return latents

    def _decode(self, latents: Tensor, slots: Sequence[int]) -> NDArray[np.uint8]:
        """Latents (N, C, h, w) to grey images (N, H, W), a few at a time."""
        vae = self.pipeline.vae
        latents = (latents / vae.config.scaling_factor).to(vae.dtype)
        at_once = max(1, DECODED_PIXELS // self.resolution**2)
        images, is_finite = [], []
        for part in latents.split(at_once):
            decoded = vae.decode(part).sample
            is_finite.append(decoded.isfinite().flatten(1).all(dim=1))
            images.append(_to_gray_u8(decoded.float()))
        for index, is_sound in zip(slots, torch.cat(is_finite).tolist(), strict=True):
            if not is_sound:
                cure = "" if vae.dtype == torch.float32 else ": try --mixed-precision no"
                raise InputError(f"image {index} is not finite in {vae.dtype}{cure}")
        return torch.cat(images).cpu().numpy()

    def _scale_of(self, prompt: Prompt) -> float:
        """Guidance scale of one prompt."""
        return self.guidance if prompt.guidance is None else prompt.guidance

    def _encode(self, text: str) -> Tensor:
        """Embedding of one text, (1, tokens, width); encoded alone, so no batch changes it."""
        if text not in self.embeddings:
            embedding, _ = self.pipeline.encode_prompt(text, self.pipeline.unet.device, 1, False)
            self.embeddings[text] = embedding
        return self.embeddings[text]


def count_truncated(pipeline: StableDiffusionPipeline, texts: Sequence[str]) -> int:
    """How many of the texts are longer than the text encoder's window and lose their end."""
    tokenizer = pipeline.tokenizer
    return sum(len(tokenizer(text).input_ids) > tokenizer.model_max_length for text in texts)


def _latent_shape(pipeline: StableDiffusionPipeline, resolution: int | None) -> tuple[int, ...]:
    channels, factor = pipeline.unet.config.in_channels, pipeline.vae_scale_factor
    if resolution is None:
        side = pipeline.unet.config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        return channels, height, width
    # The UNet halves the latents once per level but the last; a remainder breaks its skips.
    multiple = factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)
    if resolution < multiple or resolution % multiple:
        raise InputError(f"--resolution {resolution}: must be a multiple of {multiple} here")
    return channels, resolution // factor, resolution // factor


def _to_gray_u8(images_pm1: Tensor) -> Tensor:
    """(N, 3, H, W) in -1..1 -> (N, H, W) in 0..255; the mean of the channels, rounded once."""
    images_01 = (images_pm1 / 2 + 0.5).clamp(0, 1).mean(dim=1)
    return (images_01 * 255).round().to(torch.uint8)


@contextmanager
def _evaluation_mode(pipeline: StableDiffusionPipeline) -> Iterator[None]:
    """Drop-out off while drawing; a network that was in training goes back to it."""
    modules = [pipeline.unet, pipeline.vae, pipeline.text_encoder]
    was_training = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, training in zip(modules, was_training, strict=True):
            module.train(training)
