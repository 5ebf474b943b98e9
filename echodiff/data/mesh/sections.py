"""Cut a triangle mesh with a plane and fill its inside, whether the mesh is watertight or not.

Every triangle that crosses the plane gives one piece of outline, directed by the side that the
triangle faces. If the mesh has holes, loose ends are joined to the nearest ones. A pixel is inside
if the winding number of the outline around it is not zero. Parts that overlap themselves therefore
stay whole, and inner surfaces, which have the opposite direction, cut out the cavity.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Vector = NDArray[np.float64]

MOST_LOOSE_ENDS = 500
"""A surface with more loose ends in one section is torn, not just open."""


@dataclass(frozen=True)
class Plane:
    """A grid of square pixels in space, in mm."""

    origin_mm: Vector
    """(3,) centre of the pixel in row 0, column 0."""
    right: Vector
    """(3,) unit vector along a row."""
    down: Vector
    """(3,) unit vector along a column, perpendicular to `right`."""
    spacing_mm: float
    shape: tuple[int, int]
    """Rows and columns."""

    def points(self) -> Vector:
        """Return the centres of the pixels (H, W, 3)."""
        rows, columns = np.indices(self.shape) * self.spacing_mm
        in_plane = rows[..., None] * self.down + columns[..., None] * self.right
        return np.asarray(self.origin_mm + in_plane)

    def project(self, points_mm: Vector) -> Vector:
        """Return column and row in pixels and height above the plane in mm, (N, 3)."""
        axes = np.stack([self.right, self.down, np.cross(self.right, self.down)], axis=1)
        scale = [1 / self.spacing_mm, 1 / self.spacing_mm, 1.0]
        return np.asarray((points_mm - self.origin_mm) @ axes * scale)


class Outline(NamedTuple):
    """Pieces of outline in the plane, directed so that the inside is on the same side of all."""

    start: Vector
    """(N, 2) column and row."""
    end: Vector
    start_key: NDArray[np.int64]
    """(N,) number of the mesh edge that a piece begins on."""
    end_key: NDArray[np.int64]


def fill_section(vertices: Vector, faces: NDArray[np.int64], plane: Plane) -> NDArray[np.bool_]:
    """Return the mask (H, W) of the section of a body with this surface.

    vertices: (V, 3) in mm. faces: (F, 3), with consistent orientation. ValueError if the surface is
    torn.
    """
    outline = cut(plane.project(vertices), faces)
    if not len(outline.start):
        return np.zeros(plane.shape, dtype=bool)
    return np.asarray(wind(*join_ends(outline), plane.shape) != 0)


def cut(points: Vector, faces: NDArray[np.int64]) -> Outline:
    """Cut a mesh at height 0."""
    height = np.where(points[:, 2] == 0, 1e-9, points[:, 2])
    above = height > 0
    num_above = above[faces].sum(axis=1)
    crossing = faces[(num_above == 1) | (num_above == 2)]
    sides = above[crossing]
    is_lone = sides == (sides.sum(axis=1) == 1)[:, None]
    turn = is_lone.argmax(axis=1)[:, None] + np.arange(3)
    lone, second, third = np.take_along_axis(crossing, turn % 3, axis=1).T

    def cross(other: NDArray[np.int64]) -> tuple[Vector, NDArray[np.int64]]:
        share = height[lone] / (height[lone] - height[other])
        place = points[lone, :2] + share[:, None] * (points[other, :2] - points[lone, :2])
        low, high = np.minimum(lone, other), np.maximum(lone, other)
        return place, low.astype(np.int64) * len(points) + high

    one, other = cross(second), cross(third)
    forward = above[lone]
    start = np.where(forward[:, None], one[0], other[0])
    end = np.where(forward[:, None], other[0], one[0])
    start_key, end_key = np.where(forward, one[1], other[1]), np.where(forward, other[1], one[1])
    return Outline(start, end, start_key, end_key)


def join_ends(outline: Outline) -> tuple[Vector, Vector]:
    """Join loose ends with the least total length; return starts and ends (N, 2) of all pieces."""
    num = len(outline.start)
    keys = np.concatenate([outline.start_key, outline.end_key])
    edges, node = np.unique(keys, return_inverse=True)
    place = np.zeros((len(edges), 2))
    place[node[:num]], place[node[num:]] = outline.start, outline.end
    surplus = np.bincount(node[num:], minlength=len(edges))
    surplus = surplus - np.bincount(node[:num], minlength=len(edges))
    left = place[np.repeat(np.arange(len(edges)), surplus.clip(min=0))]
    entered = place[np.repeat(np.arange(len(edges)), (-surplus).clip(min=0))]
    if len(left) > MOST_LOOSE_ENDS:
        raise ValueError(f"its surface is torn: {len(left)} loose ends in one section")
    distance = np.linalg.norm(left[:, None] - entered[None], axis=-1)
    rows, columns = linear_sum_assignment(distance)
    start = np.concatenate([outline.start, left[rows]])
    return start, np.concatenate([outline.end, entered[columns]])


def wind(start: Vector, end: Vector, shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return the winding number of the outline around the centre of each pixel (H, W).

    Along a row of pixels the number changes by one at each crossing of the outline.
    """
    height, width = shape
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    first = np.clip(np.ceil(low), 0, height).astype(np.int64)
    count = np.clip(np.ceil(high), 0, height).astype(np.int64) - first
    piece = np.repeat(np.arange(len(start)), count)
    row = np.arange(count.sum()) + np.repeat(first - np.cumsum(count) + count, count)
    (x0, y0), (x1, y1) = start[piece].T, end[piece].T
    column = np.ceil(x0 + (row - y0) / (y1 - y0) * (x1 - x0))
    change = np.zeros((height, width + 1), dtype=np.int32)
    places = (row, np.clip(column, 0, width).astype(np.int64))
    np.add.at(change, places, np.where(y1 > y0, 1, -1).astype(np.int32))
    return np.asarray(np.cumsum(change, axis=1)[:, :width], dtype=np.int32)
