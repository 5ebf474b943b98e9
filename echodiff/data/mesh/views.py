"""Where the planes of echocardiography run through a heart, and how a probe frames them.

The plane of the four-chamber view holds the apex of the left ventricle and the centres of both
atrio-ventricular valves. The two-chamber view is that plane turned about the long axis by 70
degrees, towards the anterior wall, which is then on the right; the short axis is at right angles to
the long one, seen from the apex. All as Gilbert et al. (IEEE TMI 2021) and the ASE draw them: apex
at the top or, in the short axis, the anterior wall, left ventricle on the right. Which side of the
plane one looks from follows from that, so no picture is ever a mirror image.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.anatomy import Label, View
from echodiff.data.mesh.cavities import VOXEL_MM, Atlas
from echodiff.data.mesh.sections import Plane, Vector
from echodiff.errors import InputError
from echodiff.phantom.slices import Pose

VIEWS = (View.A4C, View.A2C, View.SAX)
TURN_RAD = {View.A4C: 0.0, View.A2C: float(np.deg2rad(70)), View.SAX: 0.0}
"""Turn about the long axis, towards the anterior wall."""
JITTER_RAD = float(0.05 * np.pi)
"""Deviation of the two rotations that are drawn for every slice, cut off at two of them."""
COARSE_MM = 2.0
FIELD_MM = 360.0
"""Spacing and width of the slice that the probe is placed by."""
CONTACT_MM = 3.0
"""A valve is where two cavities are as near as they come, and this much more."""

HEART = (
    Label.LV, Label.LA, Label.RV, Label.RA, Label.LV_MYOCARDIUM, Label.RV_MYOCARDIUM,
    Label.ATRIAL_WALL, Label.VALVE,
)  # fmt: skip
"""What a frame is to hold; the great vessels may leave it."""


@dataclass(frozen=True)
class Landmarks:
    """Three points, (3,) each, mm."""

    mitral: Vector
    tricuspid: Vector
    apex: Vector


class Axes(NamedTuple):
    """A plane and the directions in it, (3,) each."""

    centre_mm: Vector
    """A point of the plane."""
    right: Vector
    down: Vector


def find_landmarks(atlas: Atlas) -> Landmarks:
    """Centres of both valves, and the point of the left ventricle that is farthest from its own.

    The point is the mean of the farthest hundredth: one voxel of a rough surface is no apex.
    """
    distance = {}
    for label in (Label.LV, Label.LA, Label.RV, Label.RA):
        inside = atlas.labels == label
        if not inside.any():
            name = label.name
            raise InputError(f"has no {name} cavity, and no {name} wall that encloses one")
        distance[label] = np.asarray(ndimage.distance_transform_edt(~inside) * VOXEL_MM)
    mitral = _find_valve(atlas, distance[Label.LV] + distance[Label.LA])
    tricuspid = _find_valve(atlas, distance[Label.RV] + distance[Label.RA])
    ventricle = atlas.place_mm(np.argwhere(atlas.labels == Label.LV).astype(float))
    away = np.linalg.norm(ventricle - mitral, axis=1)
    apex = ventricle[away >= np.quantile(away, 0.99)].mean(axis=0)
    return Landmarks(mitral, tricuspid, apex)


def _find_valve(atlas: Atlas, gap_mm: NDArray[np.float64]) -> Vector:
    near = np.argwhere(gap_mm <= gap_mm.min() + CONTACT_MM).astype(float)
    return np.asarray(atlas.place_mm(near).mean(axis=0))


def sample_pose(rng: np.random.Generator, view: View) -> Pose:
    """Draw what Gilbert et al. draw: two rotations of the plane, a turn within it, a cone.

    How far the probe looks (`depth_mm`) and stands off (`gap_mm`) are shares of the depth that
    `frame_heart` turns into mm: the heart begins at 5 to 15 and ends at 80 to 90 per cent of it.
    """
    roll, tilt = np.clip(rng.normal(0, JITTER_RAD, 2), -2 * JITTER_RAD, 2 * JITTER_RAD)
    opening = np.clip(rng.normal(90, 6), 78, 102)
    return Pose(
        view=view,
        gap_mm=float(rng.uniform(0.05, 0.15)),
        shift_mm=0.0,
        roll_rad=float(roll),
        tilt_rad=float(tilt),
        swing_rad=float(np.deg2rad(rng.uniform(-15, 15))),
        depth_mm=float(rng.uniform(0.8, 0.9)),
        opening_rad=float(np.deg2rad(opening)),
    )


def place_axes(marks: Landmarks, pose: Pose, level: float = 0.5) -> Axes:
    """The jittered plane of a view. `level` is where it meets the long axis: 0 at the valve, 1 at
    the apex; apical views turn about its middle."""
    long_axis = _unit(marks.apex - marks.mitral)
    across = marks.mitral - marks.tricuspid
    lateral = _unit(across - (across @ long_axis) * long_axis)
    anterior = np.cross(long_axis, lateral)
    up, right, out = long_axis, lateral, anterior
    if pose.view is View.SAX:
        up, out = anterior, -long_axis
    turn = TURN_RAD[pose.view] + pose.roll_rad
    cos, sin = np.cos(turn), np.sin(turn)
    right, out = cos * right + sin * out, cos * out - sin * right
    up = np.cos(pose.tilt_rad) * up - np.sin(pose.tilt_rad) * out
    return Axes(marks.mitral + level * (marks.apex - marks.mitral), right, -up)


def aim_beam(marks: Landmarks, plane: Axes, pose: Pose) -> Axes:
    """The picture's directions in the plane: from the apex down to the mitral valve or, where the
    right heart is in view, a third of the way to the tricuspid one; from a short axis to the back.
    Then a turn more about the apex, or about the middle of the short axis."""
    out = np.cross(plane.down, plane.right)

    def onto(point: Vector) -> Vector:
        return np.asarray(point + ((plane.centre_mm - point) @ out) * out)

    start, down = plane.centre_mm, plane.down
    if pose.view is not View.SAX:
        share = 1 / 3 if pose.view is View.A4C else 0.0
        start = onto(marks.apex)
        down = _unit(onto(marks.mitral + share * (marks.tricuspid - marks.mitral)) - start)
    right = np.cross(out, down)
    cos, sin = np.cos(pose.swing_rad), np.sin(pose.swing_rad)
    return Axes(start, cos * right - sin * down, sin * right + cos * down)


def frame_heart(pose: Pose, labels: NDArray[np.uint8], plane: Plane, beam: Axes) -> Pose:
    """Depth and stand-off in mm, from the extent of the heart on a coarse slice, and the shift of
    the probe that puts the heart in the middle of the cone (in apical views by 12 mm at most).

    A heart too wide for the cone or the square is stood off from until it fits.
    """
    rows, columns = np.nonzero(np.isin(labels, HEART))
    if not len(rows):
        raise InputError(f"has no heart on the plane of {pose.view}")
    offset = plane.origin_mm - beam.centre_mm
    depth = rows * plane.spacing_mm + offset @ beam.down
    lateral = columns * plane.spacing_mm + offset @ beam.right
    top, bottom = float(depth.min()), float(depth.max())
    gap_mm = pose.gap_mm * (bottom - top) / (pose.depth_mm - pose.gap_mm) - top
    most = FIELD_MM / 2 if pose.view is View.SAX else 12.0
    for _ in range(60):
        depth_mm = (bottom + gap_mm) / pose.depth_mm
        shift = _centre_shift(lateral, depth + gap_mm, most)
        widest = np.abs(np.arctan2(lateral - shift, depth + gap_mm)).max()
        if widest < 0.48 * pose.opening_rad and np.abs(lateral - shift).max() < 0.48 * depth_mm:
            break
        gap_mm += plane.spacing_mm
    return replace(pose, depth_mm=depth_mm, gap_mm=gap_mm, shift_mm=shift)


def _centre_shift(lateral: Vector, depth: Vector, most: float) -> float:
    """Shift of the probe from which points reach as far to the left as to the right, as angles."""
    low, high = -most, most
    for _ in range(20):
        shift = (low + high) / 2
        angle = np.arctan2(lateral - shift, depth)
        low, high = (shift, high) if angle.max() + angle.min() > 0 else (low, shift)
    return (low + high) / 2


def coarse_plane(beam: Axes) -> Plane:
    """A field of `FIELD_MM` around the centre of the beam's axes."""
    num = round(FIELD_MM / COARSE_MM)
    corner = beam.centre_mm - FIELD_MM / 2 * (beam.right + beam.down)
    return Plane(corner, beam.right, beam.down, COARSE_MM, (num, num))


def image_plane(pose: Pose, beam: Axes, size: int, radius: float) -> Plane:
    """The pixels of the picture: the probe is at the top centre, and what it sees of depth fills
    `radius` of the height. The square cuts the sides of a wide cone."""
    spacing_mm = pose.depth_mm / (radius * size)
    probe = beam.centre_mm - pose.gap_mm * beam.down + pose.shift_mm * beam.right
    corner = probe + spacing_mm / 2 * (beam.down - (size - 1) * beam.right)
    return Plane(corner, beam.right, beam.down, spacing_mm, (size, size))


def cone_mask(pose: Pose, plane: Plane) -> NDArray[np.bool_]:
    """True (H, W) where the probe of an `image_plane` sees."""
    rows, columns = np.indices(plane.shape) + 0.5
    down, across = rows * plane.spacing_mm, (columns - plane.shape[1] / 2) * plane.spacing_mm
    is_near = np.hypot(down, across) < pose.depth_mm
    return np.asarray(is_near & (np.abs(np.arctan2(across, down)) < pose.opening_rad / 2))


def _unit(vector: Vector) -> Vector:
    return np.asarray(vector / np.linalg.norm(vector))
