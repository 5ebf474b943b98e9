"""Scores against one set of real frames, time after time: what a training writes to its curves."""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echodiff.data.splits import known_patient
from echodiff.errors import InputError
from echodiff.frames.rows import Frame
from echodiff.images import pad_square, read_gray_u8
from echodiff.metrics.feature_set import FeatureSet
from echodiff.metrics.features import FeatureNetwork
from echodiff.metrics.frame_features import load_networks
from echodiff.metrics.intact import Anatomy, judge_frames, score_anatomy
from echodiff.metrics.resampling import build_groups
from echodiff.metrics.scores import MIN_FRAMES, score_sets

logger = logging.getLogger(__name__)

MAX_FRAMES = 1000
"""Real frames compared with; of more, so many are drawn: a scoring stays a matter of seconds."""
READ_AT_ONCE = 64
SEED = 0
"""Seed of the draws behind intervals and baselines; that of `echodiff evaluate`."""
_PARTS = {"value": "", "low": "_low", "high": "_high", "floor": "_floor"}


def open_networks(
    names: Sequence[str], *, trust: bool = False, modules: Path | None = None
) -> tuple[FeatureNetwork, ...]:
    """Open the networks of `--evaluate-features`, which an InputError then names."""
    try:
        return load_networks(names, trust=trust, modules=modules).opened
    except InputError as error:
        raise InputError(str(error).replace("--features", "--evaluate-features")) from error


def open_held_out(
    networks: Sequence[FeatureNetwork],
    folder: Path,
    frames: Sequence[Frame],
    max_value: int | None = None,
) -> "HeldOutScores | None":
    """`HeldOutScores`; None without networks, and with a warning where the frames are too few."""
    if not networks:
        return None
    if len(frames) < MIN_FRAMES:
        logger.warning(
            "--evaluate-every: scores need %d held-out frames, there are %d: going on without",
            MIN_FRAMES,
            len(frames),
        )
        return None
    return HeldOutScores(networks, folder, frames, max_value)


class HeldOutScores:
    """MMD^2 and KID of image sets against the same real frames, whose features are taken once.

    Frechet distances are left out: at the few dozen images of a look they are nearly all bias.
    """

    def __init__(
        self,
        networks: Sequence[FeatureNetwork],
        folder: Path,
        frames: Sequence[Frame],
        max_value: int | None = None,
    ) -> None:
        """`frames` of `folder`; `max_value` is the white of files of more than 8 bits."""
        order = np.random.default_rng(SEED).permutation(len(frames))[:MAX_FRAMES]
        self.frames = [frames[index] for index in sorted(order)]
        self.networks, self.folder, self.max_value = tuple(networks), folder, max_value
        self._said: set[str] = set()

    def to_record(self) -> dict[str, Any]:
        """What the numbers are to be read with."""
        return {
            "n_reference": len(self.frames),
            "features": {
                network.name: {"sha256": network.sha256, "resize": network.resize}
                for network in self.networks
            },
        }

    def __call__(
        self, images_u8: Sequence[NDArray[np.uint8]], prompts: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Values by name: `mmd_tiny`, `mmd_tiny_low`, `mmd_tiny_high`, `mmd_tiny_floor`, `kid_...`.

        images_u8: grey squares, no two of one patient. prompts: of each image; with them there are
        `intact`, `intact_low`, `intact_high`, `intact_real` too. KID is times a thousand, as
        everywhere. What cannot be had, such as an interval over three patients, is left out.
        """
        groups = build_groups([None] * len(images_u8))
        row = {} if prompts is None else self._score_anatomy(images_u8, prompts)
        for network in self.networks:
            generated = FeatureSet(network(images_u8), groups)
            scores, left_out = score_sets(
                generated, self._reference[network.name], network, seed=SEED
            )
            for name in (f"mmd_{network.name}", f"kid_{network.name}"):
                score = scores.get(name)
                row |= {
                    name + suffix: float(getattr(score, part))
                    for part, suffix in _PARTS.items()
                    if getattr(score, part, None) is not None
                }
                if name in left_out and name not in self._said:
                    logger.warning("%s is left out: %s", name, left_out[name])
                    self._said.add(name)
        return row

    def _score_anatomy(
        self, images_u8: Sequence[NDArray[np.uint8]], prompts: Sequence[str]
    ) -> dict[str, float]:
        rows = [Frame(file_name="", text=text, prompt=text) for text in prompts]
        segmenter = self._anatomy.source
        generated = Anatomy(tuple(judge_frames(images_u8, rows, segmenter)), segmenter)
        scores, left_out, _ = score_anatomy(generated, self._anatomy)
        for name, reason in left_out.items():
            if name not in self._said:
                logger.warning("%s is left out: %s", name, reason)
                self._said.add(name)
        if (score := scores.get("intact")) is None:
            return {}
        parts = {"": score.value, "_low": score.low, "_high": score.high, "_real": score.real}
        return {f"intact{part}": float(end) for part, end in parts.items() if end is not None}

    @cached_property
    def _anatomy(self) -> Anatomy:
        from echodiff.metrics.segmenter import load_segmenter  # imports torch

        segmenter, judged = load_segmenter(), []
        for start in range(0, len(self.frames), READ_AT_ONCE):
            frames = self.frames[start : start + READ_AT_ONCE]
            judged += judge_frames(self._read(frames), frames, segmenter)
        return Anatomy(tuple(judged), segmenter)

    def _read(self, frames: Sequence[Frame]) -> list[NDArray[np.uint8]]:
        """As `frame_features.measure_frames` reads them: a final evaluation gives the same."""
        return [
            pad_square(read_gray_u8(self.folder / frame.file_name, max_value=self.max_value))
            for frame in frames
        ]

    @cached_property
    def _reference(self) -> dict[str, FeatureSet]:
        parts: dict[str, list[NDArray[np.float64]]] = {
            network.name: [] for network in self.networks
        }
        for start in range(0, len(self.frames), READ_AT_ONCE):
            images = self._read(self.frames[start : start + READ_AT_ONCE])
            for network in self.networks:
                parts[network.name].append(network(images))
        groups = build_groups([known_patient(frame) for frame in self.frames])
        return {name: FeatureSet(np.concatenate(part), groups) for name, part in parts.items()}
