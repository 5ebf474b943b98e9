"""Convert images and masks to the input of a network, and its output back to images."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from echodiff.anatomy import Label
from echodiff.images import pad_square, resize_mask, resize_u8, to_gray_u8

Values = Literal["pm1", "01", "labels"]
"""What bytes become in a network: -1..1, 0..1, or label numbers as they are."""

LABEL_GREYS: dict[Label, int] = {
    Label.BACKGROUND: 40, Label.LV: 70, Label.VALVE: 70, Label.RV: 100, Label.LA: 130,
    Label.RA: 160, Label.LV_MYOCARDIUM: 190, Label.ATRIAL_WALL: 200, Label.RV_MYOCARDIUM: 220,
    Label.AORTA: 220, Label.PULMONARY_ARTERY: 220, Label.VEIN: 220, Label.PERICARDIUM: 250,
}  # fmt: skip
"""Grey of each label where masks are translated as images (Gilbert et al., IEEE TMI 2021)."""


def prepare_image(image_u8: NDArray[np.uint8], channels: int, side: int) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) -> (channels, side, side): padded to a square with black, resized."""
    image = resize_u8(pad_square(image_u8), (side, side))
    if channels == 1:
        return to_gray_u8(image)[None]
    return image.transpose(2, 0, 1) if image.ndim == 3 else np.repeat(image[None], 3, axis=0)


def prepare_mask(mask_u8: NDArray[np.uint8], labels: Sequence[int], side: int) -> NDArray[np.uint8]:
    """(H, W) label numbers -> (1, side, side) of those that are kept, by nearest neighbour."""
    mask = resize_mask(pad_square(mask_u8), (side, side))
    return (np.where(np.isin(mask, labels), mask, 0) if labels else mask).astype(np.uint8)[None]


def paint_mask(mask_u8: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """(1, S, S) label numbers -> (channels, S, S) grey levels of `LABEL_GREYS`."""
    greys = np.zeros(256, dtype=np.uint8)
    greys[list(LABEL_GREYS)] = list(LABEL_GREYS.values())
    return np.repeat(greys[mask_u8], channels, axis=0)


def to_values(image_u8: torch.Tensor, values: Values) -> torch.Tensor:
    """Bytes of any shape as float32 in the range that `values` names."""
    image = image_u8.float()
    return {"pm1": lambda: image / 127.5 - 1, "01": lambda: image / 255, "labels": lambda: image}[
        values
    ]()


def from_values(image: torch.Tensor, values: Values) -> NDArray[np.uint8]:
    """A network's image (C, H, W) as (H, W) or (H, W, 3) uint8; outside the range is clipped."""
    scaled = {"pm1": lambda: (image + 1) * 127.5, "01": lambda: image * 255,
              "labels": lambda: image}[values]()  # fmt: skip
    image_u8 = scaled.detach().round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return np.ascontiguousarray(image_u8[0] if len(image_u8) == 1 else image_u8.transpose(1, 2, 0))
