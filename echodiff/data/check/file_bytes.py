"""Find everything in an image file that is not pixels: chunks, segments, trailing data."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_PNG_FORMAT = frozenset({b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs", b"bKGD"})
"""Small chunks of fixed size that say how to interpret the pixels."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_JPEG_FORMAT = frozenset({0xE0, 0xEE})
"""APP0 (JFIF) and APP14 (Adobe), which say how to interpret the pixels."""


def find_beyond_pixels(data: bytes, *, is_strict: bool = False) -> Iterator[str]:
    """Name everything in a PNG or JPEG that is not pixels; other formats are not examined.

    is_strict: also name chunks that describe the pixels, which images written by echodiff do not
    have.
    """
    if data.startswith(_PNG):
        yield from _find_in_png(data, _PNG_PIXELS if is_strict else _PNG_PIXELS | _PNG_FORMAT)
    elif data.startswith(b"\xff\xd8"):
        yield from _find_in_jpeg(data)


def find_beyond_pixels_of(path: Path) -> Iterator[str]:
    """Name everything in a file that is not pixels, and an alpha channel that is not opaque."""
    data = Path(path).read_bytes()
    yield from find_beyond_pixels(data)
    with Image.open(io.BytesIO(data)) as image:
        if "A" in image.getbands():
            lowest, _ = image.getchannel("A").getextrema()
            if isinstance(lowest, int | float) and lowest < 255:
                yield "an alpha channel"


def _find_in_png(data: bytes, allowed: frozenset[bytes]) -> Iterator[str]:
    place, stream, header = len(_PNG), bytearray(), b""
    while place + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        content = data[place + 8 : place + 8 + length]
        if kind not in allowed:
            yield f"a {kind.decode('latin-1')} chunk of {length} bytes"
        if kind == b"IHDR":
            header = content
        elif kind == b"IDAT":
            stream += content
        place += 12 + length
        if kind == b"IEND":
            if length:
                yield f"{length} bytes in the IEND chunk"
            break
    if place < len(data):
        yield f"{len(data) - place} bytes after the image"
    yield from _find_in_stream(bytes(stream), header)


def _find_in_stream(stream: bytes, header: bytes) -> Iterator[str]:
    """Find bytes of the compressed data that belong to no pixel."""
    if len(header) != 13:
        return
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", header)
    if interlace or colour not in _CHANNELS:
        return
    needed = height * (1 + -(-width * depth * _CHANNELS[colour] // 8))
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(stream, needed + 1)
        unpacker.decompress(unpacker.unconsumed_tail, 1)
    except zlib.error:
        return  # a damaged image is reported as unreadable
    if len(unpacked) > needed:
        yield "pixel data after the last row"
    if unpacker.unused_data:
        yield f"{len(unpacker.unused_data)} bytes after the compressed pixels"


def _find_in_jpeg(data: bytes) -> Iterator[str]:
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xD9:
            break
        if marker in {0x01, 0xFF} or 0xD0 <= marker <= 0xD7:
            place += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack(">H", data[place + 2 : place + 4])
        if marker == 0xFE or (0xE0 <= marker <= 0xEF and marker not in _JPEG_FORMAT):
            name = "comment" if marker == 0xFE else f"APP{marker - 0xE0} segment"
            yield f"a {name} of {length} bytes"
        place += 2 + length
        if marker == 0xDA:  # pixels follow, with FF escaped
            while True:
                place = data.find(b"\xff", place)
                if place < 0 or place + 1 >= len(data):
                    return
                if data[place + 1] == 0 or 0xD0 <= data[place + 1] <= 0xD7:
                    place += 2
                    continue
                break
    if (trailing := len(data) - place - 2) > 0:
        yield f"{trailing} bytes after the image"
