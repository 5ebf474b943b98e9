"""Map stored values to 8 bits: choose the value shown black and the value shown white.

Linear windows follow DICOM PS3.3 C.11.2.1.2.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from echodiff.data.dicom.files import read_number
from echodiff.errors import InputError

TAGS, PERCENTILE = "tags", "percentile"
PERCENTILES = (0.5, 99.5)
"""Of all values of a clip or series; below is black and above is white."""


class Window(NamedTuple):
    """Values that map to 0 and 255."""

    low: float
    high: float


def parse_window(text: str) -> Window | str:
    """Check the text of --window: `tags`, `percentile` or `LOW,HIGH`."""
    if text in {TAGS, PERCENTILE}:
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--window: expected tags, percentile or LOW,HIGH, got {text!r}"
        ) from error
    if not (np.isfinite([low, high]).all() and low < high):
        raise InputError(f"--window: {text}: the first number must be below the second")
    return Window(low, high)


def choose_window(
    option: str | None, tags: Sequence[Any], values: Sequence[NDArray[Any]], full: Window
) -> Window:
    """Choose one window for a clip or series.

    tags: datasets of its files; values: its frames, rescaled; full: the full range of its bits,
    which is the window if `option` is None. Windows in tags may differ between the frames of a
    cine; the median of their centres and widths avoids flicker.
    """
    if option is None:
        return full
    chosen = parse_window(option)
    if isinstance(chosen, Window):
        return chosen
    if chosen == PERCENTILE:
        low, high = np.percentile(np.concatenate([v.ravel() for v in values]), PERCENTILES)
        return Window(float(low), float(max(high, low + 1e-6)))
    pairs = [(_first(t.get("WindowCenter")), _first(t.get("WindowWidth"))) for t in tags]
    if any(centre is None or width is None or width < 1 for centre, width in pairs):
        raise InputError("has no WindowCenter and WindowWidth; use --window percentile")
    centre, width = np.median(np.array(pairs, dtype=float), axis=0)
    reach = max(width - 1, 1e-6) / 2
    return Window(float(centre - 0.5 - reach), float(centre - 0.5 + reach))


def find_full_window(tags: Any) -> Window:
    """Return the full range of the stored bits, signed or unsigned."""
    values = 2.0 ** int(tags.BitsStored)
    low = -values / 2 if tags.get("PixelRepresentation") == 1 else 0.0
    return Window(low, low + values - 1)


def rescale(stored: NDArray[Any], tags: Any) -> NDArray[Any]:
    """Apply Rescale Slope and Intercept to stored values and return float32; values are returned
    unchanged if the two change nothing. Padding becomes black: the smallest value of the image, or
    the largest if it is inverted."""
    padding = read_number(tags, "PixelPaddingValue")
    if padding is not None:
        limit = read_number(tags, "PixelPaddingRangeLimit")
        ends = sorted((padding, padding if limit is None else limit))
        is_padding = (stored >= ends[0]) & (stored <= ends[1])
        if is_padding.any() and not is_padding.all():
            is_inverted = tags.get("PhotometricInterpretation") == "MONOCHROME1"
            inside = stored[~is_padding]
            black = inside.max() if is_inverted else inside.min()
            stored = np.where(is_padding, black, stored)
    slope, intercept = read_number(tags, "RescaleSlope"), read_number(tags, "RescaleIntercept")
    if slope in {None, 1.0} and intercept in {None, 0.0}:
        return stored
    return stored * np.float32(1 if slope is None else slope) + np.float32(intercept or 0)


def apply_window(
    values: NDArray[Any], window: Window, *, is_inverted: bool = False
) -> NDArray[np.uint8]:
    """Map numbers to uint8, rounded; values outside the window are clipped."""
    scale = 255 / (window.high - window.low)
    grey = np.rint((values.astype(np.float32) - window.low) * scale).clip(0, 255)
    return np.asarray(255 - grey if is_inverted else grey).astype(np.uint8)


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value) if isinstance(value, str | int | float) else float(value[0])
