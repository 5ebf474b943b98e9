"""Screenshots made fit for training: text removed, cut to the scan, Doppler and M-mode left out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.data.prepare_config import KEEP, MASK, NO_CROP, REFUSE, SECTOR, PrepareConfig
from echodiff.data.preview import draw_preview
from echodiff.data.records import LeftOut, Shot
from echodiff.data.screens.burned_text import Box, find_text, mask_text
from echodiff.data.screens.displays import find_scan, name_display
from echodiff.data.screens.sector import (
    ACTIVE_RANGE,
    crop_to,
    fill_convex,
    find_screen,
)
from echodiff.errors import InputError
from echodiff.images import to_gray_u8

OVER_SCAN = "text over the scan"
"""Why a picture is left out by `--text mask`."""
INSIDE_SHARE = 0.5
"""Part of a text's box that lies in the scan where the text counts as inside. In screenshots the
edge of the scan is known to a few pixels only."""
LEAST_SCAN = 0.04
"""Part of the picture that a scan takes up at least."""
COLOURED, MOST_GRAPHICS = 40, 0.02
"""Levels by which the channels of drawn lines differ, and the part of the scan that they may take
up; where there is more colour, the picture is tinted."""


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What is to be done with the pictures of a data set; the flags of `PrepareConfig`."""

    crop: str
    text: str | None
    keep_doppler: bool


def choose_cleaning(config: PrepareConfig, modality: str) -> Cleaning | None:
    """The flags that concern pixels; None where they ask for nothing. Only echo has displays that
    are left out."""
    if config.crop == NO_CROP and config.text == KEEP:
        return None
    keep_doppler = config.keep_doppler or modality != "echo"
    return Cleaning(crop=config.crop, text=config.text, keep_doppler=keep_doppler)


def clean_shots(shots: Sequence[Shot], cleaning: Cleaning) -> list[Shot]:
    """The shots of one case without text and cropped, all alike where they are of one size.

    LeftOut for a display that was not asked for, and for text over the scan with `--text mask`.
    InputError for any text with `--text refuse`, and where no scan is found to crop to.
    """
    cleaned: list[Shot] = []
    for shape in dict.fromkeys(shot.image_u8.shape[:2] for shot in shots):
        alike = [shot for shot in shots if shot.image_u8.shape[:2] == shape]
        cleaned += _clean_alike(alike, cleaning)
    order = {shot.name: place for place, shot in enumerate(shots)}
    return sorted(cleaned, key=lambda shot: order[shot.name])


def _clean_alike(shots: Sequence[Shot], cleaning: Cleaning) -> list[Shot]:
    boxes: list[Box] = []
    if cleaning.text != KEEP:
        found = [box for shot in shots for box in find_text(shot.image_u8)]
        boxes = list(dict.fromkeys(found))
    if not cleaning.keep_doppler:
        for shot in shots:
            if kind := name_display(shot.image_u8, boxes):
                raise LeftOut(kind)
    if boxes and cleaning.text == REFUSE:
        raise InputError(
            "has text burned into its pixels (--text refuse; --crop sector --text mask removes it)"
        )
    scan = find_scan_of_all(shots, boxes, must_be=cleaning.crop == SECTOR)
    inside = [box for box in boxes if _within(scan, box).mean() > INSIDE_SHARE]
    if inside and cleaning.text == MASK:
        raise LeftOut(OVER_SCAN)
    is_cropped = cleaning.crop == SECTOR
    is_kept = cleaning.text is None and bool(inside if is_cropped else boxes)
    hidden = [] if cleaning.text is None else boxes
    return [
        _clean_shot(shot, scan if is_cropped else None, boxes, hidden, is_kept) for shot in shots
    ]


def find_scan_of_all(
    shots: Sequence[Shot], boxes: Sequence[Box], *, must_be: bool
) -> NDArray[np.bool_]:
    """(H, W): where any of the shots has scan; what a mask labels is scan, too."""
    brightest = np.maximum.reduce([_as_colour(shot.image_u8) for shot in shots])
    scan = find_scan(brightest, boxes)
    if must_be and scan.mean() < LEAST_SCAN:
        raise InputError(
            f"no scan was found to crop to, only {scan.mean():.1%} of the picture; --crop none "
            "keeps it whole"
        )
    labelled = np.zeros(scan.shape, dtype=bool)
    for shot in shots:
        if shot.mask_u8 is not None:
            labelled |= shot.mask_u8 > 0
    return fill_convex(scan | labelled) if (labelled & ~scan).any() else scan


def _clean_shot(
    shot: Shot,
    scan: NDArray[np.bool_] | None,
    boxes: Sequence[Box],
    hidden: Sequence[Box],
    is_kept: bool,
) -> Shot:
    """`scan` to crop to, where it is asked for; all texts, and those that are blackened."""
    image = mask_text(shot.image_u8, hidden)
    mask = shot.mask_u8
    if scan is not None:
        image = drop_graphics(image, scan)
        image[~scan | find_rim(image, scan)] = 0
        crop = crop_to(scan)
        image, mask = image[crop], None if mask is None else mask[crop]
    burned_text = "" if not boxes else "kept" if is_kept else "removed"
    is_changed = scan is not None or bool(hidden)
    preview = draw_preview(shot.image_u8, image, scan, hidden) if is_changed else None
    return replace(shot, image_u8=image, mask_u8=mask, burned_text=burned_text, preview_u8=preview)


def drop_graphics(image_u8: NDArray[np.uint8], scan: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A copy of (H, W) or (H, W, 3) whose coloured lines within the scan, such as an ECG and
    callipers, are black. Much colour, as of flow and of tinted pictures, stays."""
    image = image_u8.copy()
    if image.ndim == 3:
        coloured = (np.ptp(image, axis=-1) > COLOURED) & scan
        if 0 < coloured.sum() < MOST_GRAPHICS * scan.sum():
            image[ndimage.binary_dilation(coloured, iterations=2)] = 0
    return image


def find_rim(image_u8: NDArray[np.uint8], scan: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W): what of a screen that is not black lies within the hull of the scan, at its edge."""
    grey = to_gray_u8(image_u8)
    screen = find_screen(grey)
    if screen <= ACTIVE_RANGE:
        return np.zeros(scan.shape, dtype=bool)
    is_screen = np.abs(grey.astype(np.int16) - screen) <= ACTIVE_RANGE
    is_screen = ndimage.binary_opening(is_screen, iterations=2) | ~scan
    # Lines that were blackened lead from one side to the other.
    parts, _ = ndimage.label(np.pad(is_screen | (grey == 0), 1, constant_values=True))
    outside = (parts == parts[0, 0])[1:-1, 1:-1] & is_screen
    return np.asarray(ndimage.binary_dilation(outside, iterations=3), dtype=bool)


def _as_colour(image_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image_u8 if image_u8.ndim == 3 else np.repeat(image_u8[..., None], 3, axis=-1)


def _within(scan: NDArray[np.bool_], box: Box) -> NDArray[np.bool_]:
    return scan[box.top : box.bottom, box.left : box.right]
