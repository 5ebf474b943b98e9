"""Prepare screenshots: remove text, crop to the scan, skip Doppler and M-mode."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from echodiff.data.prepare_config import (
    KEEP,
    MASK,
    MASK_INSIDE,
    NO_CROP,
    REFUSE,
    SECTOR,
    PrepareConfig,
)
from echodiff.data.preview import draw_preview
from echodiff.data.records import LeftOut, Shot
from echodiff.data.screens.burned_text import Box, find_text
from echodiff.data.screens.displays import find_scan, name_display
from echodiff.data.screens.overlay import fill_in, find_lines
from echodiff.data.screens.sector import crop_to, fill_convex
from echodiff.errors import InputError

OVER_SCAN = "text over the scan"
"""Why `--text mask` skips an image."""
INSIDE_SHARE = 0.5
"""Share of a text's box that must lie in the scan for the text to count as inside. In screenshots,
the edge of the scan is known only to a few pixels."""
LEAST_SCAN = 0.04
"""Smallest share of the image for a scan."""


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What to do with the pixels of a data set; the flags of `PrepareConfig`."""

    crop: str
    text: str | None
    keep_doppler: bool


def choose_cleaning(config: PrepareConfig, modality: str) -> Cleaning | None:
    """Return the flags that concern pixels; None if they change nothing.

    Displays are only recognised in echo images.
    """
    if config.crop == NO_CROP and config.text == KEEP:
        return None
    keep_doppler = config.keep_doppler or modality != "echo"
    return Cleaning(crop=config.crop, text=config.text, keep_doppler=keep_doppler)


def clean_shots(shots: Sequence[Shot], cleaning: Cleaning) -> list[Shot]:
    """Remove text from the shots of one case and crop them; shots of one size are treated alike.

    LeftOut for a display that is not kept, and for text over the scan with `--text mask`.
    InputError for any text with `--text refuse`, and if no scan is found to crop to.
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
    is_cropped = cleaning.crop == SECTOR
    over = list_over_scan(shots, scan, boxes)
    inside = [box for box in over if _within(scan, box).mean() > INSIDE_SHARE]
    if inside and cleaning.text == MASK:
        raise LeftOut(OVER_SCAN)
    is_kept = cleaning.text is None and bool(inside if is_cropped else boxes)
    hidden = np.zeros(scan.shape, dtype=bool)
    if cleaning.text in (MASK, MASK_INSIDE):
        hidden = _cover(scan.shape, boxes) & ~scan | _cover(scan.shape, over)
    return [
        _clean_shot(
            shot,
            scan,
            hidden,
            is_cropped=is_cropped,
            is_filled=cleaning.text == MASK_INSIDE,
            boxes=boxes if cleaning.text else [],
            burned_text="" if not boxes else "kept" if is_kept else "removed",
        )
        for shot in shots
    ]


def list_over_scan(
    shots: Sequence[Shot], scan: NDArray[np.bool_], boxes: Sequence[Box]
) -> list[Box]:
    """List the texts that reach into the scan.

    They are searched after the surroundings and all lines have been removed, because lines are
    often mistaken for text.
    """
    if not any(_within(scan, box).any() for box in boxes):
        return []
    crop = crop_to(scan)
    top, left = crop[0].start, crop[1].start
    found = []
    for shot in shots:
        image = fill_in(shot.image_u8, find_lines(shot.image_u8, scan), scan)
        image[~scan] = 0
        found += [
            Box(box.left + left, box.top + top, box.right + left, box.bottom + top)
            for box in find_text(image[crop])
        ]
    return [box for box in dict.fromkeys(found) if _within(scan, box).any()]


def find_scan_of_all(
    shots: Sequence[Shot], boxes: Sequence[Box], *, must_be: bool
) -> NDArray[np.bool_]:
    """Return the mask (H, W) of the scan in any of the shots, including all labelled pixels."""
    in_colour = [
        shot.image_u8 if shot.image_u8.ndim == 3 else np.stack([shot.image_u8] * 3, axis=-1)
        for shot in shots
    ]
    scan = find_scan(np.maximum.reduce(in_colour), boxes)
    if must_be and scan.mean() < LEAST_SCAN:
        raise InputError(
            f"no scan was found to crop to, only {scan.mean():.1%} of the image; --crop none "
            "keeps the whole image"
        )
    labelled = np.zeros(scan.shape, dtype=bool)
    for shot in shots:
        if shot.mask_u8 is not None:
            labelled |= shot.mask_u8 > 0
    return fill_convex(scan | labelled) if (labelled & ~scan).any() else scan


def _clean_shot(
    shot: Shot,
    scan: NDArray[np.bool_],
    hidden: NDArray[np.bool_],
    *,
    is_cropped: bool,
    is_filled: bool,
    boxes: Sequence[Box],
    burned_text: str,
) -> Shot:
    """Clean one shot.

    hidden: texts to blacken. is_filled: over the scan, fill in text and lines instead.
    """
    image, mask = shot.image_u8.copy(), shot.mask_u8
    gaps = hidden & scan
    if is_cropped:
        gaps |= find_lines(image, scan)
    image[hidden | gaps] = 0
    if is_filled:
        image = fill_in(image, gaps, scan)
    if is_cropped:
        image[~scan] = 0
        crop = crop_to(scan)
        image, mask = image[crop], None if mask is None else mask[crop]
    is_changed = is_cropped or bool(hidden.any())
    preview = (
        draw_preview(shot.image_u8, image, scan if is_cropped else None, boxes)
        if is_changed
        else None
    )
    return replace(shot, image_u8=image, mask_u8=mask, burned_text=burned_text, preview_u8=preview)


def _cover(shape: tuple[int, ...], boxes: Sequence[Box]) -> NDArray[np.bool_]:
    covered = np.zeros(shape, dtype=bool)
    for box in boxes:
        covered[box.top : box.bottom, box.left : box.right] = True
    return covered


def _within(scan: NDArray[np.bool_], box: Box) -> NDArray[np.bool_]:
    return scan[box.top : box.bottom, box.left : box.right]
