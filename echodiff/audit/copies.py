"""Copies of training frames in a generated set: by features, and by registered pixels.

Features see near copies: the distance to the nearest training frame is held against that of unseen
real frames (`metrics.copies`). Registered pixels see frames that were cropped, shifted, compressed
or brightened: images are aligned and their grain, which no two frames share, is compared
(`metrics.likeness`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

from echodiff.audit.subjects import Side
from echodiff.data.splits import patient_of
from echodiff.images import pad_square, read_gray_u8
from echodiff.metrics.copies import NEAR_SHARE, measure_nearest, score_copies
from echodiff.metrics.faithfulness import Estimate, compute_share
from echodiff.metrics.feature_set import FeatureSet
from echodiff.metrics.features import FeatureNetwork
from echodiff.metrics.frame_features import READ_AT_ONCE
from echodiff.metrics.likeness.gallery import Match
from echodiff.metrics.likeness.nearest import RegisteredFrames
from echodiff.metrics.likeness.threshold import compute_threshold
from echodiff.metrics.resampling import build_groups
from echodiff.metrics.score import write_scores
from echodiff.progress import ProgressBar

Array = NDArray[np.float64]

PIXELS = "pixels"
"""Name of the search by registered pixels, next to those of feature networks."""
NUM_CLOSEST = 10
LEAST_RECOGNISED = 0.9
MOST_CALIBRATED = 100
"""Held-out frames whose likeness to training frames sets the limit."""


@dataclass(frozen=True)
class Reference:
    """Training frames, held-out ones, and what is a copy's distance."""

    everything: Side
    others: Side
    white_level: int | None
    networks: Sequence[FeatureNetwork]
    train: Mapping[str, FeatureSet]
    """By network."""
    held_out: Mapping[str, FeatureSet]
    gallery: RegisteredFrames
    limit: float
    """Likeness of registered pixels from which on an image is a copy."""
    num_calibrated: int
    recognised: Estimate
    """Share of training frames that are found as copies of themselves: too small or too smooth
    images have no grain, and a search without finds says nothing then."""

    @property
    def is_blind(self) -> bool:
        """Whether registered pixels cannot tell copies of these frames."""
        return self.recognised.value < LEAST_RECOGNISED

    @classmethod
    def read(
        cls,
        everything: Side,
        others: Side,
        networks: Sequence[FeatureNetwork],
        white_level: int | None,
    ) -> Reference:
        """Read both sides once; the limit is what held-out frames do not reach."""
        read = partial(read_features, networks=networks, white_level=white_level)
        train = read(everything.paths, patients=list_patients(everything), told="training frames")
        held_out = read(others.paths, patients=list_patients(others), told="held-out frames")
        gallery = RegisteredFrames(
            _read(path, white_level) for path in _told(everything.paths, "registering")
        )
        some = _spread(others.paths, MOST_CALIBRATED)
        scores = [match.score for match in find_matches(gallery, some, white_level)]
        limit = compute_threshold(scores)
        own = find_matches(gallery, _spread(everything.paths, MOST_CALIBRATED), white_level)
        recognised = compute_share(sum(one.score >= limit for one in own), len(own))
        return cls(
            everything, others, white_level, networks, train, held_out, gallery, limit, len(some),
            recognised,
        )  # fmt: skip


@dataclass(frozen=True)
class Copies:
    """What a set of images copies."""

    paths: tuple[Path, ...]
    matches: tuple[Match, ...]
    """(N,) training frame nearest in registered pixels, and its likeness."""
    limit: float
    is_copy: NDArray[np.bool_]
    """(N,) whether the likeness reaches the limit."""
    share: Estimate
    by_features: dict[str, Any]
    """Of every network: share of near images, limit, AuthPct."""
    nearest: Mapping[str, Array]
    """(N,) distance to the nearest training frame in every network."""
    recognised: Estimate
    """As of `Reference`."""

    @property
    def num_copies(self) -> int:
        return int(self.is_copy.sum())

    def list_closest(self) -> list[int]:
        """Rows of the images that are most like a training frame, first the most."""
        order = sorted(range(len(self.matches)), key=lambda row: -self.matches[row].score)
        return order[:NUM_CLOSEST]

    def list_copied(self) -> list[int]:
        """Training frames of which there is a copy."""
        return sorted({self.matches[row].place for row in np.flatnonzero(self.is_copy)})

    def to_record(self) -> dict[str, Any]:
        """Numbers without the names of files."""
        return {
            PIXELS: {
                "what": "aligned pixels: likeness of the grain to that of a training frame",
                "share": self.share.value, "low": self.share.low, "high": self.share.high,
                "n": self.share.num, "num_copies": self.num_copies,
                "num_frames_copied": len(self.list_copied()), "limit": self.limit,
                "recognised": self.recognised.value, "recognised_n": self.recognised.num,
                "highest": max((match.score for match in self.matches), default=0.0),
            },
            **self.by_features,
        }  # fmt: skip


def find_copies(images: Sequence[Path], reference: Reference, name: str) -> Copies:
    """Search images for copies of training frames."""
    measured = read_features(images, networks=reference.networks, told=name)
    matches = tuple(find_matches(reference.gallery, images, None))
    is_copy = np.array([match.score >= reference.limit for match in matches])
    by_features, nearest = {}, {}
    for network in reference.networks:
        sets = [one[network.name] for one in (measured, reference.held_out, reference.train)]
        scores, left_out = score_copies(sets[0], sets[1], sets[2], network)
        nearest[network.name], _ = measure_nearest(sets[0], sets[2])
        entry: dict[str, Any] = {"what": f"distance in the features of {network.name}"}
        for score in write_scores(scores).values():
            entry |= score
        if left_out:
            entry["left_out"] = next(iter(left_out.values()))
        else:
            entry["p"] = compute_near_p(entry["value"], len(images), len(reference.others.frames))
        entry["authentic"] = measure_authentic(reference, network.name, measured[network.name])
        by_features[network.name] = entry
    return Copies(
        tuple(images), matches, reference.limit, is_copy,
        compute_share(int(is_copy.sum()), len(images)), by_features, nearest,
        reference.recognised,
    )  # fmt: skip


def compute_near_p(share: float, num_images: int, num_real: int) -> float:
    """One-sided p of a share of near images, if images were as unseen frames are.

    The limit is itself taken from `num_real` frames, and is uncertain where these are few: how
    many of other frames are nearer than the r-th nearest of them is a beta-binomial number.
    """
    rank = int(NEAR_SHARE * (num_real - 1)) + 2  # of the first frame that is not below the limit
    near = round(share * num_images)
    return float(betabinom.sf(near - 1, num_images, rank, num_real + 1 - rank))


def measure_authentic(reference: Reference, network: str, images: FeatureSet) -> dict[str, Any]:
    """AuthPct (Alaa et al. 2022, arXiv 2102.08921): the share of images that are further from
    their nearest training frame than that one is from its own nearest.

    `real` is that of held-out frames: what images without copies have.
    """
    train = reference.train[network]
    own = np.full(len(train), np.inf)
    for row in range(len(train)):
        # Frames of one patient are near one another, and are no copies.
        rest = train.groups != train.groups[row]
        if rest.any():
            differences = train.features[rest] - train.features[row]
            own[row] = np.sqrt(np.square(differences).sum(1).min())
    shares = []
    for one in (images, reference.held_out[network]):
        distances, rows = measure_nearest(one, train)
        shares.append(compute_share(int((distances > own[rows]).sum()), len(distances)))
    return {**asdict(shares[0]), "real": shares[1].value, "real_n": shares[1].num}


def read_features(
    paths: Sequence[Path],
    *,
    networks: Sequence[FeatureNetwork],
    patients: Sequence[str | None] | None = None,
    white_level: int | None = None,
    told: str,
) -> dict[str, FeatureSet]:
    """Features of images in every network, a few images at a time.

    patients: of each image; a generated one is a patient of its own. told: for the progress bar.
    """
    parts: dict[str, list[Array]] = {network.name: [] for network in networks}
    with ProgressBar(total=len(paths), desc=f"features of {told}", unit="frame") as bar:
        for start in range(0, len(paths), READ_AT_ONCE):
            some = paths[start : start + READ_AT_ONCE]
            images = [pad_square(_read(path, white_level)) for path in some]
            for network in networks:
                parts[network.name].append(network(images))
            bar.update(len(some))
    groups = build_groups(patients or [None] * len(paths))
    return {name: FeatureSet(np.concatenate(part), groups) for name, part in parts.items()}


def list_patients(side: Side) -> list[str]:
    """The patient of every frame."""
    return [patient_of(frame) for frame in side.frames]


def find_matches(
    gallery: RegisteredFrames, images: Sequence[Path], white_level: int | None
) -> list[Match]:
    """The training frame that each image is most like in registered pixels."""
    queries = (_read(path, white_level) for path in images)
    bar = ProgressBar(total=len(images), desc="comparing", unit="image", disable=len(images) < 100)
    found = []
    with bar:
        for match in gallery.find_nearest(queries):
            found.append(match)
            bar.update()
    return found


def _read(path: Path, white_level: int | None) -> NDArray[np.uint8]:
    return read_gray_u8(path, max_value=white_level)


def _told(paths: Sequence[Path], words: str) -> ProgressBar:
    return ProgressBar(paths, desc=words, unit="frame", disable=len(paths) < 300)


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    places = np.linspace(0, len(paths) - 1, min(len(paths), count)).astype(int)
    return [paths[place] for place in places]
