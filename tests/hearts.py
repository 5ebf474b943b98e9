"""Small hearts: ellipses whose grey levels tell a network which label they are."""

from pathlib import Path

import numpy as np

from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter

SIDE = 32
GREY_LEVELS = {1: 200, 2: 110, 3: 60}
"""Of LV, its wall and LA: a network learns in a few steps which is which."""


def draw_heart(rng, *, es=False, side=SIDE):
    """An image and its mask: a ventricle in its wall over an atrium."""
    y, x = np.mgrid[:side, :side] / side
    left, top = rng.uniform(0.35, 0.65), rng.uniform(0.3, 0.45)
    size = rng.uniform(0.85, 1.15) * (0.75 if es else 1.0)
    mask = np.zeros((side, side), np.uint8)
    mask[((x - left) / 0.22) ** 2 + ((y - top) / 0.26) ** 2 < size] = 2
    mask[((x - left) / 0.14) ** 2 + ((y - top) / 0.18) ** 2 < size] = 1
    mask[((x - left) / 0.15) ** 2 + ((y - top - 0.38) / 0.12) ** 2 < 1] = 3
    image = np.full((side, side), 15.0)
    for label, level in GREY_LEVELS.items():
        image[mask == label] = level
    image += 8 * rng.standard_normal(image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), mask


def write_hearts(
    out: Path, num: int, *, seed=0, first=0, per_patient=2, obeys=True, without=(), **columns
) -> Path:
    """`num` frames, ED and ES of each patient; without `obeys` the mask is another heart's."""
    rng = np.random.default_rng(seed)
    with FramesWriter(out) as writer:
        for index in range(num):
            patient, phase = divmod(index, per_patient)
            image, mask = draw_heart(rng, es=phase == 1)
            if not obeys:
                mask = draw_heart(rng, es=phase == 1)[1]
            mask[np.isin(mask, without)] = 0
            row = {
                "patient_id": f"p{first + patient}", "view": "A4C",
                "phase": "ES" if phase == 1 else "ED", "spacing_mm": 0.5,
            } | {
                name: value[index % len(value)] if isinstance(value, list) else value
                for name, value in columns.items()
            }  # fmt: skip
            writer.add(Frame(file_name=f"{index:04d}.png", text="", **row), image, mask)
    return out
