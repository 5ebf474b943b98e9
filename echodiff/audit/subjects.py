"""Members and non-members: frames that a run was trained on, and frames that it has not seen.

An attack that tells two scanners apart tells nothing of membership (CopyMark, arXiv 2410.03640), so
only patients of the same source, vendor and modality are compared with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echodiff.data.splits import patient_of
from echodiff.frames.rows import Frame

_STRATUM = ("source", "vendor", "modality")


@dataclass(frozen=True)
class Side:
    """Frames of one folder."""

    folder: Path
    frames: list[Frame]

    @property
    def paths(self) -> list[Path]:
        return [self.folder / frame.file_name for frame in self.frames]

    @property
    def num_patients(self) -> int:
        return len({patient_of(frame) for frame in self.frames})


@dataclass(frozen=True)
class Units:
    """Patients, the units of every test: their frames are averaged."""

    of_frame: NDArray[np.int64]
    """(N,) patient of each frame, members first."""
    is_member: NDArray[np.bool_]
    """(U,)."""
    stratum: NDArray[np.int64]
    """(U,) source, vendor and modality of each patient, as a number."""

    def average(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means (U, ...) by patient of values (N, ...) by frame."""
        sums = np.zeros((len(self.is_member), *values.shape[1:]))
        np.add.at(sums, self.of_frame, values)
        counts = np.bincount(self.of_frame, minlength=len(self.is_member))
        mean: NDArray[np.float64] = sums / counts.reshape(-1, *[1] * (values.ndim - 1))
        return mean


@dataclass(frozen=True)
class Subjects:
    """Who is attacked: members, non-members, and what was left out."""

    members: Side
    others: Side
    everything: Side
    """All frames that the run was trained on: what a copy could be of."""
    notes: tuple[str, ...]
    is_cut: bool = False
    """Whether `max_frames` left frames out."""
    num_unknown: int = 0
    """Frames of `everything` whose pixels the training has not recorded."""

    def build_units(self) -> Units:
        """Patients over both sides, members first."""
        keys = [f"{side}/{patient_of(frame)}" for side, frames in
                (("in", self.members.frames), ("out", self.others.frames))
                for frame in frames]  # fmt: skip
        names = list(dict.fromkeys(keys))
        number = {name: place for place, name in enumerate(names)}
        strata = {**name_strata(self.members.frames, "in/"),
                  **name_strata(self.others.frames, "out/")}  # fmt: skip
        known = sorted(set(strata.values()))
        return Units(
            np.array([number[key] for key in keys]),
            np.array([name.startswith("in/") for name in names]),
            np.array([known.index(strata[name]) for name in names]),
        )


def name_strata(frames: Sequence[Frame], prefix: str = "") -> dict[str, str]:
    """Source, vendor and modality of every patient, in words."""
    found: dict[str, set[str]] = {}
    for frame in frames:
        words = ", ".join(f"{name} {getattr(frame, name) or 'unknown'}" for name in _STRATUM)
        found.setdefault(prefix + patient_of(frame), set()).add(words)
    return {name: " and ".join(sorted(words)) for name, words in found.items()}
