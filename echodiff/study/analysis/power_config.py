"""Settings of `echodiff study power`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from echodiff.settings.checks import Count, NotNegative, Seed, at_least, between, check_ranges
from echodiff.settings.command_line import positional

MAX_RATINGS = 1000


@dataclass(frozen=True, kw_only=True)
class PowerConfig:
    """Simulate studies to find how many readers and images a difference needs.

    The test is the main one of `echodiff study analyze`: mean AUC of the readers, sign-flip over
    readers. With RATINGS, use of the scale and differences between readers are those of that study.
    """

    ratings: Path | None = positional(default=None)
    """CSV of ratings of an earlier study, or its folder. Default: --reader-sd, --interaction-sd and
    the published scores of real images."""
    real: str = "real"
    """Name of the source of real images in RATINGS."""
    auc: Annotated[float, between(0.5, 1)] = 0.58
    """True AUC of real against generated images that the study is to detect (0.5 to 1). The
    published differences were 0.57, 0.61 and 0.65."""
    readers: tuple[int, ...] = (8, 12, 17, 24, 32, 48)
    """Numbers of readers, separated by commas (2 or more)."""
    images: tuple[int, ...] = (5, 10, 20)
    """Images of each source that a reader rates, separated by commas."""
    margin: Annotated[float, between(0, 0.5)] = 0.1
    """Distance of the AUC from 0.5 within which images count as indistinguishable (0 to 0.5)."""
    sources: Count = 1
    """Generated sources that are compared with real images; the tests are corrected for it."""
    reader_sd: NotNegative = 1.0
    """Standard deviation of readers' use of the scale (log odds)."""
    interaction_sd: NotNegative = 0.5
    """Standard deviation of readers by sources (log odds)."""
    target: Annotated[float, between(0, 1)] = 0.8
    """Power to reach (0 to 1)."""
    studies: Annotated[int, at_least(100)] = 2000
    """Simulated studies of each design (100 or more)."""
    out: Path | None = None
    """Folder for power.json and power.html. Default: print the table only."""
    seed: Seed = 0
    """Seed of the simulation."""
    overwrite: bool = False
    """Replace a power.json in --out."""

    def __post_init__(self) -> None:
        check_ranges(self)
        for name, least in (("readers", 2), ("images", 1)):
            numbers = getattr(self, name)
            if not numbers or len({*numbers}) < len(numbers) or not all(
                least <= number <= MAX_RATINGS for number in numbers
            ):  # fmt: skip
                raise ValueError(f"--{name}: must be different numbers from {least} to "
                                 f"{MAX_RATINGS}")  # fmt: skip
