"""Volumes and their masks in one order of axes, and slices laid out as radiology shows them.

Directions are counted as in DICOM, towards left, back and head.
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
"""What radiology has at the right of a picture: the left side or, in sagittal planes, the back."""
DOWN = np.array([0.0, 1.0, -1.0])
"""What it has at the bottom: the feet or, in axial planes, the back."""

OFF_GRID = 0.25
"""Voxels by which the corners of a mask may lie beside those of its image: headers round."""


def read_mask(
    path: Path, table: Mapping[int, Label], *, image: Volume, times: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """Read a mask as `Label` values, in the order of axes of its image.

    InputError where the two do not share their voxels, or a value is not a label.
    """
    mask = read_volume(path, times=times)
    try:
        values = align(mask, image)
    except (InputError, np.linalg.LinAlgError) as error:
        raise InputError(f"{path}: {error}") from error
    return relabel(to_whole(values, path), table, str(path))


def align(mask: Volume, image: Volume) -> NDArray[Any]:
    """Values of the mask in the order of axes of the image.

    Axes are swapped and reversed as the two affines say, and nothing is interpolated. InputError
    where that does not lay voxel on voxel, or only one of the headers says how the patient lay.
    """
    if (mask.affine is None) != (image.affine is None):
        has_none = "it has no orientation and its image has one"
        if image.affine is None:
            has_none = "it has an orientation and its image has none"
        raise InputError(f"by its header {has_none}; save it with the affine of its image")
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
            f"by its header it lies {off:.3g} voxels beside its image; save it with the affine of "
            "its image"
        )
    return values


def _lead(volume: Volume) -> NDArray[np.float64]:
    """The affine, or the spacing where there is none."""
    if volume.affine is not None:
        return volume.affine
    return np.diag([*(*volume.spacing_mm, 1.0, 1.0)[:3], 1.0])


def _three(values: NDArray[Any]) -> tuple[int, ...]:
    return (*values.shape, 1)[:3]


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
