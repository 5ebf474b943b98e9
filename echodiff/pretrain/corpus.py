"""Phantom frames for pretraining: rendered once, kept as arrays in shards, resumable."""

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

from echodiff.anatomy import Label, View
from echodiff.captions.clinical import write_unchanged
from echodiff.files import write_text_atomic
from echodiff.phantom.acquisition import Population, render, sample_acquisition
from echodiff.phantom.slices import sector_mask, slice_image
from echodiff.phantom.styles import RANDOM
from echodiff.progress import ProgressBar

SIZE = 128
SHARD = 500
TOLD_SHARE = 0.35
"""Chance that a part of the heart that is as it should be is told so: a part left out is mostly
well all the same, and only hints at a finding."""

POPULATIONS: dict[str, Population] = {
    # The base knows two scanners. Its captions tell what is as it should be; a heart with a finding
    # is in it (each finding in a few per cent of the frames), never its name.
    "base": Population(
        styles=("aspen", "birch"), finding_rate=0.4, views=(View.A4C,) * 11 + (View.A2C,)
    ),
    # What the VAE sees besides: no scanner twice, so that it draws the grain of any.
    "scanners": Population(styles=(RANDOM,), finding_rate=0.4),
    # The feature network must tell everything apart.
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
WITH_LABELS = ("segmenter",)
"""Populations whose labels are kept beside the images."""


@dataclass(frozen=True)
class Corpus:
    """Frames (N, 128, 128) uint8 and one row of facts for each; `text` names no finding."""

    images_u8: NDArray[np.uint8]
    rows: list[dict[str, Any]]
    labels: NDArray[np.uint8] | None = None
    """(N, 128, 128) `Label` values, of the populations in `WITH_LABELS`."""


def build_corpus(folder: Path, name: str, num: int, seed: int, workers: int) -> Corpus:
    """Render `num` frames of a population into `folder`, or read them where they are there
    already."""
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
                "text": write_unchanged(heart, view, words, TOLD_SHARE),
                "findings": [str(finding) for finding in heart.findings],
                "view": str(view),
                "phase": str(heart.phase),
                "style": acquisition.echo.style,
            },
        )
