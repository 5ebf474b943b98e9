"""Search for text by OCR (RapidOCR), for `--ocr`.

The models are part of its package (`pip install echodiff[ocr]`); nothing is downloaded. Only the
positions of texts are returned, not their content.
"""

import logging
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echodiff.data.screens.burned_text import Box
from echodiff.errors import InputError
from echodiff.extras import pip_command
from echodiff.images import resize_u8

LEAST_PX = 640
"""Longer side to which smaller images are enlarged."""


def check_ocr() -> None:
    """Raise InputError if the packages are not installed."""
    load_engine()


def find_text_by_ocr(image_u8: NDArray[np.uint8]) -> list[Box]:
    """Return the boxes of readable texts in (H, W) or (H, W, 3), from top to bottom."""
    height, width = image_u8.shape[:2]
    scale = max(1, -(-LEAST_PX // max(height, width)))
    image = resize_u8(image_u8, (height * scale, width * scale))
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=-1)
    found = load_engine()(np.ascontiguousarray(image[..., ::-1])).boxes  # blue first
    boxes = []
    for corners in found if found is not None else ():
        x, y = np.asarray(corners).T / scale
        left, top = max(0, int(x.min())), max(0, int(y.min()))
        right, bottom = min(width, int(np.ceil(x.max()))), min(height, int(np.ceil(y.max())))
        if left < right and top < bottom:
            boxes.append(Box(left, top, right, bottom))
    return sorted(boxes, key=lambda box: (box.top, box.left))


@cache
def load_engine() -> Any:
    """Load the OCR of this process, with one thread, as several processes read images."""
    try:
        import onnxruntime  # noqa: F401
        from rapidocr import RapidOCR
    except ImportError as error:
        raise InputError(
            f"--ocr needs the packages rapidocr and onnxruntime: {pip_command('rapidocr')}"
        ) from error
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    threads = "EngineConfig.onnxruntime.intra_op_num_threads"
    engine = RapidOCR(params={threads: 1, "Global.log_level": "error"})
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    return engine
