"""Draw images from a Stable Diffusion pipeline so that image i depends on (seed, i) alone.

The loop is our own, over diffusers' schedulers: noise comes from one CPU generator per image, every
scheduler is deterministic, prompts are encoded one at a time and kept. What is left of the batch
is the order of floating-point sums: in fp32 on a CPU 0.0007 grey levels for the embedded base's
architecture (random weights), so at most one level after rounding; ``exact`` removes that too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from numpy.typing import NDArray
from torch import Tensor

from echodiff.config import InputError
from echodiff.diffusion.prompts import Prompt

# All of them are deterministic given the first noise. What a base's own config leaves out, and what
# would be wrong for latents (DDIM clips to [-1, 1] by default), is set here.
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "dpmpp": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "euler": (EulerDiscreteScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
    "pndm": (PNDMScheduler, {"skip_prk_steps": True}),
}

EXACT_BATCH = 8
"""Images in one call of the network under ``exact``; part of the picture, so never a setting."""


def build_scheduler(name: str, base: StableDiffusionPipeline) -> Any:
    """Build the named scheduler on the base's noise schedule and prediction type."""
    if name not in SCHEDULERS:
        raise InputError(f"--scheduler {name}: not one of {', '.join(SCHEDULERS)}")
    scheduler_class, settings = SCHEDULERS[name]
    return scheduler_class.from_config(base.scheduler.config, **settings)


def draw_noise(seed: int, index: int, shape: Sequence[int]) -> Tensor:
    """Draw the first latent noise of image ``index``: (C, h, w) fp32 on the CPU."""
    return torch.randn(tuple(shape), generator=image_generator(seed, index))


def image_generator(seed: int, index: int) -> torch.Generator:
    """The generator of one image; neighbouring seeds and indices are hashed far apart."""
    state = np.random.SeedSequence([seed, index]).generate_state(2, np.uint32)
    return torch.Generator("cpu").manual_seed(int(state[0]) << 32 | int(state[1]))


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
        self.scheduler = build_scheduler(scheduler, pipeline)
        self.latent_shape = _latent_shape(pipeline, resolution)
        self.embeddings: dict[str, Tensor] = {}

    @property
    def resolution(self) -> int:
        """Side of the images, pixels."""
        return int(self.latent_shape[1] * self.pipeline.vae_scale_factor)

    def prompt_of(self, index: int) -> Prompt:
        """What image ``index`` is asked to show."""
        return self.prompts[index % len(self.prompts)]

    def sample(self, indices: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Draw the images of one batch; under ``exact`` all of one block of EXACT_BATCH."""
        slots = list(indices)
        if self.exact:
            block = slots[0] // EXACT_BATCH
            assert all(index // EXACT_BATCH == block for index in slots)
            slots = list(range(block * EXACT_BATCH, (block + 1) * EXACT_BATCH))
        with _evaluation_mode(self.pipeline):
            images = self._draw(slots)
        for index, image in zip(slots, images, strict=True):
            if index in indices:
                yield index, image

    @torch.no_grad()
    def _draw(self, slots: Sequence[int]) -> list[NDArray[np.uint8]]:
        unet, vae = self.pipeline.unet, self.pipeline.vae
        device, dtype = unet.device, unet.dtype
        prompts = [self.prompt_of(index) for index in slots]
        scales = [self.guidance if p.guidance is None else p.guidance for p in prompts]
        is_guided = any(scale > 1 for scale in scales)

        # --- Noise and text, row by row
        noise = torch.stack([draw_noise(self.seed, index, self.latent_shape) for index in slots])
        text = torch.cat([self._encode(p.text) for p in prompts])
        if is_guided:
            text = torch.cat([torch.cat([self._encode(p.negative) for p in prompts]), text])
        scale = torch.tensor(scales, device=device).view(-1, 1, 1, 1)

        # --- Denoise: latents stay fp32, the network has its own precision
        self.scheduler.set_timesteps(self.steps, device=device)
        latents = noise.to(device) * self.scheduler.init_noise_sigma
        for t in self.scheduler.timesteps:
            rows = torch.cat([latents, latents]) if is_guided else latents
            rows = self.scheduler.scale_model_input(rows, t).to(dtype)
            prediction = unet(rows, t, encoder_hidden_states=text.to(dtype)).sample.float()
            if is_guided:
                without, with_text = prediction.chunk(2)
                prediction = without + scale * (with_text - without)
            latents = self.scheduler.step(prediction, t, latents).prev_sample

        # --- Decode
        latents = latents / vae.config.scaling_factor
        decoded = vae.decode(latents.to(vae.dtype)).sample.float()
        for index, image in zip(slots, decoded, strict=True):
            if not torch.isfinite(image).all():
                raise InputError(
                    f"image {index} is not finite in {dtype}: try --mixed-precision no"
                )
        return [_to_gray_u8(image) for image in decoded]

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


def _to_gray_u8(image_pm1: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) in -1..1 -> (H, W) in 0..255; the mean of the channels, rounded once."""
    image_01 = (image_pm1 / 2 + 0.5).clamp(0, 1).mean(dim=0)
    return (image_01 * 255).round().to(torch.uint8).cpu().numpy()


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
