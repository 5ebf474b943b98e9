"""Text that was burned into a picture: found, and masked.

A small convolutional network looks at every place of the picture and says whether a line of letters
or digits runs through it (`echodiff/assets/text_finder`; trained by
`echodiff.pretrain.text_finder`, measured by `benchmarks/burned_text.py`). numpy alone runs it.
"""

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy import ndimage
from scipy.special import expit

from echodiff.files import shipped
from echodiff.images import resize_u8

STRIDE = 4
"""Pixels of the picture to a side of one answer."""
SMALL_PX, LEAST_PX = 500, 100
"""A picture whose sides are all below the first, and none below the second, is looked at enlarged
as well: the network knows letters of 7 to 28 px, and screenshots that were shrunk for a page have
letters of 4 to 7 px."""
HALVED_PX = 300
"""Shorter side from which a picture is looked at in half its size, for letters above 28 px; in
smaller ones tissue would be as small as letters."""
SEEN, SURE = 0.3, 0.985
"""A line is where answers are above the first, if one of them is above the second: in 219 CAMUS
frames none is above 0.88, in cine MR of 256 px none above 0.982."""
LEAST_ANSWERS = 4
"""Answers that a line has at least: 64 px of area, about two letters of 8 px."""
COLOURED = 40
"""Levels by which the channels of a pixel differ where there is colour worth a look."""
MARGIN = 1
"""Answers added to a box on all sides: the end of a letter may lie in the next."""


class Layer(NamedTuple):
    """A convolution of 3 x 3 with a rectifier after it."""

    channels: int
    stride: int = 1
    dilation: int = 1


LAYERS = (Layer(16, stride=2), Layer(16), Layer(24, stride=2), Layer(24), Layer(24, dilation=2),
          Layer(24, dilation=3), Layer(24))  # fmt: skip


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
    height, width = planes[0].shape
    scales = [1.0]
    if min(height, width) >= HALVED_PX:
        scales.append(0.5)
    if min(height, width) >= LEAST_PX and max(height, width) < SMALL_PX:
        scales.append(2.0)
    boxes = []
    for plane, scale in product(planes, scales):
        shape = (round(height * scale), round(width * scale))
        if min(shape) < 2 * STRIDE:
            continue
        answers = score_text(resize_u8(plane, shape))
        for box in group_answers(answers):
            side = STRIDE / scale
            boxes.append(
                Box(
                    max(0, round((box.left - MARGIN) * side)),
                    max(0, round((box.top - MARGIN) * side)),
                    min(width, round((box.right + MARGIN) * side)),
                    min(height, round((box.bottom + MARGIN) * side)),
                )
            )
    return sorted(boxes, key=lambda box: (box.top, box.left))


def mask_text(image: NDArray[np.uint8], boxes: Sequence[Box], value: int = 0) -> NDArray[np.uint8]:
    """A copy of (H, W) or (H, W, 3) with the boxes filled."""
    masked = image.copy()
    for box in boxes:
        masked[box.top : box.bottom, box.left : box.right] = value
    return masked


def score_text(image_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) -> (H/4, W/4), rounded up: how sure it is, 0 to 1, that text runs through a place."""
    weights = load_weights()
    values = image_u8[None].astype(np.float32) / np.float32(255)
    for number, layer in enumerate(LAYERS):
        values = convolve(values, weights[f"{number}.weight"], layer.stride, layer.dilation)
        values += weights[f"{number}.bias"][:, None, None]
        np.maximum(values, 0, out=values)
    logits = np.tensordot(weights["head.weight"][0, :, 0, 0], values, 1) + weights["head.bias"]
    return np.asarray(expit(logits), dtype=np.float32)


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


def convolve(
    values: NDArray[np.float32], kernel: NDArray[np.float32], stride: int, dilation: int
) -> NDArray[np.float32]:
    """(C, H, W) by (O, C, 3, 3) -> (O, H/stride, W/stride), rounded up; black beyond the border.

    Nine products of matrices, one for each place in the kernel: quick, and small in memory.
    """
    channels, height, width = values.shape
    padded = np.pad(values, ((0, 0), (dilation, dilation), (dilation, dilation)))
    shape = (-(-height // stride), -(-width // stride))
    total = np.zeros((len(kernel), shape[0] * shape[1]), dtype=np.float32)
    for down in range(3):
        for across in range(3):
            y, x = down * dilation, across * dilation
            piece = padded[:, y : y + height : stride, x : x + width : stride]
            total += kernel[:, :, down, across] @ piece.reshape(channels, -1)
    return total.reshape(len(kernel), *shape)


@cache
def load_weights() -> dict[str, NDArray[np.float32]]:
    return dict(load_file(shipped("assets") / "text_finder" / "model.safetensors"))
