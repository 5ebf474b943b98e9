"""Draw a sheet that shows what was cut from images, without showing more than the frames do.

Removed parts are drawn so coarsely that no letter can be read: text as plain boxes, the
surroundings of the sector as a mosaic.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from echodiff.contact_sheet import contact_sheet
from echodiff.data.screens.burned_text import Box
from echodiff.images import resize_u8, to_gray_u8, write_image

SHEET = "before_after.png"
MOST_SHOWN = 24
SIDE = 256
"""Height and width of one image on the sheet."""
MOSAIC = 20
"""Tiles along the longer side of the mosaic: each is larger than a scanner's letters."""
BOX_COLOUR, SCAN_COLOUR = (220, 60, 40), (40, 200, 90)


@dataclass
class Seen:
    """Observations made while reading a data set, besides its frames."""

    left_out: dict[str, str] = field(default_factory=dict)
    """Kind of every valid case that was skipped, by its name."""
    previews: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    """The first `MOST_SHOWN`, by the name of their frame."""
    changed: set[str] = field(default_factory=set)
    """Names of all frames that were changed: with --annotated each is read twice."""

    @property
    def num_changed(self) -> int:
        return len(self.changed)

    def add_preview(self, name: str, preview_u8: NDArray[np.uint8]) -> None:
        self.changed.add(name)
        if len(self.previews) < MOST_SHOWN:
            self.previews[name] = preview_u8


def draw_preview(
    before_u8: NDArray[np.uint8],
    after_u8: NDArray[np.uint8],
    scan: NDArray[np.bool_] | None,
    hidden: Sequence[Box],
) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3), before and after -> (2, SIDE, SIDE, 3).

    scan: pixels that were kept, if the rest was cropped; hidden: texts that were blackened.
    """
    colour = before_u8 if before_u8.ndim == 3 else np.repeat(before_u8[..., None], 3, axis=-1)
    shown = colour.copy()
    if scan is not None:
        height, width = scan.shape
        tiles = MOSAIC / max(height, width)
        coarse = (max(1, round(height * tiles)), max(1, round(width * tiles)))
        mosaic = Image.fromarray(resize_u8(colour, coarse)).resize(
            (width, height), Image.Resampling.NEAREST
        )
        shown = np.where(scan[..., None], colour, np.asarray(mosaic) // 2 + 20).astype(np.uint8)
        edge = ndimage.binary_dilation(scan, iterations=max(2, height // 200)) & ~scan
        shown[edge] = SCAN_COLOUR
    image = Image.fromarray(shown)
    draw = ImageDraw.Draw(image)
    for box in hidden:
        draw.rectangle([box.left, box.top, box.right - 1, box.bottom - 1], fill=BOX_COLOUR)
    after = to_gray_u8(after_u8)
    return np.stack([_fit(np.asarray(image)), _fit(np.repeat(after[..., None], 3, axis=-1))])


def write_sheet(folder: Path, seen: Seen) -> None:
    """Write `SHEET` into a frames folder, unless nothing was cut."""
    path = folder / SHEET
    if not seen.previews:
        path.unlink(missing_ok=True)
        return
    images = [image for preview in seen.previews.values() for image in preview]
    labels = [label for name in seen.previews for label in (name, "after")]
    write_image(path, contact_sheet(images, columns=6, labels=labels, cell=SIDE))


def list_findings(
    seen: Seen, counts: Mapping[tuple[str, str], int], num_frames: int, over_scan: str
) -> Iterator[str]:
    """Return lines that report text removed or kept, and cases skipped."""
    said = []
    if removed := counts.get(("burned-in text", "removed"), 0):
        said.append(f"text removed in {removed} of {num_frames} images")
    if kept := counts.get(("burned-in text", "kept"), 0):
        said.append(
            f"warning: text found and left in {kept} of {num_frames} images (--crop sector --text "
            "mask removes it, --text refuse rejects such images, --text keep does not search)"
        )
    kinds = Counter(seen.left_out.values())
    if inside := kinds.pop(over_scan, 0):
        said.append(f"{inside} with {over_scan} left out: --text mask-inside blackens it")
    if kinds:
        named = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        said.append(f"{named} left out: --keep-doppler keeps them")
    if said:
        yield "; ".join(said)
    if seen.previews:
        only = f", the first {len(seen.previews)}" if seen.num_changed > len(seen.previews) else ""
        yield f"before and after of {seen.num_changed} images{only}: {SHEET} in the folder"


def _fit(image_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fit an image into a square of side SIDE, centred."""
    height, width = image_u8.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    square = np.zeros((SIDE, SIDE, 3), np.uint8)
    top, left = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    square[top : top + size[0], left : left + size[1]] = resize_u8(image_u8, size)
    return square
