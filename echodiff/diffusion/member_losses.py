"""Losses of frames at the same times and noises, with an adapter and without it.

What a frame costs at fixed pairs of time and noise can be compared between frames and between
networks: memorised frames cost less than others. The base, which never saw any of them, says how
hard each frame is by itself (Carlini et al. 2022 call this calibration by a reference model).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from echodiff.diffusion.objective import Objective, compute_losses
from echodiff.diffusion.samples import Samples
from echodiff.diffusion.trainer import PredictWith, predict_from_text
from echodiff.training.streams import Stream, build_stream, sample_normal

if TYPE_CHECKING:
    from collections.abc import Sequence


def draw_pairs(
    objective: Objective, num_pairs: int, latent_shape: "Sequence[int]", *, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw K pairs that every frame is held against: times (K,), evenly spread, and their noise.

    latent_shape: (C, h, w). The noise is (K, C, h, w) float32.
    """
    stream = build_stream(seed, Stream.MEMBERS, 0)
    return objective.spread_times(num_pairs), sample_normal(stream, (num_pairs, *latent_shape))


@torch.no_grad()
def paired_losses(
    unet: Any,
    latents: torch.Tensor,
    embeddings: torch.Tensor,
    timesteps: torch.Tensor,
    noise: torch.Tensor,
    *,
    objective: Objective,
    caption_index: torch.Tensor | None = None,
    predict: PredictWith = predict_from_text,
    batch_size: int = 16,
) -> torch.Tensor:
    """Losses (N, K) float32 on the CPU of N frames at K pairs of time and noise.

    latents: (N, C, h, w), such as `EncodedFrames.latent_mean`. embeddings: (N, tokens, dim), or
    with `caption_index` (N,) the rows it points to. timesteps: (K,). noise: (K, C, h, w).
    Frames are taken `batch_size` at a time: memory does not grow with their number, and the
    latents may be mapped from a file. The network is left in the mode it was in.
    """
    device = next(unet.parameters()).device
    was_training = unet.training
    unet.eval()
    try:
        columns = []
        for time, one_noise in zip(timesteps, noise, strict=True):
            losses = []
            for rows in torch.arange(len(latents)).split(batch_size):
                captions = rows if caption_index is None else caption_index[rows]
                given = Samples(
                    latents=latents[rows],
                    noise=one_noise.expand(len(rows), *one_noise.shape),
                    times=time.expand(len(rows)),
                    embeddings=embeddings[captions],
                )
                there = Samples(*(tensor.to(device) for tensor in given.tensors()))
                losses.append(compute_losses(partial(predict, unet), objective, there).cpu())
            columns.append(torch.cat(losses))
        return torch.stack(columns, dim=1)
    finally:
        unet.train(was_training)


@contextmanager
def adapter_off(network: torch.nn.Module) -> Iterator[None]:
    """Within it, the low-rank adapters of `network` are off: it computes what its base does.

    A network without adapters stays as it is. Afterwards everything is as before, what is trained
    included: peft itself freezes an adapter that it switches off, and unfreezes all of them again.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
    were_on = [not layer.disable_adapters for layer in layers]
    is_trained = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer, was_on in zip(layers, were_on, strict=True):
            layer.enable_adapters(was_on)
        for parameter, trained in is_trained:
            parameter.requires_grad_(trained)
