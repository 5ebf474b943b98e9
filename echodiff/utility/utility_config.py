"""Settings of `echodiff utility`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from echodiff.segmentation.segmentation_config import CHECKPOINT_EVERY, SegmentationConfig
from echodiff.settings.checks import Count, Seed, Steps, at_least
from echodiff.settings.command_line import flag_only, positional

Group = Literal["shares", "synthetic", "ratios", "classical"]
HELD_COLUMNS = ("vendor", "view")
"""Columns of which --hold-out keeps one value out of every training."""


@dataclass(frozen=True, kw_only=True)
class UtilityConfig(SegmentationConfig):
    """Train the same segmentation network on real frames, synthetic frames and mixtures of both,
    and test all of them on real patients that neither generator nor network has seen."""

    real: Path
    """Frames folder of real frames with masks; of one with a split column, train is read."""
    synthetic: tuple[Path, ...] = positional()
    """Frames folders of synthetic frames with masks; each is a set of its own, named after its
    folder."""
    test: Path
    """Frames folder of real frames with masks, of other patients; of one with a split column, val
    and test are read. It may be the folder of --real."""
    split: str | None = None
    """Splits of --test to read, separated by commas. Default: val and test."""
    out: Path
    """Folder for utility.json, report.html and a run folder per training; the same command resumes
    it, and a training that is there is not repeated."""
    arms: tuple[Group, ...] = get_args(Group)
    """What is trained on, separated by commas. shares: parts of the real patients, with and
    without all synthetic frames. synthetic: these alone. ratios: all real frames and so many times
    as many synthetic ones. classical: real frames with classical augmentation."""
    shares: tuple[int, ...] = (10, 25, 50, 100)
    """Percentages of the real patients, separated by commas (1 to 100)."""
    ratios: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Synthetic frames per real frame, separated by commas (1 or more)."""
    seeds: Annotated[int, at_least(3)] = 3
    """Trainings of each arm (3 or more); each draws its weights, its patients and its batches."""
    labels: tuple[str, ...] = ()
    """Labels to segment, separated by commas, such as lv,la. Default: those that occur in the masks
    of all folders."""
    hold_out: str | None = None
    """Keep one vendor or view out of every training, such as vendor=GE or view=A2C; scores on it
    are shown next to those on the others."""
    checkpoint_every: Steps = CHECKPOINT_EVERY
    """Steps between checkpoints of a training (count); 0: none, a killed training starts again."""
    threads: Count | None = None
    """CPU threads of the process (count). Default: torch's choice."""
    unknown_training: bool = flag_only(default=False)
    """Accept synthetic frames without a record of what their generator was trained on: it may have
    seen the test patients."""
    seed: Seed = 0
    """First seed of the trainings, and seed of the intervals (0 or more)."""
    overwrite: bool = False
    """Replace the utility.json in --out. Trainings that are there are kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in (("shares", 100), ("ratios", 100)):
            numbers = getattr(self, name)
            if not numbers or len(set(numbers)) < len(numbers) or not all(
                0 < number <= most for number in numbers
            ):  # fmt: skip
                raise ValueError(f"--{name}: must be different whole numbers from 1 to {most}")
        if not self.synthetic:
            raise ValueError("--synthetic is empty")
        names = [folder.resolve().name for folder in self.synthetic]
        if len(set(names)) < len(names):
            raise ValueError(f"--synthetic: two folders are called {max(names, key=names.count)}")
        if not self.arms:
            raise ValueError("--arms is empty")
        column, _, value = (self.hold_out or "view=-").partition("=")
        if column not in HELD_COLUMNS or not value:
            raise ValueError(f"--hold-out {self.hold_out}: must be vendor=NAME or view=NAME")
