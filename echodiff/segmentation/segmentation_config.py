"""Settings of a segmentation network and of its training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from echodiff.settings.checks import Count, Positive, Seed, at_least, check_ranges

AUTO, SHIPPED, NONE = "auto", "shipped", "none"
"""Values of --mask-network that are no folder."""
CHECKPOINT_EVERY = 200
"""Steps between checkpoints of a training."""
STRIDE = 16
"""Pixels of the image to one of the coarsest level, of either network."""


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig:
    """The network, the length of its training, and its augmentation."""

    network: Literal["basic-unet", "dynunet"] = "basic-unet"
    """Network of MONAI: BasicUNet, or DynUNet, which is that of nnU-Net."""
    width: Count = 16
    """Channels at full resolution (count); the coarsest level has eight times as many."""
    resolution: Annotated[int, at_least(2 * STRIDE)] = 128
    """Side of the images that the network reads, pixels: a multiple of 16."""
    steps: Count = 600
    """Optimizer steps of every training (count)."""
    batch_size: Count = 8
    """Frames in one step (count)."""
    learning_rate: Positive = 5e-3
    """Largest step size of AdamW (above 0); it rises for 5 % of the steps, then falls to 0."""
    augmentation: Literal["none", "light", "classical"] = "light"
    """light: small shifts, scales and gains. classical: also rotations, larger scales, gamma and
    noise. Hearts are never mirrored."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.resolution % STRIDE:
            raise ValueError(f"--resolution {self.resolution}: must be a multiple of {STRIDE}")


@dataclass(frozen=True, kw_only=True)
class TrainSegmentationConfig(SegmentationConfig):
    """One training."""

    out: Path
    """Run folder."""
    labels: tuple[str, ...]
    """Labels that are told apart, the background aside."""
    seed: Seed = 0
    """Every random draw is a function of it and of the step (0 or more)."""
    overwrite: bool = False
    """Always False: a run is resumed or refused."""
    continue_: bool = False
    """Always False: the number of steps is fixed."""
