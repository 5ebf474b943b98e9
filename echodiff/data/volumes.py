"""Stacks and sequences on disk, NIfTI and MetaImage: read into one kind of array, laid out upright.

The affine of a NIfTI file leads from voxels to mm towards the patient's right, front and head
(RAS+ in nibabel's words). Directions below are counted as in DICOM, towards left, back and head.
"""

import zlib
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Pair
from nibabel.orientations import apply_orientation
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from echodiff.anatomy import Label
from echodiff.config import InputError
from echodiff.data.labels import relabel

Turn = NDArray[np.float64]
"""(3, 2) orientation array of nibabel: where each axis of the file goes, and whether it flips."""

ACROSS = np.array([1.0, 1.0, 0.0])
"""What radiology has at the right of a picture: the left side or, in sagittal planes, the back."""
DOWN = np.array([0.0, 1.0, -1.0])
"""What it has at the bottom: the feet or, in axial planes, the back."""

# zlib packs no more than 1032 to 1.
_MOST_PACKED = 1100
_NIFTI_DAMAGE = (
    OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, ValueError, OverflowError,
    MemoryError, np.linalg.LinAlgError,
)  # fmt: skip
_ELEMENT_TYPES = {
    "MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2", "MET_UINT": "u4",
    "MET_INT": "i4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip


class Volume(NamedTuple):
    """What a file holds; the first index of the values runs along the first axis of the file."""

    values: NDArray[Any]
    """(X, Y), (X, Y, Z), (X, Y, T) or (X, Y, Z, T) numbers."""
    spacing_mm: tuple[float, ...]
    """Along X, Y and Z."""
    affine: NDArray[np.float64] | None = None
    """(4, 4); None where the header does not say how the patient lay."""


def read_volume(path: Path, *, times: Sequence[int] | None = None) -> Volume:
    """Read .nii, .nii.gz, .mhd or .mha; of an (X, Y, Z, T) NIfTI, `times` reads only those volumes.

    Whatever is wrong with the file is an InputError that names it.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: no such file") from error
    if not size:
        raise InputError(f"{path}: empty file")
    if path.suffix in {".mhd", ".mha"}:
        volume = _read_metaimage(path)
    else:
        try:
            volume = _read_nifti(path, times, size)
        except InputError:
            raise
        except _NIFTI_DAMAGE as error:
            raise InputError(f"{path}: damaged or cut short ({error})") from error
    if volume.values.ndim < 2 or not volume.values.size:
        raise InputError(f"{path}: holds no picture but {volume.values.shape} values")
    if volume.values.dtype.kind not in "iuf" or not np.isfinite(volume.values).all():
        raise InputError(f"{path}: holds values that are no numbers")
    if not all(0 < side < np.inf for side in volume.spacing_mm):
        raise InputError(f"{path}: its header gives a spacing of {volume.spacing_mm} mm")
    return volume


def read_mask(
    path: Path, table: Mapping[int, Label], *, times: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """Read a mask as `Label` values, in the file's order of axes."""
    values = read_volume(path, times=times).values
    whole = np.rint(values)
    if (values != whole).any():
        raise InputError(f"{path}: a mask holds whole numbers")
    return relabel(whole.astype(np.int64), table, str(path))


def find_turn(affine: NDArray[np.float64] | None) -> Turn:
    """How a viewer would lay out slices of the first two axes.

    Of the eight ways to make rows and columns of two axes, the one nearest to the planes of
    radiology (`ACROSS`, `DOWN`): axial planes seen from the feet, coronal ones from the front,
    sagittal ones from the left, and so a short axis from the apex, its right ventricle at the left
    of the picture. It depends on where the anatomy lies, and not on the order of axes on disk, so
    nothing is mirrored. Without an affine, rows run along Y and columns along X.
    """
    if affine is None:
        return np.array([[1.0, 1.0], [0.0, 1.0], [2.0, 1.0]])
    axes = (affine[:3, :2] * [[-1.0], [-1.0], [1.0]]).T
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    if not (np.isfinite(axes).all() and lengths.all()):
        raise InputError("the affine in its header leads nowhere")
    axes = axes / lengths
    ways = product((0, 1), (1.0, -1.0), (1.0, -1.0))
    column_axis, across, down = max(
        ways, key=lambda way: way[1] * axes[way[0]] @ ACROSS + way[2] * axes[1 - way[0]] @ DOWN
    )
    turn = np.array([[0.0, down], [0.0, down], [2.0, 1.0]])
    turn[column_axis] = 1.0, across
    return turn


def lay_out(stack: NDArray[Any], turn: Turn) -> NDArray[Any]:
    """(X, Y, Z) -> (H, W, Z)."""
    return np.ascontiguousarray(apply_orientation(stack, turn))  # type: ignore[no-untyped-call]


def lay_out_spacing(spacing_mm: Sequence[float], turn: Turn) -> tuple[float, float]:
    """Height and width of a pixel."""
    column_axis = int(turn[1, 0])
    return spacing_mm[1 - column_axis], spacing_mm[column_axis]


def _read_nifti(path: Path, times: Sequence[int] | None, size: int) -> Volume:
    image = nib.load(path)
    if not isinstance(image, Nifti1Pair):
        raise InputError(f"{path}: is no NIfTI file")
    header: Any = image.header
    shape = tuple(int(side) for side in image.shape)
    if np.prod(shape, dtype=np.float64) * header.get_data_dtype().itemsize > _MOST_PACKED * size:
        raise InputError(f"{path}: cut short: {size} bytes cannot hold {shape} values")
    if times is None:
        values = np.asanyarray(image.dataobj)
    else:
        if len(shape) != 4:
            raise InputError(f"{path}: holds {shape} values, no volumes over time")
        for time in times:
            if not 0 <= time < shape[3]:
                raise InputError(f"{path}: has frames 0 to {shape[3] - 1}, and no frame {time}")
        values = np.stack([np.asanyarray(image.dataobj[..., time]) for time in times], axis=-1)
    is_placed = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
    affine = np.asarray(image.affine, dtype=np.float64) if is_placed else None
    return Volume(values, tuple(float(side) for side in header.get_zooms()[:3]), affine)


def _read_metaimage(path: Path) -> Volume:
    """`Key = value` lines, then the values or the name of their file
    (https://itk.org/Wiki/MetaIO/Documentation)."""
    header, packed = _read_metaimage_header(path)
    source = path
    name = header["ElementDataFile"]
    if name != "LOCAL":
        if Path(name).name != name or not name.isprintable():
            raise InputError(f"{path}: its ElementDataFile {name!r} is no file beside it")
        source = path.with_name(name)
        try:
            packed = source.read_bytes()
        except OSError as error:
            raise InputError(f"{source}: {error.strerror}; {path.name} names it") from error
    try:
        shape = tuple(int(side) for side in header["DimSize"].split())
        spacing_mm = tuple(float(side) for side in header["ElementSpacing"].split()[:3])
        kind = np.dtype(_ELEMENT_TYPES[header["ElementType"]])
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: DimSize, ElementSpacing or ElementType: {error}") from error
    if any(side < 1 for side in shape):
        raise InputError(f"{path}: its DimSize is {header['DimSize']}")
    order = header.get("BinaryDataByteOrderMSB", header.get("ElementByteOrderMSB", "False"))
    kind = kind.newbyteorder(">" if order == "True" else "<")
    num_bytes = int(np.prod(shape, dtype=np.float64)) * kind.itemsize
    if header.get("CompressedData") == "True":
        try:
            packed = zlib.decompressobj().decompress(packed, min(num_bytes + 1, 2**40))
        except zlib.error as error:
            raise InputError(f"{source}: damaged ({error})") from error
    if len(packed) != num_bytes:
        raise InputError(f"{source}: holds {len(packed)} bytes where {num_bytes} were expected")
    return Volume(np.frombuffer(packed, kind).reshape(shape[::-1]).T, spacing_mm)


def _read_metaimage_header(path: Path) -> tuple[dict[str, str], bytes]:
    """The header, and what follows it in the file."""
    header: dict[str, str] = {}
    with path.open("rb") as file:
        while "ElementDataFile" not in header:
            line = file.readline(10_000).decode("latin-1")
            key, equals, value = line.partition("=")
            if not equals:
                raise InputError(f"{path}: is no MetaImage, or its header is cut short")
            header[key.strip()] = value.strip()
        rest = file.read() if header["ElementDataFile"] == "LOCAL" else b""
    for key, expected in (("ElementNumberOfChannels", "1"), ("HeaderSize", "0")):
        if header.get(key, expected) != expected:
            raise InputError(f"{path}: its {key} is {header[key]}; only {expected} can be read")
    return header, rest
