"""Where in an ultrasound picture the scan is: the region by its tags, and the sector by its pixels.

Geometry tags are those of DICOM PS3.3 C.8.5.5 (US Region Calibration Module).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull

from echodiff.config import InputError

SPATIAL_2D = 1
"""Region Spatial Format of a B-mode picture (the others are M-mode, Doppler and graphics)."""
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


def has_b_mode(tags: Any) -> bool:
    """Whether a file shows a B-mode picture, or does not say what it shows."""
    regions = tags.get("SequenceOfUltrasoundRegions") or ()
    return not regions or any(r.get("RegionSpatialFormat") == SPATIAL_2D for r in regions)


def find_region(tags: Any, shape: tuple[int, int]) -> Region:
    """The largest B-mode region of a file, in its stored pixels.

    Exports that shrink the pixels often leave the region's tags as they were: a region that
    reaches outside the picture is divided by the smallest whole number that brings it inside, and
    its pixels are that much larger. InputError where tags are missing or make no sense.
    """
    height, width = shape
    regions = [
        region
        for region in tags.get("SequenceOfUltrasoundRegions") or ()
        if region.get("RegionSpatialFormat") == SPATIAL_2D
    ]
    if not regions:
        ratio = tags.get("PixelAspectRatio") or (1, 1)
        if not (isinstance(ratio, Sequence) and len(ratio) == 2 and min(map(float, ratio)) > 0):
            raise InputError(f"PixelAspectRatio {ratio} is not two numbers above 0")
        return Region(0, 0, width, height, None, float(ratio[0]) / float(ratio[1]))
    boxes = [_find_box(region) for region in regions]
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes]
    largest = areas.index(max(areas))
    region, (x0, y0, x1, y1) = regions[largest], boxes[largest]
    reach = max((x1 + 1) / width, (y1 + 1) / height)
    shrink = 1 if reach <= OVERSHOOT else int(np.ceil(reach))
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
    active = ndimage.binary_opening(lively > ACTIVE_RANGE, iterations=1)
    # Closed on a larger canvas: what touches the border would lose as many pixels there.
    canvas = ndimage.binary_closing(np.pad(active, CLOSED_PX), iterations=CLOSED_PX)
    active = canvas[CLOSED_PX:-CLOSED_PX, CLOSED_PX:-CLOSED_PX]
    parts, num_parts = ndimage.label(active)
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
    ends = np.stack([np.tile(rows, 2), np.concatenate([first, last])], axis=1).astype(np.float64)
    # A pixel reaches half a pixel to each side.
    corners = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, -0.5], [0.0, 0.5]])
    hull = ConvexHull((ends[:, None] + corners).reshape(-1, 2))
    down, across, offsets = hull.equations.T
    # Of each row what lies between the edges on its left and those on its right.
    slack = ROUNDING - offsets - np.arange(mask.shape[0])[:, None] * down
    is_left, is_right = across < 0.0, across > 0.0
    left = (slack[:, is_left] / across[is_left]).max(axis=1)
    right = (slack[:, is_right] / across[is_right]).min(axis=1)
    is_within = (slack[:, across == 0.0] >= 0.0).all(axis=1)
    columns = np.arange(mask.shape[1])
    between = (columns >= left[:, None]) & (columns <= right[:, None])
    return np.asarray(between & is_within[:, None])


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
