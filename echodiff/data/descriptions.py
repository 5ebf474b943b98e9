"""Captions from what a file name and a mask tell, and nothing that they do not."""

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label

_VIEWS = {"A4C": "apical 4-chamber view", "A2C": "apical 2-chamber view"}
_PHASES = {"ED": "end of diastole", "ES": "end of systole"}
_CHAMBERS = {
    Label.LV: "left ventricle",
    Label.LA: "left atrium",
    Label.RV: "right ventricle",
    Label.RA: "right atrium",
}


def describe(view: str | None, phase: str | None, mask_u8: NDArray[np.uint8] | None) -> str:
    """A caption for a frame: view, phase, and from the mask which chambers show and their shape.

    `mask_u8` is (H, W) of `Label` values. Sizes are compared within the picture, as without pixel
    spacing nothing can be said in mm.
    """
    parts = ["echocardiogram"]
    parts += [_VIEWS.get(view, f"{view} view")] if view else []
    parts += [_PHASES.get(phase, f"phase {phase}")] if phase else []
    if mask_u8 is not None:
        parts += _describe_mask(mask_u8)
    return ", ".join(parts)


def _describe_mask(mask_u8: NDArray[np.uint8]) -> list[str]:
    areas = {label: int((mask_u8 == label).sum()) for label in _CHAMBERS}
    seen = [name for label, name in _CHAMBERS.items() if areas[label]]
    parts = [f"{' and '.join(seen)} visible"] if seen else []
    if areas[Label.LV]:
        parts.append(f"{_shape_word(mask_u8 == Label.LV)} left ventricle")
    if areas[Label.LV] and areas[Label.LA]:
        is_larger = areas[Label.LA] > areas[Label.LV]
        word = "larger" if is_larger else "smaller"
        parts.append(f"left atrium {word} than the left ventricle")
    return parts


def _shape_word(region: NDArray[np.bool_]) -> str:
    """By the ratio of the axes of the ellipse with the region's second moments."""
    points = np.argwhere(region)
    if len(points) < 3:
        return "small"
    small, large = np.sqrt(np.linalg.eigvalsh(np.cov(points.T)).clip(1e-6))
    return "elongated" if large / small > 1.75 else "rounded"
