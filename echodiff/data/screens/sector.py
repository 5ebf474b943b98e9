"""Where in an ultrasound picture the scan is: the region by its tags, and the sector by its pixels.

Geometry tags are those of DICOM PS3.3 C.8.5.5 (US Region Calibration Module).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.data.screens.doppler import list_regions
from echodiff.errors import InputError

CENTIMETRES = 3
"""Physical Units code."""
ACTIVE_RANGE = 10
"""Grey levels a pixel must vary over a clip, or differ from the screen, to be scan."""
CLOSED_PX = 4
"""Gaps of twice as many pixels are closed."""
ROUNDING = 1e-9
"""Pixels by which a pixel's centre may lie outside an edge that goes through it."""
OVERSHOOT = 1.02
"""Part of the picture's side that a region may reach to and still be off by rounding alone."""


class Region(NamedTuple):
    """Box of the B-mode picture in the stored pixels, end exclusive, and the size of a pixel."""

    left: int
    top: int
    right: int
    bottom: int
    spacing_mm: tuple[float, float] | None
    """Height and width of a pixel."""
    stretch: float
    """Height of a pixel over its width."""


def find_region(tags: Any, shape: tuple[int, int], *, with_doppler: bool = False) -> Region:
    """The largest B-mode region of a file, in its stored pixels; `with_doppler`: of those that
    show flow too.

    Exports that shrink the pixels often leave the region's tags as they were: a region that
    reaches outside the picture is divided by the smallest whole number that brings it inside, and
    its pixels are that much larger. One that ends at the right or lower border is of the picture's
    own pixels, of which some were cut off. InputError where tags are missing or make no sense.
    """
    height, width = shape
    regions = list_regions(tags, with_doppler=with_doppler)
    if not regions:
        sides = tags.get("PixelSpacing")
        if isinstance(sides, Sequence) and len(sides) == 2 and min(map(float, sides)) > 0:
            spacing_mm = (float(sides[0]), float(sides[1]))
            return Region(0, 0, width, height, spacing_mm, spacing_mm[0] / spacing_mm[1])
        ratio = tags.get("PixelAspectRatio") or (1, 1)
        if not (isinstance(ratio, Sequence) and len(ratio) == 2 and min(map(float, ratio)) > 0):
            raise InputError(f"PixelAspectRatio {ratio} is not two numbers above 0")
        return Region(0, 0, width, height, None, float(ratio[0]) / float(ratio[1]))
    boxes = [_find_box(region) for region in regions]
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes]
    largest = areas.index(max(areas))
    region, (x0, y0, x1, y1) = regions[largest], boxes[largest]
    reaches = ((x1 + 1) / width, (y1 + 1) / height)
    is_cut = any(2 - OVERSHOOT <= reach <= OVERSHOOT for reach in reaches)
    shrink = 1 if is_cut or max(reaches) <= OVERSHOOT else int(np.ceil(max(reaches)))
    left, right = x0 // shrink, min(x1 // shrink + 1, width)
    top, bottom = y0 // shrink, min(y1 // shrink + 1, height)
    if not (0 <= left < right and 0 <= top < bottom):
        raise InputError(f"the ultrasound region ({x0}, {y0})-({x1}, {y1}) is empty")
    units = {region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")}
    if units != {CENTIMETRES}:
        return Region(left, top, right, bottom, None, 1.0)
    across, down = abs(_number(region, "PhysicalDeltaX")), abs(_number(region, "PhysicalDeltaY"))
    if not (0 < across < np.inf and 0 < down < np.inf):
        raise InputError(f"the ultrasound region's pixels measure {across} x {down} cm")
    spacing_mm = (10 * down * shrink, 10 * across * shrink)
    return Region(left, top, right, bottom, spacing_mm, down / across)


def find_sector(
    low_u8: NDArray[np.uint8], high_u8: NDArray[np.uint8], *, is_clip: bool
) -> NDArray[np.bool_]:
    """(H, W) least and largest value of every pixel over a clip -> (H, W): where the scan is.

    In a clip that is what moves; in a single frame, what differs from the grey of the screen.
    Labels and scales lie apart; the largest connected part is the tissue, and a sector is convex.
    All true where nothing shows.
    """
    if is_clip:
        lively = high_u8 - low_u8
    else:
        lively = np.abs(high_u8.astype(np.int16) - find_screen(high_u8)).astype(np.uint8)
    # With a rim outside the picture: what touches the border would lose as many pixels there.
    rim = CLOSED_PX + 1
    canvas = np.zeros([side + 2 * rim for side in lively.shape], dtype=bool)
    inner = (slice(rim, -rim), slice(rim, -rim))
    canvas[inner] = lively > ACTIVE_RANGE
    opened = _grow(_shrink(canvas, 1), 1)
    closed = _shrink(_grow(opened, CLOSED_PX), CLOSED_PX)[inner]
    parts, num_parts = ndimage.label(np.ascontiguousarray(closed))
    if num_parts == 0:
        return np.ones(high_u8.shape, dtype=bool)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return fill_convex(parts == sizes.argmax())


def fill_convex(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels (H, W) with their centre in the convex hull of the true ones; one is true at least."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    left, right = _find_hull(rows, first), -_find_hull(rows, -last)
    columns = np.arange(mask.shape[1])
    filled = np.zeros_like(mask)
    filled[rows[0] : rows[-1] + 1] = (columns >= left[:, None]) & (columns <= right[:, None])
    return filled


def _find_hull(rows: NDArray[np.intp], first: NDArray[np.intp]) -> NDArray[np.float64]:
    """Left edge of the hull of pixels, at the centre of each row from the first to the last.

    rows, first: where the pixels are, and the leftmost of each row.
    """
    # A pixel reaches half a pixel to each side; in half pixels all corners are whole numbers.
    down = np.concatenate([2 * rows, 2 * rows - 1, 2 * rows + 1])
    across = np.concatenate([2 * first - 1, 2 * first, 2 * first])
    order = np.lexsort((across, down))
    down, across = down[order], across[order]
    is_corner = np.zeros(1, dtype=bool)
    while not is_corner.all():
        # Monotone chain (Andrew 1979), all turns at once: out goes what is not left of its chord.
        downs, acrosses = down[1:] - down[:-1], across[1:] - across[:-1]
        is_corner = np.ones(len(down), dtype=bool)
        is_corner[1:-1] = acrosses[:-1] * downs[1:] < acrosses[1:] * downs[:-1]
        down, across = down[is_corner], across[is_corner]
    centres = np.arange(rows[0], rows[-1] + 1)
    return np.asarray(np.interp(2.0 * centres, down, across) / 2 - ROUNDING)


def _grow(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """What is true in (H, W) and its four neighbours, so many times over.

    One step in memory is one along the row, or from its end to the start of the next: the mask has
    a rim of one value, wider than the steps. A tenth of the time of scipy's.
    """
    height, width = mask.shape
    flat = mask.ravel()
    for _ in range(steps):
        grown = flat.copy()
        for step in (1, width):
            grown[step:] |= flat[:-step]
            grown[:-step] |= flat[step:]
        flat = grown
    return flat.reshape(height, width)


def _shrink(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    return ~_grow(~mask, steps)


def find_screen(image_u8: NDArray[np.uint8]) -> int:
    """Grey value of the screen around a scan: the most frequent value of the picture's border
    where that takes up a fifth of it, else black."""
    border = np.concatenate([image_u8[0], image_u8[-1], image_u8[:, 0], image_u8[:, -1]])
    counts = np.bincount(border, minlength=256)
    return int(counts.argmax()) if counts.max() >= len(border) / 5 else 0


def crop_to(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of the smallest box that holds what is true."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _find_box(region: Any) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a region as its tags say, both ends in it."""
    names = (f"RegionLocation{end}" for end in ("MinX0", "MinY0", "MaxX1", "MaxY1"))
    x0, y0, x1, y1 = (int(_number(region, name)) for name in names)
    return x0, y0, x1, y1


def _number(region: Any, name: str) -> float:
    if region.get(name) is None:
        raise InputError(f"the ultrasound region has no {name}")
    return float(region[name].value)
