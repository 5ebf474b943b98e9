"""Frames and captions behind the frozen encoders: encoded once, and kept in files."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState

from echodiff.captions.language import describe_cyrillic
from echodiff.data.splits import known_patient
from echodiff.diffusion.augmentation import Move, move_image
from echodiff.images import pad_square, read_gray_u8, resize_u8, to_pm1
from echodiff.progress import ProgressBar
from echodiff.training.row_file import RowFile

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from numpy.typing import NDArray

    from echodiff.frames.rows import Frame

logger = logging.getLogger(__name__)

CAPTIONS_AT_ONCE = 64


@dataclass(frozen=True)
class EncodedFrames:
    """Frames and captions behind the frozen encoders; row i belongs to frame i throughout."""

    file_names: tuple[str, ...]
    latent_mean: torch.Tensor
    """(N, C, h, w) float32, of the VAE's posterior, already scaled for the UNet."""
    latent_std: torch.Tensor
    """(N, C, h, w) float32."""
    caption_index: torch.Tensor
    """(N,) row of `embeddings`; 0 is the empty prompt."""
    embeddings: torch.Tensor
    """(captions, tokens, dim) float32, one row a different caption."""
    condition: torch.Tensor | None = None
    """(N, channels, H, W), if the network takes one next to the caption."""
    patients: tuple[str, ...] = ()
    """Patient of each frame, empty where a row names none."""

    def __len__(self) -> int:
        return len(self.file_names)

    def __getitem__(self, rows: slice) -> "EncodedFrames":
        return EncodedFrames(
            file_names=self.file_names[rows],
            latent_mean=self.latent_mean[rows],
            latent_std=self.latent_std[rows],
            caption_index=self.caption_index[rows],
            embeddings=self.embeddings,
            condition=None if self.condition is None else self.condition[rows],
            patients=self.patients[rows],
        )


def read_image_pm1(
    path: Path, resolution: int, max_value: int | None = None, move: Move | None = None
) -> "NDArray[np.float32]":
    """Read a frame as (3, resolution, resolution) in -1..1 with R = G = B.

    `max_value` is the white of files of more than 8 bits; `move` is that of the mask too. A frame
    that is not square is padded with black, the colour outside the sector: stretching would change
    the shape of the heart.
    """
    image = move_image(pad_square(read_gray_u8(path, max_value=max_value)), move)
    image_pm1 = to_pm1(resize_u8(image, (resolution, resolution)))
    return np.repeat(image_pm1[None], 3, axis=0)


def encode_frames(
    pipeline: "StableDiffusionPipeline",
    folder: Path,
    frames: Sequence["Frame"],
    *,
    resolution: int,
    store: Path,
    max_value: int | None = None,
    moves: Sequence[Move | None] | None = None,
) -> EncodedFrames:
    """Encode frames and their captions with the frozen parts of `pipeline`, on their device.

    moves: of each frame, if they are moved.

    Each process encodes its share into two files in the folder `store`, and all of them read these
    mapped; what a stopped run has left there is not encoded again. Latents stay mean and standard
    deviation, so that every step draws again. In float32: this runs once, and its rounding would
    be in every step.
    """
    captions = list(dict.fromkeys(["", *(frame.text for frame in frames)]))
    row_of = {caption: row for row, caption in enumerate(captions)}
    side = resolution // pipeline.vae_scale_factor
    latent_shape = (2, pipeline.vae.config.latent_channels, side, side)
    text = pipeline.text_encoder.config
    token_shape = (text.max_position_embeddings, text.hidden_size)
    latents = RowFile(store / "latents.npy", len(frames), latent_shape)
    embeddings = RowFile(store / "captions.npy", len(captions), token_shape)
    state = PartialState()
    if state.is_main_process:
        latents.create()
        embeddings.create()
        _warn_of_long(pipeline, captions)
        if sentence := describe_cyrillic(captions):
            logger.warning("%s", sentence)
    state.wait_for_everyone()
    mine = slice(state.process_index, None, state.num_processes)
    missing, missing_captions = latents.missing()[mine], embeddings.missing()[mine]
    # Nobody writes before everybody has seen what is missing: the shares would overlap.
    state.wait_for_everyone()
    is_silent = not missing or not state.is_main_process
    for row in ProgressBar(missing, desc="encoding", unit="frame", disable=is_silent):
        move = None if moves is None else moves[row]
        image = read_image_pm1(folder / frames[row].file_name, resolution, max_value, move)
        latents.write(row, encode_image(pipeline.vae, torch.from_numpy(image)))
    for start in range(0, len(missing_captions), CAPTIONS_AT_ONCE):
        rows = missing_captions[start : start + CAPTIONS_AT_ONCE]
        embedded = encode_captions(pipeline, [captions[row] for row in rows])
        for row, embedding in zip(rows, embedded, strict=True):
            embeddings.write(row, embedding)
    state.wait_for_everyone()
    mean, std = latents.read().unbind(dim=1)
    return EncodedFrames(
        file_names=tuple(frame.file_name for frame in frames),
        latent_mean=mean,
        latent_std=std,
        caption_index=torch.tensor([row_of[frame.text] for frame in frames]),
        embeddings=embeddings.read(),
        patients=tuple(known_patient(frame) or "" for frame in frames),
    )


@torch.no_grad()
def encode_image(vae: Any, image_pm1: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation (2, C, h, w) float32 of the latents of one (3, H, W) image.

    Scaled for the UNet: (z - shift) * scale; SD 1.x has no shift.
    """
    posterior = vae.encode(image_pm1[None].to(vae.device, vae.dtype)).latent_dist
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    both = torch.cat([posterior.mean - shift, posterior.std]) * vae.config.scaling_factor
    return both.float().cpu()


@torch.no_grad()
def encode_captions(pipeline: "StableDiffusionPipeline", captions: Sequence[str]) -> torch.Tensor:
    """Embed `captions` (count, tokens, dim) float32; longer ones are cut."""
    tokens = pipeline.tokenizer(
        list(captions),
        padding="max_length",
        truncation=True,
        max_length=int(pipeline.text_encoder.config.max_position_embeddings),
        return_tensors="pt",
    )
    # Without a mask, as the pipeline itself calls it: SD 1.x was trained that way.
    ids = tokens.input_ids.to(pipeline.text_encoder.device)
    hidden: torch.Tensor = pipeline.text_encoder(ids)[0]
    return hidden.float().cpu()


def _warn_of_long(pipeline: "StableDiffusionPipeline", captions: Sequence[str]) -> None:
    limit = int(pipeline.text_encoder.config.max_position_embeddings)
    lengths = [len(pipeline.tokenizer(text, verbose=False).input_ids) for text in captions]
    if num_long := sum(length > limit for length in lengths):
        logger.warning(
            "%d of %d captions are longer than the %d tokens the text encoder reads: they are cut",
            num_long,
            sum(bool(caption) for caption in captions),
            limit,
        )
