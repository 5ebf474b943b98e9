"""Settings of `echodiff study analyze`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from echodiff.settings.checks import Seed, between, check_ranges
from echodiff.settings.command_line import positional


@dataclass(frozen=True, kw_only=True)
class AnalyzeConfig:
    """Analyse the ratings of a reader study: as published, and with readers as clusters."""

    ratings: Path = positional()
    """CSV of ratings (columns reader, source, image, score; more in docs/study_analysis.md), or the
    folder of a study."""
    readers: Path | None = None
    """CSV of readers: reader, experience_years, weekly_readings, state. Default: readers.csv next
    to the ratings, if it is there."""
    real: str = "real"
    """Name of the source of real images."""
    out: Path
    """Folder for analysis.json, report.html and figures."""
    margin: Annotated[float, between(0, 0.5)] = 0.1
    """Distance of the AUC from 0.5 within which images count as indistinguishable (0 to 0.5); to be
    chosen before the study."""
    generated: tuple[str, ...] = ()
    """Frames folders of generated sources as SOURCE=DIR, separated by commas: their coverage is
    printed next to realism. Needs --reference."""
    reference: Path | None = None
    """Frames folder of real frames for --generated."""
    seed: Seed = 0
    """Seed of bootstrap, permutations and simulated p-values."""
    overwrite: bool = False
    """Replace an analysis in --out."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.real:
            raise ValueError("--real is empty")
        if bool(self.generated) != (self.reference is not None):
            raise ValueError("--generated and --reference need each other")
