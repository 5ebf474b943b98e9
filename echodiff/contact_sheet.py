"""Draw images in rows on one sheet."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from echodiff.images import resize_u8

NOT_FOR_DIAGNOSIS = "research images - not for diagnosis"


def contact_sheet(
    images: Sequence[NDArray[np.uint8]],
    *,
    columns: int,
    labels: Sequence[str] | None = None,
    cell: int = 128,
) -> NDArray[np.uint8]:
    """Lay images out in rows, each in a square of `cell` pixels, over a not-for-diagnosis line.

    Returns (H, W) uint8, or (H, W, 3) if any image has colour. Labels are drawn above the images
    and shortened to their width.
    """
    assert images, "a sheet needs at least one image"
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    font_size = max(9, cell // 12)
    gap, line = 4, round(font_size * 1.5)
    font = ImageFont.load_default(size=font_size)
    head = line if labels is not None else 0
    mode = "RGB" if any(image.ndim == 3 for image in images) else "L"
    size = (columns * (cell + gap) + gap, rows * (cell + head + gap) + gap + line)
    sheet = Image.new(mode, size)
    draw, ink = ImageDraw.Draw(sheet), "#c8c8c8"
    for index, image_u8 in enumerate(images):
        left = gap + index % columns * (cell + gap)
        top = gap + index // columns * (cell + head + gap)
        scale = cell / max(image_u8.shape[:2])
        height, width = (max(1, round(side * scale)) for side in image_u8.shape[:2])
        small = Image.fromarray(resize_u8(image_u8, (height, width)))
        place = (left + (cell - width) // 2, top + head + (cell - height) // 2)
        sheet.paste(small.convert(mode), place)
        if labels is not None:
            draw.text((left, top), _fitting(labels[index], font, cell), fill=ink, font=font)
    draw.text((gap, size[1] - line), NOT_FOR_DIAGNOSIS, fill=ink, font=font)
    return np.asarray(sheet, dtype=np.uint8)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Shorten a text to `width` pixels, with three dots at its end."""
    text = text[: width + 1]  # no legible letter is narrower than a pixel
    if font.getlength(text) <= width:
        return text
    num_fitting = bisect_right(
        range(len(text)), float(width), key=lambda end: float(font.getlength(text[:end] + "..."))
    )
    return text[: max(0, num_fitting - 1)] + "..."
