"""Make the images of all sources technically equal, so that only what they show can tell them apart.

Every image goes through the same steps, whatever its source:
1. grey, padded to a square, reduced to one size by one filter. The size is at most 15/16 of the
   smallest image: no image is enlarged, and an earlier 8x8 grid of JPEG falls between pixels;
2. black below a floor, where sources differ in noise that no eye sees;
3. black outside the common field: where not every source ever shows tissue, a mark, a scale or a
   fan's shape would tell one of them;
4. one grey scale, by a monotone curve per image through a few levels of its tissue;
5. one JPEG round trip with one quality on one grid;
6. a PNG without metadata and without compression, whose length depends on the size alone.

Levels are floats until step 5, so that no gap in the histogram tells of a stretched image.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from echodiff.errors import InputError
from echodiff.images import pad_square

Levels = NDArray[np.float32]
"""Grey levels 0..255 as floats."""

REDUCTION = 15 / 16
"""Largest size over the smallest image's."""
MAX_SIDE = 512
FLOOR = 10
"""Grey levels (0..255) below which an image is black."""
MIN_PRESENCE = 0.05
"""Share of a source's images with tissue at a place, for the place to belong to the field."""
MIN_FIELD = 0.1
"""Smallest share of the image that the common field may have."""
PERCENTS = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 100)
"""Percentiles of the tissue through which the tone curve goes."""
BLACK, WHITE = 1, 99.5
"""Percentiles of the tissue that --grey range puts at the same level."""
TOP = 250.0
"""Grey level of the percentile WHITE: above it, highlights keep their order."""

Grey = Literal["tone", "range"]


@dataclass(frozen=True)
class Standard:
    """What all images of a study have in common."""

    side: int
    field: NDArray[np.bool_]
    """(side, side) places that may show anything."""
    levels: NDArray[np.float64]
    """(len(PERCENTS),) grey levels of the tissue's percentiles."""
    grey: Grey
    quality: int
    """JPEG quality of the round trip."""

    def apply(self, image_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image (H, W) as every reader sees it: (side, side) uint8."""
        levels = reduce_image(image_u8, self.side)
        levels[~self.field] = 0
        levels = map_tone(levels, self.levels, self.grey)
        levels[~self.field] = 0
        return round_trip(np.clip(np.rint(levels), 0, 255).astype(np.uint8), self.quality)


def choose_side(smallest: int) -> int:
    """The largest multiple of 8 pixels that reduces an image of this side by REDUCTION."""
    side = min(MAX_SIDE, int(smallest * REDUCTION)) // 8 * 8
    if side < 48:
        raise InputError(f"the smallest image has {smallest} pixels; 52 or more are needed")
    return side


def find_standard(
    read: Mapping[str, Sequence[Callable[[], NDArray[np.uint8]]]],
    *,
    side: int,
    grey: Grey,
    quality: int,
) -> Standard:
    """Find the common field and the common levels of all sources; each source counts the same.

    read: functions that read the images (H, W) of each source. InputError if the sources show
    tissue in different places.
    """
    presence = {name: np.zeros((side, side)) for name in read}
    for name, images in read.items():
        for image in images:
            presence[name] += (reduce_image(image(), side) > 0) / len(images)
    field = find_field([*presence.values()])
    levels = []
    for images in read.values():
        some = []
        for image in images:
            reduced = reduce_image(image(), side)
            tissue = reduced[field & (reduced > 0)]
            if tissue.size:
                some.append(np.percentile(tissue, PERCENTS))
        if not some:
            raise InputError("a source shows nothing inside the field common to all sources")
        levels.append(np.mean(some, axis=0))
    return Standard(side, field, _scale(np.mean(levels, axis=0)), grey, quality)


def reduce_image(image_u8: NDArray[np.uint8], side: int) -> Levels:
    """(H, W) uint8 as (side, side) levels from 0, black below FLOOR."""
    square = Image.fromarray(pad_square(image_u8).astype(np.float32))
    reduced = square.resize((side, side), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(reduced) - FLOOR, 0, 255 - FLOOR).astype(np.float32)


def find_field(presences: Sequence[NDArray[np.float64]]) -> NDArray[np.bool_]:
    """The places (side, side) where every source shows tissue in MIN_PRESENCE of its images.

    presences: share of images with tissue at each place, one array per source. The field is smooth,
    in one piece and without holes: speckle does not shape it.
    """
    side = len(presences[0])
    smooth = [ndimage.gaussian_filter(one, side / 60) for one in presences]
    places = np.min(smooth, axis=0) >= MIN_PRESENCE
    pieces, num_pieces = ndimage.label(places)
    if num_pieces:
        sizes = ndimage.sum_labels(places, pieces, range(1, num_pieces + 1))
        places = ndimage.binary_fill_holes(pieces == 1 + int(np.argmax(sizes)))
    if places.mean() < MIN_FIELD:
        raise InputError(
            f"the sources show tissue together in {100 * places.mean():.0f} % of the image alone; "
            "are they of one view and crop?"
        )
    return np.asarray(places, dtype=bool)


def map_tone(levels: Levels, target: NDArray[np.float64], grey: Grey) -> Levels:
    """Map the tissue of one image (its levels above 0) to common levels; 0 stays 0.

    target: levels of PERCENTS. The curve is monotone: nothing that is brighter becomes darker.
    """
    tissue = levels[levels > 0]
    if not tissue.size:
        return levels
    wanted = np.arange(len(PERCENTS))
    if grey == "range":
        wanted = np.array([PERCENTS.index(BLACK), PERCENTS.index(WHITE)])
    own = np.percentile(tissue, np.array(PERCENTS)[wanted])
    own = np.maximum.accumulate(own + 1e-3 * np.arange(len(own)))
    goal = target[wanted]
    if own[-1] <= own[0] + 1e-2:
        return levels
    mapped = np.interp(levels, own, goal)
    # Past the last level on either side the curve goes on to its end of the scale.
    below, above = levels < own[0], levels > own[-1]
    mapped[below] = levels[below] / own[0] * goal[0]
    if grey == "range":
        reach = max(255 - FLOOR - own[-1], 1.0)
        mapped[above] = goal[-1] + (levels[above] - own[-1]) / reach * (255 - goal[-1])
    mapped[levels <= 0] = 0
    return mapped.astype(np.float32)


def round_trip(image_u8: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Write (H, W) as JPEG and read it again."""
    buffer = io.BytesIO()
    Image.fromarray(image_u8).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), dtype=np.uint8)


def encode_png(image_u8: NDArray[np.uint8]) -> bytes:
    """(H, W) as PNG with the chunks IHDR, IDAT and IEND, stored and not compressed."""
    buffer = io.BytesIO()
    Image.fromarray(image_u8).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def _scale(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Levels stretched so that WHITE is at TOP, and the last at 255."""
    scaled = levels * (TOP / levels[PERCENTS.index(WHITE)])
    scaled[-1] = 255.0
    return np.maximum.accumulate(np.minimum(scaled, 255.0))
