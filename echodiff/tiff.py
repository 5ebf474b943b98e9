"""Rewrite in memory the grey TIFFs that Pillow refuses or misreads."""

import io
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from echodiff.errors import InputError

DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""Errors of decoders on files that are truncated or damaged."""
_SUBFILE, _ORIENTATION = 254, 274
PLAIN_COMPRESSIONS = {1, 8, 32946}
"""None and deflate: the others need more packages than tifffile."""


def rewrite_tiff(file: BinaryIO, path: Path) -> BinaryIO | None:
    """Return grey, or grey with alpha, as a plain little-endian TIFF; None for other kinds.

    Grey with alpha becomes RGBA, float64 and float16 become float32. Polarity and orientation stay.
    """
    import tifffile

    file.seek(0)
    try:
        with tifffile.TiffFile(file) as tiff:
            tags = [page.aspage().tags for page in tiff.pages]
            number = sum(not int(each.valueof(_SUBFILE, 0)) & 0b101 for each in tags)
            page = tiff.pages.first
            if number > 1:
                raise InputError(f"{path}: holds {number} pages or frames; save each as a file")
            if page.photometric not in {0, 1} or page.compression not in PLAIN_COMPRESSIONS:
                return None
            values, extra = page.asarray(), tuple(page.extrasamples)
            axes, is_white_zero = page.axes, page.photometric == 0
            orientation = page.tags.valueof(_ORIENTATION, 1)
    except (tifffile.TiffFileError, *DECODER_ERRORS, KeyError, IndexError, TypeError):
        return None
    values = np.moveaxis(values, 0, -1) if axes == "SYX" else values
    photometric = "miniswhite" if is_white_zero else "minisblack"
    if values.ndim == 3 and values.shape[2] == 2 and values.dtype.str[1:] in {"u1", "u2"}:
        if extra not in {(1,), (2,)} or (extra == (1,) and is_white_zero):
            return None
        grey, alpha = values[..., 0], values[..., 1]
        if is_white_zero:
            grey = np.iinfo(values.dtype).max - grey
        if extra == (1,):
            values = grey  # premultiplied: it lies over black already
        else:
            values, photometric = np.stack([grey, grey, grey, alpha], axis=2), "rgb"
    elif values.ndim != 2:
        return None
    elif values.dtype.kind == "f":
        if is_white_zero:
            return None
        values = values.astype(np.float32)
    elif values.dtype.kind == "u" and values.dtype.itemsize == 4:
        full = np.iinfo(np.uint32).max
        values, photometric = (full - values if is_white_zero else values), "minisblack"
        if values.max(initial=0) >= 2**31:
            return None
        values = values.astype(np.int32)
    elif values.dtype.itemsize > 4 or (is_white_zero and values.dtype.kind != "u"):
        return None
    written = io.BytesIO()
    tifffile.imwrite(
        written,
        np.ascontiguousarray(values),
        byteorder="<",
        photometric=photometric,
        extrasamples=["unassalpha"] if values.ndim == 3 else None,
        extratags=[(_ORIENTATION, "H", 1, int(orientation), True)],
        metadata=None,
    )
    written.seek(0)
    return written
