"""Frames folders as the two domains of a translation: read once, resized once, kept as bytes."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from echodiff.data.leaks import TRAINED_ON, describe_trained, inherit_trained
from echodiff.data.splits import warn_without_patient
from echodiff.errors import InputError
from echodiff.frames.reader import hash_frames
from echodiff.frames.rows import Frame
from echodiff.frames.white_level import find_white_level
from echodiff.gan.gan_config import TrainGanConfig
from echodiff.gan.order import StepRows
from echodiff.gan.pairing import ChosenFrames, choose_frames
from echodiff.gan.preprocessing import Values, paint_mask, prepare_image, prepare_mask, to_values
from echodiff.images import (
    read_image_u8,
    read_mask_u8,
    read_size,
)
from echodiff.progress import ProgressBar

logger = logging.getLogger(__name__)


class Domain(NamedTuple):
    """Pictures or masks of one domain; row i is frame i."""

    folder: Path
    frames: list[Frame]
    images_u8: torch.Tensor
    """(N, C, S, S) uint8."""
    values: Values
    white_level: int | None = None
    """By which images of more than 8 bits were read: one for the whole folder."""
    is_mask: bool = False
    """Whether they are the frames' masks."""

    def crop(self, rows: torch.Tensor, corners: torch.Tensor, side: int) -> torch.Tensor:
        """Crops (B, C, side, side) of `rows` at `corners` (B, 2), as a network takes them."""
        device = self.images_u8.device
        channel = torch.arange(self.images_u8.shape[1], device=device)[:, None, None]
        y, x = (corners[:, axis, None] + torch.arange(side, device=device) for axis in (0, 1))
        # One gather, which waits for no row or corner: they may be on a GPU, in a graph.
        row, y, x = rows[:, None, None, None], y[:, None, :, None], x[:, None, None]
        return to_values(self.images_u8[row, channel, y, x], self.values)


@dataclass(frozen=True)
class TranslationSet:
    """Both domains of one training; no held-out patient is in either."""

    source: Domain
    target: Domain
    is_paired: bool
    held_out_source: list[Frame]
    """All frames of the patients kept apart, each with its split."""
    held_out_target: list[Frame]
    watched_source: Domain
    """Frames of the sample grid: those of val where there are some, never those of test."""
    watched_target: Domain
    scale: int = 1
    """Pixels of the target to one of the source, along each side."""

    @property
    def summary(self) -> str:
        """One clause for the terminal."""
        counts = f"{len(self.source.frames)} to {len(self.target.frames)} frames"
        held_out = f"{len(self.held_out_source)} and {len(self.held_out_target)} held out"
        num_val = [len(_of_val(rows)) for rows in (self.held_out_source, self.held_out_target)]
        val = f" (val {num_val[0]} and {num_val[1]})" if self.held_out_source else ""
        return f"{counts}{' in pairs' if self.is_paired else ''}, {held_out}{val}"

    def take(self, rows: StepRows, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops of a step: source (B, C, side / scale, side / scale), target (B, C, side, side)."""
        scale = self.scale
        return (
            self.source.crop(rows.source, rows.source_corners // scale, side // scale),
            self.target.crop(rows.target, rows.target_corners // scale * scale, side),
        )

    def to_device(self, device: torch.device) -> "TranslationSet":
        """The same with the bytes of both domains on `device`."""
        source, target = (
            domain._replace(images_u8=domain.images_u8.to(device))
            for domain in (self.source, self.target)
        )
        return TranslationSet(**{**vars(self), "source": source, "target": target})

    def name_rows(self, rows: StepRows) -> str:
        """File names of a step's frames, for an error."""
        named = [(self.source, rows.source)]
        if self.target.folder != self.source.folder:
            named.append((self.target, rows.target))
        return "; ".join(
            f"{domain.folder.name}: "
            + ", ".join(dict.fromkeys(domain.frames[i].file_name for i in chosen.tolist()))
            for domain, chosen in named
        )

    def hash_frames(self) -> dict[str, str]:
        """A hash of every frame that is trained on or watched, by domain and file name."""
        return {
            f"{name}/{file}": digest
            for name, domain, frames in self._list_domains()
            for file, digest in hash_frames(
                domain.folder, frames, has_images=not domain.is_mask, has_masks=domain.is_mask
            ).items()
        }

    def list_files(self) -> list[Path]:
        """The folders of both domains, and the files in them that are read."""
        return [
            path
            for _, domain, frames in self._list_domains()
            for path in (domain.folder, *(domain.folder / frame.file_name for frame in frames))
        ]

    def _list_domains(self) -> list[tuple[str, Domain, list[Frame]]]:
        return [
            ("source", self.source, [*self.source.frames, *self.held_out_source]),
            ("target", self.target, [*self.target.frames, *self.held_out_target]),
        ]

    def to_record(self, init_from: Path | None = None) -> dict[str, Any]:
        """What `run.json` says of the frames, and of those that `init_from` was trained on."""
        return {
            "source_white_level": self.source.white_level,
            "target_white_level": self.target.white_level,
            "source_dir": str(self.source.folder.resolve()),
            "target_dir": str(self.target.folder.resolve()),
            "train_source": [frame.file_name for frame in self.source.frames],
            "train_target": [frame.file_name for frame in self.target.frames],
            **_list_held_out("source", self.held_out_source),
            **_list_held_out("target", self.held_out_target),
            TRAINED_ON: inherit_trained(
                describe_trained([(d.folder, d.frames) for d in (self.source, self.target)]),
                init_from,
            ),
        }


def load_set(config: TrainGanConfig, *, show_progress: bool = False) -> TranslationSet:
    """Read both domains; everything that does not fit is an InputError that names the folder."""
    folders = config.source, config.target or config.source
    chosen = choose_frames(config)
    is_conditional = config.method == "patch_cgan"
    values: tuple[Values, Values] = ("labels", "01") if is_conditional else ("pm1", "pm1")
    read_source = _mask_reader if config.source_kind == "mask" else _image_reader
    side = config.load_size or config.resolution
    scale = 2 if config.method == "srgan" else 1
    whites = [find_white_level(folder) for folder in folders]
    readers = (
        read_source(config, folders[0], side // scale, whites[0]),
        _image_reader(config, folders[1], side, whites[1]),
    )

    def read(domain: int, frames: list[Frame]) -> Domain:
        bar = ProgressBar(frames, desc="reading", unit="frame", disable=not show_progress)
        images = np.stack([readers[domain](frame) for frame in bar])
        return Domain(
            folders[domain],
            frames,
            torch.from_numpy(images),
            values[domain],
            white_level=whites[domain],
            is_mask=domain == 0 and config.source_kind == "mask",
        )

    source, target = read(0, chosen.source), read(1, chosen.target)
    if config.source_kind == "image":
        _check_alike(config, source, target)
    _warn(folders, chosen)
    count = config.num_samples
    val = _of_val(chosen.held_out_source), _of_val(chosen.held_out_target)
    return TranslationSet(
        source=source,
        target=target,
        is_paired=chosen.is_paired,
        held_out_source=chosen.held_out_source,
        held_out_target=chosen.held_out_target,
        watched_source=read(0, (val[0] or chosen.source)[:count]),
        watched_target=read(1, (val[1] or chosen.target)[:count]),
        scale=scale,
    )


def _warn(folders: tuple[Path, Path], chosen: ChosenFrames) -> None:
    """Lines on what a reader of the results must know of the patients."""
    rows = [*chosen.source, *chosen.held_out_source], [*chosen.target, *chosen.held_out_target]
    for folder, frames in dict(zip(folders, rows, strict=True)).items():
        warn_without_patient(folder, frames)
    held_out = [*chosen.held_out_source, *chosen.held_out_target]
    if held_out and not _of_val(held_out):
        logger.warning(
            "no row is of split val, %d are of test, which only final scores see: samples show "
            "training frames",
            len(held_out),
        )


def _of_val(held_out: Sequence[Frame]) -> list[Frame]:
    return [frame for frame in held_out if frame.split != "test"]


def _list_held_out(domain: str, held_out: Sequence[Frame]) -> dict[str, list[str]]:
    parts = {"val": _of_val(held_out), "test": [f for f in held_out if f.split == "test"]}
    parts["held_out"] = [*held_out]
    return {f"{name}_{domain}": [f.file_name for f in rows] for name, rows in parts.items()}


Reader = Callable[[Frame], NDArray[np.uint8]]
"""Reads one frame as (C, S, S)."""


def _image_reader(
    config: TrainGanConfig, folder: Path, side: int, white_level: int | None
) -> Reader:
    def read(frame: Frame) -> NDArray[np.uint8]:
        image = read_image_u8(folder / frame.file_name, max_value=white_level)
        return prepare_image(image, config.channels, side)

    return read


def _mask_reader(
    config: TrainGanConfig, folder: Path, side: int, _white_level: int | None
) -> Reader:
    def read(frame: Frame) -> NDArray[np.uint8]:
        mask = prepare_mask(read_mask_u8(folder / str(frame.mask_file_name)), config.labels, side)
        return mask if config.method == "patch_cgan" else paint_mask(mask, config.channels)

    return read


def _check_alike(config: TrainGanConfig, source: Domain, target: Domain) -> None:
    """Refuse domains that a discriminator tells apart without looking at what they show."""
    sides = [
        float(np.median([max(read_size(d.folder / f.file_name)) for f in d.frames]))
        for d in (source, target)
    ]
    if max(sides) > 4 * min(sides):
        raise InputError(
            f"--source {source.folder} and --target {target.folder}: images of {sides[0]:.0f} "
            f"and of {sides[1]:.0f} pixels have nothing in common; resize one before"
        )
    if config.channels == 3:
        is_grey = [bool((d.images_u8 == d.images_u8[:, :1]).all()) for d in (source, target)]
        if is_grey[0] != is_grey[1]:
            grey, colour = ("source", "target") if is_grey[0] else ("target", "source")
            raise InputError(
                f"--channels 3: --{grey} is grey and --{colour} in colour, which have nothing in "
                "common; --channels 1 makes both grey"
            )
