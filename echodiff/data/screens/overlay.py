"""Find thin lines that a scanner draws over the tissue, and fill them with tissue around them."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.images import to_gray_u8

COLOURED, TINTED = 40, 16
"""Least difference (levels) between the channels of a drawn line, and of its blurred border."""
MOST_GRAPHICS = 0.02
"""Largest share of the scan that coloured lines cover; with more colour, the image is tinted or
shows flow."""
BRIGHTER = 25
"""Least contrast (grey levels) of a thin line to its surroundings."""
LIKE_OUTSIDE = 60
"""Grey levels by which a line may be darker over the scan than next to it."""
LONG = 0.08
"""Least length of a line outside the scan, such as an ECG, as a share of the image's width."""
UNIT_ROWS = 400
"""Number of rows of an image in which lines are about one pixel thick."""


def find_lines(image_u8: NDArray[np.uint8], scan: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find lines over the scan in (H, W) or (H, W, 3); return their mask (H, W).

    Coloured lines, and light ones that enter from outside, such as an ECG across the lower end.
    """
    unit = max(1, round(len(scan) / UNIT_ROWS))
    lines = find_light_lines(to_gray_u8(image_u8), scan, unit)
    if image_u8.ndim == 3:
        spread = np.ptp(image_u8, axis=-1)
        coloured = (spread > COLOURED) & scan
        if 0 < coloured.sum() < MOST_GRAPHICS * scan.sum():
            border = ndimage.binary_dilation(coloured, iterations=3 * unit) & (spread > TINTED)
            lines |= ndimage.binary_dilation(coloured | border)
    return np.asarray(lines & scan)


def find_light_lines(
    grey: NDArray[np.uint8], scan: NDArray[np.bool_], unit: int
) -> NDArray[np.bool_]:
    """Find light lines over the scan that continue outside it and are long there; (H, W)."""
    size = 4 * unit + 1
    around = ndimage.binary_dilation(scan, iterations=2 * unit)
    thin = grey.astype(np.int16) - ndimage.grey_opening(grey, (size, size)) > BRIGHTER
    parts, _ = ndimage.label(thin & ~scan, np.ones((3, 3)))
    lines = np.zeros(scan.shape, dtype=bool)
    for number, place in enumerate(ndimage.find_objects(parts), start=1):
        if place[1].stop - place[1].start < LONG * scan.shape[1]:
            continue
        line = parts == number
        if (line & around).any():
            level = np.median(grey[line])
            over = thin & scan & (grey > level - LIKE_OUTSIDE)
            lines |= ndimage.binary_propagation(line, np.ones((3, 3)), line | over)
    return np.asarray(ndimage.binary_dilation(lines & scan) & scan)


def fill_in(
    image_u8: NDArray[np.uint8], gaps: NDArray[np.bool_], scan: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Copy (H, W) or (H, W, 3) with its gaps filled by the scan mirrored at their edges.

    Nothing of the previous content of the gaps is left.
    """
    known = scan & ~gaps
    if not gaps.any() or not known.any():
        return image_u8.copy()
    y, x = np.nonzero(gaps)
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    edge_y, edge_x = nearest[0][y, x], nearest[1][y, x]
    mirror_y = np.clip(2 * edge_y - y, 0, scan.shape[0] - 1)
    mirror_x = np.clip(2 * edge_x - x, 0, scan.shape[1] - 1)
    good = known[mirror_y, mirror_x]
    filled = image_u8.copy()
    filled[y, x] = image_u8[np.where(good, mirror_y, edge_y), np.where(good, mirror_x, edge_x)]
    return filled
