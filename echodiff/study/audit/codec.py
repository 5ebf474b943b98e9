"""Traces of JPEG in the pixels of an image: which quality, on which grid, how often.

All images of a study went through one round trip, so that their coefficients lie on one lattice.
An image that was swapped in, or saved once more, lies on another one.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from echodiff.study.audit.detection import Value

BLOCK = 8
QUALITIES = (30, 40, 50, 60, 70, 80)
"""Qualities of an earlier JPEG that are tried."""
_MIN_STEP = 5
"""Smallest step of a lattice whose points rounding to 8 bits does not blur."""
_TOLERANCE = 1.0
_MIN_COEFFICIENTS = 30
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
"""Luminance table of ITU-T T.81, Annex K.1, row by row."""

NOISE = {"own lattice": 0.05, "grid step": 0.1, **{f"lattice {q}": 0.1 for q in QUALITIES}}
"""Resolution of each measurement: smoothness of the tissue moves them by less."""


def measure_codec(image_u8: NDArray[np.uint8], quality: int) -> dict[str, Value]:
    """Traces of JPEG in an image (H, W) that went through a round trip of `quality`.

    own lattice: share of its coefficients on the lattice of that quality. lattice Q: the same of
    coarser ones. own grid: whether no shifted grid fits better. grid step: jump of grey levels
    at the strongest other grid of 8 pixels, over the mean jump.
    """
    coefficients = list_coefficients(image_u8)
    own = share_on_lattice(coefficients, quality)
    traces: dict[str, Value] = {"own lattice": own}
    if own is not None and own < 0.8:
        shifted = (
            share_on_lattice(list_coefficients(image_u8[dy:, dx:]), quality)
            for dy in range(BLOCK) for dx in range(BLOCK) if dy or dx
        )  # fmt: skip
        traces["own grid"] = float(max((s for s in shifted if s is not None), default=0) <= own)
    else:
        traces["own grid"] = 1.0
    for other in QUALITIES:
        if other < quality:
            traces[f"lattice {other}"] = share_on_lattice(coefficients, other)
    traces["grid step"] = measure_grid(image_u8)
    return traces


def list_coefficients(image_u8: NDArray[np.uint8]) -> NDArray[np.float64]:
    """DCT coefficients (N, 8, 8) of the blocks of an image (H, W) that are not clipped."""
    height, width = (side // BLOCK * BLOCK for side in image_u8.shape)
    tiles = image_u8[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    blocks = tiles.swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)
    is_whole = (blocks.min(axis=(1, 2)) > 0) & (blocks.max(axis=(1, 2)) < 255)
    return np.asarray(dctn(blocks[is_whole].astype(np.float64) - 128, axes=(1, 2), norm="ortho"))


def share_on_lattice(coefficients: NDArray[np.float64], quality: int) -> float | None:
    """Share of the coefficients of one step or more that lie near a multiple of the step; None if
    there are too few."""
    steps = quantisation(quality)
    is_used = (np.abs(coefficients) >= 0.75 * steps) & (steps >= _MIN_STEP)
    is_used[:, 0, 0] = False
    if is_used.sum() < _MIN_COEFFICIENTS:
        return None
    broad = np.broadcast_to(steps, coefficients.shape)[is_used]
    used = coefficients[is_used]
    away = np.abs(used - np.rint(used / broad) * broad)
    # A coarse lattice catches fewer coefficients by chance: the share above chance is compared.
    chance = np.minimum(2 * _TOLERANCE / broad, 1).mean()
    return float(((away < _TOLERANCE).mean() - chance) / (1 - chance))


def measure_grid(image_u8: NDArray[np.uint8]) -> float | None:
    """Largest mean jump between neighbours at one of the 7 phases that the study's own grid of
    8 pixels does not use, over the mean of these, in columns or rows."""
    strongest = []
    for image in (image_u8.astype(np.float64), image_u8.T.astype(np.float64)):
        # Jumps that neighbours on both sides do not share: edges of tissue cancel.
        jumps = np.abs(np.diff(image, axis=1))
        excess = jumps[:, 1:-1] - (jumps[:, :-2] + jumps[:, 2:]) / 2
        is_inside = (image[:, 1:-2] > 0) & (image[:, 2:-1] > 0)
        phases = np.arange(1, jumps.shape[1] - 1) % BLOCK
        total = np.abs(jumps[:, 1:-1])[is_inside].mean() if is_inside.any() else 0.0
        if total <= 0:
            return None
        means = []
        for phase in range(BLOCK - 1):
            picked = is_inside & (phases == phase)
            means.append(excess[picked].mean() / total if picked.any() else 0.0)
        strongest.append(max(means))
    return float(max(strongest))


@cache
def quantisation(quality: int) -> NDArray[np.float64]:
    """Steps (8, 8) of the luminance at a quality of the Independent JPEG Group's scale."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = (np.array(_LUMINANCE) * scale + 50) // 100
    return np.asarray(np.clip(steps, 1, 255).reshape(BLOCK, BLOCK), dtype=np.float64)
