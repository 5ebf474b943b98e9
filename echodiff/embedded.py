"""Read the metadata of image files: text chunks, EXIF, XMP, comments."""

import warnings
from pathlib import Path

from PIL import ExifTags, Image

from echodiff.decoding import DECODER_ERRORS, opened

_FORMAT_FACTS = frozenset({
    "adobe", "adobe_transform", "aspect", "background", "bits", "chromaticity", "compression",
    "default_image", "dpi", "duration", "exif", "gamma", "icc_profile", "interlace", "jfif",
    "jfif_density", "jfif_unit", "jfif_version", "loop", "mp", "mpoffset", "progression",
    "progressive", "resolution", "sizes", "srgb", "timestamp", "transparency",
})  # fmt: skip
"""Keys of Pillow's `info` that say how the pixels are meant; EXIF is opened by itself."""
_TIFF_FORMAT_TAGS = frozenset({347, 700, 34675})
"""JPEG tables, XMP (which `info` holds too), and the colour profile."""


def read_embedded(path: Path) -> dict[str, str]:
    """Read the metadata of an image file as {place: text}.

    Text chunks of PNG, EXIF with its GPS part, XMP, comments, and text tags of TIFF;
    other content is given as its number of bytes.
    """
    with opened(path) as image:
        image.load()
        found = {str(key): value for key, value in image.info.items() if key not in _FORMAT_FACTS}
        for cid, data, *_ in getattr(image, "private_chunks", ()):
            found[f"chunk {cid.decode('latin-1')}"] = data
        try:
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                found |= _read_exif(image)
        except (*DECODER_ERRORS, KeyError, TypeError):
            found["EXIF"] = "(damaged)"
    return {place: text for place, value in found.items() if (text := _as_text(value))}


def _read_exif(image: Image.Image) -> dict[str, str | bytes]:
    exif = image.getexif()
    kinds = (
        (exif, ExifTags.TAGS),
        (exif.get_ifd(ExifTags.IFD.Exif), ExifTags.TAGS),
        (exif.get_ifd(ExifTags.IFD.GPSInfo), ExifTags.GPSTAGS),
    )
    return {
        f"EXIF {names.get(tag, tag)}": value
        for tags, names in kinds
        for tag, value in tags.items()
        if isinstance(value, str | bytes) and tag not in _TIFF_FORMAT_TAGS
    }


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        try:
            text = value.decode("utf-8").strip("\0 ")
        except UnicodeDecodeError:
            return f"({len(value)} bytes)"
        return text if text.isprintable() or "\n" in text else f"({len(value)} bytes)"
    return str(value).strip("\0 ")
