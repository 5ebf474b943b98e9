"""Find and mask text that was burned into an image.

One small network, the scout, selects the places where there may be text; another, the finder,
decides whether a line of letters or digits runs through them (`text_network`). Accuracy is measured
by `benchmarks/burned_text.py`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.data.screens.text_network import REACH, STRIDE, score_text, scout_text
from echodiff.images import resize_u8

SMALL_PX, LEAST_PX = 500, 100
"""Images with both sides below the first and none below the second are also searched at twice their
size: the network knows letters of 7 to 28 px, and reduced screenshots have letters of 4 to 7 px."""
HALVED_PX = 300
"""Images with at least this shorter side are also searched at half their size, for letters above 28
px. In smaller images, tissue would then be as small as letters."""
SCOUTED = 0.15
"""The finder examines places for which the scout returns more than this."""
AROUND = 2
"""Number of scout outputs (8 px each) by which such a place is widened."""
MOST_PLACES = 0.6
"""If the places cover more than this share of the image, the finder examines all of it."""
THICKEST = 0.3
"""In images too small to be enlarged, a box larger than this share of the shorter side in both
directions is not text, because a heart is as large as a word there."""
SEEN, SURE = 0.3, 0.985
"""A line consists of outputs above the first, of which one is above the second. The largest output
is 0.88 in 219 CAMUS frames and 0.982 in cine MR of 256 px."""
LEAST_ANSWERS = 4
"""Smallest number of outputs in a line: 64 px of area, about two letters of 8 px."""
COLOURED = 40
"""Difference between the channels above which the colour of an image is searched as well."""
MARGIN = 1
"""Number of outputs added to a box on all sides, as a letter may extend into the next."""


class Box(NamedTuple):
    """The position of a text in pixels, end exclusive."""

    left: int
    top: int
    right: int
    bottom: int


def find_text(image_u8: NDArray[np.uint8]) -> list[Box]:
    """Return the boxes of lines of text in (H, W) or (H, W, 3), from top to bottom.

    Colour images are searched twice: in the brightest channel, because the luma of blue is dark,
    and in the difference between the channels, because yellow text is as bright as white tissue.
    Letters may be 8 to about 50 px high.
    """
    planes = [image_u8]
    if image_u8.ndim == 3:
        planes = [image_u8.max(axis=-1)]
        if (colour := np.ptp(image_u8, axis=-1)).max() > COLOURED:
            planes.append(colour)
    boxes = []
    for plane in planes:
        height, width = plane.shape
        scales, image = [1.0], plane
        shortest = min(height, width)
        thickest = THICKEST * shortest if shortest < LEAST_PX else shortest
        if shortest >= HALVED_PX:
            scales.append(0.5)
        if shortest >= LEAST_PX and max(height, width) < SMALL_PX:
            scales.insert(0, 2.0)
            image = resize_u8(plane, (2 * height, 2 * width))
        for scale in scales:
            half = plane if scale == 2 else resize_u8(image, halve_size(image.shape))
            if min(image.shape) < 2 * STRIDE:
                break
            side = STRIDE / scale
            for box in group_answers(look_for_text(image, half)):
                if min(box.bottom - box.top, box.right - box.left) * side > thickest:
                    continue
                found = Box(
                    max(0, round((box.left - MARGIN) * side)),
                    max(0, round((box.top - MARGIN) * side)),
                    min(width, round((box.right + MARGIN) * side)),
                    min(height, round((box.bottom + MARGIN) * side)),
                )
                boxes.append(found)
            image = half
    return sorted(boxes, key=lambda box: (box.top, box.left))


def mask_text(image: NDArray[np.uint8], boxes: Sequence[Box], value: int = 0) -> NDArray[np.uint8]:
    """Return a copy of (H, W) or (H, W, 3) with the boxes filled."""
    masked = image.copy()
    for box in boxes:
        masked[box.top : box.bottom, box.left : box.right] = value
    return masked


def look_for_text(image_u8: NDArray[np.uint8], half_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the outputs of the finder (H/4, W/4), rounded up; 0 where the scout finds nothing.

    image_u8: (H, W). half_u8: the same image at half its size.
    """
    height, width = image_u8.shape
    answers = np.zeros((-(-height // STRIDE), -(-width // STRIDE)), np.float32)
    places = list(list_places(half_u8))
    if sum((box.bottom - box.top) * (box.right - box.left) for box in places) > (
        MOST_PLACES * image_u8.size
    ):
        return score_text(image_u8)
    for box in places:
        top, left = max(0, box.top - REACH), max(0, box.left - REACH)
        piece = score_text(image_u8[top : box.bottom + REACH, left : box.right + REACH])
        rows = slice(box.top // STRIDE, min(len(answers), box.bottom // STRIDE))
        columns = slice(box.left // STRIDE, min(answers.shape[1], box.right // STRIDE))
        answers[rows, columns] = piece[
            rows.start - top // STRIDE : rows.stop - top // STRIDE,
            columns.start - left // STRIDE : columns.stop - left // STRIDE,
        ]
    return answers


def list_places(half_u8: NDArray[np.uint8]) -> Iterator[Box]:
    """Yield the boxes, in pixels of the image, of all places where the scout expects text."""
    maybe = ndimage.maximum_filter(scout_text(half_u8) > SCOUTED, 2 * AROUND + 1)
    side = 2 * STRIDE
    for rows, columns in ndimage.find_objects(ndimage.label(maybe)[0]):
        yield Box(side * columns.start, side * rows.start, side * columns.stop, side * rows.stop)


def halve_size(shape: Sequence[int]) -> tuple[int, int]:
    """Return height and width of an image at half its size, rounded up."""
    return -(-shape[0] // 2), -(-shape[1] // 2)


def group_answers(answers: NDArray[np.float32]) -> list[Box]:
    """Return the boxes of connected outputs that are text, in units of outputs."""
    parts, _ = ndimage.label(answers > SEEN, structure=np.ones((3, 3)))
    found = []
    for number, place in enumerate(ndimage.find_objects(parts), start=1):
        own = answers[place][parts[place] == number]
        if len(own) >= LEAST_ANSWERS and own.max() > SURE:
            rows, columns = place
            found.append(Box(columns.start, rows.start, columns.stop, rows.stop))
    return found
