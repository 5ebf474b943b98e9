"""Check one image and its mask, and measure what is compared with the other images."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label
from echodiff.data.check.disclosure import find_identifiers
from echodiff.data.check.duplicates import Sketch, hash_pixels, sketch
from echodiff.data.check.faults import Fault
from echodiff.data.check.file_bytes import find_beyond_pixels_of
from echodiff.decoding import describe_oddities
from echodiff.embedded import read_embedded
from echodiff.errors import InputError
from echodiff.images import read_image_u8, read_mask_u8, to_gray_u8

COLOUR_DIFFERENCE = 8
"""Largest difference between the channels of a grey JPEG, in grey levels."""
MOST_WHITE = 0.05
"""Share of pixels of value 255 above which an image is saturated."""
LEAST_CONTRAST = 32
"""Smallest normal difference between the darkest and the brightest pixel, in grey levels."""


class CheckedImage(NamedTuple):
    """The faults and measurements of an image; its pixels are not kept."""

    faults: tuple[Fault, ...]
    size: tuple[int, int] | None = None
    """Height and width; None if the image cannot be read."""
    mean: float = 0
    """Mean of the grey levels, 0..255."""
    spread: float = 0
    """Standard deviation of the grey levels."""
    digest: bytes = b""
    """Hash of size and pixels."""
    sketch: Sketch | None = None
    """Perceptual hash; None for an image with a single grey level."""


def check_image(
    names: tuple[str, str | None],
    *,
    folder: Path,
    with_text: bool,
    with_ocr: bool = False,
    white_level: int | None = None,
) -> CheckedImage:
    """Read and check one image and its mask, by their names in the folder.

    with_text: search for burned-in text. with_ocr: search again by OCR if none was found.
    white_level: white level of images of more than 8 bits.
    """
    file, mask_file = names
    try:
        image = read_image_u8(folder / file, max_value=white_level)
    except (InputError, OSError) as error:
        return CheckedImage((_unreadable(folder, file, error),))
    gray = to_gray_u8(image)
    faults = [
        *_find_pixel_faults(file, image, gray),
        *_find_embedded_faults(folder, file),
        *(_find_text_faults(file, image, with_ocr) if with_text or with_ocr else ()),
        *(_find_mask_faults(folder, mask_file, gray.shape) if mask_file else ()),
    ]
    height, width = gray.shape
    return CheckedImage(
        tuple(faults),
        (height, width),
        float(gray.mean()),
        float(gray.std()),
        hash_pixels(image),
        sketch(gray),
    )


def _find_pixel_faults(
    file: str, image: NDArray[np.uint8], gray: NDArray[np.uint8]
) -> Iterator[Fault]:
    contrast = int(np.ptp(gray))
    if contrast == 0:
        yield Fault("constant", file, f"every pixel is {gray.flat[0]}")
    elif contrast < LEAST_CONTRAST:
        yield Fault("low-contrast", file, f"grey levels only from {gray.min()} to {gray.max()}")
    white = float((gray == 255).mean())
    if contrast and white > MOST_WHITE:
        yield Fault("saturated", file, f"{white:.0%} of the pixels are pure white")
    if image.ndim == 3:
        coloured = float((np.ptp(image, axis=-1) > COLOUR_DIFFERENCE).mean())
        if coloured:
            yield Fault("colour", file, f"{coloured:.2%} of the pixels have colour")


_EMBEDDED = re.compile(r"a (?:tEXt|zTXt|iTXt|eXIf) chunk|a comment|a APP1 segment")
"""Chunks and segments whose content `read_embedded` returns."""


def _find_embedded_faults(folder: Path, file: str) -> Iterator[Fault]:
    if oddities := describe_oddities(folder / file):
        yield Fault("other-readers", file, ", ".join(oddities))
    carried = read_embedded(folder / file)
    # `carried` lists texts and EXIF by name; of other bytes only the kind is known.
    beyond = [one for one in find_beyond_pixels_of(folder / file) if not _EMBEDDED.match(one)]
    if names := sorted([*carried, *beyond]):
        yield Fault("picture-metadata", file, f"contains {', '.join(names)}")
    for place, text in carried.items():
        for kind, found in find_identifiers(text):
            yield Fault(kind, file, f"its metadata ({place}) contain {found!r}")


def _find_text_faults(file: str, image: NDArray[np.uint8], with_ocr: bool) -> Iterator[Fault]:
    from echodiff.data.screens.burned_text import find_text
    from echodiff.data.screens.ocr import find_text_by_ocr

    by = ""
    boxes = find_text(image)
    if not boxes and with_ocr:
        by, boxes = " (found by OCR only)", find_text_by_ocr(image)
    if boxes:
        box = boxes[0]
        more = f" and {len(boxes) - 1} more" if len(boxes) > 1 else ""
        place = f"x {box.left}-{box.right}, y {box.top}-{box.bottom}"
        yield Fault("burned-in-text", file, f"text at {place}{more}{by}")


def _find_mask_faults(folder: Path, file: str, shape: tuple[int, ...]) -> Iterator[Fault]:
    if not (folder / file).is_file():
        return  # reported as missing-mask
    try:
        mask = read_mask_u8(folder / file)
    except (InputError, OSError) as error:
        yield _unreadable(folder, file, error)
        return
    values = np.unique(mask).tolist()
    unknown = [str(value) for value in values if value not in set(Label)]
    if unknown:
        message = f"has the values {', '.join(unknown)}; labels are 0 to {max(Label)}"
        yield Fault("unknown-label", file, message)
    if mask.shape != shape:
        sizes = f"{mask.shape[1]}x{mask.shape[0]}, its image is {shape[1]}x{shape[0]}"
        yield Fault("mask-size", file, f"is {sizes}")
    if values == [Label.BACKGROUND]:
        yield Fault("empty-mask", file, "has background only")
    yield from _find_embedded_faults(folder, file)


def _unreadable(folder: Path, file: str, error: Exception) -> Fault:
    return Fault("unreadable", file, str(error).removeprefix(f"{folder / file}: "))
