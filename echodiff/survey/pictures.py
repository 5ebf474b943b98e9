"""Sheets of a comparison: every arm at the same masks, and every style at one mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echodiff.contact_sheet import contact_sheet
from echodiff.frames.reader import load_frames
from echodiff.images import colour_mask, read_gray_u8, read_mask_u8, write_image
from echodiff.survey.segmentations import find_set
from echodiff.survey.sets import OWN, name_style
from echodiff.survey.stages import Drawing
from echodiff.survey.survey_config import SurveyConfig

NUM_MASKS = 6
CELL = 150
ARMS_SHEET, STYLES_SHEET = "arms.png", "styles.png"


def draw_pictures(config: SurveyConfig, drawing: Drawing) -> list[tuple[str, Path]]:
    """Write the sheets below --out; (what they show, file) of each."""
    sheets = [(
        "Rows: the mask, the real frame it is of, and the image that each arm draws for it (first "
        "training).",
        _write_arms(config, drawing, config.out / ARMS_SHEET),
    )]  # fmt: skip
    if len(drawing.vendors) > 1:
        sheets.append((
            "Style transfer at fixed anatomy: one mask in the style of every training vendor.",
            _write_styles(config, drawing, config.out / STYLES_SHEET),
        ))  # fmt: skip
    return sheets


def _write_arms(config: SurveyConfig, drawing: Drawing, out: Path) -> Path:
    places = _choose(len(drawing.own))
    own = drawing.own
    rows = [own.rows[place] for place in places]
    images: list[NDArray[np.uint8]] = [
        colour_mask(read_mask_u8(own.folder / str(row.mask_file_name))) for row in rows
    ]
    images += [read_gray_u8(own.folder / row.file_name) for row in rows]
    titles = ["mask", "real"]
    for arm in config.arms:
        folder = find_set(config, arm, 0, OWN)
        drawn = load_frames(folder)
        images += [read_gray_u8(folder / drawn[place].file_name) for place in places]
        titles.append(arm)
    labels = [word for title in titles for word in (title, *[""] * (len(places) - 1))]
    write_image(out, contact_sheet(images, columns=len(places), labels=labels, cell=CELL))
    return out


def _write_styles(config: SurveyConfig, drawing: Drawing, out: Path) -> Path:
    row = drawing.own.rows[0]
    images, labels = [], list[str]()
    for arm in config.arms:
        images.append(colour_mask(read_mask_u8(drawing.own.folder / str(row.mask_file_name))))
        labels.append(arm)
        for vendor in drawing.vendors:
            folder = find_set(config, arm, 0, name_style(vendor, drawing.vendors))
            images.append(read_gray_u8(folder / load_frames(folder)[0].file_name))
            labels.append(vendor)
    columns = 1 + len(drawing.vendors)
    write_image(out, contact_sheet(images, columns=columns, labels=labels, cell=CELL))
    return out


def _choose(num: int) -> list[int]:
    """Places spread over a set, so that neighbours, which may be of one patient, are not shown."""
    return sorted({round(float(place)) for place in np.linspace(0, num - 1, NUM_MASKS)})
