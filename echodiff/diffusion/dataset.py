"""Choose training and held-out frames, and encode both with the frozen encoders."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from echodiff.anatomy import Finding
from echodiff.data.leaks import TRAINED_ON, describe_trained, inherit_trained
from echodiff.data.splits import TrainingFrames, draw_training_frames, warn_without_patient
from echodiff.diffusion.augmentation import Move
from echodiff.diffusion.base import load_base
from echodiff.diffusion.denoising_config import DenoisingConfig
from echodiff.diffusion.encoding import EncodedFrames, encode_frames
from echodiff.errors import InputError
from echodiff.frames.layout import METADATA
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.white_level import of_frames
from echodiff.images import read_image_u8

if TYPE_CHECKING:
    from accelerate import Accelerator

    from echodiff.runs import Run

logger = logging.getLogger(__name__)

PHANTOM_SHARES = (0.7, 0.1, 0.2)
"""Train, val and test of a run's own phantoms: most of the held-out ones are for final scores."""
FEW_PAIRS = 10
"""Frames with a mask below which a training with masks warns."""


@dataclass(frozen=True)
class TrainingSet:
    """Frames of one fine-tuning; no patient is in both lists."""

    folder: Path
    train: list[Frame]
    """Captioned frames first, then those with an empty prompt."""
    held_out: list[Frame]
    """All frames of the patients kept apart, each with its split."""
    watched: list[Frame]
    """The few frames of val for the held-out loss and the sample grids, captioned ones first."""
    max_value: int | None
    """White level of files of more than 8 bits: one for the whole folder."""

    @property
    def val(self) -> list[Frame]:
        """Held-out frames that are looked at during the training."""
        return [frame for frame in self.held_out if frame.split != "test"]

    @property
    def test(self) -> list[Frame]:
        """Held-out frames that final scores alone see."""
        return [frame for frame in self.held_out if frame.split == "test"]

    trained_on: dict[str, Any]
    """What a later score must not be held against: `data.leaks`."""

    @property
    def summary(self) -> str:
        """One clause for the terminal."""
        num_captioned = sum(bool(frame.text) for frame in self.train)
        return (
            f"{num_captioned} captioned and {len(self.train) - num_captioned} null-text frames, "
            f"{len(self.held_out)} held out (val {len(self.val)}, test {len(self.test)}),"
        )

    def to_record(self, run_dir: Path) -> dict[str, Any]:
        """Return the entry of `run.json`; `data_dir` is absolute, or relative to the run."""
        is_inside = self.folder.is_relative_to(run_dir)
        folder = self.folder.relative_to(run_dir) if is_inside else self.folder.resolve()
        return {
            "data_dir": folder.as_posix(),
            "white_level": self.max_value,
            "num_captioned": sum(bool(frame.text) for frame in self.train),
            "num_null_text": sum(not frame.text for frame in self.train),
            "train": [frame.file_name for frame in self.train],
            "val": [frame.file_name for frame in self.val],
            "test": [frame.file_name for frame in self.test],
            "held_out": [frame.file_name for frame in self.held_out],
            TRAINED_ON: self.trained_on,
        }


def load_set(config: DenoisingConfig, folder: Path, *, is_quiet: bool = False) -> TrainingSet:
    """Choose the frames in `folder` by the counts and the seed of `config`.

    is_quiet: no warnings, of several processes one gives them.
    """
    everything = load_frames(folder)
    frames = (
        _with_masks(folder, everything, is_quiet=is_quiet) if config.needs_masks else everything
    )
    num_all = len(frames)
    with warnings.catch_warnings():
        # A first draw of all gives the number of frames of the train patients.
        warnings.simplefilter("ignore")
        drawn = draw_training_frames(
            frames, num_captioned=num_all, num_regularization=num_all, seed=config.seed
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chosen = draw_training_frames(
            frames,
            num_captioned=_or(config.annotated, len(drawn.captioned)),
            num_regularization=_or(config.regularization, len(drawn.regularization)),
            seed=config.seed,
        )
    if not chosen.captioned and not chosen.regularization:
        raise InputError(f"{folder}: no frame left to train on")
    train = [*chosen.captioned, *chosen.regularization]
    val = [frame for frame in chosen.held_out if frame.split != "test"]
    num_watched = max(config.watched_frames, config.num_samples)
    watched = choose_held_out(val, num_watched, config.seed)
    if not is_quiet:
        warn_without_patient(folder, frames)
        for warning in caught:
            logger.warning("%s: going on with what there is", _add_hint(warning.message, chosen))
        for line in _list_gaps(chosen, has_val=bool(val)):
            logger.warning("%s: %s", folder, line)
    for frame in watched:
        read_image_u8(folder / frame.file_name)  # damaged ones stop here, before there is a run
    trained_on = describe_trained([(folder, train)])
    for parent in config.parents:
        trained_on = inherit_trained(trained_on, parent)
    return TrainingSet(
        folder=folder,
        train=train,
        held_out=chosen.held_out,
        watched=watched,
        max_value=of_frames(folder, everything),
        trained_on=trained_on,
    )


def _with_masks(folder: Path, frames: list[Frame], *, is_quiet: bool) -> list[Frame]:
    """Return the frames that have a mask, with one line on how many have none, or on how few do."""
    found = [frame for frame in frames if frame.mask_file_name]
    if not found:
        raise InputError(f"{folder}: none of its {len(frames)} frames has a mask")
    if not is_quiet and len(found) < len(frames):
        logger.warning(
            "%s: %d of %d frames have no mask and are left out",
            *(folder, len(frames) - len(found), len(frames)),
        )
    if not is_quiet and len(found) < FEW_PAIRS:
        logger.warning(
            "%s: %d frames have a mask: with fewer than %d, masks are hardly obeyed",
            *(folder, len(found), FEW_PAIRS),
        )
    return found


def _add_hint(warning: object, chosen: TrainingFrames) -> str:
    """The warning, and where the missing frames are."""
    kind = "captioned" if "captioned" in str(warning) else "other"
    num = sum(bool(frame.text) == (kind == "captioned") for frame in chosen.held_out)
    if not num:
        return str(warning)
    hint = " (`echodiff prepare --annotated` keeps captions in train)" * (kind == "captioned")
    return f"{warning}, {num} {kind} ones are held out{hint}"


def _list_gaps(chosen: TrainingFrames, *, has_val: bool) -> Iterator[str]:
    if not chosen.captioned:
        yield "no captioned frame: the adapter learns a look, but no words"
    if not chosen.held_out:
        yield "no patient is held out: no frames to compare with"
    elif not has_val:
        yield (
            f"no row is of split val, {len(chosen.held_out)} are of test, which only final scores "
            "see: no held-out loss, no scores during training, samples show training frames"
        )


def list_inputs(config: DenoisingConfig, frames: list[Frame]) -> list[Path]:
    """Everything of this machine that the training reads."""
    pictures = [config.data / frame.file_name for frame in frames] if config.data else []
    given = [*([] if config.data is None else [config.data]), *config.parents]
    return [Path(config.base), *given, *pictures]


def encode_set(
    config: DenoisingConfig,
    dataset: TrainingSet,
    resolution: int,
    device: torch.device,
    store: Path,
    moves: Sequence[Move | None] = (),
) -> tuple[EncodedFrames, EncodedFrames | None]:
    """Encode the training frames and some held-out ones; VAE and text encoder are gone after.

    moves: of several copies of the training frames (`augmentation.draw_moves`).

    They are loaded in float32, for their rounding would be in every step. What comes out lies in
    the folder `store`, and is mapped.
    """
    pipeline = load_base(config.base, torch.float32, unet=None).to(device)
    watched = dataset.watched[: config.watched_frames]
    train = dataset.train * max(1, len(moves) // len(dataset.train))
    encoded = encode_frames(
        pipeline,
        dataset.folder,
        [*train, *watched],
        resolution=resolution,
        store=store,
        max_value=dataset.max_value,
        moves=[*moves, *(None for _ in watched)] if moves else None,
    )
    num_train = len(train)
    return encoded[:num_train], encoded[num_train:] if watched else None


def choose_held_out(frames: Sequence[Frame], count: int, seed: int) -> list[Frame]:
    """Draw `count` frames, captioned ones first: they show whether the captions are learnt."""
    order = np.random.default_rng(seed).permutation(len(frames))
    shuffled = [frames[index] for index in order]
    return sorted(shuffled, key=lambda frame: not frame.text)[:count]


def simulate_set(
    config: DenoisingConfig, run: "Run", resolution: int, accelerator: "Accelerator"
) -> TrainingSet:
    """Write phantom frames into a run without data, once for all processes, and choose from them.

    A resumed run uses what is there.
    """
    from echodiff.phantom.dataset import write_phantom_frames

    folder = run.run_dir / "frames"
    is_there = run.is_resumed and (folder / METADATA).is_file()
    if accelerator.is_main_process and not is_there:
        write_phantom_frames(
            folder,
            num=config.phantom_frames,
            seed=config.seed,
            size=resolution,
            styles=(config.phantom_style,),
            findings=tuple(map(Finding, config.phantom_findings.split(","))),
            finding_rate=config.phantom_finding_rate,
            splits=PHANTOM_SHARES,
            overwrite=not run.is_resumed,
        )
    accelerator.wait_for_everyone()
    return load_set(config, folder, is_quiet=not accelerator.is_main_process)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
