"""What a step trains on: frames encoded once, and draws that depend on (seed, step) alone."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from echodiff.images import pad_square, read_gray_u8, resize_u8, to_pm1
from echodiff.training.streams import build_stream

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from numpy.typing import NDArray

    from echodiff.frames import Frame

logger = logging.getLogger(__name__)

ORDER_STREAM, NOISE_STREAM, HELD_OUT_STREAM = 1, 2, 3
"""The random streams: a draw is a function of (seed, stream, counter), never of history."""


@dataclass(frozen=True)
class EncodedFrames:
    """Frames and captions behind the frozen encoders; row i belongs to frame i throughout."""

    file_names: tuple[str, ...]
    latent_mean: torch.Tensor
    """(N, C, h, w) float32, of the VAE's posterior, already scaled for the UNet."""
    latent_std: torch.Tensor
    """(N, C, h, w) float32."""
    caption_index: torch.Tensor
    """(N,) row of `embeddings`; 0 is the null text."""
    embeddings: torch.Tensor
    """(captions, tokens, dim) float32, one row a different caption."""

    def __len__(self) -> int:
        return len(self.file_names)

    def __getitem__(self, rows: slice) -> "EncodedFrames":
        return EncodedFrames(
            file_names=self.file_names[rows],
            latent_mean=self.latent_mean[rows],
            latent_std=self.latent_std[rows],
            caption_index=self.caption_index[rows],
            embeddings=self.embeddings,
        )


@dataclass(frozen=True)
class Draw:
    """Everything random about one optimizer step, for the whole step's samples (S of them)."""

    indices: torch.Tensor
    """(S,) rows of the encoded frames."""
    posterior: torch.Tensor
    """(S, C, h, w) standard normal: which latent of the posterior."""
    noise: torch.Tensor
    """(S, C, h, w) the noise to be predicted, offset included."""
    timesteps: torch.Tensor
    """(S,) in 0..T-1, one from each of S equal parts of the schedule."""
    is_caption_dropped: torch.Tensor
    """(S,) bool."""


class Samples(NamedTuple):
    """What the network is shown of some samples (B): a draw applied to encoded frames."""

    latents: torch.Tensor
    """(B, C, h, w) without noise."""
    noise: torch.Tensor
    """(B, C, h, w) to be added and predicted."""
    timesteps: torch.Tensor
    """(B,) in 0..T-1."""
    embeddings: torch.Tensor
    """(B, tokens, dim) of the caption, or of the null text."""


class SampleOrder:
    """The endless order of samples: epoch e is a permutation drawn from (seed, e).

    Captioned frames occur `repeats` times in an epoch, null-text frames once.
    """

    def __init__(self, is_captioned: Sequence[bool], *, repeats: int, seed: int) -> None:
        counts = [repeats if captioned else 1 for captioned in is_captioned]
        self.rows = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        self.seed = seed
        self._epoch: tuple[int, torch.Tensor] = (-1, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, start: int, count: int) -> torch.Tensor:
        """Rows (count,) at positions start.. of the order."""
        return torch.stack([self._row(position) for position in range(start, start + count)])

    def _row(self, position: int) -> torch.Tensor:
        epoch, offset = divmod(position, len(self.rows))
        if self._epoch[0] != epoch:
            generator = build_stream(self.seed, ORDER_STREAM, epoch)
            shuffled = self.rows[torch.randperm(len(self.rows), generator=generator)]
            self._epoch = (epoch, shuffled)
        return self._epoch[1][offset]


def sample_step(
    order: SampleOrder,
    *,
    step: int,
    count: int,
    latent_shape: Sequence[int],
    timestep_weights: torch.Tensor,
    caption_dropout: float,
    noise_offset: float,
) -> Draw:
    """Draw step number `step` (0 is the first), `count` samples over all its forward passes.

    timestep_weights: (T,) how often each time step is drawn, relative to the others.
    """
    generator = build_stream(order.seed, NOISE_STREAM, step)
    shape = (count, *latent_shape)
    posterior = torch.randn(shape, generator=generator)
    noise = torch.randn(shape, generator=generator)
    # One value for a whole image channel (Guttenberg 2023); always drawn, so that switching it
    # on changes nothing else.
    offset = torch.randn((count, shape[1], 1, 1), generator=generator)
    # Stratified (Kingma et al. 2021, appendix I.1): every step sees the whole range of noise, while
    # each sample's own time step is drawn as by itself.
    part, place = torch.randperm(count, generator=generator), torch.rand(count, generator=generator)
    cumulative = timestep_weights.double().cumsum(0)
    quantiles = (part + place.double()) / count * cumulative[-1]
    timesteps = torch.searchsorted(cumulative, quantiles, right=True).clamp(max=len(cumulative) - 1)
    is_dropped = torch.rand(count, generator=generator) < caption_dropout
    return Draw(
        indices=order.take(step * count, count),
        posterior=posterior,
        noise=noise + noise_offset * offset,
        timesteps=timesteps,
        is_caption_dropped=is_dropped,
    )


def gather_samples(encoded: EncodedFrames, draw: Draw, rows: torch.Tensor) -> Samples:
    """The samples `rows` (B,) of a step's `draw`, on the CPU: they are all a GPU is sent of it."""
    indices = draw.indices[rows]
    captions = encoded.caption_index[indices].masked_fill(draw.is_caption_dropped[rows], 0)
    return Samples(
        latents=encoded.latent_mean[indices] + encoded.latent_std[indices] * draw.posterior[rows],
        noise=draw.noise[rows],
        timesteps=draw.timesteps[rows],
        embeddings=encoded.embeddings[captions],
    )


def read_image_pm1(
    path: Path, resolution: int, max_value: int | None = None
) -> "NDArray[np.float32]":
    """Read a frame as (3, resolution, resolution) in -1..1 with R = G = B.

    `max_value` is the white of files of more than 8 bits. A frame that is not square is padded
    with black, the colour outside the sector: stretching would change the shape of the heart.
    """
    image = pad_square(read_gray_u8(path, max_value=max_value))
    image_pm1 = to_pm1(resize_u8(image, (resolution, resolution)))
    return np.repeat(image_pm1[None], 3, axis=0)


@torch.no_grad()
def encode_frames(
    pipeline: "StableDiffusionPipeline",
    folder: Path,
    frames: Sequence["Frame"],
    *,
    resolution: int,
    max_value: int | None = None,
    show_progress: bool = False,
) -> EncodedFrames:
    """Encode frames and their captions with the frozen parts of `pipeline`, where those lie.

    Latents stay mean and standard deviation, so that every step can draw anew. In float32: this
    runs once, and its rounding would be in every step.
    """
    vae, device = pipeline.vae, pipeline.vae.device
    means, stds = [], []
    for frame in tqdm(frames, desc="encoding", unit="frame", disable=not show_progress):
        image = read_image_pm1(folder / frame.file_name, resolution, max_value)
        posterior = vae.encode(torch.from_numpy(image)[None].to(device, vae.dtype)).latent_dist
        means.append(_scale(posterior.mean, vae).float().cpu())
        stds.append((posterior.std * vae.config.scaling_factor).float().cpu())
    captions = list(dict.fromkeys(["", *(frame.text for frame in frames)]))
    rows = {caption: row for row, caption in enumerate(captions)}
    return EncodedFrames(
        file_names=tuple(frame.file_name for frame in frames),
        latent_mean=torch.cat(means),
        latent_std=torch.cat(stds),
        caption_index=torch.tensor([rows[frame.text] for frame in frames]),
        embeddings=encode_captions(pipeline, captions),
    )


@torch.no_grad()
def encode_captions(pipeline: "StableDiffusionPipeline", captions: Sequence[str]) -> torch.Tensor:
    """Embed `captions` (count, tokens, dim) float32; longer ones are cut, with one warning."""
    tokenizer, text_encoder = pipeline.tokenizer, pipeline.text_encoder
    limit = int(text_encoder.config.max_position_embeddings)
    lengths = [len(tokenizer(caption, verbose=False).input_ids) for caption in captions]
    num_long = sum(length > limit for length in lengths)
    if num_long:
        logger.warning(
            "%d of %d captions are longer than the %d tokens the text encoder reads: they are cut",
            num_long,
            sum(bool(caption) for caption in captions),
            limit,
        )
    rows = []
    for start in range(0, len(captions), 64):
        tokens = tokenizer(
            list(captions[start : start + 64]),
            padding="max_length",
            truncation=True,
            max_length=limit,
            return_tensors="pt",
        )
        # Without a mask, as the pipeline itself calls it: SD 1.x was trained that way.
        hidden = text_encoder(tokens.input_ids.to(text_encoder.device))[0]
        rows.append(hidden.float().cpu())
    return torch.cat(rows)


def count_steps(num_samples: int, *, epochs: int, step_size: int, max_steps: int | None) -> int:
    """Optimizer steps that show `num_samples` `epochs` times, `step_size` at once."""
    steps = math.ceil(num_samples * epochs / step_size)
    return steps if max_steps is None else min(steps, max_steps)


def _scale(latent: torch.Tensor, vae: Any) -> torch.Tensor:
    """The UNet's latents: (z - shift) * scale; SD 1.x has no shift."""
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    scaled: torch.Tensor = (latent - shift) * vae.config.scaling_factor
    return scaled
