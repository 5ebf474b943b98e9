"""Make the images of all sources technically equal: only what they show can tell them apart.

Every image goes through the same steps, whatever its source:
1. grey, padded to a square, reduced to one size by one filter. The size is at most 15/16 of the
   smallest image: no image is enlarged, and an earlier 8x8 grid of JPEG falls between pixels;
2. black outside the fan, where sources differ in noise that no eye sees;
3. black outside the common field: where not every source ever shows a fan, a mark, a scale or the
   fan's shape would tell one of them;
4. one grey scale, by a monotone curve per image through a few levels of its fan;
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
from skimage.morphology import convex_hull_image

from echodiff.errors import InputError
from echodiff.images import pad_square

Levels = NDArray[np.float32]
"""Grey levels 0..255 as floats."""

REDUCTION = 15 / 16
"""Largest size over the smallest image's."""
MAX_SIDE = 512
FLOOR = 10
"""Grey level (0..255) above which a pixel shows that the fan is there."""
MIN_PRESENCE = 0.05
"""Share of a source's images with their fan at a place, for the place to belong to the field."""
MIN_FIELD = 0.1
"""Smallest share of the image that the common field may have."""
PERCENTS = (0, 2, 10, 25, 50, 75, 90, 97, 99.5, 100)
"""Percentiles of the fan through which the tone curve goes."""
BLACK, WHITE = 2, 99.5
"""Percentiles of the fan that --grey range puts at the same level."""
TOP = 250.0
"""Grey level of the percentile WHITE: above it, highlights keep their order."""
MAX_GAIN = 4.0
"""Steepest part of a tone curve: what is nearly black keeps its noise below what eyes see."""

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
        shown = find_fan(levels) & self.field
        shaded = np.zeros_like(levels)
        shaded[shown] = map_tone(levels[shown], self.levels, self.grey)
        return round_trip(np.rint(shaded).astype(np.uint8), self.quality)


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
    their fans in different places.
    """
    presence = {name: np.zeros((side, side)) for name in read}
    for name, images in read.items():
        for image in images:
            presence[name] += find_fan(reduce_image(image(), side)) / len(images)
    field = find_field([*presence.values()])
    levels = []
    for images in read.values():
        some = []
        for image in images:
            reduced = reduce_image(image(), side)
            if (shown := reduced[find_fan(reduced) & field]).size:
                some.append(np.percentile(shown, PERCENTS))
        levels.append(np.mean(some, axis=0))
    return Standard(side, field, _scale(np.mean(levels, axis=0)), grey, quality)


def reduce_image(image_u8: NDArray[np.uint8], side: int) -> Levels:
    """(H, W) uint8 as (side, side) levels."""
    square = Image.fromarray(pad_square(image_u8).astype(np.float32))
    reduced = square.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(np.clip(np.asarray(reduced), 0, 255), dtype=np.float32)


def find_fan(levels: Levels) -> NDArray[np.bool_]:
    """The fan of an image (side, side): the convex hull of what is not black, specks left out.

    A fan of less than half a turn is convex; dark blood inside it belongs to it.
    """
    bright = ndimage.binary_opening(levels > FLOOR, iterations=1)
    if bright.sum() < 3:
        return np.zeros(levels.shape, dtype=bool)
    return np.asarray(convex_hull_image(bright), dtype=bool)


def find_field(presences: Sequence[NDArray[np.float64]]) -> NDArray[np.bool_]:
    """The places (side, side) where every source shows its fan in MIN_PRESENCE of its images.

    presences: share of images with their fan at each place, one array per source. The field is in
    one piece and without holes.
    """
    places = np.min(presences, axis=0) >= MIN_PRESENCE
    pieces, num_pieces = ndimage.label(places)
    if num_pieces:
        sizes = ndimage.sum_labels(places, pieces, range(1, num_pieces + 1))
        places = ndimage.binary_fill_holes(pieces == 1 + int(np.argmax(sizes)))
    if places.mean() < MIN_FIELD:
        raise InputError(
            f"the sources show something in common in {100 * places.mean():.0f} % of the image "
            "alone; are they of one view and crop?"
        )
    return np.asarray(places, dtype=bool)


def map_tone(shown: Levels, target: NDArray[np.float64], grey: Grey) -> Levels:
    """Map the levels (N,) inside the fan of one image to common levels (N,).

    target: levels of PERCENTS. The curve is monotone, so nothing that is brighter becomes darker,
    and at no place steeper than MAX_GAIN.
    """
    if not shown.size:
        return shown
    used = [BLACK, WHITE] if grey == "range" else list(PERCENTS)
    own = np.percentile(shown, used)
    goal = target[[PERCENTS.index(percent) for percent in used]]
    # Percentiles that share a level, such as those of black, become one knot.
    knots, places = np.unique(np.round(own, 3), return_inverse=True)
    wanted = np.bincount(places, weights=goal) / np.bincount(places)
    for place in range(1, len(knots)):
        reach = MAX_GAIN * (knots[place] - knots[place - 1])
        wanted[place] = min(wanted[place], wanted[place - 1] + reach)
    if grey == "range":
        knots = np.concatenate([[-1e-3], knots, [max(255.0, knots[-1] + 1)]])
        wanted = np.concatenate([[0.0], wanted, [255.0]])
    return np.interp(shown, knots, wanted).astype(np.float32)


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
