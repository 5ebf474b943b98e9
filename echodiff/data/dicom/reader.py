"""Read the frames of an ultrasound clip or MR series: grey, windowed, cropped, without text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.data.dicom.files import (
    MOST_VALUES,
    check_size,
    iter_frames,
    naming,
    read_number,
    read_tags,
)
from echodiff.data.dicom.frames import list_frames
from echodiff.data.dicom.windows import (
    Window,
    apply_window,
    choose_window,
    find_full_window,
    rescale,
)
from echodiff.data.records import Case, Facts, Shot
from echodiff.data.screens.burned_text import Box, find_text, mask_text
from echodiff.data.screens.sector import (
    crop_to,
    find_region,
    find_screen,
    find_sector,
)
from echodiff.errors import InputError
from echodiff.images import resize_u8, to_gray_u8

COLOUR_DIFFERENCE = 20
"""Smallest difference of two channels, in grey levels, that marks screen graphics or Doppler."""
GRAPHICS_SHARE = 0.02
"""Share of the image above which constant colour is Doppler rather than graphics."""
STEADY_FRAMES = 8
"""Text stays unchanged for at least this many frames, about a quarter of a second. It is searched
for in their minimum, which has no speckle."""
INSIDE_SHARE = 0.1
"""Share of a text's box that must lie in the sector for the text to count as inside."""


MASK, MASK_INSIDE, REFUSE, KEEP = BURNED_TEXT = ("mask", "mask-inside", "refuse", "keep")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Options for reading clips and series."""

    every: int
    window: str | None
    burned_text: str
    is_cropped: bool = True
    """Whether ultrasound is cropped to its sector."""
    with_doppler: bool = False


@dataclass(frozen=True, kw_only=True)
class Cine:
    """Result of one pass over the frames of a clip or series; images are (H, W)."""

    kept: list[NDArray[Any]]
    """Every k-th frame."""
    steady: list[NDArray[Any]]
    """Minimum over each block of `STEADY_FRAMES` frames; (H, W, 3) for colour."""
    low: NDArray[Any]
    """Minimum of every pixel over all frames."""
    high: NDArray[Any]
    graphics: NDArray[np.bool_]
    """Pixels that are coloured in every frame."""
    num_frames: int


def read_clip(case: Case, *, reading: Reading) -> Iterator[Shot]:
    """Read the frames of an ultrasound file, cropped to the sector and black outside it."""
    path = case.path
    tags = read_tags(path)
    pixel = check_size(path, tags, every=reading.every)
    with naming(path):
        shape = (pixel.rows, pixel.columns)
        region = find_region(tags, shape, with_doppler=reading.with_doppler)
        box = np.s_[region.top : region.bottom, region.left : region.right]
        cine = gather((frame[box] for frame in iter_frames(path, tags)), reading.every)
        if pixel.samples == 1 and tags.PhotometricInterpretation != "PALETTE COLOR":
            cine = to_8_bits(cine, [tags], reading.window)
        times = list_times(tags, cine.num_frames)
    without_graphics = drop_graphics(cine)
    images, boxes = keep_sector(
        without_graphics, reading.burned_text, is_cropped=reading.is_cropped
    )
    is_rid = bool(boxes) or without_graphics is not cine
    if reading.burned_text != KEEP and not is_rid:
        is_rid = has_text_around(path, tags, box)
    if region.spacing_mm is None and abs(region.stretch - 1) > 0.01:
        height = max(1, round(len(images[0]) * region.stretch))
        images = [resize_u8(image, (height, image.shape[1])) for image in images]
    yield from list_shots(images, reading.every, region.spacing_mm, times, is_rid=is_rid)


def has_text_around(path: Path, tags: Any, box: tuple[slice, slice]) -> bool:
    """Whether there is text outside the region of a clip, in the part that is cropped away."""
    frame = next(iter_frames(path, tags, [0]))
    if frame[box].shape == frame.shape:
        return False
    if frame.ndim == 2:
        frame = apply_window(frame, Window(0, 2.0 ** int(tags.BitsStored) - 1))
    frame = frame.copy()
    frame[box] = 0
    return bool(find_text(frame))


def read_series(case: Case, *, reading: Reading) -> Iterator[Shot]:
    """Read the frames of one slice of an MR series, in the order of `case.where`, which holds pairs
    of a path and the index of a frame in it."""
    where: Sequence[tuple[Path, int]] = case.where
    files = {path: read_tags(path) for path in dict.fromkeys(path for path, _ in where)}
    with naming(case.path):
        frames = {path: list_frames(tags) for path, tags in files.items()}
        tags = [frames[path][index] for path, index in where]
        cine = gather(iter_series(where, files, tags), reading.every)
        cine = to_8_bits(cine, tags, reading.window)
        sides = [float(side) for side in tags[0].get("PixelSpacing") or ()]
        times = list_trigger_times([read_number(dataset, "TriggerTime") for dataset in tags])
        if len(files) == 1 and not times[0]:
            times = list_times(files[where[0][0]], len(where))
    boxes = list_texts(cine, reading.burned_text)
    high = mask_text(cine.high, boxes)
    images = refuse_or_mask(
        cine.kept, boxes, find_sector(high, high, is_clip=False), reading.burned_text
    )
    spacing_mm = (sides[0], sides[1]) if len(sides) == 2 and min(sides) > 0 else None
    yield from list_shots(images, reading.every, spacing_mm, times, is_rid=bool(boxes))


def list_shots(
    images: Sequence[NDArray[np.uint8]],
    every: int,
    spacing_mm: tuple[float, float] | None,
    times: Sequence[Facts],
    *,
    is_rid: bool,
) -> Iterator[Shot]:
    """Yield the kept frames as shots, named by their index among all frames.

    is_rid: text or screen graphics were cropped away or blackened.
    """
    for index, image in zip(range(0, len(images) * every, every), images, strict=True):
        yield Shot(
            name=f"frame-{index:04d}",
            image_u8=image,
            phase=str(index),
            spacing_mm=spacing_mm,
            facts=times[index],
            burned_text="removed" if is_rid else "",
        )


def iter_series(
    where: Sequence[tuple[Path, int]], files: Mapping[Path, Any], tags: Sequence[Any]
) -> Iterator[NDArray[Any]]:
    """Yield the rescaled values of a series in its order, one file at a time."""
    own = iter(tags)
    for path, places in groupby(where, key=itemgetter(0)):
        pixel = check_size(path, files[path], every=MOST_VALUES, files=len(where))
        if pixel.samples != 1:
            raise InputError(f"{path}: expected grey frames")
        for stored in iter_frames(path, files[path], [index for _, index in places]):
            with naming(path):
                yield rescale(stored, next(own))


def gather(frames: Iterable[NDArray[Any]], every: int) -> Cine:
    """Read all frames once; keep every k-th as grey, and the extremes of every pixel."""
    kept, steady, block = [], [], []
    low = high = graphics = None
    number_seen = 0
    for number_seen, frame in enumerate(frames, start=1):
        is_colour = frame.ndim == 3
        grey = to_gray_u8(frame) if is_colour else frame
        coloured = (
            np.ptp(frame, axis=-1) > COLOUR_DIFFERENCE if is_colour else np.zeros(grey.shape, bool)
        )
        low = grey if low is None else np.minimum(low, grey)
        high = grey if high is None else np.maximum(high, grey)
        graphics = coloured if graphics is None else graphics & coloured
        if (number_seen - 1) % every == 0:
            kept.append(grey.copy())
        block.append(frame)
        if len(block) == STEADY_FRAMES:
            steady.append(np.minimum.reduce(block))
            block = []
    if low is None or high is None or graphics is None:
        raise InputError("holds no image")
    if block:
        steady.append(np.minimum.reduce(block))
    return Cine(
        kept=kept, steady=steady, low=low, high=high, graphics=graphics, num_frames=number_seen
    )


def to_8_bits(cine: Cine, tags: Sequence[Any], option: str | None) -> Cine:
    """Apply one window to a whole clip or series."""
    window = choose_window(option, tags, cine.kept, find_full_window(tags[0]))
    is_inverted = tags[0].PhotometricInterpretation == "MONOCHROME1"

    def convert(values: NDArray[Any]) -> NDArray[np.uint8]:
        return apply_window(values, window, is_inverted=is_inverted)

    low, high = convert(cine.low), convert(cine.high)
    kept = [convert(image) for image in cine.kept]
    return replace(
        cine,
        kept=kept,
        # In an inverted image the smallest stored values are the brightest.
        steady=kept if is_inverted else [convert(image) for image in cine.steady],
        low=np.minimum(low, high),
        high=np.maximum(low, high),
    )


def drop_graphics(cine: Cine) -> Cine:
    """Blacken screen graphics, such as the orientation mark: small, and coloured in every frame.

    Colour Doppler changes with time or fills much of the image; it is kept as grey.
    """
    if not 0 < cine.graphics.mean() < GRAPHICS_SHARE:
        return cine
    keep = ~ndimage.binary_dilation(cine.graphics, iterations=2)
    return replace(
        cine,
        kept=[image * keep for image in cine.kept],
        low=cine.low * keep,
        high=cine.high * keep,
    )


def list_texts(cine: Cine, option: str) -> list[Box]:
    """Find the texts that stay in place over a block of frames."""
    if option == KEEP:
        return []
    return list(dict.fromkeys(box for image in cine.steady for box in find_text(image)))


def keep_sector(
    cine: Cine, option: str, *, is_cropped: bool = True
) -> tuple[list[NDArray[np.uint8]], list[Box]]:
    """Crop the kept frames to the sector and blacken the rest; return them with the boxes of the
    texts, which are treated according to `option`."""
    boxes = list_texts(cine, option)
    is_clip = cine.num_frames > 1
    low, high = cine.low, cine.high
    if not is_clip:
        # In a single frame text differs from the background just as the sector does.
        low = high = mask_text(high, boxes, find_screen(high))
    sector = find_sector(low, high, is_clip=is_clip)
    crop = crop_to(sector)
    images = refuse_or_mask(cine.kept, boxes, sector, option)
    if not is_cropped:
        return images, boxes
    return [np.where(sector, image, 0)[crop].astype(np.uint8) for image in images], boxes


def refuse_or_mask(
    images: Sequence[NDArray[np.uint8]],
    boxes: Sequence[Box],
    scan: NDArray[np.bool_],
    option: str,
) -> list[NDArray[np.uint8]]:
    """Blacken texts or raise InputError, depending on `option`.

    By default text inside the sector is refused: a model would learn a black bar over the heart
    as anatomy, and a bar of the wrong size would still show a name.
    """
    inside = [b for b in boxes if scan[b.top : b.bottom, b.left : b.right].mean() > INSIDE_SHARE]
    if boxes and option == REFUSE:
        raise InputError("has text burned into its pixels (--burned-text refuse)")
    if inside and option == MASK:
        box = inside[0]
        raise InputError(
            f"has text burned into the sector, near ({box.left}, {box.top}); --burned-text "
            f"{MASK_INSIDE} blackens it, {KEEP} leaves it"
        )
    return [mask_text(image, boxes) for image in images]


def list_times(tags: Any, num_frames: int) -> list[Facts]:
    """Return `time_ms` since the first frame and `frame_time_ms` of every frame, if known."""
    vector = tags.get("FrameTimeVector")
    vector = [float(step) for step in vector] if isinstance(vector, Sequence) else []
    step = read_number(tags, "FrameTime")
    if len(vector) == num_frames > 1:
        times = np.cumsum([0.0, *vector[1:]])
        step = float(np.mean(vector[1:]))
    elif step is not None and step > 0 and num_frames > 1:
        times = step * np.arange(num_frames)
    else:
        return [{}] * num_frames
    return [_time_facts(time, step) for time in times.tolist()]


def list_trigger_times(triggers: Sequence[float | None]) -> list[Facts]:
    """Same as `list_times` for an MR cine, whose times count from the R wave."""
    known = [time for time in triggers if time is not None]
    if len(known) < len(triggers) or len(known) < 2 or (np.diff(known) <= 0).any():
        return [{}] * len(triggers)
    step = float(np.median(np.diff(known)))
    return [_time_facts(time, step) for time in known]


def _time_facts(time: float, step: float) -> Facts:
    return {"time_ms": round(time, 3), "frame_time_ms": round(step, 3)}
