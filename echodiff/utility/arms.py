"""The arms of a comparison: which frames each network is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from echodiff.data.splits import patient_of
from echodiff.frames.rows import Frame
from echodiff.training.streams import Stream, build_stream
from echodiff.utility.utility_config import UtilityConfig

ALL = 100
"""Percentage of all real patients."""


@dataclass(frozen=True)
class Arm:
    """One arm; a training of it is a function of the arm and of a seed."""

    share: int
    """Percentage of the real patients; 0 for none."""
    synthetic: str = ""
    """Set of synthetic frames; empty for none."""
    ratio: int | None = None
    """Synthetic frames per real frame; None for all of the set."""
    is_classical: bool = False
    """Whether it has classical augmentation instead of that of all arms."""

    @property
    def name(self) -> str:
        """`real`, `real-25`, `real-25+lora`, `real+lora-1:2`, `lora`, `real-classical`."""
        real = "" if not self.share else "real" if self.share == ALL else f"real-{self.share}"
        ratio = "" if self.ratio is None else f"-1:{self.ratio}"
        synthetic = f"{self.synthetic}{ratio}" if self.synthetic else ""
        name = "+".join(part for part in (real, synthetic) if part)
        return f"{name}-classical" if self.is_classical else name


def list_arms(config: UtilityConfig, sets: Sequence[str]) -> list[Arm]:
    """List the arms of `config`; all real frames are always among them, as the baseline."""
    shares = sorted(config.shares) if "shares" in config.arms else []
    arms = [Arm(share) for share in sorted({*shares, ALL})]
    if "classical" in config.arms:
        arms.append(Arm(ALL, is_classical=True))
    for name in sets:
        if "synthetic" in config.arms:
            arms.append(Arm(0, name))
        arms += [Arm(share, name) for share in shares]
        if "ratios" in config.arms:
            arms += [Arm(ALL, name, ratio) for ratio in sorted(config.ratios)]
    return arms


def choose_rows(
    arm: Arm, real: Sequence[Frame], num_synthetic: int, seed: int
) -> tuple[list[int], list[int]]:
    """Rows of the real and of the synthetic frames that an arm is trained on, both ascending.

    Patients are drawn whole: those of 10 % are among those of 25 %, and are the same with and
    without synthetic frames. Of synthetic frames, too, fewer are among more.
    """
    patients = sorted({patient_of(frame) for frame in real})
    stream = build_stream(seed, Stream.ORDER, 0)
    order = [patients[place] for place in stream.permutation(len(patients))]
    kept = {*order[: max(1, round(arm.share / 100 * len(order)))]} if arm.share else set()
    rows = [row for row, frame in enumerate(real) if patient_of(frame) in kept]
    if not arm.synthetic:
        return rows, []
    if arm.ratio is None:
        return rows, [*range(num_synthetic)]
    drawn = build_stream(seed, Stream.ORDER, 1).permutation(num_synthetic)
    return rows, np.sort(drawn[: arm.ratio * len(real)]).tolist()
