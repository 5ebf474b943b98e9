"""Text that was burned into a picture: found, and masked.

A small convolutional network looks at the places where there may be text and says whether a line of
letters or digits runs through them (`text_network`, measured by `benchmarks/burned_text.py`).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.data.screens.text_network import REACH, STRIDE, score_text, scout_text
from echodiff.images import resize_u8

SMALL_PX, LEAST_PX = 500, 100
"""A picture whose sides are all below the first, and none below the second, is looked at enlarged
as well: the network knows letters of 7 to 28 px, and screenshots that were shrunk for a page have
letters of 4 to 7 px."""
HALVED_PX = 300
"""Shorter side from which a picture is looked at in half its size, for letters above 28 px; in
smaller ones tissue would be as small as letters."""
SCOUTED = 0.15
"""The finder looks where the scout's answer is above this."""
AROUND = 2
"""Answers of the scout (8 px) by which such a place is widened."""
MOST_PLACES = 0.6
"""Part of the picture from which on it is looked at whole, in place of piece by piece."""
THICKEST = 0.3
"""Part of the shorter side, of a picture too small to be enlarged, above which in both directions
no text goes: there a heart is as large as a word."""
SEEN, SURE = 0.3, 0.985
"""A line is where answers are above the first, if one of them is above the second: in 219 CAMUS
frames none is above 0.88, in cine MR of 256 px none above 0.982."""
LEAST_ANSWERS = 4
"""Answers that a line has at least: 64 px of area, about two letters of 8 px."""
COLOURED = 40
"""Levels by which the channels of a pixel differ where there is colour worth a look."""
MARGIN = 1
"""Answers added to a box on all sides: the end of a letter may lie in the next."""


class Box(NamedTuple):
    """Where a text lies, in pixels, end exclusive."""

    left: int
    top: int
    right: int
    bottom: int


def find_text(image_u8: NDArray[np.uint8]) -> list[Box]:
    """(H, W) or (H, W, 3) -> boxes of lines of text, from top to bottom.

    In colour it is looked for twice: in the brightest channel, as pure blue is dark in its luma,
    and in how much the channels differ, as yellow on white tissue is as bright as that. Made for
    letters of 8 to about 50 px.
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
    """A copy of (H, W) or (H, W, 3) with the boxes filled."""
    masked = image.copy()
    for box in boxes:
        masked[box.top : box.bottom, box.left : box.right] = value
    return masked


def look_for_text(image_u8: NDArray[np.uint8], half_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W), and itself at half its size -> (H/4, W/4), rounded up: answers of the finder, 0 where
    the scout sees nothing."""
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
    """Boxes, in pixels of the picture, of all places where the scout sees that text may be."""
    maybe = ndimage.maximum_filter(scout_text(half_u8) > SCOUTED, 2 * AROUND + 1)
    side = 2 * STRIDE
    for rows, columns in ndimage.find_objects(ndimage.label(maybe)[0]):
        yield Box(side * columns.start, side * rows.start, side * columns.stop, side * rows.stop)


def halve_size(shape: Sequence[int]) -> tuple[int, int]:
    """Height and width of a picture at half its size, rounded up."""
    return -(-shape[0] // 2), -(-shape[1] // 2)


def group_answers(answers: NDArray[np.float32]) -> list[Box]:
    """Boxes, in answers, of connected places that are text."""
    parts, _ = ndimage.label(answers > SEEN, structure=np.ones((3, 3)))
    found = []
    for number, place in enumerate(ndimage.find_objects(parts), start=1):
        own = answers[place][parts[place] == number]
        if len(own) >= LEAST_ANSWERS and own.max() > SURE:
            rows, columns = place
            found.append(Box(columns.start, rows.start, columns.stop, rows.stop))
    return found
