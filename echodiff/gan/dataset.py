"""Frames folders as the two domains of a translation: read once, resized once, kept as bytes."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from echodiff.config import InputError
from echodiff.data.splits import check_patients_apart, patient_of, split_patients
from echodiff.fingerprints import hash_frames
from echodiff.frames import IMAGES, Frame, load_frames
from echodiff.gan.draws import StepRows
from echodiff.gan.gan_config import TrainGanConfig
from echodiff.gan.pictures import Values, paint_mask, prepare_image, prepare_mask, to_values
from echodiff.images import (
    find_max_value,
    has_deep_pixels,
    read_image_u8,
    read_mask_u8,
    read_size,
)

logger = logging.getLogger(__name__)


class Domain(NamedTuple):
    """Pictures or masks of one domain; row i is frame i."""

    folder: Path
    frames: list[Frame]
    images_u8: torch.Tensor
    """(N, C, S, S) uint8."""
    values: Values
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
    held_out_target: list[Frame]
    watched_source: Domain
    """Frames of the sample grid: held-out ones where there are some."""
    watched_target: Domain
    scale: int = 1
    """Pixels of the target to one of the source, along each side."""

    @property
    def summary(self) -> str:
        """One clause for the terminal."""
        counts = f"{len(self.source.frames)} to {len(self.target.frames)} frames"
        held_out = f"{len(self.held_out_source)} and {len(self.held_out_target)} held out"
        return f"{counts}{' in pairs' if self.is_paired else ''}, {held_out}"

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

    def to_record(self) -> dict[str, Any]:
        """What `run.json` says of the frames."""
        return {
            "source_dir": str(self.source.folder.resolve()),
            "target_dir": str(self.target.folder.resolve()),
            "train_source": [frame.file_name for frame in self.source.frames],
            "train_target": [frame.file_name for frame in self.target.frames],
            "held_out_source": [frame.file_name for frame in self.held_out_source],
            "held_out_target": [frame.file_name for frame in self.held_out_target],
        }


class ChosenFrames(NamedTuple):
    """Rows of both domains, those that are trained on and those that are kept apart."""

    source: list[Frame]
    target: list[Frame]
    held_out_source: list[Frame]
    held_out_target: list[Frame]
    is_paired: bool


def load_set(config: TrainGanConfig, *, show_progress: bool = False) -> TranslationSet:
    """Read both domains; everything that does not fit is an InputError that names the folder."""
    folders = config.source, config.target or config.source
    chosen = choose_frames(config)
    is_conditional = config.method == "patch_cgan"
    values: tuple[Values, Values] = ("labels", "01") if is_conditional else ("pm1", "pm1")
    read_source = _mask_reader if config.source_kind == "mask" else _image_reader
    side = config.load_size or config.resolution
    scale = 2 if config.method == "srgan" else 1
    readers = (
        read_source(config, folders[0], side // scale),
        _image_reader(config, folders[1], side),
    )

    def read(domain: int, frames: list[Frame]) -> Domain:
        bar = tqdm(frames, desc="reading", unit="frame", disable=not show_progress)
        images = np.stack([readers[domain](frame) for frame in bar])
        is_mask = domain == 0 and config.source_kind == "mask"
        return Domain(folders[domain], frames, torch.from_numpy(images), values[domain], is_mask)

    source, target = read(0, chosen.source), read(1, chosen.target)
    if config.source_kind == "image":
        _check_alike(config, source, target)
    count = config.num_samples
    return TranslationSet(
        source=source,
        target=target,
        is_paired=chosen.is_paired,
        held_out_source=chosen.held_out_source,
        held_out_target=chosen.held_out_target,
        watched_source=read(0, (chosen.held_out_source or chosen.source)[:count]),
        watched_target=read(1, (chosen.held_out_target or chosen.target)[:count]),
        scale=scale,
    )


def choose_frames(config: TrainGanConfig) -> ChosenFrames:
    """Pair the rows where pairs are wanted, and keep whole patients apart, in both domains alike.

    A `split` column is obeyed; else patients are drawn by seed from those of both folders.
    """
    folders = config.source, config.target or config.source
    source = load_frames(folders[0], require_mask=config.source_kind == "mask")
    target = source if config.target is None else load_frames(folders[1])
    for folder, frames in zip(folders, (source, target), strict=True):
        _check_one_modality(folder, frames)
    is_paired = config.target is None or config.pairing == "paired"
    if config.target is not None and is_paired:
        source, target = pair_frames(folders[0], source, folders[1], target)
    patients = {patient_of(frame) for frame in [*source, *target]}
    share = config.held_out_share
    homes = split_patients(patients, (1 - share, share, 0), seed=config.seed)
    is_trained = [
        _find_trained(folder, frames, homes)
        for folder, frames in zip(folders, (source, target), strict=True)
    ]
    if is_paired:  # the source decides for both
        is_trained[1] = is_trained[0]
    parts = [
        [frame for frame, trained in zip(frames, flags, strict=True) if trained is wanted]
        for wanted in (True, False)
        for frames, flags in zip((source, target), is_trained, strict=True)
    ]
    chosen = ChosenFrames(parts[0], parts[1], parts[2], parts[3], is_paired)
    for flag, folder, frames in zip(("source", "target"), folders, chosen[:2], strict=True):
        if len(frames) < 2:
            raise InputError(
                f"--{flag} {folder}: {len(frames)} frame to train on, where 2 or more are needed"
            )
    return chosen


def pair_frames(
    source_dir: Path, source: Sequence[Frame], target_dir: Path, target: Sequence[Frame]
) -> tuple[list[Frame], list[Frame]]:
    """Partners by `pair_id` where every row has one, else by file name without its suffix."""
    has_ids = all(frame.pair_id is not None for frame in [*source, *target])

    def key(frame: Frame) -> str:
        name = PurePosixPath(frame.file_name.removeprefix(f"{IMAGES}/"))
        return str(frame.pair_id) if has_ids else name.with_suffix("").as_posix()

    partners = {key(frame): frame for frame in target}
    if len(partners) < len(target):
        raise InputError(f"{target_dir}: several frames have the same pair_id")
    pairs = [(frame, partners[key(frame)]) for frame in source if key(frame) in partners]
    if not pairs:
        what = "pair_id" if has_ids else "file name"
        raise InputError(f"{source_dir}: no frame has the {what} of one in {target_dir}")
    if len(pairs) < max(len(source), len(target)):
        left = len(source) + len(target) - 2 * len(pairs)
        logger.warning("%d frames without a partner are left out", left)
    return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]


Reader = Callable[[Frame], NDArray[np.uint8]]
"""Reads one frame as (C, S, S)."""


def _image_reader(config: TrainGanConfig, folder: Path, side: int) -> Reader:
    paths = [folder / frame.file_name for frame in load_frames(folder)]
    white = find_max_value([path for path in paths if has_deep_pixels(path)])

    def read(frame: Frame) -> NDArray[np.uint8]:
        image = read_image_u8(folder / frame.file_name, max_value=white)
        return prepare_image(image, config.channels, side)

    return read


def _mask_reader(config: TrainGanConfig, folder: Path, side: int) -> Reader:
    def read(frame: Frame) -> NDArray[np.uint8]:
        mask = prepare_mask(read_mask_u8(folder / str(frame.mask_file_name)), config.labels, side)
        return mask if config.method == "patch_cgan" else paint_mask(mask, config.channels)

    return read


def _find_trained(folder: Path, frames: list[Frame], homes: dict[str, str]) -> list[bool]:
    try:
        check_patients_apart(frames)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    if any(frame.split is None for frame in frames):
        if any(frame.split is not None for frame in frames):
            raise InputError(f"{folder}: some rows have a split and some have none")
        return [homes[patient_of(frame)] == "train" for frame in frames]
    return [frame.split == "train" for frame in frames]


def _check_one_modality(folder: Path, frames: Sequence[Frame]) -> None:
    modalities = sorted({frame.modality for frame in frames if frame.modality})
    if len(modalities) > 1:
        raise InputError(
            f"{folder}: mixes {' and '.join(modalities)}; each domain needs a folder of its own"
        )


def _check_alike(config: TrainGanConfig, source: Domain, target: Domain) -> None:
    """Refuse domains that a discriminator tells apart without looking at what they show."""
    sides = [
        float(np.median([max(read_size(d.folder / f.file_name)) for f in d.frames]))
        for d in (source, target)
    ]
    if max(sides) > 4 * min(sides):
        raise InputError(
            f"--source {source.folder} and --target {target.folder}: pictures of {sides[0]:.0f} "
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
