"""Render the phantom frames for pretraining once, and store them as arrays in shards."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Finding, Label, View
from echodiff.captions.clinical import write_unchanged
from echodiff.files import write_text_atomic
from echodiff.phantom.acquisition import VISIBLE, Population, render, sample_acquisition
from echodiff.phantom.slices import sector_mask, slice_image
from echodiff.phantom.styles import RANDOM
from echodiff.progress import ProgressBar

SIZE = 128
SHARD = 500
MENTIONED_SHARE = 0.35
"""Probability that the caption mentions a normal part of the heart. Most parts that it does not
mention are normal as well, so an omission only hints at a finding."""

POPULATIONS: dict[str, Population] = {
    # Two scanners. Each finding is in a few per cent of the frames (dilated atria, which accompany
    # others, in up to a fifth), but captions mention only normal parts and never name a finding.
    "base": Population(
        styles=("aspen", "birch"), finding_rate=0.4, views=(View.A4C,) * 11 + (View.A2C,)
    ),
    # Each patient with another scanner: speckle of all kinds for the VAE, and for the UNet a heart
    # that does not depend on the scanner.
    "scanners": Population(styles=(RANDOM,), finding_rate=0.4),
    # For the feature network, which must recognise all findings and styles: each finding is in at
    # least one of 25 frames.
    "features": Population(
        styles=("aspen", "birch", "cedar"), finding_rate=0.75, views=(View.A4C,) * 7 + (View.A2C,)
    ),
    # The segmenter must read any scanner's frames, every finding among them.
    "segmenter": Population(
        styles=("aspen", "birch", "cedar", RANDOM, RANDOM),
        finding_rate=0.5,
        views=(View.A4C,) * 3 + (View.A2C,),
    ),
}
FINDINGS = tuple(
    finding
    for finding in Finding
    if any(finding in VISIBLE[view] for view in POPULATIONS["features"].views)
)
"""Findings that the feature network learns, in the order of its outputs."""
WITH_LABELS = ("segmenter",)
"""Populations whose labels are kept beside the images."""


@dataclass(frozen=True)
class Corpus:
    """Frames (N, 128, 128) uint8 with one row of facts each; `text` names no finding."""

    images_u8: NDArray[np.uint8]
    rows: list[dict[str, Any]]
    labels: NDArray[np.uint8] | None = None
    """(N, 128, 128) `Label` values, of the populations in `WITH_LABELS`."""


def build_corpus(folder: Path, name: str, num: int, seed: int, workers: int) -> Corpus:
    """Render `num` frames of a population into `folder`; shards that exist are read instead."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = [
        (folder, name, start, min(start + SHARD, num), seed) for start in range(0, num, SHARD)
    ]
    with ProcessPoolExecutor(workers) as pool:
        paths = list(
            ProgressBar(pool.map(_render_shard, shards), total=len(shards), desc=f"{name} frames")
        )
    images = np.concatenate([np.load(path) for path in paths])
    tables = [path.with_suffix(".json").read_text("utf-8") for path in paths]
    rows = [row for table in tables for row in json.loads(table)]
    labels = None
    if name in WITH_LABELS:
        labels = np.concatenate([np.load(_labels_beside(path)) for path in paths])
    return Corpus(images, rows, labels)


def _labels_beside(shard: Path) -> Path:
    return shard.with_name(f"labels-{shard.name}")


def _render_shard(job: tuple[Path, str, int, int, int]) -> Path:
    folder, name, start, stop, seed = job
    path = folder / f"{name}-{seed}-{start:06d}-{stop:06d}.npy"
    if path.exists():
        return path
    images, rows = zip(*_frames(name, start, stop, seed), strict=True)
    write_text_atomic(path.with_suffix(".json"), json.dumps(rows))
    if name in WITH_LABELS:
        labels = [_render_labels(name, index, seed) for index in range(start, stop)]
        _save(_labels_beside(path), np.stack(labels))
    _save(path, np.stack(images))
    return path


def _save(path: Path, array: NDArray[np.uint8]) -> None:
    beside = path.with_suffix(".tmp")
    with beside.open("wb") as file:
        np.save(file, array)
    os.replace(beside, path)


def _render_labels(name: str, index: int, seed: int) -> NDArray[np.uint8]:
    pose = (acquisition := sample_acquisition(seed, index, POPULATIONS[name])).pose
    anatomy, _ = slice_image(acquisition.heart, pose, SIZE)
    return np.where(sector_mask(pose, SIZE), anatomy.labels, Label.BACKGROUND).astype(np.uint8)


def _frames(
    name: str, start: int, stop: int, seed: int
) -> Iterator[tuple[NDArray[np.uint8], dict[str, Any]]]:
    for index in range(start, stop):
        acquisition = sample_acquisition(seed, index, POPULATIONS[name])
        heart, view = acquisition.heart, acquisition.pose.view
        words = np.random.default_rng([seed, 3, index])
        yield (
            render(acquisition, "echo", SIZE),
            {
                "text": write_unchanged(heart, view, words, MENTIONED_SHARE),
                "findings": [str(finding.name) for finding in heart.findings],
                "view": str(view),
                "phase": str(heart.phase),
                "style": acquisition.echo.style,
            },
        )
