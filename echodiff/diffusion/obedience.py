"""Training callback that holds asked-for masks against the masks read from drawn images."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label
from echodiff.diffusion.callbacks import draw_captions
from echodiff.diffusion.condition import FrameMasks
from echodiff.diffusion.controlnet_config import TrainControlNetConfig
from echodiff.diffusion.dataset import choose_held_out
from echodiff.diffusion.encoding import read_image_pm1
from echodiff.frames.rows import Frame
from echodiff.images import from_pm1, resize_mask
from echodiff.report.mask_curve import OBEDIENCE

if TYPE_CHECKING:
    from echodiff.diffusion.dataset import TrainingSet

SMALLEST = 0.01
"""Mean share of the pixels from which a label counts: of valves and thin walls Dice says little."""
ReadMasks = Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.uint8]]
"""Grey square images (H, W) to `Label` values (N, S, S): a segmenter."""


class Obedience:
    """Draws images for held-out masks, reads their masks, and returns the mean Dice.

    `drawn_dice_real` is that of the real frames and their own masks, and `drawn_dice_other` that of
    the real frames and masks of other patients: what can be had, and what is had without obeying.
    """

    has_start = True

    def __init__(
        self,
        config: TrainControlNetConfig,
        dataset: "TrainingSet",
        masks: FrameMasks,
        read: ReadMasks,
        known: Sequence[Label],
    ) -> None:
        """read: the segmenter; known: labels that it tells apart."""
        frames = choose_held_out(dataset.val or dataset.train, config.obedience_images, config.seed)
        self.config, self.read, self.resolution = config, read, masks.resolution
        self.every = config.obedience_every
        self.captions = [frame.text for frame in frames]
        self.masks = masks(frames)
        self.asked = masks.channels.label(self.masks)
        self.labels = [
            label
            for label in masks.channels.labels[1:]
            if label in known and (self.asked == label).mean() >= SMALLEST
        ]
        real_u8 = [
            from_pm1(
                read_image_pm1(dataset.folder / frame.file_name, self.resolution, dataset.max_value)
            )[0]
            for frame in frames
        ]
        found = self.read(real_u8)
        own, other = self.asked, self.asked[_choose_others(frames)]
        self.baselines = {
            f"{OBEDIENCE}_real": self._score(own, found),
            f"{OBEDIENCE}_other": self._score(other, found),
        }

    def __call__(self, network: Any, step: int) -> Mapping[str, float]:
        """Return the Dice of the current `network`, next to its two baselines."""
        images = draw_captions(
            self.config, network, self.captions, len(self.captions), self.resolution, self.masks
        )
        return {OBEDIENCE: self._score(self.asked, self.read(images))} | self.baselines

    def _score(self, asked: NDArray[np.uint8], found: NDArray[np.uint8]) -> float:
        size = found.shape[1], found.shape[2]
        resized = np.stack([resize_mask(mask, size) for mask in asked])
        return compute_dice(resized, found, self.labels)


def compute_dice(
    asked: NDArray[np.uint8], found: NDArray[np.uint8], labels: Sequence[Label]
) -> float:
    """Mean Dice of masks (N, S, S) over the labels, of each over the masks that ask for it.

    NaN where none of them is asked for.
    """
    scores = []
    for label in labels:
        first, second = asked == label, found == label
        sizes = first.sum(axis=(1, 2)), second.sum(axis=(1, 2))
        is_asked = sizes[0] > 0
        if is_asked.any():
            common = (first & second).sum(axis=(1, 2))[is_asked]
            scores.append(float(np.mean(2 * common / (sizes[0] + sizes[1])[is_asked])))
    return float(np.mean(scores)) if scores else float("nan")


def _choose_others(frames: Sequence[Frame]) -> list[int]:
    """For each frame the next one of another patient; itself if all are of one patient."""
    names = [frame.patient_id or frame.file_name for frame in frames]
    count = len(frames)
    return [
        next((j % count for j in range(i, i + count) if names[j % count] != names[i]), i)
        for i in range(count)
    ]
