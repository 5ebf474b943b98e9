"""Show the images whose anatomy is broken, with the place of every fault drawn in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from echodiff.documents import Kinds, check_kinds
from echodiff.errors import InputError
from echodiff.images import pad_square, read_gray_u8, resize_u8
from echodiff.report.pictures import Picture, Shown, embed_png

SIDE = 256
"""Height and width of an image on the page, pixels."""
MOST_SHOWN = 8
BOX_COLOUR = (255, 140, 60)
_BROKEN: Kinds = {"row": int, "file_name": str, "faults": list[dict[str, Any]]}
_FAULT: Kinds = {"criterion": str, "reason": str, "box": list[int]}


def draw_broken(pictures: Sequence[Picture], anatomy: Mapping[str, Any]) -> tuple[str, list[Shown]]:
    """Draw what the page shows of `anatomy` of metrics.json: a sentence, images with reasons.

    Empty if no image is broken. pictures: of every row. Entries that do not fit the pictures, as a
    file that was edited may hold, are left out.
    """
    broken = [one for one in anatomy.get("broken", []) if _fits(one, len(pictures))]
    if not broken:
        return "", []
    images = []
    for one in broken[:MOST_SHOWN]:
        path = pictures[one["row"]].path
        image = pad_square(read_gray_u8(path))
        reasons = "; ".join(fault["reason"] for fault in one["faults"])
        boxed = draw_boxes(image, [fault["box"] for fault in one["faults"]])
        images.append(Shown(embed_png(boxed), path.name, f"{path.stem}: {reasons}"))
    told = (
        f"{len(broken)} of {anatomy.get('num', len(pictures))} images fail a criterion of anatomy"
    )
    shown = "" if len(broken) <= MOST_SHOWN else f"; the first {MOST_SHOWN} are shown"
    return f"{told}{shown}. Boxes show where.", images


def draw_boxes(image_u8: NDArray[np.uint8], boxes: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """(H, H), boxes (left, top, right, bottom) in its pixels -> (SIDE, SIDE, 3) with outlines."""
    scale = SIDE / len(image_u8)
    grey = resize_u8(image_u8, (SIDE, SIDE))
    picture = Image.fromarray(np.repeat(grey[..., None], 3, axis=-1))
    draw = ImageDraw.Draw(picture)
    for box in boxes:
        left, top, right, bottom = (round(side * scale) for side in box)
        start = max(0, left - 2), max(0, top - 2)
        end = min(SIDE, right + 2) - 1, min(SIDE, bottom + 2) - 1
        draw.rectangle((*start, *end), outline=BOX_COLOUR, width=2)
    return np.asarray(picture)


def _fits(one: Any, num: int) -> bool:
    """Whether an entry names a row, and its faults have a box each."""
    if not isinstance(one, dict) or not one.keys() >= _BROKEN.keys():
        return False
    try:
        check_kinds(one, _BROKEN)
        for fault in one["faults"]:
            check_kinds(fault, _FAULT)
    except InputError:
        return False
    return 0 <= one["row"] < num and all(
        fault.keys() >= _FAULT.keys() and len(box := fault["box"]) == 4
        and 0 <= box[0] < box[2] and 0 <= box[1] < box[3]
        for fault in one["faults"]
    )  # fmt: skip
