"""Toy frames with masks: discs of three labels, whose places the images show."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from echodiff.images import write_mask

LABELS = (1, 2, 3)
"""LV, its wall and LA."""


def draw_mask(index: int, size: int) -> np.ndarray:
    """Discs of LV in its wall above LA, at a place of their own for each index."""
    y, x = np.mgrid[:size, :size] / size
    row, column = 0.35 + 0.03 * (index % 4), 0.4 + 0.05 * (index % 5)
    mask = np.zeros((size, size), np.uint8)
    mask[(y - row - 0.4) ** 2 + (x - column) ** 2 < 0.02] = 3
    mask[(y - row) ** 2 + (x - column) ** 2 < 0.06] = 2
    mask[(y - row) ** 2 + (x - column) ** 2 < 0.03] = 1
    return mask


def write_masked_frames(
    folder: Path, *, num: int = 12, size: int = 32, num_patients: int = 6
) -> Path:
    """A frames folder whose images show their masks; every other row has a caption."""
    rng = np.random.default_rng(0)
    greys = np.array([20, 60, 200, 110], np.uint8)
    rows = []
    for index in range(num):
        mask = draw_mask(index, size)
        image = greys[mask].astype(float) + rng.normal(0, 8, mask.shape)
        name = f"{index:04d}.png"
        write_mask(folder / "masks" / name, mask)
        (folder / "images").mkdir(exist_ok=True)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "images" / name)
        rows.append({
            "file_name": f"images/{name}",
            "mask_file_name": f"masks/{name}",
            "text": f"four chamber view , ASD , child {index}" if index % 2 else "",
            "patient_id": f"p{index % num_patients}",
            "view": "A4C",
            "split": ("train", "train", "train", "val", "train", "test")[index % 6],
        })  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return folder
