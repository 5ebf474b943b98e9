"""Contact sheet of a generated set."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echodiff.contact_sheet import contact_sheet
from echodiff.frames.reader import load_frames
from echodiff.images import colour_mask, read_gray_u8, read_mask_u8, write_image

SHEET = "sheet.png"
SHEET_IMAGES = 64


def write_sheet(out: Path, *, has_masks: bool, side: int) -> None:
    """Write a contact sheet of the first images, with their prompts above them.

    has_masks: each mask stands before its image. side: of the images, pixels.
    """
    frames = load_frames(out)
    cells: list[tuple[NDArray[np.uint8], str]] = []
    for frame in frames[: SHEET_IMAGES // 2 if has_masks else SHEET_IMAGES]:
        if has_masks:
            mask = read_mask_u8(out / str(frame.mask_file_name))
            cells.append((colour_mask(mask), "mask"))
        cells.append((read_gray_u8(out / frame.file_name), frame.text))
    sheet = contact_sheet(
        [image for image, _ in cells],
        columns=8,
        labels=[label for _, label in cells],
        cell=max(128, min(256, side)),
    )
    write_image(out / SHEET, sheet)
