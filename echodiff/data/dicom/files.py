"""Open untrusted DICOM files: read tags first, and decode pixels only if the tags are plausible.

Errors that pydicom and its decoders raise on damaged files become an InputError naming the file.
"""

import math
import os
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import parse_fragments
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut, convert_color_space, iter_pixels
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from echodiff.errors import InputError

MOST_VALUES = 2**31
"""Grey values (frames x rows x columns, of the frames that are kept) above which a file is refused:
2 GiB of 8-bit images."""

_PIXEL_DATA = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")
"""The tag (7FE0,0010), little and big endian."""
_MOST_HEAD = 2**16
_LONGEST_FIRST = 2**16
"""Largest size of the first value of a file, in bytes."""
_SYNTAXES = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}
"""Transfer syntax of files that do not state it, by implicit VR and little endian."""
_COLOURS = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422"})
_NEARLY = 8
"""Largest difference between the channels of a grey pixel after JPEG compression."""
_CONTRADICTION = 0.25
"""Share of the image that must be grey if read the other way, but not if read as stated."""
_STREAMS = (b"\xff\xd8", b"\xff\x4f")
"""First bytes of a JPEG or JPEG-LS stream, and of a JPEG 2000 stream."""
_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Second bytes of the JPEG and JPEG-LS markers that give the size of the image."""


class PixelTags(NamedTuple):
    """Tags that describe how the pixels are stored."""

    frames: int
    rows: int
    columns: int
    samples: int
    bytes_per_value: int


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn errors raised while reading a damaged file into an InputError with its path."""
    try:
        with warnings.catch_warnings(action="ignore"):
            # Clinical files break many small rules, of which pydicom warns.
            yield
    except InvalidDicomError as error:
        raise InputError(f"{path}: not a DICOM file") from error
    except (InputError, OSError) as error:
        text = " ".join(str(error).split())
        raise InputError(text if str(path) in text else f"{path}: {text}") from error
    except Exception as error:
        # A wrong byte leads pydicom and the decoders to raise about anything.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: damaged or cut short ({reason})") from error


def read_tags(path: Path) -> Any:
    """Read all tags before the pixels as a pydicom dataset.

    Elements are parsed on access, so access them inside `naming`. If the file does not state its
    number of frames, they are counted from the pixel data.
    """
    with naming(path):
        if path.stat().st_size == 0:
            raise InputError(f"{path}: is empty (0 bytes)")
        with path.open("rb") as file:
            is_bare = not has_preamble(file)
            if not is_bare and read_syntax(path) == DeflatedExplicitVRLittleEndian:
                # pydicom inflates such a file whole, and nothing says how large that is.
                raise InputError(
                    f"{path}: uses the deflated transfer syntax, which is not supported"
                )
            tags = pydicom.dcmread(file, stop_before_pixels=True, force=is_bare)
            if not tags.file_meta.get("TransferSyntaxUID"):
                tags.file_meta.TransferSyntaxUID = _SYNTAXES[tags.original_encoding]
            if not tags.get("NumberOfFrames") and tags.get("Rows"):
                # Faulty pixels are reported when they are read.
                with suppress(InputError, ValueError, struct.error):
                    tags.NumberOfFrames = max(1, _count_frames(file, tags))
        return tags


def has_preamble(file: BinaryIO) -> bool:
    """Whether an open file begins as DICOM files do; InvalidDicomError where it is none, not even
    one that begins with its first tag, as old ones do. The file stands at its start after that."""
    head = file.read(132)
    file.seek(0)
    if head[128:] == b"DICM":
        return True
    group, length = head[:2], int.from_bytes(head[4:8], "little")
    if group not in {b"\x02\x00", b"\x08\x00"} or not (
        (head[4:6].isalpha() and head[4:6].isupper()) or 0 < length < _LONGEST_FIRST
    ):
        raise InvalidDicomError
    return False


def read_syntax(path: Path) -> UID:
    """Read the transfer syntax from the file's meta group."""
    return UID(pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID", ""))


def read_pixel_tags(tags: Any) -> PixelTags:
    """Read the tags that describe the pixel data; InputError if they are implausible."""
    numbers = []
    for name, least in (("Rows", 1), ("Columns", 1), ("SamplesPerPixel", 1), ("BitsAllocated", 1)):
        value = tags.get(name)
        if value is None or int(value) < least:
            raise InputError(f"holds no image ({name} is {value})")
        numbers.append(int(value))
    rows, columns, samples, bits = numbers
    frames = int(tags.get("NumberOfFrames") or 1)
    if frames < 1 or samples not in {1, 3} or bits not in {8, 16, 32}:
        raise InputError(f"{frames} frames of {samples} samples of {bits} bits are not supported")
    return PixelTags(frames, rows, columns, samples, bits // 8)


def check_size(path: Path, tags: Any, *, every: int = 1, files: int = 1) -> PixelTags:
    """Refuse a file whose tags declare more data than it holds, or more than fits in memory.

    every: one of this many frames is kept; files: number of such files kept together.
    Nothing is decoded, and memory use does not depend on the tags.
    """
    with naming(path):
        pixel = read_pixel_tags(tags)
        kept = -(-pixel.frames // every) * files
        if kept * pixel.rows * pixel.columns > MOST_VALUES:
            raise InputError(
                f"{path}: declares {pixel.frames} frames of {pixel.rows} x {pixel.columns}; "
                f"they need more than {MOST_VALUES / 2**30:.0f} GiB of memory; --every keeps fewer"
            )
        with path.open("rb") as file:
            pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Rows"], force=True)
            size, start = os.fstat(file.fileno()).st_size, file.tell()
            held = _count_frames(file, tags)
            if held > pixel.frames:
                raise InputError(f"{path}: declares {pixel.frames} frames and holds {held}")
            file.seek(start)
            syntax = UID(tags.file_meta.TransferSyntaxUID)
            if file.read(4) not in _PIXEL_DATA:
                raise InputError(f"{path}: holds no image of integer values")
            if syntax.is_compressed:
                file.seek(start + 12)
                _check_fragments(path, file, pixel, size)
            else:
                head = 8 if syntax.is_implicit_VR else 12
                _check_native(path, tags, pixel, size - start - head)
    return pixel


def read_number(tags: Any, name: str) -> float | None:
    """Return the value of a tag that holds one finite number, else None."""
    value = tags.get(name)
    if value is None or isinstance(value, Sequence):
        return None
    return float(value) if math.isfinite(float(value)) else None


def iter_frames(
    path: Path, tags: Any, indices: Sequence[int] | None = None
) -> Iterator[NDArray[Any]]:
    """Yield the frames of a file one at a time: (H, W) of stored values, or (H, W, 3) uint8 RGB.

    indices: frames to yield, in this order; None for all.
    """
    is_raw = tags.get("PhotometricInterpretation") in _COLOURS
    frames = iter_pixels(
        path,
        raw=is_raw,
        indices=indices,
        number_of_frames=int(tags.get("NumberOfFrames") or 1),
        transfer_syntax_uid=tags.file_meta.TransferSyntaxUID,
    )
    is_ybr: bool | None = None
    while True:
        # Nothing is yielded inside: what `naming` sets is meant for the decoder alone.
        with naming(path):
            pixels = next(frames, None)
            if pixels is not None:
                if is_raw and pixels.dtype == np.uint8 and pixels.ndim == 3:
                    is_ybr = holds_ybr(pixels, tags) if is_ybr is None else is_ybr
                    if is_ybr:
                        pixels = convert_color_space(pixels, "YBR_FULL", "RGB")
                pixels = _to_rgb(pixels, tags)
        if pixels is None:
            return
        yield pixels


def holds_ybr(stored: NDArray[np.uint8], tags: Any) -> bool:
    """Whether (H, W, 3) stored values are luma and two colour differences, rather than RGB.

    Scanners and converters often state this tag wrongly. Most of an ultrasound image is grey,
    above all the screen around the sector: as RGB its channels are equal, as YBR its colour
    differences are 128. The tag is used unless the pixels contradict it.
    """
    values = stored[::4, ::4].astype(np.int16)
    grey_rgb = (np.ptp(values, axis=-1) <= _NEARLY).mean()
    grey_ybr = (np.abs(values[..., 1:] - 128).max(axis=-1) <= _NEARLY).mean()
    if str(tags.PhotometricInterpretation).startswith("YBR"):
        return bool(grey_rgb - grey_ybr < _CONTRADICTION)
    return bool(grey_ybr - grey_rgb >= _CONTRADICTION)


def _to_rgb(stored: NDArray[Any], tags: Any) -> NDArray[Any]:
    """Convert colour and palettes to 8-bit RGB; return grey unchanged."""
    if tags.get("PhotometricInterpretation") == "PALETTE COLOR":
        coloured = apply_color_lut(stored, tags)
        return np.asarray(coloured >> (8 * coloured.itemsize - 8)).astype(np.uint8)
    if stored.ndim == 3 and stored.dtype != np.uint8:
        full = 2 ** int(tags.BitsStored) - 1
        return np.asarray((stored * (255 / full)).clip(0, 255), dtype=np.uint8)
    return stored


def _check_native(path: Path, tags: Any, pixel: PixelTags, stored: int) -> None:
    values = pixel.frames * pixel.rows * pixel.columns * pixel.samples
    needed = values * pixel.bytes_per_value
    if str(tags.get("PhotometricInterpretation")).endswith("_422"):
        needed = needed * 2 // 3
    if stored < needed:
        raise InputError(
            f"{path}: cut short: {pixel.frames} frames of {pixel.rows} x {pixel.columns} take "
            f"{needed} bytes, and {max(0, stored)} are there"
        )


def _count_frames(file: Any, tags: Any) -> int:
    """Count the frames in the pixel data of an open file, positioned before them; 0 if unknown."""
    syntax = UID(tags.file_meta.get("TransferSyntaxUID", ""))
    head = file.read(12)
    if head[:4] not in _PIXEL_DATA:
        return 0
    if syntax.is_compressed:
        number, places = parse_fragments(file)
        if syntax == RLELossless:
            return int(number) - 1
        begin = []
        for place in places[1:]:
            file.seek(place + 8)
            begin.append(file.read(2) in _STREAMS)
        return len(begin) if all(begin) else sum(begin)
    pixel = read_pixel_tags(tags)
    order = "<" if syntax.is_little_endian else ">"
    (length,) = struct.unpack(f"{order}I", head[4:8] if syntax.is_implicit_VR else head[8:12])
    size = pixel.rows * pixel.columns * pixel.samples * pixel.bytes_per_value
    # More than a frame and less than two is a frame with padding.
    return length // size if length % size <= 1 else 1


def _check_fragments(path: Path, file: Any, pixel: PixelTags, size: int) -> None:
    """Check that each frame of a compressed file has a fragment of its own, after the offset table,
    and that none unpacks to a larger image than the tags say."""
    number, places = parse_fragments(file)
    if number - 1 < pixel.frames:
        raise InputError(
            f"{path}: declares {pixel.frames} frames but holds {max(0, number - 1)}: truncated, or "
            "wrong tags"
        )
    for place in places[1:]:
        file.seek(place + 4)
        length = int.from_bytes(file.read(4), "little")
        if place + 8 + length > size:
            raise InputError(f"{path}: cut short")
        rows, columns = read_stream_size(file.read(min(length, _MOST_HEAD)))
        if rows > pixel.rows or columns > pixel.columns:
            raise InputError(
                f"{path}: a frame unpacks to {rows} x {columns}, but its tags say {pixel.rows} x "
                f"{pixel.columns}"
            )


def read_stream_size(stream: bytes) -> tuple[int, int]:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream begins with; 0, 0 where it says
    none."""
    if stream[:4] == b"\xff\x4f\xff\x51" and len(stream) >= 16:
        columns, rows = struct.unpack(">II", stream[8:16])
        return rows, columns
    place = 2 if stream[:2] == b"\xff\xd8" else len(stream)
    while place + 9 <= len(stream) and stream[place] == 0xFF:
        marker, length = struct.unpack(">BH", stream[place + 1 : place + 4])
        if marker in _SIZE_MARKERS:
            rows, columns = struct.unpack(">HH", stream[place + 5 : place + 9])
            return rows, columns
        place += 2 + length
    return 0, 0
