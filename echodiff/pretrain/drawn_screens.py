"""Draw the screen of an ultrasound scanner around a frame: text, scales, ECG, colour, panels.

The layouts are invented and resemble those of several vendors. Names, dates and numbers are random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from echodiff.data.screens.burned_text import Box
from echodiff.data.screens.sector import fill_convex
from echodiff.images import resize_u8
from echodiff.pretrain.drawn_text import compress
from echodiff.pretrain.screen_parts import (
    LAYOUTS,
    Pen,
    draw_ecg,
    draw_flow,
    draw_header,
    draw_over_scan,
    draw_scales,
    draw_settings,
    draw_strip,
)

Colour = tuple[int, int, int]
KINDS = ("b-mode", "colour", "m-mode", "spectral", "dual", "quad")
SIZES = ((600, 800), (768, 1024), (720, 960), (480, 640), (708, 1016), (434, 636))
"""Height and width of common exports, in pixels."""


class DrawnScreen(NamedTuple):
    """A screen, with the positions of its parts."""

    image_u8: NDArray[np.uint8]
    """(H, W, 3)"""
    ink: NDArray[np.bool_]
    """(H, W), true where letters are."""
    lines: tuple[Box, ...]
    """The box of each text."""
    sector: NDArray[np.bool_]
    """(H, W), true where the scan is, in all panels."""
    kind: str
    over_scan: bool
    """Whether there is text over the scan."""
    layout: str


def draw_screen(
    frame_u8: NDArray[np.uint8],
    fonts: Sequence[str],
    rng: np.random.Generator,
    *,
    kind: str = "b-mode",
    layout: str | None = None,
    over_scan: bool = False,
    is_compressed: bool | None = None,
) -> DrawnScreen:
    """Draw a scanner's screen around a frame (H, W) that is black around its sector."""
    name = layout or str(rng.choice(list(LAYOUTS)))
    look = LAYOUTS[name]
    rows, columns = SIZES[int(rng.integers(len(SIZES)))]
    image = Image.new("RGB", (columns, rows), look.screen)
    scan, sector = crop_frame(frame_u8)
    place = np.zeros((rows, columns), bool)
    head, foot = round(rows * 0.1), round(rows * 0.09)
    boxes = place_panels(kind, rows, columns, head, foot)
    for number, box in enumerate(boxes):
        paste_scan(image, place, scan, sector, box)
        if kind == "colour" or (kind in ("dual", "quad") and number == 1 and rng.random() < 0.5):
            draw_flow(image, place, box, rng)
    if kind in ("m-mode", "spectral"):
        draw_strip(
            image,
            place,
            kind,
            (round(columns * 0.08), round(rows * 0.5), round(columns * 0.92), rows - foot),
            scan,
            rng,
        )
    pen = Pen(image, fonts, rng)
    size = int(np.clip(round(rows * rng.uniform(0.014, 0.026)), 8, 24))
    draw_header(pen, look, size, head)
    draw_settings(pen, look, size, head, boxes[0], kind)
    draw_scales(pen, look, size, place, boxes, kind)
    draw_ecg(pen, size, foot)
    if over_scan:
        draw_over_scan(pen, place, size, look)
    pixels = np.asarray(image, dtype=np.uint8)
    ink = np.asarray(pen.letters) > 127
    if is_compressed if is_compressed is not None else rng.random() < 0.6:
        pixels = compress(pixels, int(rng.integers(70, 96)))
    return DrawnScreen(pixels, ink, tuple(pen.lines), place, kind, over_scan, name)


def crop_frame(frame_u8: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Crop a frame to its scan; return the image and the mask of the sector."""
    bright = ndimage.binary_opening(frame_u8 > 6, iterations=2)
    if not bright.any():
        return frame_u8, np.ones(frame_u8.shape, bool)
    sector = fill_convex(bright)
    rows, columns = np.flatnonzero(sector.any(1)), np.flatnonzero(sector.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return frame_u8[box], sector[box]


def place_panels(
    kind: str, rows: int, columns: int, head: int, foot: int
) -> list[tuple[int, int, int, int]]:
    """Return the boxes of the scans: left, top, right, bottom."""
    left, right, bottom = round(columns * 0.13), round(columns * 0.87), rows - foot
    middle, half = (left + right) // 2, (head + bottom) // 2
    if kind == "dual":
        return [
            (left // 2, head, middle - 4, bottom),
            (middle + 4, head, columns - left // 2, bottom),
        ]
    if kind == "quad":
        return [
            (x, y, x + (right - left) // 2 - 6, y + (bottom - head) // 2 - 6)
            for y in (head, half + 6)
            for x in (left, middle + 6)
        ]
    if kind in ("m-mode", "spectral"):
        return [(left, head, right, round(rows * 0.49))]
    return [(left, head, right, bottom)]


def paste_scan(
    image: Image.Image,
    place: NDArray[np.bool_],
    scan: NDArray[np.uint8],
    sector: NDArray[np.bool_],
    box: tuple[int, int, int, int],
) -> None:
    """Paste a scan into a box, scaled to fit, centred, at the top."""
    left, top, right, bottom = box
    height, width = scan.shape
    scale = min((right - left) / width, (bottom - top) / height)
    size = (max(8, round(height * scale)), max(8, round(width * scale)))
    small = resize_u8(scan, size)
    inside = resize_u8(sector.astype(np.uint8) * 255, size) > 127
    x = left + (right - left - size[1]) // 2
    stamp = Image.fromarray(small).convert("RGB")
    image.paste(stamp, (x, top), Image.fromarray((inside * 255).astype(np.uint8)))
    place[top : top + size[0], x : x + size[1]] |= inside
