"""What an image file tells without being looked at: length, time, size, chunks, tags."""

import hashlib
import io
import struct
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from echodiff.errors import InputError
from echodiff.study.audit.detection import Value

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def measure_length(path: Path) -> dict[str, Value]:
    """Length in bytes, and the time of the last change."""
    status = path.stat()
    return {"bytes": float(status.st_size), "modified": status.st_mtime}


def measure_size(data: bytes) -> dict[str, Value]:
    """Height, width and pixel format of a PNG."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return {"width": float(image.width), "height": float(image.height), "mode": image.mode}
    except OSError as error:
        raise InputError(f"an image of the study cannot be read: {error}") from error


def measure_metadata(data: bytes) -> dict[str, Value]:
    """Names, lengths and contents of all chunks but the pixels, the form of the compression, and
    bytes after the end."""
    measured: dict[str, Value] = {}
    names, end = [], len(data)
    for name, start, length in list_chunks(data):
        names.append(name)
        end = start + length + 4
        if name != "IDAT":
            digest = hashlib.sha256(data[start : start + length]).hexdigest()[:12]
            measured[f"chunk {name}"] = digest
            measured[f"length of {name}"] = float(length)
        elif "zlib" not in measured:
            measured["zlib"] = data[start : start + 3].hex()
    with Image.open(io.BytesIO(data)) as image:
        measured["tags"] = ", ".join(sorted({*map(str, image.info), *map(str, image.getexif())}))
    return measured | {"chunks": " ".join(names), "after the end": float(len(data) - end)}


def list_chunks(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Name, start and length of the content of every chunk of a PNG."""
    place = len(SIGNATURE)
    while place + 8 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        name = data[place + 4 : place + 8].decode("latin-1")
        yield name, place + 8, length
        place += length + 12
        if name == "IEND":
            return


def measure_name(text: str) -> dict[str, Value]:
    """Form of a file name or address: length, words in it, and its leading digits as a number."""
    measured: dict[str, Value] = {"length": float(len(text)), "parts": float(text.count("/"))}
    stem = text.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    word = "".join(letter if letter.isalnum() else " " for letter in text).split()
    for part in word:
        measured[f"word {part.rstrip('0123456789')}"] = 1.0
    digits = "".join(letter for letter in stem if letter.isdigit())
    measured["number"] = float(digits[:15]) if digits else None
    hexadecimal = stem[:8].lower()
    if hexadecimal and all(letter in "0123456789abcdef" for letter in hexadecimal):
        measured["hexadecimal"] = float(int(hexadecimal, 16))
    measured["first"] = stem[:1]
    return measured
