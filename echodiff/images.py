"""Read, write and resize images; convert between value ranges.

`image_u8` is (H, W) or (H, W, 3) uint8 in 0..255. A mask is (H, W) uint8 of `Label` values and is
never interpolated. Row 0 is the top: in an echocardiogram the transducer's side.
"""

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from echodiff.anatomy import PALETTE
from echodiff.decoding import (
    decode,
    decode_colours,
    decode_indices,
    opened,
    read_header,
    read_shown_size,
)
from echodiff.errors import InputError
from echodiff.files import written_beside

IMAGE_SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp",
})  # fmt: skip
_UNREAD_SUFFIXES = frozenset({
    ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jpx", ".pbm", ".pgm", ".pnm", ".ppm", ".psd",
    ".tga",
})  # fmt: skip
NOT_DATA = frozenset({
    "__macosx", "$recycle.bin", "#recycle", "system volume information", "lost+found",
    "thumb", "thumbs", "thumbnails",
})  # fmt: skip
"""Folders (in lower case) that systems and viewers leave among images, besides those whose name
begins with a dot (`.ipynb_checkpoints`) or an @ (`@eaDir`)."""

# Bits that scanners and converters use inside a 16-bit file.
_BIT_DEPTHS = (8, 10, 12, 14, 15, 16)


class Listing(NamedTuple):
    """Images found in a folder."""

    pictures: list[Path]
    """Sorted."""
    aside: Counter[str]
    """Number of skipped files, by their folder or by their suffix."""


def list_pictures(folder: Path, *, without: Path | None = None) -> Listing:
    """List every image in a folder and its subfolders; links to folders are not followed.

    Hidden files, folders without data (`NOT_DATA`), and the folder `without` are skipped.
    """
    found, aside = list[Path](), Counter[str]()
    for parent, folders, names in os.walk(folder):
        place = Path(parent)
        strange = next((f for f in place.relative_to(folder).parts if not is_data_folder(f)), None)
        if without is not None:
            folders[:] = [name for name in folders if not _is_same(place / name, without)]
        for path in (place / name for name in names if not name.startswith(".")):
            is_picture = path.suffix.lower() in IMAGE_SUFFIXES
            if is_picture and strange is None and path.is_file():
                found.append(path)
            elif is_picture or path.suffix.lower() in _UNREAD_SUFFIXES:
                aside[strange or path.suffix.lower()] += 1
    return Listing(sorted(found), aside)


def is_data_folder(name: str) -> bool:
    """Whether a folder of this name can hold data."""
    return not name.startswith((".", "@")) and name.lower() not in NOT_DATA


def read_image_u8(path: Path, *, max_value: int | None = None) -> NDArray[np.uint8]:
    """Read an image as (H, W) uint8 if all its colours are grey, else as (H, W, 3).

    The result is what a viewer shows: rotated by its EXIF orientation, black at 0, and transparent
    pixels over black. Integers of more than 8 bits are scaled by `max_value`, or else by the
    smallest usual bit depth that holds the image's largest value. Floating-point images must lie
    in 0..1. A file of several pages or frames is an InputError.
    """
    values = decode(Path(path))
    image = values if values.dtype == np.uint8 else _to_u8(values, path, max_value)
    is_grey = image.ndim == 3 and (image == image[..., :1]).all()
    return np.ascontiguousarray(image[..., 0] if is_grey else image)


def read_gray_u8(path: Path, *, max_value: int | None = None) -> NDArray[np.uint8]:
    """Read an image as (H, W) uint8; colour becomes its luma (ITU-R 601)."""
    return to_gray_u8(read_image_u8(path, max_value=max_value))


def read_mask_u8(path: Path) -> NDArray[np.uint8]:
    """Read an index mask as (H, W) uint8: the stored values, not their palette's colours.

    Grey of 1 to 32 bits, a palette, or three equal channels (`decoding.decode_indices`).
    """
    values = decode_indices(Path(path))
    if values.size and (values.min() < 0 or values.max() > 255):
        worst = values.min() if values.min() < 0 else values.max()
        raise InputError(f"{path}: label numbers must lie in 0..255, found {worst}")
    return values.astype(np.uint8)


def read_rgb_u8(path: Path) -> NDArray[np.uint8]:
    """Read a coloured mask as (H, W, 3) uint8; fully transparent pixels are black."""
    return decode_colours(Path(path))


def has_deep_pixels(path: Path) -> bool:
    """Whether the header has more than 8 bits per channel; False for files that are no images."""
    try:
        with opened(path) as image:
            return read_header(image).is_deep
    except InputError:
        return False


def read_size(path: Path) -> tuple[int, int]:
    """Read height and width of an image (pixels) as shown; InputError if it is not an image."""
    with opened(path) as image:
        return read_shown_size(image)


def read_max_value(path: Path) -> int | None:
    """Read the largest value of an image of more than 8 bits; None for one of 8 bits."""
    values = decode(Path(path))
    is_deep = values.dtype != np.uint8 and np.issubdtype(values.dtype, np.integer)
    return int(values.max()) if is_deep else None


def find_largest(paths: Iterable[Path]) -> int | None:
    """Find the largest value among images of more than 8 bits; None if all have 8.

    Damaged images are left out here; reading them raises the error.
    """
    largest = None
    for path in filter(has_deep_pixels, paths):  # by headers: images of 8 bits are not decoded
        with suppress(InputError):
            largest = max(largest or 0, read_max_value(path) or 0)
    return largest


def find_max_value(paths: Iterable[Path]) -> int | None:
    """Find the white level that all images of a set share; None if all have 8 bits.

    One level for the set: scaled by their own brightest pixels, dark frames would become bright.
    """
    largest = find_largest(paths)
    return None if largest is None else bit_range(largest)


def bit_range(max_value: int) -> int:
    """Full scale of the smallest usual bit depth that holds `max_value`: 3000 -> 4095."""
    return next((2**bits - 1 for bits in _BIT_DEPTHS if max_value < 2**bits), max_value)


def write_image(path: Path, image_u8: NDArray[np.uint8]) -> None:
    """Write (H, W) or (H, W, 3) uint8 as PNG; the file is whole or absent."""
    _write_png(path, Image.fromarray(_checked(image_u8)))


def write_mask(path: Path, mask_u8: NDArray[np.uint8]) -> None:
    """Write (H, W) uint8 labels as an index PNG whose palette shows them in colour."""
    image = Image.fromarray(_checked(mask_u8))
    if image.mode != "L":
        raise ValueError(f"a mask is (H, W), got {mask_u8.shape}")
    image.putpalette(colour_mask(np.arange(256, dtype=np.uint8)).tobytes())
    _write_png(path, image)


def colour_mask(mask_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours (H, W, 3) of a mask of `Label` values, as its file is shown."""
    colours = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    for label, rgb in PALETTE.items():
        colours[label] = rgb
    return colours[mask_u8]


def resize_u8(image_u8: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize to (height, width), bicubic, with a low-pass filter when shrinking."""
    if image_u8.shape[:2] == size:
        return image_u8
    image = Image.fromarray(_checked(image_u8))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC), dtype=np.uint8)


def resize_mask(mask_u8: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize (H, W) labels to (height, width) by nearest neighbour: no label is invented."""
    image = Image.fromarray(_checked(mask_u8))
    return np.asarray(image.resize(size[::-1], Image.Resampling.NEAREST), dtype=np.uint8)


def pad_square(image_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Centre (H, W) or (H, W, 3) in a black square of the longer side; nothing is stretched."""
    height, width = image_u8.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    sides = [(top, side - height - top), (left, side - width - left)]
    return np.pad(image_u8, sides + [(0, 0)] * (image_u8.ndim - 2))


def to_gray_u8(image_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert (H, W) or (H, W, 3) uint8 to (H, W) uint8 by luma (ITU-R 601)."""
    if image_u8.ndim == 2:
        return image_u8
    return np.asarray(Image.fromarray(image_u8).convert("L"), dtype=np.uint8)


def to_pm1(image_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert 0..255 to -1..1, same shape."""
    return image_u8.astype(np.float32) / np.float32(127.5) - np.float32(1)


def from_pm1(image_pm1: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Convert -1..1 to 0..255, same shape, rounded and clipped. Inverse of `to_pm1`."""
    return np.asarray(np.clip(np.rint((image_pm1 + 1) * 127.5), 0, 255), dtype=np.uint8)


def _to_u8(values: NDArray[np.generic], path: Path, max_value: int | None) -> NDArray[np.uint8]:
    if np.issubdtype(values.dtype, np.floating):
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise InputError(f"{path}: a floating-point image must lie in 0..1")
        return np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    if values.min() < 0:
        raise InputError(f"{path}: negative values; shift them before")
    full = bit_range(int(values.max())) if max_value is None else max_value
    if values.max() > full:
        raise InputError(f"{path}: holds {values.max()}, above the given largest value {full}")
    return np.rint(values.astype(np.float64) * (255 / full)).astype(np.uint8)


def _is_same(path: Path, other: Path) -> bool:
    return path.name == other.resolve().name and path.resolve() == other.resolve()


def _checked(image_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    shape = image_u8.shape
    if image_u8.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
        raise ValueError(f"expected (H, W) or (H, W, 3) uint8, got {shape} {image_u8.dtype}")
    return np.ascontiguousarray(image_u8)


def _write_png(path: Path, image: Image.Image) -> None:
    with written_beside(path) as partial:
        image.save(partial, format="PNG")
