"""What a step trains on: draws of encoded frames that depend on (seed, step) alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from echodiff.diffusion.condition import keep_channels
from echodiff.diffusion.encoding import EncodedFrames
from echodiff.training.streams import Stream, build_stream, sample_normal


@dataclass(frozen=True)
class Draw:
    """Random draws of one optimizer step, for all its samples (S)."""

    indices: torch.Tensor
    """(S,) rows of the encoded frames."""
    posterior: torch.Tensor
    """(S, C, h, w) standard normal: which latent of the posterior."""
    noise: torch.Tensor
    """(S, C, h, w) the noise to be mixed in, offset included."""
    times: torch.Tensor
    """(S,) one from each of S equal parts of the schedule."""
    is_caption_dropped: torch.Tensor
    """(S,) bool."""
    kept: torch.Tensor | None = None
    """(S, channels) bool: which channels of its mask a sample keeps; None: all."""


class Samples(NamedTuple):
    """What the network is shown of some samples (B): a draw applied to encoded frames."""

    latents: torch.Tensor
    """(B, C, h, w) without noise."""
    noise: torch.Tensor
    """(B, C, h, w) to be mixed in."""
    times: torch.Tensor
    """(B,) time input of the network: time steps 0..T-1, or numbers in 0..T."""
    embeddings: torch.Tensor
    """(B, tokens, dim) of the caption, or of the empty prompt."""
    condition: torch.Tensor | None = None
    """(B, channels, H, W) of the frame, if the network takes one next to the caption; of a mask
    (B, 1, H, W) uint8 channel numbers (`condition`)."""

    def tensors(self) -> list[torch.Tensor]:
        """All that are there, in order: `Samples(*samples.tensors())` is `samples`."""
        return [tensor for tensor in self if tensor is not None]


class SampleOrder:
    """The endless order of samples: epoch e is a permutation drawn from (seed, e).

    Captioned frames occur `repeats` times per epoch, frames with an empty prompt once.
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
            stream = build_stream(self.seed, Stream.ORDER, epoch)
            self._epoch = (epoch, self.rows[stream.permutation(len(self.rows))])
        return self._epoch[1][offset]


def sample_step(
    order: SampleOrder,
    *,
    step: int,
    count: int,
    latent_shape: Sequence[int],
    draw_times: Callable[[torch.Tensor], torch.Tensor],
    caption_dropout: float,
    noise_offset: float,
) -> Draw:
    """Draw step number `step` (0 is the first), `count` samples over all its forward passes.

    draw_times: of the objective: uniform numbers (count,) in 0..1 to times (count,).
    """
    stream = build_stream(order.seed, Stream.NOISE, step)
    shape = (count, *latent_shape)
    posterior, noise = sample_normal(stream, shape), sample_normal(stream, shape)
    # One value for a whole image channel (Guttenberg 2023); always drawn, so that switching it
    # on changes nothing else.
    offset = sample_normal(stream, (count, shape[1], 1, 1))
    # Stratified (Kingma et al. 2021, appendix I.1): every step sees the whole range of noise, while
    # each sample's own time is drawn as by itself.
    places = torch.from_numpy(stream.permutation(count) + stream.random(count))
    is_dropped = torch.from_numpy(stream.random(count) < caption_dropout)
    return Draw(
        indices=order.take(step * count, count),
        posterior=posterior,
        noise=noise + noise_offset * offset,
        times=draw_times(places / count),
        is_caption_dropped=is_dropped,
    )


def draw_held_out(
    encoded: EncodedFrames,
    *,
    num_frames: int,
    spread_times: Callable[[int], torch.Tensor],
    seed: int,
) -> Draw:
    """The fixed draw of the held-out loss: evenly spaced times, one noise for every frame."""
    count = min(num_frames, len(encoded))
    stream = build_stream(seed, Stream.HELD_OUT, 0)
    order = torch.from_numpy(stream.permutation(len(encoded))[:count])
    noise = sample_normal(stream, (count, *encoded.latent_mean.shape[1:]))
    return Draw(
        indices=order,
        posterior=torch.zeros_like(noise),
        noise=noise,
        times=spread_times(count),
        is_caption_dropped=torch.zeros(count, dtype=torch.bool),
    )


def gather_samples(encoded: EncodedFrames, draw: Draw, rows: torch.Tensor) -> Samples:
    """The samples `rows` (B,) of a step's `draw`, on the CPU: only these are copied to a GPU."""
    indices = draw.indices[rows]
    captions = encoded.caption_index[indices].masked_fill(draw.is_caption_dropped[rows], 0)
    condition = None if encoded.condition is None else encoded.condition[indices]
    if condition is not None and draw.kept is not None:
        condition = keep_channels(condition, draw.kept[rows])
    return Samples(
        latents=encoded.latent_mean[indices] + encoded.latent_std[indices] * draw.posterior[rows],
        noise=draw.noise[rows],
        times=draw.times[rows],
        embeddings=encoded.embeddings[captions],
        condition=condition,
    )


def count_steps(num_samples: int, *, epochs: int, step_size: int, max_steps: int | None) -> int:
    """Optimizer steps: `max_steps`, or those that show `num_samples` `epochs` times, `step_size` at
    once."""
    return math.ceil(num_samples * epochs / step_size) if max_steps is None else max_steps
