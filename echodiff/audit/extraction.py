"""Extraction: can the weights be made to give training frames back?

Many images are drawn for each training caption, with its mask where the weights obey masks. Images
of one caption that are nearly the same are the sign of a frame learned by heart (Carlini et al.
2023, arXiv 2301.13188); the nearest training frame then shows whose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echodiff.audit.audit_config import AuditConfig
from echodiff.audit.copies import Reference
from echodiff.audit.networks import DiffusionWeights
from echodiff.audit.subjects import Side
from echodiff.diffusion.sampling.mask_control import MaskControl
from echodiff.diffusion.sampling.sampler import Sampler
from echodiff.metrics.faithfulness import Estimate, compute_share
from echodiff.metrics.likeness.nearest import compare_all
from echodiff.progress import ProgressBar

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Attempt:
    """The images of one caption."""

    image_u8: Image
    """(H, W) the one that is most like a training frame."""
    likeness: float
    place: int
    """That training frame."""
    num_alike: int
    """Largest group of images that are nearly the same."""
    copied: tuple[int, ...]
    """Of each image that is a copy, its training frame."""
    num_images: int


@dataclass(frozen=True)
class Extraction:
    """What all captions together gave back."""

    attempts: tuple[Attempt, ...]
    limit: float
    share: Estimate
    """Images that are copies of a training frame."""

    @property
    def num_extracted(self) -> int:
        """Training frames that came back."""
        return len({place for one in self.attempts for place in one.copied})

    @property
    def num_clustered(self) -> int:
        """Captions of which half of the images or more are nearly the same."""
        return sum(
            one.num_alike > 1 and 2 * one.num_alike >= one.num_images for one in self.attempts
        )

    @property
    def strongest(self) -> list[Attempt]:
        """Attempts in order of likeness, the highest first."""
        return sorted(self.attempts, key=lambda one: -one.likeness)

    def to_record(self) -> dict[str, Any]:
        """Numbers without captions."""
        return {
            "what": "images generated for training captions: likeness of the grain",
            "share": self.share.value, "low": self.share.low, "high": self.share.high,
            "n": self.share.num, "num_captions": len(self.attempts),
            "num_frames_extracted": self.num_extracted,
            "num_captions_clustered": self.num_clustered,
            "highest": self.strongest[0].likeness, "limit": self.limit,
        }  # fmt: skip


def extract(
    config: AuditConfig, weights: DiffusionWeights, members: Side, reference: Reference
) -> Extraction:
    """Draw `config.attempts` images for each of the first training captions, and search them.

    Where the weights obey masks, for each of the first training frames: their masks differ.
    """
    frames = members.frames
    if weights.masked is None:
        frames = list({frame.text: frame for frame in reversed(frames)}.values())[::-1]
    chosen = Side(members.folder, frames[: config.captions])
    attempts = []
    with ProgressBar(total=len(chosen.frames), desc="extracting", unit="caption") as bar:
        for images in draw_captions(config, weights, chosen, config.attempts):
            attempts.append(_search(images, reference))
            bar.update()
    num_copies = sum(len(one.copied) for one in attempts)
    total = sum(one.num_images for one in attempts)
    return Extraction(tuple(attempts), reference.limit, compute_share(num_copies, total))


def draw_captions(
    config: AuditConfig, weights: DiffusionWeights, side: Side, count: int
) -> Iterator[list[Image]]:
    """Yield `count` images of each frame's caption, by the weights as they are now."""
    control = None
    if weights.masked is not None:
        masks = weights.masks(side)(side.frames)
        control = MaskControl(weights.masked, lambda index, side: masks[index // count])
    sampler = Sampler(
        weights.pipeline,
        [frame.text for frame in side.frames for _ in range(count)],
        seed=config.seed,
        steps=config.sample_steps,
        guidance=config.sample_guidance,
        scheduler="dpmpp",
        resolution=weights.resolution,
        control=control,
    )
    for number in range(len(side.frames)):
        own = range(number * count, (number + 1) * count)
        images = []
        for start in range(0, count, config.batch_size):
            images += [image for _, image in sampler.sample(own[start : start + config.batch_size])]
        yield images


def _search(images: Sequence[Image], reference: Reference) -> Attempt:
    matches = list(reference.gallery.find_nearest(images))
    best = max(range(len(matches)), key=lambda row: matches[row].score)
    return Attempt(
        images[best], matches[best].score, matches[best].place,
        _count_alike(images, reference.limit),
        tuple(match.place for match in matches if match.score >= reference.limit), len(images),
    )  # fmt: skip


def _count_alike(images: Sequence[Image], limit: float) -> int:
    """Size of the largest group in which every image is nearly the same as another."""
    is_alike = compare_all(images) >= limit
    left, largest = set(range(len(images))), 0
    while left:
        group, queue = set(), [left.pop()]
        while queue:
            one = queue.pop()
            group.add(one)
            near = {other for other in left if is_alike[one, other]}
            left -= near
            queue += near
        largest = max(largest, len(group))
    return largest
