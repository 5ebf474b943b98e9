"""Training callback: does the adapter show, as a set, which frames it was trained on?

The cost of a frame is the logarithm of its loss with the adapter over its loss without it, the mean
over fixed pairs of time and noise. Training frames are held against frames of `val`: the same
sources and vendors, other patients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from echodiff.data.splits import patient_of
from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.member_losses import adapter_off, draw_pairs, paired_losses
from echodiff.diffusion.trainer import DenoisingTrainer
from echodiff.errors import InputError
from echodiff.frames.rows import Frame
from echodiff.metrics.member_test import compare_members

if TYPE_CHECKING:
    from echodiff.diffusion.dataset import TrainingSet

MIN_PATIENTS = 5
"""Fewest patients of either side."""


@dataclass(frozen=True)
class Sides:
    """Rows that are compared: of the training frames, and of the held-out ones."""

    members: list[int]
    others: list[int]


class Membership:
    """Logs `membership_p` and `membership_gap`; true `is_over` once p is below --membership-stop.

    The gap is the mean cost of patients held out minus that of patients trained on, with its 95 %
    interval as `_low` and `_high`.
    """

    has_start = True

    def __init__(
        self,
        config: TrainLoraConfig,
        dataset: "TrainingSet",
        encoded: EncodedFrames,
        held_out: EncodedFrames,
        trainer: DenoisingTrainer,
    ) -> None:
        self.every, self.limit, self.seed = (
            config.membership_every, config.membership_stop, config.seed,
        )  # fmt: skip
        self.is_over = False
        self._batch_size = max(config.batch_size, 4)
        self._objective, self._predict = trainer.objective, trainer.predict
        others = dataset.watched[: len(held_out)]
        sides = choose_sides(dataset.train, others, config.membership_frames, seed=config.seed)
        self._parts = [(encoded, sides.members), (held_out, sides.others)]
        frames = [*(dataset.train[row] for row in sides.members),
                  *(others[row] for row in sides.others)]  # fmt: skip
        self._patients = [patient_of(frame) for frame in frames]
        self._strata = {patient_of(frame): _stratum(frame) for frame in frames}
        self._members = {patient_of(dataset.train[row]) for row in sides.members}
        self._pairs = draw_pairs(
            self._objective, config.membership_pairs, encoded.latent_mean.shape[1:],
            seed=config.seed,
        )  # fmt: skip
        with trainer.averaged() as network, adapter_off(network):
            self._without = self._measure(network)

    def to_record(self) -> dict[str, Any]:
        """What the numbers are to be read with."""
        num_members = len(self._members)
        return {
            "num_members": num_members,
            "num_others": len(self._strata) - num_members,
            "num_frames": len(self._patients),
            "num_pairs": len(self._pairs[0]),
            "stop": self.limit,
        }

    def __call__(self, network: torch.nn.Module, step: int) -> Mapping[str, float]:
        """Test the frames of `network` in its current state."""
        ratios = (self._measure(network) / self._without).log().mean(dim=1).double().numpy()
        costs = {
            patient: float(np.mean(ratios[[one == patient for one in self._patients]]))
            for patient in self._strata
        }
        test = compare_members(
            np.array(list(costs.values())),
            np.array([patient in self._members for patient in costs]),
            list(self._strata.values()),
            seed=self.seed,
        )
        self.is_over = self.limit is not None and test.p < self.limit
        return {
            "membership_p": test.p,
            "membership_gap": test.gap,
            "membership_gap_low": test.low,
            "membership_gap_high": test.high,
        }

    def _measure(self, network: torch.nn.Module) -> torch.Tensor:
        """Losses (frames, pairs) of both sides, members first."""
        times, noise = self._pairs
        return torch.cat(
            [
                paired_losses(
                    network, encoded.latent_mean[rows], encoded.embeddings, times, noise,
                    objective=self._objective, predict=self._predict,
                    caption_index=encoded.caption_index[rows], batch_size=self._batch_size,
                )
                for encoded, rows in self._parts
            ]
        )  # fmt: skip


def choose_sides(train: Sequence[Frame], others: Sequence[Frame], most: int, *, seed: int) -> Sides:
    """Choose at most `most` frames of either side that can be compared.

    All with a caption, or, where a side has too few of these, all without: what an adapter does to
    a caption it was trained on tells nothing of a frame. Only sources and vendors that both sides
    have. InputError where fewer than MIN_PATIENTS patients are left.
    """
    found = [_rows_alike(train, others, is_captioned) for is_captioned in (True, False)]
    (members, rest), num = max(
        ((sides, _fewest_patients(train, others, sides)) for sides in found), key=lambda it: it[1]
    )
    if num < MIN_PATIENTS:
        raise InputError(
            f"--membership-every: needs {MIN_PATIENTS} patients trained on and as many of val, of "
            f"the same source and vendor and both with or both without captions; there are {num}"
        )
    generator = np.random.default_rng(seed)
    return Sides(*(
        sorted(generator.permutation(rows)[:most].tolist()) for rows in (members, rest)
    ))  # fmt: skip


def _rows_alike(
    train: Sequence[Frame], others: Sequence[Frame], is_captioned: bool
) -> tuple[list[int], list[int]]:
    sides = [
        [row for row, frame in enumerate(frames) if bool(frame.text) == is_captioned]
        for frames in (train, others)
    ]
    shared = {_stratum(train[row]) for row in sides[0]} & {
        _stratum(others[row]) for row in sides[1]
    }
    return (
        [row for row in sides[0] if _stratum(train[row]) in shared],
        [row for row in sides[1] if _stratum(others[row]) in shared],
    )


def _fewest_patients(
    train: Sequence[Frame], others: Sequence[Frame], sides: tuple[list[int], list[int]]
) -> int:
    return min(
        len({patient_of(frames[row]) for row in rows})
        for frames, rows in zip((train, others), sides, strict=True)
    )


def _stratum(frame: Frame) -> tuple[str | None, str | None]:
    return frame.source, frame.vendor
