"""Draw images from a Stable Diffusion pipeline so that image i depends only on (seed, i).

The sampling loop uses diffusers' schedulers. Noise comes from one stream per image, every scheduler
is deterministic, and prompts are encoded one at a time. Only the order of floating-point sums
depends on the batch: 0.0007 grey levels in fp32 on a CPU for the embedded base's architecture
(random weights), so at most one level after rounding; ``exact`` removes that as well.
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
from echodiff.diffusion.sampling.mask_control import MaskControl
from echodiff.diffusion.sampling.prompts import Prompt
from echodiff.diffusion.sampling.schedulers import build_scheduler, check_steps
from echodiff.errors import InputError
from echodiff.training.streams import Stream, build_stream, sample_normal

EXACT_BATCH = 8
"""Images in one call of the network under ``exact``; part of the picture, so never a setting."""

DECODED_PIXELS = 2**20
"""Pixels that the VAE decodes at once: enough for a GPU to be busy, whatever the batch."""


ATTEMPT_BITS = 32
"""Images of a set and attempts at each are numbered below 2 to this power."""


def draw_noise(seed: int, index: int, shape: Sequence[int], attempt: int = 0) -> Tensor:
    """Draw the first latent noise of image ``index``: (C, h, w) fp32 on the CPU."""
    counter = attempt << ATTEMPT_BITS | index
    return sample_normal(build_stream(seed, Stream.IMAGE, counter), shape)


def plan_batches(indices: Sequence[int], batch_size: int, exact: bool) -> list[list[int]]:
    """Split the indices into batches; with ``exact`` at fixed blocks of EXACT_BATCH."""
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
    guidance_interval: Sequence[float] = (0.0, 1.0),
    control: MaskControl | None = None,
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
        guidance_interval=guidance_interval,
        control=control,
    )
    for batch in plan_batches(indices, batch_size, exact):
        yield from sampler.sample(batch)


class Sampler:
    """A pipeline with its settings, which draws any batch of image indices.

    ``prompts``: image i takes ``prompts[i mod len(prompts)]``.
    ``guidance``: classifier-free guidance scale, 1 = none; a Prompt may carry its own.
    ``guidance_interval``: step k of n (from 0) is guided if start <= k / n < end, after
    Kynkäänniemi et al. 2024 (there an interval of noise levels); the others take scale 1.
    ``resolution``: side in pixels, a multiple of the VAE's factor; None = the base's own.
    ``exact``: every call of the network has EXACT_BATCH rows and image i always lies in row
    ``i mod EXACT_BATCH``, so its bits do not depend on the other images requested.
    ``control``: masks that the images obey. Guidance acts on the mask as on the prompt: the other
    half of the network's rows has the empty mask.
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
        guidance_interval: Sequence[float] = (0.0, 1.0),
        control: MaskControl | None = None,
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
        start, end = guidance_interval
        self.guided_steps = [self.is_guided and start <= k / steps < end for k in range(steps)]
        if self.is_guided and not any(self.guided_steps):
            raise InputError(
                f"--guidance-interval {start:g},{end:g}: none of {steps} steps begins there"
            )
        self.latent_shape = _latent_shape(pipeline, resolution)
        self.embeddings: dict[str, Tensor] = {}
        self.control = control
        self._network = pipeline.unet if control is None else control.steps
        self.predict_noise: UNetCall = call_eagerly(self._network)
        self.min_rows = 0

    @property
    def resolution(self) -> int:
        """Side of the images, pixels."""
        return int(self.latent_shape[1] * self.pipeline.vae_scale_factor)

    def prompt_of(self, index: int) -> Prompt:
        """Return the prompt of image ``index``."""
        return self.prompts[index % len(self.prompts)]

    @contextmanager
    def accelerated(self, requested: Compile, batches: Sequence[Sequence[int]]) -> Iterator[None]:
        """Capture or compile the network within the block, to draw these batches.

        All batches are padded to the shape of the first, which is the largest. On a CPU the
        network is compiled only on request; `auto` does nothing there.
        """
        device = self.pipeline.unet.device
        if not batches or (device.type != "cuda" and requested in ("auto", "none")):
            yield
            return
        quicker = AcceleratedUNet(
            self._network,
            requested,
            num_calls=len(batches) * self.steps,
            calls_per_batch=self.steps,
        )
        plain, self.predict_noise, self.min_rows = self.predict_noise, quicker, len(batches[0])
        try:
            yield
        finally:
            self.predict_noise, self.min_rows = plain, 0
            quicker.release()

    def sample(
        self, indices: Sequence[int], attempt: int = 0
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Draw the images of one batch; with ``exact`` the whole block of EXACT_BATCH.

        attempt: another one draws other images for the same prompts and masks.
        """
        slots = list(indices)
        if self.exact:
            block = slots[0] // EXACT_BATCH
            assert all(index // EXACT_BATCH == block for index in slots)
            slots = list(range(block * EXACT_BATCH, (block + 1) * EXACT_BATCH))
        slots += [slots[-1]] * (self.min_rows - len(slots))
        control = [] if self.control is None else [self.control.network]
        with _evaluation_mode(self.pipeline, *control):
            images = dict(zip(slots, self._draw(slots, attempt), strict=True))
        for index in indices:
            yield index, images[index]

    @torch.no_grad()
    def _draw(self, slots: Sequence[int], attempt: int) -> NDArray[np.uint8]:
        """Draw the images (N, H, W) of the indices."""
        unet = self.pipeline.unet
        prompts = [self.prompt_of(index) for index in slots]

        # --- Noise and text, row by row
        noise = torch.stack(
            [draw_noise(self.seed, index, self.latent_shape, attempt) for index in slots]
        )
        text = torch.cat([self._encode(p.text) for p in prompts])
        if self.is_guided:
            text = torch.cat([torch.cat([self._encode(p.negative) for p in prompts]), text])
        scale = torch.tensor([self._scale_of(p) for p in prompts]).view(-1, 1, 1, 1)
        encoded: tuple[Tensor, ...] = ()
        if self.control is not None:
            encoded = self.control.encode(slots, self.resolution, has_empty=self.is_guided)

        latents = self._denoise(
            noise.to(unet.device), text.to(unet.device, unet.dtype), scale.to(unet.device), encoded
        )
        return self._decode(latents, slots)

    def _denoise(
        self, latents: Tensor, text: Tensor, scale: Tensor, encoded: Sequence[Tensor] = ()
    ) -> Tensor:
        """Denoise (N, C, h, w) to latents in fp32; the network has its own precision.

        encoded: masks. With guidance text and masks begin with the half without.
        Nothing here waits for the device: the scheduler counts its steps on the CPU, and passes
        its coefficients as numbers. (Only `unipc` computes some of them on the device.)
        """
        dtype = self.pipeline.unet.dtype
        self.scheduler.set_timesteps(self.steps, device="cpu")
        timesteps = self.scheduler.timesteps
        latents = latents * self.scheduler.init_noise_sigma
        every_t = zip(timesteps, timesteps.to(latents.device), self.guided_steps, strict=True)
        for t, t_of_network, is_guided in every_t:
            # An accelerated network takes one shape: there, both halves are computed at all steps.
            has_both = is_guided or (self.is_guided and self.min_rows > 0)
            rows = torch.cat([latents, latents]) if has_both else latents
            rows = self.scheduler.scale_model_input(rows, t).to(dtype)
            used = [one if has_both else one[-len(latents) :] for one in (text, *encoded)]
            prediction = self.predict_noise(rows, t_of_network, *used).float()
            if has_both:
                without, prediction = prediction.chunk(2)
            if is_guided:
                prediction = without + scale * (prediction - without)
            latents = self.scheduler.step(prediction, t, latents).prev_sample
        return latents

    def _decode(self, latents: Tensor, slots: Sequence[int]) -> NDArray[np.uint8]:
        """Decode latents (N, C, h, w) to grey images (N, H, W), a few at a time."""
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
        """Return the guidance scale of one prompt."""
        return self.guidance if prompt.guidance is None else prompt.guidance

    def _encode(self, text: str) -> Tensor:
        """Encode one text to (1, tokens, width), alone, so that it does not depend on a batch."""
        if text not in self.embeddings:
            embedding, _ = self.pipeline.encode_prompt(text, self.pipeline.unet.device, 1, False)
            self.embeddings[text] = embedding
        return self.embeddings[text]


def count_truncated(pipeline: StableDiffusionPipeline, texts: Sequence[str]) -> int:
    """Count the texts that exceed the text encoder's window and are truncated."""
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
    """Convert (N, 3, H, W) in -1..1 to (N, H, W) in 0..255: channel mean, rounded once."""
    images_01 = (images_pm1 / 2 + 0.5).clamp(0, 1).mean(dim=1)
    return (images_01 * 255).round().to(torch.uint8)


@contextmanager
def _evaluation_mode(pipeline: StableDiffusionPipeline, *others: torch.nn.Module) -> Iterator[None]:
    """Turn drop-out off while drawing, and restore the former mode."""
    modules = [pipeline.unet, pipeline.vae, pipeline.text_encoder, *others]
    was_training = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, training in zip(modules, was_training, strict=True):
            module.train(training)
