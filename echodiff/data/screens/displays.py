"""Find the scan on a scanner's screen, and recognise displays other than a single B-mode image.

The functions use only pixels, for images without tags. They work on a copy of at most `WORKING_PX`
rows, so that sizes in pixels mean the same in any export.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.data.screens.burned_text import Box
from echodiff.data.screens.fan import fit_fan, sharpen_fan
from echodiff.data.screens.sector import ACTIVE_RANGE, fill_convex
from echodiff.images import resize_u8, to_gray_u8

COLOUR_DOPPLER, STRIP, PANELS = KINDS = ("colour Doppler", "M-mode or spectral", "several panels")
"""Displays that are skipped unless `--keep-doppler` is given."""
WORKING_PX = 400
SMALLEST_PX = 96
"""Images with a shorter side below this are not examined."""
FLAT_RANGE = 3
"""Largest range of grey levels over 3 x 3 pixels of the screen."""
EVEN_RANGES, MOSTLY = (24, 12, 6, 4), 0.6
"""Largest deviation of a screen from a fitted plane, in grey levels, in each round of the fit; and
the smallest share of an area that must be within the last of them."""
LEAST_FLAT = 0.003
"""Smallest share of the image for such an area."""
THICK_PX = 4
"""Half the smallest thickness of a scan; anything thinner is a trace, a line or a letter."""
LEAST_PART = 0.3
"""Smallest area of a part of the scan, relative to the largest part."""
MOST_GROWTH = 0.4
"""Largest growth of the width of a sector within `GROWTH_ROWS`, relative to the final width."""
GROWTH_ROWS = 0.03
"""Relative to the number of rows."""
BEATS_APART = 0.08
"""Largest distance of two beats of a spectrum, relative to the width of the image."""
LASTING_ROWS = 4
"""Smallest height of a strip, in multiples of `GROWTH_ROWS`."""
LINE_COLOUR = 40
"""Difference between the channels above which a line is coloured."""
SATURATED = 0.55
"""Difference between the channels, relative to the brightest, above which a pixel may be flow."""
LEAST_FLOW = 0.002
"""Smallest share of the image for the coloured areas of colour Doppler."""


def find_scan(image_u8: NDArray[np.uint8], boxes: Sequence[Box] = ()) -> NDArray[np.bool_]:
    """Return the mask (H, W) of the sector, or of the convex hull of a scan with another shape.

    image_u8: (H, W) or (H, W, 3). boxes: its texts. Text, lines, traces, bars and flat areas of the
    screen are ignored. The mask is all true if nothing else is found.
    """
    texture, hidden = find_texture(image_u8, boxes)
    parts = keep_large(texture)
    shape = (image_u8.shape[0], image_u8.shape[1])
    if not parts.any():
        return np.ones(shape, dtype=bool)
    if fan := fit_fan(parts, hidden):
        enlarged = shape[0] / len(parts)
        unknown = resize_u8(hidden.astype(np.uint8) * 255, shape) > 127
        fan = fan.scaled(enlarged)
        return sharpen_fan(fan, to_gray_u8(image_u8), unknown, round(3 * enlarged) + 6).fill(shape)
    return fill_convex(resize_u8(parts.astype(np.uint8) * 255, shape) > 127)


def name_display(image_u8: NDArray[np.uint8], boxes: Sequence[Box] = ()) -> str | None:
    """Return which of `KINDS` an image shows; None for a single B-mode image or a tiny one."""
    if min(image_u8.shape[:2]) < SMALLEST_PX:
        return None
    texture, hidden = find_texture(image_u8, boxes)
    parts = keep_large(texture)
    if not parts.any():
        return None
    if image_u8.ndim == 3 and has_flow(image_u8, boxes, parts):
        return COLOUR_DOPPLER
    if fit_fan(parts, hidden):
        return None
    # The beats of a spectrum are many small parts next to each other.
    across = round(BEATS_APART * texture.shape[1])
    beats = ndimage.binary_closing(
        np.pad(texture, ((0, 0), (across, across))), np.ones((1, across))
    )
    return name_layout(keep_large(beats[:, across:-across]))


def find_texture(
    image_u8: NDArray[np.uint8], boxes: Sequence[Box]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return two masks of the working copy: areas with texture, without thin ones, and areas hidden
    by text and coloured lines."""
    size = working_size(image_u8.shape)
    hidden = find_thin_colour(image_u8)
    scale = size[0] / len(image_u8)
    for box in boxes:
        rows = slice(int(box.top * scale), int(np.ceil(box.bottom * scale)))
        hidden[rows, int(box.left * scale) : int(np.ceil(box.right * scale))] = True
    grey = resize_u8(to_gray_u8(image_u8), size)
    if hidden.any() and not hidden.all():
        nearest = ndimage.distance_transform_edt(
            hidden, return_distances=False, return_indices=True
        )
        grey = grey[tuple(nearest)]
    lively = ~find_flat(grey) & ~hidden
    # Padded, so that an area at the border does not count as thinner.
    lively = np.pad(lively, 2 * THICK_PX, mode="edge")
    cross = ndimage.generate_binary_structure(2, 1)
    closed = ndimage.binary_closing(lively, cross, iterations=2)
    # Lines across the tissue have split it.
    bridged = ndimage.binary_closing(lively, cross, iterations=2 * THICK_PX)
    closed |= bridged & np.pad(hidden, 2 * THICK_PX, mode="edge")
    thick = ndimage.binary_opening(closed, cross, iterations=THICK_PX)
    # Restore tips that the opening has cut off, such as the apex.
    thick = ndimage.binary_dilation(thick, cross, iterations=2 * THICK_PX, mask=closed)
    inner = slice(2 * THICK_PX, -2 * THICK_PX)
    return np.asarray(thick[inner, inner]), hidden


def find_flat(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the mask (H, W) of the screen around the tissue: areas of constant or evenly changing
    grey."""
    spread = ndimage.maximum_filter(grey, 3) - ndimage.minimum_filter(grey, 3)
    parts, _ = ndimage.label(spread <= FLAT_RANGE)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    flat = np.zeros(grey.shape, dtype=bool)
    for number in np.flatnonzero(sizes >= LEAST_FLAT * grey.size):
        y, x = np.nonzero(parts == number)
        terms = np.stack([np.ones(len(y)), y, x], 1)
        values, even = grey[y, x].astype(float), np.ones(len(y), dtype=bool)
        for most in EVEN_RANGES:  # excludes dark tissue connected to the screen
            plane, *_ = np.linalg.lstsq(terms[even], values[even], rcond=None)
            near = np.abs(values - terms @ plane) <= most
            even = near if near.any() else even
        if even.mean() >= MOSTLY:
            flat[y[even], x[even]] = True
    if not flat.any():
        return flat
    nearest = ndimage.distance_transform_edt(~flat, return_distances=False, return_indices=True)
    apart = np.abs(grey.astype(np.int16) - grey[tuple(nearest)])
    return np.asarray(flat | ((apart <= ACTIVE_RANGE) & (spread <= ACTIVE_RANGE)))


def find_thin_colour(image_u8: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the mask of coloured lines, such as an ECG, in the working copy."""
    size = working_size(image_u8.shape)
    if image_u8.ndim == 2:
        return np.zeros(size, dtype=bool)
    spread = np.ptp(resize_u8(image_u8, size), axis=-1).astype(np.int16)
    border = np.concatenate([spread[0], spread[-1], spread[:, 0], spread[:, -1]])
    coloured = spread - int(np.median(border)) > LINE_COLOUR
    areas = ndimage.binary_opening(coloured, iterations=THICK_PX)
    areas = ndimage.binary_dilation(areas, iterations=2 * THICK_PX)
    return np.asarray(ndimage.binary_dilation(coloured & ~areas, iterations=4), dtype=bool)


def keep_large(thick: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the connected parts with at least `LEAST_PART` of the area of the largest."""
    parts, number = ndimage.label(thick)
    if not number:
        return thick
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= LEAST_PART * sizes.max())[parts] & (parts > 0))


def working_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return height and width of the working copy."""
    scale = min(1.0, WORKING_PX / shape[0])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def has_flow(image_u8: NDArray[np.uint8], boxes: Sequence[Box], parts: NDArray[np.bool_]) -> bool:
    """Whether areas within the scan have the colours of flow.

    A tinted image, in contrast, has one colour per grey level and hardly any grey.
    """
    image = resize_u8(image_u8, working_size(image_u8.shape)).astype(np.int16)
    scale = len(parts) / len(image_u8)
    brightest, spread = image.max(axis=-1), np.ptp(image, axis=-1)
    is_coloured = (brightest > 60) & (spread > SATURATED * brightest)
    for box in boxes:
        rows = slice(int(box.top * scale), int(np.ceil(box.bottom * scale)))
        is_coloured[rows, int(box.left * scale) : int(np.ceil(box.right * scale))] = False
    areas = ndimage.binary_opening(is_coloured, np.ones((3, 3))) & fill_convex(parts)
    areas = ndimage.binary_opening(areas, iterations=2)
    least = LEAST_FLOW * parts.size
    if areas.sum() < least:
        return False
    red, blue = image[..., 0], image[..., 2]
    if (areas & (red > blue)).sum() > least and (areas & (blue > red)).sum() > least:
        return True
    is_grey = parts & (brightest > 40) & (spread < 0.2 * brightest)
    return bool(is_grey.sum() > areas.sum() / 2)


def name_layout(parts: NDArray[np.bool_]) -> str | None:
    """Recognise `STRIP` or `PANELS` by how the width of the scan grows from top to bottom.

    A sector widens evenly from one apex. A strip over time begins at its full width, below its
    B-mode image. The tops of two sectors, or of the beats of a spectrum, are far apart with nothing
    in between.
    """
    rows = np.flatnonzero(parts.any(axis=1))
    first = parts.argmax(axis=1)
    last = parts.shape[1] - 1 - parts[:, ::-1].argmax(axis=1)
    width = np.where(parts.any(axis=1), last - first + 1, 0)
    filled = parts.sum(axis=1) / np.maximum(width, 1)
    step = max(2, round(GROWTH_ROWS * len(parts)))
    widest = int(width.max())
    padded = np.concatenate([np.zeros(step, int), width])
    growth = width - padded[: len(width)]
    sudden = np.flatnonzero((growth > MOST_GROWTH * widest) & (width > 0))
    for row in sudden.tolist():
        stays = width[row : row + LASTING_ROWS * step]
        if np.median(stays) < 0.8 * width[row] or len(stays) < LASTING_ROWS * step:
            continue  # a spot next to the sector
        is_hollow = float(np.mean(filled[row : row + step])) < 0.6
        is_top = row < rows[0] + 2 * step
        if is_hollow:
            return PANELS if is_top else STRIP
        if not is_top:
            return STRIP
    # If there is a sector below the first, the width falls and grows again.
    after = width[width.argmax() :]
    regrown = after - np.minimum.accumulate(after) > MOST_GROWTH * widest
    if regrown.sum() > LASTING_ROWS * step:
        return PANELS
    return None
