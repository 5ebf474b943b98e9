"""Read NIfTI and MetaImage volumes into one record, in the file's order of axes.

The affine of a NIfTI file maps voxels to mm towards the patient's right, front and head (RAS+).
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
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from echodiff.errors import InputError

OFF_QFORM = 0.25
"""Tolerance in voxels between qform and sform, as the qform is stored in 32 bits."""
OFF_WHOLE = 1e-3
"""Tolerance of labels around whole numbers, as `scl_slope` is rounded."""
_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Spatial units of NIfTI's `xyzt_units`: unknown (taken for mm), m, mm, micron."""

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
    """Content of a file; the first index of the values runs along the first axis of the file."""

    values: NDArray[Any]
    """(X, Y), (X, Y, Z), (X, Y, T) or (X, Y, Z, T) numbers."""
    spacing_mm: tuple[float, ...]
    """Along X, Y and Z."""
    affine: NDArray[np.float64] | None = None
    """(4, 4); None where the header does not say how the patient lay."""


def find_nifti(stem: Path) -> Path:
    """Return `stem`.nii.gz, or `stem`.nii if only that exists."""
    packed, plain = (stem.with_name(f"{stem.name}{suffix}") for suffix in (".nii.gz", ".nii"))
    return plain if plain.exists() and not packed.exists() else packed


def read_volume(path: Path, *, times: Sequence[int] | None = None) -> Volume:
    """Read .nii, .nii.gz, .mhd or .mha; of an (X, Y, Z, T) NIfTI, `times` reads only those volumes.

    Trailing axes of length 1 are dropped, down to three axes. Any error of the file is an
    InputError naming it.
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
        raise InputError(f"{path}: expected at least two axes, got shape {volume.values.shape}")
    if volume.values.dtype.kind not in "iuf" or not np.isfinite(volume.values).all():
        raise InputError(f"{path}: contains NaN or infinite values")
    if not all(0 < side < np.inf for side in volume.spacing_mm):
        raise InputError(f"{path}: its header gives a spacing of {volume.spacing_mm} mm")
    return volume


def to_whole(values: NDArray[Any], path: Path) -> NDArray[np.int64]:
    """Round the values of a mask; InputError if they are not whole numbers."""
    whole = np.rint(values)
    if (np.abs(values - whole) > OFF_WHOLE).any():
        raise InputError(f"{path}: a mask holds whole numbers")
    return np.asarray(whole, dtype=np.int64)


def _read_nifti(path: Path, times: Sequence[int] | None, size: int) -> Volume:
    image = nib.load(path)
    if not isinstance(image, Nifti1Pair):
        raise InputError(f"{path}: not a NIfTI file")
    header: Any = image.header
    shape = tuple(int(side) for side in image.shape)
    if np.prod(shape, dtype=np.float64) * header.get_data_dtype().itemsize > _MOST_PACKED * size:
        raise InputError(f"{path}: cut short: {size} bytes cannot hold {shape} values")
    while len(shape) > (3 if times is None else 4) and shape[-1] == 1:
        shape = shape[:-1]
    if times is None:
        values = np.asanyarray(image.dataobj).reshape(shape)
    else:
        if len(shape) != 4:
            raise InputError(f"{path}: has shape {shape}, expected volumes over time")
        for time in times:
            if not 0 <= time < shape[3]:
                raise InputError(f"{path}: has frames 0 to {shape[3] - 1}, not frame {time}")
        read = [np.asanyarray(image.dataobj[..., time, *(0,) * (len(image.shape) - 4)])
                for time in times]  # fmt: skip
        values = np.stack(read, axis=-1)
    unit = int(header["xyzt_units"]) & 7
    if unit not in _UNITS_MM:
        raise InputError(f"{path}: its header gives sizes in an unknown unit ({unit})")
    affine = _read_affine(path, header)
    spacing = header.get_zooms()[:3]
    if affine is not None:
        spacing = np.linalg.norm(affine[:3, :3], axis=0)[: len(shape)]
    scale = _UNITS_MM[unit]
    return Volume(
        values,
        tuple(float(side) * scale for side in spacing),
        None if affine is None else np.diag([scale, scale, scale, 1.0]) @ affine,
    )


def _read_affine(path: Path, header: Any) -> NDArray[np.float64] | None:
    """Read the sform, else the qform, else None; InputError if both are set and differ, because
    programs disagree on which to use."""
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    if sform is None or qform is None:
        affine = qform if sform is None else sform
        return None if affine is None else np.asarray(affine, dtype=np.float64)
    # A qform cannot hold shears: it is compared with the one that a writer makes of the sform.
    closest = header.copy()
    closest.set_qform(sform, code=1, strip_shears=True)
    shape = (*header.get_data_shape(), 1, 1)[:3]
    sides = np.array([[*corner, 1.0] for corner in product(*((0, side - 1) for side in shape))])
    apart = np.abs((sides @ (closest.get_qform() - qform).T)[:, :3])
    if not apart.max() <= OFF_QFORM * np.linalg.norm(sform[:3, :3], axis=0).min():
        raise InputError(
            f"{path}: its qform and sform differ by {apart.max():.3g}; save it with only one "
            "of them"
        )
    return np.asarray(sform, dtype=np.float64)


def _read_metaimage(path: Path) -> Volume:
    """Read `Key = value` lines, then the values or the name of their file
    (https://itk.org/Wiki/MetaIO/Documentation)."""
    header, packed = _read_metaimage_header(path)
    source = path
    name = header["ElementDataFile"]
    if name != "LOCAL":
        if Path(name).name != name or not name.isprintable():
            raise InputError(f"{path}: its ElementDataFile {name!r} is not a file next to it")
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
    affine = _place_metaimage(path, header, spacing_mm)
    order = header.get("BinaryDataByteOrderMSB", header.get("ElementByteOrderMSB", "False"))
    kind = kind.newbyteorder(">" if order.lower() == "true" else "<")
    num_bytes = int(np.prod(shape, dtype=np.float64)) * kind.itemsize
    if header.get("CompressedData", "").lower() == "true":
        try:
            packed = zlib.decompressobj().decompress(packed, min(num_bytes + 1, 2**40))
        except zlib.error as error:
            raise InputError(f"{source}: damaged ({error})") from error
    if len(packed) != num_bytes:
        raise InputError(f"{source}: holds {len(packed)} bytes where {num_bytes} were expected")
    values = np.frombuffer(packed, kind).reshape(shape[::-1]).T
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    return Volume(values, spacing_mm, affine)


def _place_metaimage(
    path: Path, header: Mapping[str, str], spacing_mm: Sequence[float]
) -> NDArray[np.float64] | None:
    """Build the affine from TransformMatrix, whose rows are the directions of the axes, and Offset;
    both count towards left, back and head (ITK). None without a matrix."""
    matrix = header.get("TransformMatrix", header.get("Rotation", header.get("Orientation")))
    if matrix is None:
        return None
    num_axes = len(header["DimSize"].split())
    place = header.get("Offset", header.get("Position", header.get("Origin", "0 " * num_axes)))
    try:
        axes = np.array(matrix.split(), dtype=np.float64).reshape(num_axes, num_axes)
        origin = np.array(place.split(), dtype=np.float64).reshape(num_axes)
    except ValueError as error:
        raise InputError(f"{path}: TransformMatrix or Offset: {error}") from error
    num_axes = min(num_axes, 3)
    affine = np.eye(4)
    affine[:num_axes, :num_axes] = axes[:num_axes, :num_axes].T * spacing_mm[:num_axes]
    affine[:num_axes, 3] = origin[:num_axes]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _read_metaimage_header(path: Path) -> tuple[dict[str, str], bytes]:
    """Read the header, and the data that follow it in the file."""
    header: dict[str, str] = {}
    with path.open("rb") as file:
        while "ElementDataFile" not in header:
            line = file.readline(10_000).decode("latin-1")
            key, equals, value = line.partition("=")
            if not equals:
                raise InputError(f"{path}: not a MetaImage, or its header is truncated")
            header[key.strip()] = value.strip()
        rest = file.read() if header["ElementDataFile"] == "LOCAL" else b""
    for key, expected in (("ElementNumberOfChannels", "1"), ("HeaderSize", "0")):
        if header.get(key, expected) != expected:
            raise InputError(f"{path}: its {key} is {header[key]}; only {expected} can be read")
    return header, rest
