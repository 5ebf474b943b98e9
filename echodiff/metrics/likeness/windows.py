"""Windows of an image that may show another image, and low-frequency descriptors of windows.

A window is a rectangle in shares of the image, from 0 to 1: left, top, right, bottom. Its
descriptor is a cosine transform: mirroring changes the signs of odd frequencies, transposing swaps
the axes, and inverting changes all signs.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, div, einsum, from_numpy, stack, tensor

FREQUENCIES = 8
"""Frequencies along each axis."""
NUM_VALUES = 43
"""Values of a descriptor: frequencies whose indices along the two axes add up to 1 to 8."""
THUMBNAIL_PX = 64
SHEET_PX = 256
"""Longest side at which tiles are described."""
_SAMPLES = 32
"""Samples of a window along each axis."""
_BACKGROUND = 12
"""Pixels within this many grey levels of the border belong to it."""
_SCALES = ((1.0, 1), (0.9, 3), (0.8, 5), (0.7, 6), (0.6, 7), (0.5, 9))
"""Length of a crop in shares of a side, and the number of crops of this length."""
_STEPS = 5
"""Positions of a tile along its own length."""
_DIVISIONS = (1.0, 1.2, 1.41, 1.7, 2.0, 2.4, 2.9, 3.4, 4.0)
"""Tiles at any position have the shorter side of the sheet divided by these."""
_FINE_DIVISIONS = (5, 6, 7, 8)
"""Tiles in rows and columns of equal size have it divided by these."""
_LEAST_TILE_PX = 24
_LEAST_SHARE = 0.02
"""Smallest part between borders, as a share of the area of the sheet."""
_MOST_CUTS = 4
"""Times that a sheet is cut along its borders, one inside another."""

Image = NDArray[np.float32]


class Window(NamedTuple):
    """A rectangle of an image, in shares of its sides."""

    left: float
    top: float
    right: float
    bottom: float


class Symmetry(NamedTuple):
    """One of the eight symmetries of a square: transpose first, then mirror."""

    is_transposed: bool
    is_flipped_y: bool
    is_flipped_x: bool


WHOLE = Window(0, 0, 1, 1)
SYMMETRIES = tuple(Symmetry(*signs) for signs in product((False, True), repeat=3))


def sample_window(image: Image | NDArray[np.uint8], window: Window, size: int) -> Image:
    """Resample a window of (H, W) to (size, size), low-pass filtered; 0 outside the image."""
    height, width = image.shape
    rows = _resampling(window.top * height, window.bottom * height, size, height)
    columns = _resampling(window.left * width, window.right * width, size, width)
    return np.ascontiguousarray(
        rows.weights @ image[rows.inside, columns.inside] @ columns.weights.T
    )


def find_content(image_u8: NDArray[np.uint8]) -> Window:
    """Find the rectangle of (H, W) that holds everything unlike its border."""
    height, width = image_u8.shape
    border = np.concatenate([image_u8[0], image_u8[-1], image_u8[:, 0], image_u8[:, -1]])
    differs = np.abs(image_u8 - np.float32(np.median(border))) > _BACKGROUND
    rows = np.flatnonzero(differs.mean(1) > 0.01)
    columns = np.flatnonzero(differs.mean(0) > 0.01)
    if len(rows) < height / 8 or len(columns) < width / 8:
        return WHOLE
    return Window(
        columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height
    )


def list_crops(between: tuple[float, float] = (0, 1)) -> tuple[Window, ...]:
    """List crops down to half of both sides, and down to 70 % of one side alone.

    between: shortest and longest side, in shares.
    """
    spans = [
        (start, start + length)
        for length, count in _SCALES
        if between[0] <= length <= between[1]
        for start in np.linspace(0, 1 - length, count).tolist()
    ]
    return tuple(
        Window(left, top, right, bottom)
        for (left, right), (top, bottom) in product(spans, spans)
        if abs((right - left) - (bottom - top)) < 0.11
        or (max(right - left, bottom - top) == 1 and min(right - left, bottom - top) > 0.65)
    )


def list_corners() -> tuple[Window, ...]:
    """List the four corners, 80 % of each side: one of them survives a shift."""
    return tuple(Window(x, y, x + 0.8, y + 0.8) for x, y in product((0, 0.2), repeat=2))


def list_uncovered() -> tuple[Window, ...]:
    """List nine windows of half the sides and four strips: a cover leaves some of them free."""
    quarters = [Window(x, y, x + 0.5, y + 0.5) for x, y in product((0, 0.25, 0.5), repeat=2)]
    strips = [(0, 0, 0.45, 1), (0.55, 0, 1, 1), (0, 0, 1, 0.45), (0, 0.55, 1, 1)]
    return (*quarters, *(Window(*strip) for strip in strips))


def list_tiles(image_u8: NDArray[np.uint8]) -> tuple[Window, ...]:
    """List where a sheet (H, W) may hold images: between borders, and squares of many sizes."""
    height, width = image_u8.shape
    tiles = [window for window in cut_borders(image_u8) if window != WHOLE]
    for division in _DIVISIONS:
        side = min(height, width) / division
        if side < _LEAST_TILE_PX or (division == 1 and max(height, width) < 1.2 * side):
            continue
        for left, top in product(_places(width, side), _places(height, side)):
            tiles.append(
                Window(left / width, top / height, (left + side) / width, (top + side) / height)
            )
    for num in _FINE_DIVISIONS:
        side = min(height, width) / num
        if side < _LEAST_TILE_PX:
            break
        num_rows, num_columns = round(height / side), round(width / side)
        for row, column in product(range(num_rows), range(num_columns)):
            tiles.append(Window(column / num_columns, row / num_rows,
                                (column + 1) / num_columns, (row + 1) / num_rows))  # fmt: skip
    return tuple(tiles)


def cut_borders(image_u8: NDArray[np.uint8], depth: int = _MOST_CUTS) -> list[Window]:
    """Cut (H, W) into the parts between rows and columns of one grey level."""
    height, width = image_u8.shape
    if min(height, width) < _LEAST_TILE_PX or depth == 0:
        return [WHOLE]
    spans = [_between_borders(image_u8, axis) or [(0, image_u8.shape[1 - axis])] for axis in (0, 1)]
    columns, rows = spans
    if columns == [(0, width)] and rows == [(0, height)]:
        return [WHOLE]
    found = []
    for (left, right), (top, bottom) in product(columns, rows):
        for part in cut_borders(image_u8[top:bottom, left:right], depth - 1):
            window = Window(
                (left + part.left * (right - left)) / width,
                (top + part.top * (bottom - top)) / height,
                (left + part.right * (right - left)) / width,
                (top + part.bottom * (bottom - top)) / height,
            )
            if (window.right - window.left) * (window.bottom - window.top) > _LEAST_SHARE:
                found.append(window)
    return found


def _between_borders(image_u8: NDArray[np.uint8], axis: int) -> list[tuple[int, int]]:
    """Spans of columns (axis 0) or rows (axis 1) of more than one level, at least a tile long."""
    is_border = np.ptp(image_u8, axis=axis) <= _BACKGROUND
    edges = np.flatnonzero(np.diff(np.concatenate([[True], is_border, [True]]).astype(np.int8)))
    spans = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return [(start, end) for start, end in spans if end - start >= _LEAST_TILE_PX]


def _places(length: float, side: float) -> Iterator[float]:
    num = round((length - side) / side * _STEPS) + 1
    yield from np.linspace(0, length - side, num).tolist()


# --- Descriptors ----------------------------------------------------------------------------------


def describe_windows(images: Tensor, windows: tuple[Window, ...]) -> Tensor:
    """Describe P windows of (N, H, W) by low frequencies, (N, P, 8, 8), scaled to length 1."""
    rows, columns, places = _transforms(windows, *images.shape[1:])
    found = einsum("iah,nhw,jbw->nijab", rows, images, columns)
    return _whiten(found.flatten(1, 2)[:, places])


def describe_turned(descriptors: Tensor) -> Tensor:
    """Descriptors (..., 8, 8) of the images in each of the eight symmetries: (..., 8, 8, 8)."""
    return stack([turn_descriptor(descriptors, symmetry) for symmetry in SYMMETRIES], dim=-3)


def flatten(descriptors: Tensor) -> Tensor:
    """Return the values of (..., 8, 8) that are compared, (..., 43)."""
    return descriptors.flatten(-2)[..., from_numpy(np.flatnonzero(_IS_COMPARED))]


def turn_descriptor(descriptors: Tensor, symmetry: Symmetry) -> Tensor:
    """Turn descriptors (..., 8, 8) into those of the images in one of the eight symmetries."""
    turned = descriptors.swapaxes(-1, -2).clone() if symmetry.is_transposed else descriptors.clone()
    if symmetry.is_flipped_y:
        turned[..., 1::2, :] *= -1
    if symmetry.is_flipped_x:
        turned[..., 1::2] *= -1
    return turned


def turn(image: Image, symmetry: Symmetry) -> Image:
    """Turn (H, W) into one of the eight symmetries."""
    turned = image.T if symmetry.is_transposed else image
    turned = turned[::-1] if symmetry.is_flipped_y else turned
    return turned[:, ::-1] if symmetry.is_flipped_x else turned


_COSINES = np.cos(
    np.pi * np.outer(np.arange(FREQUENCIES), (np.arange(_SAMPLES) + 0.5) / _SAMPLES)
).astype(np.float32)
_NUMBERS = np.add.outer(np.arange(FREQUENCIES), np.arange(FREQUENCIES))
_IS_COMPARED = (_NUMBERS > 0) & (_NUMBERS <= FREQUENCIES)
_STRENGTH = np.hypot.outer(np.arange(FREQUENCIES), np.arange(FREQUENCIES)) * _IS_COMPARED


def _whiten(descriptors: Tensor) -> Tensor:
    """Remove the mean and weight frequencies equally: the spectrum of an image falls as 1 / f."""
    descriptors = descriptors * from_numpy(_STRENGTH.astype(np.float32))
    lengths = descriptors.flatten(-2).norm(dim=-1)[..., None, None]
    return div(descriptors, lengths.clamp_min(1e-6))


@lru_cache(maxsize=64)
def _transforms(
    windows: tuple[Window, ...], height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Transforms from pixels to frequencies: (I, 8, height) of the rows of all windows, and
    (J, 8, width) of their columns; for each window its index among the I x J pairs."""
    rows = list(dict.fromkeys((w.top, w.bottom) for w in windows))
    columns = list(dict.fromkeys((w.left, w.right) for w in windows))
    row_of = {span: place for place, span in enumerate(rows)}
    column_of = {span: place for place, span in enumerate(columns)}
    places = [row_of[w.top, w.bottom] * len(columns) + column_of[w.left, w.right] for w in windows]
    by_row = np.stack([_transform(*span, height) for span in rows])
    by_column = np.stack([_transform(*span, width) for span in columns])
    return from_numpy(by_row), from_numpy(by_column), tensor(places)


@lru_cache(maxsize=4096)
def _transform(start: float, end: float, length: int) -> Image:
    """Transform from pixels to the frequencies of one span, (8, length)."""
    part = _resampling(start * length, end * length, _SAMPLES, length)
    found = np.zeros((FREQUENCIES, length), np.float32)
    found[:, part.inside] = _COSINES @ part.weights
    return found


class _Resampling(NamedTuple):
    weights: Image
    """(samples, pixels inside)."""
    inside: slice
    """Pixels with a weight above 0."""


@lru_cache(maxsize=4096)
def _resampling(start: float, end: float, samples: int, length: int) -> _Resampling:
    """Weights of pixels in the samples of a span (pixels): triangles as wide as a step."""
    step = (end - start) / samples
    width = max(step, 1.0)
    inside = slice(max(0, int(start - width)), min(length, int(end + width) + 2))
    centres = start + (np.arange(samples) + 0.5) * step
    pixels = np.arange(length)[inside] + 0.5
    weights = np.maximum(0, 1 - np.abs(pixels - centres[:, None]) / width)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-9)
    return _Resampling(weights.astype(np.float32), inside)
