"""Align masks with their volumes, and lay slices out in radiological orientation.

Directions are those of DICOM: towards left, back and head.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from echodiff.anatomy import Label
from echodiff.data.labels import relabel
from echodiff.data.volume_files import Volume, read_volume, to_whole
from echodiff.errors import InputError

Turn = NDArray[np.float64]
"""(3, 2) orientation array of nibabel: where each axis of the file goes, and whether it flips."""

ACROSS = np.array([1.0, 1.0, 0.0])
"""Directions that radiology shows at the right: the left side or, in sagittal planes, the back."""
DOWN = np.array([0.0, 1.0, -1.0])
"""Directions that it shows at the bottom: the feet or, in axial planes, the back."""

OFF_GRID = 0.25
"""Tolerance in voxels between the corners of a mask and its image, as headers are rounded."""


def read_mask(
    path: Path, table: Mapping[int, Label], *, image: Volume, times: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """Read a mask as `Label` values, in the order of axes of its image.

    InputError if the two do not share their voxels, or a value is not a label.
    """
    mask = read_volume(path, times=times)
    try:
        values = align(mask, image)
    except (InputError, np.linalg.LinAlgError) as error:
        raise InputError(f"{path}: {error}") from error
    return relabel(to_whole(values, path), table, str(path))


def align(mask: Volume, image: Volume) -> NDArray[Any]:
    """Return the values of a mask in the order of axes of its image.

    Axes are swapped and reversed according to the two affines, without interpolation. InputError
    if voxels do not coincide then, or only one of the headers gives the orientation.
    """
    if (mask.affine is None) != (image.affine is None):
        has_none = "it has no orientation and its image has one"
        if image.affine is None:
            has_none = "it has an orientation and its image has none"
        raise InputError(f"its header {has_none}; save it with the affine of its image")
    to_image = np.linalg.inv(_lead(image)) @ _lead(mask)
    turn = io_orientation(to_image)  # type: ignore[no-untyped-call]
    shape = _three(mask.values)
    values = mask.values.reshape(*shape, *mask.values.shape[3:])
    values = np.asarray(apply_orientation(values, turn))  # type: ignore[no-untyped-call]
    if _three(values) != _three(image.values):
        raise InputError(f"is {mask.values.shape}, its image {image.values.shape}")
    corners = np.array(list(product(*((0, side - 1) for side in _three(values)))))
    to_image = to_image @ inv_ornt_aff(turn, shape)  # type: ignore[no-untyped-call]
    off = float(np.abs(corners @ to_image[:3, :3].T + to_image[:3, 3] - corners).max())
    if not off <= OFF_GRID:
        raise InputError(
            f"its header places it {off:.3g} voxels off its image; save it with the affine of "
            "its image"
        )
    return values


def _lead(volume: Volume) -> NDArray[np.float64]:
    """Return the affine, or the spacing if there is none."""
    if volume.affine is not None:
        return volume.affine
    return np.diag([*(*volume.spacing_mm, 1.0, 1.0)[:3], 1.0])


def _three(values: NDArray[Any]) -> tuple[int, ...]:
    return (*values.shape, 1)[:3]


def find_turn(affine: NDArray[np.float64] | None) -> Turn:
    """Choose rows and columns for slices of the first two axes, as a viewer would show them.

    Of the eight ways to make rows and columns of two axes this is the one closest to the planes of
    radiology (`ACROSS`, `DOWN`): axial planes are seen from the feet, coronal ones from the front,
    sagittal ones from the left, and a short axis from the apex, with the right ventricle at the
    left of the image. The choice depends on anatomical directions, not on the order of axes on
    disk, so nothing is mirrored. Without an affine, rows run along Y and columns along X.
    """
    if affine is None:
        return np.array([[1.0, 1.0], [0.0, 1.0], [2.0, 1.0]])
    axes = (affine[:3, :2] * [[-1.0], [-1.0], [1.0]]).T
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    if not (np.isfinite(axes).all() and lengths.all()):
        raise InputError("the affine in its header is singular")
    axes = axes / lengths
    ways = product((0, 1), (1.0, -1.0), (1.0, -1.0))
    column_axis, across, down = max(
        ways, key=lambda way: way[1] * axes[way[0]] @ ACROSS + way[2] * axes[1 - way[0]] @ DOWN
    )
    turn = np.array([[0.0, down], [0.0, down], [2.0, 1.0]])
    turn[column_axis] = 1.0, across
    return turn


def lay_out(stack: NDArray[Any], turn: Turn) -> NDArray[Any]:
    """Lay out (X, Y, Z) as (H, W, Z)."""
    return np.ascontiguousarray(apply_orientation(stack, turn))  # type: ignore[no-untyped-call]


def lay_out_spacing(spacing_mm: Sequence[float], turn: Turn) -> tuple[float, float]:
    """Return height and width of a pixel in mm."""
    column_axis = int(turn[1, 0])
    return spacing_mm[1 - column_axis], spacing_mm[column_axis]
