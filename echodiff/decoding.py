"""Decode image files as a viewer shows them: orientation, bit depth, polarity, transparency.

Pillow reads the files, except for 16-bit colour, which tifffile and FFmpeg (PyAV) decode, and the
TIFFs that Pillow refuses or misreads (`tiff`).
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from echodiff.errors import InputError
from echodiff.extras import explain_missing
from echodiff.tiff import DECODER_ERRORS as DECODER_ERRORS
from echodiff.tiff import PLAIN_COMPRESSIONS, rewrite_tiff

Values = NDArray[Any]
"""Pixels as they are stored: uint8, or wider integers or floats."""

_FORMATS = {"PNG", "JPEG", "MPO", "TIFF", "BMP", "GIF", "WEBP"}
_TRANSPARENT = {"LA", "La", "PA", "RGBA", "RGBa"}
_COLOUR = {"P", "RGB", "RGBX", "CMYK", "YCbCr"}
_SUBFILE, _OLD_SUBFILE, _BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 254, 255, 258, 262, 339
_COMPRESSION, _ORIENTATION, _PLANAR = 259, 274, 284
_NO_PICTURE = "damaged, truncated, or not an image"


class Header(NamedTuple):
    """Properties that decide how pixels are interpreted, known before they are decoded."""

    mode: str
    """Pillow's."""
    bits: int
    """Stored bits of a channel."""
    orientation: int
    """EXIF orientation, 1..8; 1 where the file is upright or Pillow turns it itself."""
    is_white_zero: bool
    """TIFF whose 0 is white."""
    is_lossy: bool
    """JPEG."""

    @property
    def is_deep(self) -> bool:
        """Whether channels are integers of more than 8 bits."""
        return self.bits > 8 and self.mode != "F"

    @property
    def is_deep_colour(self) -> bool:
        return self.is_deep and not self.mode.startswith("I")


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file of one page; a one-line InputError if it cannot be read."""
    path = Path(path)
    try:
        # Pillow warns of damaged metadata; whether the pixels are whole decides.
        # By a file: Pillow maps a named TIFF, and garbles it where its tag turns it.
        with (
            warnings.catch_warnings(action="ignore", category=UserWarning),
            path.open("rb") as file,
            _open_any(file, path) as image,
        ):
            if image.format not in _FORMATS:
                raise InputError(
                    f"{path}: is a {image.format}, which is not supported; save it as PNG"
                )
            _check_pages(image, path)
            yield image
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder, not an image") from error
    except PermissionError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: {_say_what_it_is(path)}") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {error}") from error
    except DECODER_ERRORS as error:
        raise InputError(f"{path}: damaged or cut short ({error})") from error


def read_header(image: Image.Image) -> Header:
    """Read the properties of an opened image without decoding it."""
    bits, is_white_zero = 1 if image.mode == "1" else 8, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        bits = max(tags.get(_BITS, (1,)))
        is_white_zero = tags.get(_PHOTOMETRIC) == 0
    elif isinstance(image, ImageFile.ImageFile) and image.tile:
        arguments: object = image.tile[0].args
        raw_mode = str(arguments[0] if isinstance(arguments, tuple) else arguments)
        _, _, depth = raw_mode.partition(";")
        digits = "".join(filter(str.isdigit, depth))
        bits = int(digits) if digits else bits
    if image.mode.startswith("I"):
        bits = max(bits, 16)
    is_lossy = image.format in {"JPEG", "MPO"}
    return Header(image.mode, bits, _read_orientation(image), is_white_zero, is_lossy)


def read_shown_size(image: Image.Image) -> tuple[int, int]:
    """Return height and width in pixels of an opened image after rotation to upright."""
    width, height = image.size
    orientation = read_header(image).orientation
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Whether Pillow's own size is that of the turned picture depends on its version.
        width, height = int(image.tag_v2[256]), int(image.tag_v2[257])
        orientation = image.tag_v2.get(ExifTags.Base.Orientation, 1)
    return (width, height) if orientation in {5, 6, 7, 8} else (height, width)


def describe_oddities(path: Path) -> list[str]:
    """List properties that other software is known to read differently from `decode`."""
    with opened(path) as image:
        header = read_header(image)
        orientation = header.orientation
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            orientation = image.tag_v2.get(ExifTags.Base.Orientation, 1)
        oddities = {
            "its orientation tag turns it": orientation != 1,
            f"colour of {header.bits} bits": header.is_deep_colour,
            "0 is white": header.is_white_zero,
            f"colours of the kind {header.mode}": header.mode in {"CMYK", "YCbCr"},
            "transparent pixels": header.mode in _TRANSPARENT or "transparency" in image.info,
        }
    return [oddity for oddity, is_there in oddities.items() if is_there]


def decode(path: Path) -> Values:
    """Read an image as (H, W) or (H, W, 3), upright, transparent pixels over black.

    The values are uint8, integers of more bits, or floats; they are never scaled.
    """
    with opened(path) as image:
        header = read_header(image)
        _check_samples(image, header, path)
        if header.is_deep_colour:
            values = _flatten(_decode_deep_colour(image, path))
        else:
            image.load()
            values = _to_values(image, header, path)
    return turn_upright(values, header.orientation)


def decode_indices(path: Path) -> Values:
    """Read a mask as (H, W) of its stored numbers, upright.

    These are palette indices, grey levels of any depth as stored (2 bits: 0 to 3), or one of three
    equal channels; fully transparent pixels are 0. InputError for colour, for JPEG, and if 0 is
    white, because the background is ambiguous then.
    """
    with opened(path) as image:
        header = read_header(image)
        _check_mask(header, path)
        if header.is_white_zero and header.bits > 1:
            raise InputError(f"{path}: 0 is white in this mask; save it with 0 as black")
        if header.is_deep_colour:
            values = _decode_deep_colour(image, path)
        else:
            image.load()
            if header.mode in _TRANSPARENT | _COLOUR - {"P"}:
                values = np.asarray(image.convert("RGBA"))
            else:
                values = np.asarray(image)
    if values.ndim == 3:
        values = _take_equal_channel(values, path)
    elif header.mode == "L" and header.bits < 8:
        values = values // (255 // (2**header.bits - 1))  # Pillow spreads them over 0..255
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.rint(values))).all():
        raise InputError(f"{path}: a mask must hold whole numbers")
    return turn_upright(values.astype(np.int64), header.orientation)


def decode_colours(path: Path) -> NDArray[np.uint8]:
    """Read a mask as (H, W, 3) colours, upright; fully transparent pixels are black."""
    with opened(path) as image:
        header = read_header(image)
        _check_mask(header, path)
        if header.is_deep:
            raise InputError(f"{path}: a colour mask needs 8 bits per channel, not {header.bits}")
        image.load()
        rgba = np.asarray(image.convert("RGBA"))
    return turn_upright(rgba[..., :3] * (rgba[..., 3:] > 0), header.orientation).astype(np.uint8)


def turn_upright(values: Values, orientation: int) -> Values:
    """Undo an EXIF orientation (1..8) of (H, W, ...) pixels."""
    if orientation in {5, 6, 7, 8}:
        values = values.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        values = values[::-1]
    if orientation in {2, 3, 6, 7}:
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def _open_any(file: BinaryIO, path: Path) -> Image.Image:
    """Open a file with Pillow; a TIFF that Pillow refuses or misreads is rewritten in memory."""
    try:
        image: Image.Image = Image.open(file)
    except UnidentifiedImageError:
        rewritten = rewrite_tiff(file, path)
        if rewritten is None:
            raise
        return Image.open(rewritten)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        # Compressed, big-endian numbers are not swapped, and separate planes are read as one.
        is_swapped = tags.prefix == b"MM" and image.mode in {"I", "F"}
        is_split = tags.get(_PLANAR) == 2 and image.mode == "LA"
        if (is_swapped and tags.get(_COMPRESSION, 1) != 1) or is_split:
            rewritten = rewrite_tiff(file, path)
            if rewritten is None:
                raise InputError(f"{path}: a TIFF of a kind that cannot be read; save it as PNG")
            return Image.open(rewritten)
    return image


def _check_pages(image: Image.Image, path: Path) -> None:
    number = getattr(image, "n_frames", 1)
    if number > 1 and image.format != "MPO":  # a camera's JPEG with a preview behind the picture
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            number = sum(_is_full_page(image, page) for page in range(number))
            image.seek(0)
        if number > 1:
            raise InputError(f"{path}: holds {number} pages or frames; save each as a file")


def _is_full_page(image: TiffImagePlugin.TiffImageFile, page: int) -> bool:
    """Whether a page of a TIFF is neither a thumbnail nor a transparency mask."""
    image.seek(page)
    tags = image.tag_v2
    return not int(tags.get(_SUBFILE, 0)) & 0b101 and tags.get(_OLD_SUBFILE) != 2


def _check_samples(image: Image.Image, header: Header, path: Path) -> None:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        sample_format = image.tag_v2.get(_SAMPLE_FORMAT, (1,))
        if 2 in tuple(np.atleast_1d(sample_format)) and header.bits == 8:
            raise InputError(f"{path}: signed pixels of 8 bits; shift them before")
        if header.is_white_zero and header.mode == "F":
            raise InputError(f"{path}: floating-point pixels whose 0 is white")
        if header.is_deep_colour and image.tag_v2.get(_PHOTOMETRIC) not in {1, 2}:
            raise InputError(f"{path}: 16 bits a channel, neither grey nor RGB; save it as RGB")


def _check_mask(header: Header, path: Path) -> None:
    if header.is_lossy:
        raise InputError(f"{path}: JPEG changes the numbers of a mask; save it as PNG")


def _read_orientation(image: Image.Image) -> int:
    if isinstance(image, TiffImagePlugin.TiffImageFile) and not _is_cut_by_pillow(image):
        return 1  # Pillow turns TIFF when it decodes it
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (*DECODER_ERRORS, KeyError, TypeError):
        return 1  # damaged: viewers show the picture as it is stored
    return orientation if orientation in range(1, 9) else 1


def _is_cut_by_pillow(image: TiffImagePlugin.TiffImageFile) -> bool:
    is_grey = image.mode.startswith("I") or image.mode in {"F", "L", "1", "P"}
    return not is_grey and max(image.tag_v2.get(_BITS, (1,))) > 8


def _to_values(image: Image.Image, header: Header, path: Path) -> Values:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if header.is_white_zero:
            values = 2**header.bits - 1 - values.astype(np.int64)
        transparent = image.info.get("transparency")
        return np.where(values == transparent, 0, values) if transparent is not None else values
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        return _flatten(np.asarray(image.convert("RGBA")))
    if image.mode in {"1", "L"}:
        return np.asarray(image.convert("L"))
    if image.mode in _COLOUR:
        return np.asarray(image.convert("RGB"))
    raise InputError(f"{path}: colours of the kind {image.mode}; save the picture as RGB")


def _decode_deep_colour(image: Image.Image, path: Path) -> Values:
    """Colour or grey with transparency, of 16 bits a channel: (H, W, 3 or 4) uint16."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        import tifffile

        stream: Any = image.fp
        stream.seek(0)
        with tifffile.TiffFile(stream) as file:
            page = file.pages.first
            if page.compression in PLAIN_COMPRESSIONS:
                values = page.asarray()
                values = values.transpose(1, 2, 0) if page.axes == "SYX" else values
                is_premultiplied = tuple(page.extrasamples) == (1,)
                return _checked_deep(values[..., :3] if is_premultiplied else values, path)
            if page.is_tiled:
                raise InputError(f"{path}: 16-bit colour in compressed tiles; save it as PNG")
    image.load()  # raises where the file is cut short, which FFmpeg takes without a word
    return _checked_deep(_decode_by_ffmpeg(path), path)


def _checked_deep(values: Values, path: Path) -> Values:
    if values.ndim != 3 or values.shape[2] not in {3, 4} or values.dtype != np.uint16:
        raise InputError(f"{path}: 16 bits a channel, of a kind that cannot be decoded")
    return values


def _decode_by_ffmpeg(path: Path) -> Values:
    try:
        import av
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: 16-bit colour {explain_missing(error)}") from error
    try:
        # Opened here: FFmpeg takes a `%` in a name for a pattern.
        with path.open("rb") as file, av.open(file) as container:
            frame = next(container.decode(video=0))
        if frame.format.name.startswith("ya16"):
            plane = frame.planes[0]
            kind = ">u2" if frame.format.is_big_endian else "<u2"
            rows = np.frombuffer(plane, dtype=kind).reshape(frame.height, -1)
            pairs = rows[:, : 2 * frame.width].reshape(frame.height, frame.width, 2)
            values = pairs[..., [0, 0, 0, 1]].astype(np.uint16)
        else:
            values = frame.to_ndarray()
    except (av.FFmpegError, StopIteration, IndexError, ValueError) as error:
        reason = "16 bits a channel, of a kind that cannot be decoded; save it as PNG"
        raise InputError(f"{path}: {reason}") from error
    return values


def _flatten(values: Values) -> Values:
    """Composite (H, W, 4) over black to (H, W, 3); three channels are returned unchanged."""
    if values.shape[-1] == 3:
        return values
    full = np.iinfo(values.dtype).max
    if (values[..., 3] == full).all():
        return np.ascontiguousarray(values[..., :3])
    over_black = values[..., :3].astype(np.float64) * (values[..., 3:] / full)
    return np.rint(over_black).astype(values.dtype)


def _take_equal_channel(values: Values, path: Path) -> Values:
    """Return the (H, W) values that the colour channels of (H, W, 3 or 4) share."""
    colours = values[..., :3]
    if values.shape[-1] == 4:
        colours = colours * (values[..., 3:] > 0)
    if (colours != colours[..., :1]).any():
        raise InputError(
            f"{path}: a mask is one channel of label numbers, and this one is in colour; "
            "--mask-labels says what its colours mean, such as #ff0000=LV,#0000ff=LA"
        )
    return np.asarray(colours[..., 0])


def _say_what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    if head in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        return "a damaged TIFF, or one of a kind that cannot be read; save it as PNG"
    return _NO_PICTURE
