"""Place the planes of echocardiography in a heart, and the probe on each of them.

The four-chamber plane contains the apex of the left ventricle and the centres of both
atrioventricular valves. The two-chamber plane is rotated from it about the long axis by 70 degrees,
towards the anterior wall, which is then on the right. The short-axis plane is perpendicular to the
long axis and seen from the apex. The display follows Gilbert et al. (IEEE TMI 2021) and the ASE:
the apex (in short axis the anterior wall) at the top and the left ventricle on the right. This
fixes the side from which the plane is seen, so no image is mirrored.
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
"""Rotation about the long axis, towards the anterior wall."""
JITTER_RAD = float(0.05 * np.pi)
"""Standard deviation of the two random rotations of a slice, which are limited to twice this."""
COARSE_MM = 2.0
FIELD_MM = 360.0
"""Spacing and width of the coarse slice on which the probe is placed."""
CONTACT_MM = 3.0
"""A valve is where the distance of two cavities is at most this much above its minimum."""

HEART = (
    Label.LV, Label.LA, Label.RV, Label.RA, Label.LV_MYOCARDIUM, Label.RV_MYOCARDIUM,
    Label.ATRIAL_WALL, Label.VALVE,
)  # fmt: skip
"""Labels that must fit into the frame; the great vessels need not."""


@dataclass(frozen=True)
class Landmarks:
    """Three points (3,) in mm."""

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
    """Find the centres of both valves and the apex.

    The apex is the mean of the hundredth of left-ventricular voxels farthest from the mitral valve,
    because a single voxel of a rough surface is unreliable.
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
    """Draw two rotations of the plane, one within it, and the opening angle, as Gilbert et al.

    `depth_mm` and `gap_mm` (the distance of the probe from the heart) are shares of the depth here,
    which `frame_heart` converts to mm: the heart begins at 5 to 15 per cent of the depth and ends
    at 80 to 90.
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
    """Place the plane of a view with its random rotations.

    level: where it crosses the long axis, from 0 at the valve to 1 at the apex. Apical views rotate
    about the middle of the axis.
    """
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
    """Choose the directions of the image within its plane.

    Down is from the apex to the mitral valve or, in A4C, to a point a third of the way from it to
    the tricuspid valve; in short axis, to the back. The image is then rotated by `swing_rad` about
    the apex or the middle of the short axis.
    """
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
    """Compute depth, gap and shift of the probe in mm from the heart on a coarse slice.

    The shift centres the heart in the sector, by at most 12 mm in apical views. If the heart is too
    wide for the sector or the image, the gap is increased until it fits.
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
    """Find the shift of the probe at which the largest angles to the left and right are equal."""
    low, high = -most, most
    for _ in range(20):
        shift = (low + high) / 2
        angle = np.arctan2(lateral - shift, depth)
        low, high = (shift, high) if angle.max() + angle.min() > 0 else (low, shift)
    return (low + high) / 2


def coarse_plane(beam: Axes) -> Plane:
    """Return a coarse plane of `FIELD_MM` around the centre of the beam's axes."""
    num = round(FIELD_MM / COARSE_MM)
    corner = beam.centre_mm - FIELD_MM / 2 * (beam.right + beam.down)
    return Plane(corner, beam.right, beam.down, COARSE_MM, (num, num))


def image_plane(pose: Pose, beam: Axes, size: int, radius: float) -> Plane:
    """Return the pixel grid of the image.

    The probe is at the top centre, and the depth fills the share `radius` of the height. The square
    image crops the sides of a wide sector.
    """
    spacing_mm = pose.depth_mm / (radius * size)
    probe = beam.centre_mm - pose.gap_mm * beam.down + pose.shift_mm * beam.right
    corner = probe + spacing_mm / 2 * (beam.down - (size - 1) * beam.right)
    return Plane(corner, beam.right, beam.down, spacing_mm, (size, size))


def cone_mask(pose: Pose, plane: Plane) -> NDArray[np.bool_]:
    """Return the mask (H, W) of the sector on an `image_plane`."""
    rows, columns = np.indices(plane.shape) + 0.5
    down, across = rows * plane.spacing_mm, (columns - plane.shape[1] / 2) * plane.spacing_mm
    is_near = np.hypot(down, across) < pose.depth_mm
    return np.asarray(is_near & (np.abs(np.arctan2(across, down)) < pose.opening_rad / 2))


def _unit(vector: Vector) -> Vector:
    return np.asarray(vector / np.linalg.norm(vector))
