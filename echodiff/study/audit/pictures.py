"""What grey levels and margins tell of an image, apart from what it shows."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import convex_hull_image

from echodiff.study.audit.detection import Value
from echodiff.study.equality import find_fan

PERCENTS = (50, 75, 90)
"""Percentiles of the fan that --grey tone makes equal in any case. Below the median, an image with
much nearly black blood stays darker, as the gain is limited: that is content."""
DARK = (10, 25)
RANGE_NOISE = {"darkest": 1.0, "brightest": 2.0, "white": 0.004, "levels": 16.0, "gaps": 6.0,
               "white point": 3.0}  # fmt: skip
TONE_NOISE = {f"percentile {percent}": 3.0 for percent in PERCENTS}
"""Grey levels (0..255) below which a difference means nothing: an eye tells 1 to 2 % of a display's
range."""
MARK = 40
"""Grey level above which something is seen outside the fan; ripples of JPEG are below it."""
MIN_PIECE = 0.01
"""Smallest piece of the fan, over the whole image."""


def measure_range(image_u8: NDArray[np.uint8]) -> dict[str, Value]:
    """Ends of the grey scale, its gaps, and the share of white; (H, W)."""
    counts = np.bincount(image_u8.ravel(), minlength=256)
    shown = image_u8[image_u8 > 0]
    low, high = np.percentile(shown, (1, 99)) if shown.size else (0, 0)
    inside = counts[int(low) : int(high) + 1]
    return {
        "darkest": float(image_u8.min()),
        "brightest": float(image_u8.max()),
        "white": float(counts[255] / image_u8.size),
        "levels": float((counts > 0).sum()),
        "gaps": float((inside == 0).sum()),
        "white point": float(np.percentile(shown, 99.5)) if shown.size else 0.0,
    }


def measure_tone(image_u8: NDArray[np.uint8]) -> dict[str, Value]:
    """Percentiles of the grey levels inside the fan, from the median up; (H, W)."""
    return _list_percentiles(image_u8, PERCENTS)


def _list_percentiles(image_u8: NDArray[np.uint8], percents: tuple[int, ...]) -> dict[str, Value]:
    shown = image_u8[find_fan(image_u8.astype(np.float32))]
    if not shown.size:
        return {}
    levels = np.percentile(shown, percents)
    return {f"percentile {p}": float(level) for p, level in zip(percents, levels, strict=True)}


def measure_marks(image_u8: NDArray[np.uint8]) -> dict[str, Value]:
    """Whether anything bright lies outside the fan, in each quarter of an image (H, W).

    The fan is the convex hull of all pieces of MIN_PIECE of the image or more; letters, scales and
    frames of a scanner are smaller, or lie apart from it.
    """
    bright = image_u8 > MARK
    pieces, num_pieces = ndimage.label(bright)
    sizes = ndimage.sum_labels(bright, pieces, range(1, num_pieces + 1))
    large = 1 + np.flatnonzero(np.asarray(sizes) >= MIN_PIECE * image_u8.size)
    fan = np.isin(pieces, large)
    outside = bright.copy()
    if fan.any():
        outside &= ~ndimage.binary_dilation(convex_hull_image(fan), iterations=3)
    top, left = (side // 2 for side in image_u8.shape)
    return {
        "top left": float(outside[:top, :left].any()),
        "top right": float(outside[:top, left:].any()),
        "bottom left": float(outside[top:, :left].any()),
        "bottom right": float(outside[top:, left:].any()),
    }


def measure_content(image_u8: NDArray[np.uint8]) -> dict[str, Value]:
    """What honestly differs between sources, for information: fan, darkness and sharpness."""
    levels = image_u8.astype(np.float64)
    shown = levels > 0
    steps = np.abs(np.diff(levels, axis=1))[shown[:, 1:]]
    return {
        **_list_percentiles(image_u8, DARK),
        "share of black": float(1 - shown.mean()),
        "mean grey": float(levels.mean()),
        "sharpness": float(steps.mean()) if steps.size else 0.0,
    }
