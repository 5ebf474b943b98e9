"""Frames of speckle: every one has its own grain, as recorded frames have."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter


def draw_speckle(seed: int, size: int = 64) -> np.ndarray:
    """A dim heart of Rayleigh speckle, (size, size) uint8."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    speckle = gaussian_filter(np.hypot(*generator.normal(size=(2, size, size))), 1.2)
    speckle = (speckle - speckle.mean()) / speckle.std()
    wall = np.exp(-(((np.hypot(x, y) - 0.25 - 0.05 * generator.random()) / 0.08) ** 2))
    image = 60 + 90 * wall + (14 + 22 * wall) * speckle
    return image.clip(0, 255).astype(np.uint8)


def write_speckle(
    folder: Path, *, train: int, test: int, size: int = 64, seed: int = 0, **columns: object
) -> Path:
    """A frames folder with a patient a frame, of one source and vendor."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for index in range(train + test):
        name = f"images/{index:04d}.png"
        Image.fromarray(draw_speckle(seed + index, size)).save(folder / name)
        rows.append({
            "file_name": name, "text": f"four chamber view , ASD , child {index}",
            "patient_id": f"p{seed + index}", "split": "train" if index < train else "test",
            "source": "toys", "vendor": "oak", **columns,
        })  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def speckle() -> Callable[..., Path]:
    """`speckle(folder, train=.., test=.., seed=0, vendor=..)` writes a frames folder."""
    return write_speckle


@pytest.fixture(scope="session")
def draw() -> Callable[..., np.ndarray]:
    """`draw(seed, size=64)`: one frame."""
    return draw_speckle
