"""Frames that look like ultrasound fans to a hash, in milliseconds: no heart is in them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage


def draw_fan(generator: np.random.Generator, size: int, *, softness: float = 2.0) -> np.ndarray:
    """A fan (size, size) uint8 with smooth random tissue, black outside."""
    y, x = np.mgrid[:size, :size] / size
    reach = np.hypot(x - 0.5, y)
    inside = (reach < 0.95) & (reach > 0.02) & (np.abs(np.arctan2(x - 0.5, y)) < 0.7)
    tissue = ndimage.gaussian_filter(generator.normal(size=(size, size)), softness)
    tissue += 0.6 * ndimage.zoom(generator.normal(size=(8, 8)), size / 8, order=1) * tissue.std()
    levels = 90 + 40 * tissue / tissue.std()
    return np.where(inside, levels.clip(12, 255), 0).astype(np.uint8)


def write_fans(
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    size: int = 96,
    softness: float = 2.0,
    patient: str | None = "p{seed}-{index}",
    suffix: str = ".png",
    **columns: Any,
) -> Path:
    """A frames folder of fans; `columns` hold a value, or a list of one value per frame."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(count):
        generator = np.random.default_rng([seed, index])
        name = f"images/{index:04d}{suffix}"
        Image.fromarray(draw_fan(generator, size, softness=softness)).save(folder / name)
        row = {"file_name": name, "text": f"four chamber view {index}"}
        if patient is not None:
            row["patient_id"] = patient.format(seed=seed, index=index)
        for key, value in columns.items():
            row[key] = value[index] if isinstance(value, list) else value
        rows.append(row)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return folder
