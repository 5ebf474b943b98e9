"""The masks of a generation job: which image takes which, with what prompt and row."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label
from echodiff.data.labels import Table, parse_table
from echodiff.data.masks import MaskFile, check_masks, find_masks, hash_masks, read_mask
from echodiff.data.splits import source_of_patient
from echodiff.diffusion.sampling.prompts import Prompt, load_prompts
from echodiff.diffusion.sampling.settings import GenerateConfig
from echodiff.frames.maker import MASK_SOURCE
from echodiff.frames.rows import Frame
from echodiff.images import read_size

if TYPE_CHECKING:
    from echodiff.diffusion.condition import Channels
    from echodiff.diffusion.mask_networks import MaskedUNet
    from echodiff.diffusion.sampling.mask_control import MaskControl

CARRIED = ("patient_id", "view", "phase", "pair_id")
"""Columns of the mask's frame that its image keeps: it is the same heart."""


@dataclass(frozen=True)
class AskedMasks:
    """Masks in the order in which images take them."""

    files: tuple[MaskFile, ...]
    table: Table | None
    """Meaning of their numbers; None: they are `Label` values."""
    asked: frozenset[Label] = frozenset()
    """Labels that are asked for; empty: all."""

    @classmethod
    def find(cls, config: GenerateConfig) -> AskedMasks | None:
        """Find the masks of --masks; None without it. Nothing is read yet."""
        if config.masks is None:
            return None
        return cls(
            tuple(find_masks(config.masks, config.mask_split)),
            parse_table(config.mask_labels),
            config.asked_labels,
        )

    @property
    def prompts(self) -> list[Prompt]:
        """The captions of the masks, one for each; empty prompts where there are none."""
        return [Prompt(text=mask.text) for mask in self.files]

    def of(self, index: int) -> MaskFile:
        """The mask of image `index`."""
        return self.files[index % len(self.files)]

    def labels(self, index: int, side: int) -> NDArray[np.uint8]:
        """`Label` values (side, side) that image `index` is asked for."""
        return read_mask(self.of(index).path, side, table=self.table, asked=self.asked)

    def check(self, channels: Channels, side: int) -> None:
        """Read all of them; InputError where one cannot be read, or holds an unknown label."""
        check_masks(
            self.files, table=self.table, asked=self.asked, known=channels.labels, side=side
        )

    def control(self, network: MaskedUNet, channels: Channels, scale: float) -> MaskControl:
        """The masks as the sampler takes them."""
        from echodiff.diffusion.sampling.mask_control import MaskControl  # imports torch

        return MaskControl(
            network, lambda index, side: channels.number(self.labels(index, side)), scale
        )

    def to_identity(self) -> dict[str, Any]:
        """What of the masks decides the images, for the record of the job."""
        numbered = {f"{key}": label.name for key, label in (self.table or {}).items()}
        return {"masks": hash_masks(self.files), "mask_labels": numbered}

    def fill_row(self, frame: Frame, index: int, side: int) -> Frame:
        """Add to the row of image `index` what is known of its mask."""
        mask = self.of(index)
        if mask.frame is None:
            return dataclasses.replace(frame, extra=frame.extra | {"mask": mask.name})
        known: dict[str, Any] = {name: getattr(mask.frame, name) for name in CARRIED}
        if mask.frame.spacing_mm is not None:
            known["spacing_mm"] = mask.frame.spacing_mm * max(read_size(mask.path)) / side
        extra = {"mask": mask.name, MASK_SOURCE: source_of_patient(mask.frame)}
        extra = {name: value for name, value in extra.items() if value}
        return dataclasses.replace(frame, **known, extra=frame.extra | extra)


def read_asked(config: GenerateConfig) -> tuple[GenerateConfig, list[Prompt], AskedMasks | None]:
    """Read the prompts and find the masks that are asked for, and settle the number of images.

    Without a prompt file the prompts are the masks' captions.
    """
    prompts = load_prompts(config.prompt_file) if config.prompt_file else []
    asked = AskedMasks.find(config)
    if asked is None:
        return config, prompts, None
    count = len(asked.files) if config.num_images is None else config.num_images
    asked = dataclasses.replace(asked, files=asked.files[:count])  # others are not read
    return dataclasses.replace(config, num_images=count), prompts or asked.prompts, asked
