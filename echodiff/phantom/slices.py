"""Slice the 3D heart with the plane of a probe, on the polar (beam) and Cartesian (image) grids."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Finding, Level, View
from echodiff.phantom.chambers import AORTA_AZIMUTH_RAD, Points, aortic_root
from echodiff.phantom.heart import Heart
from echodiff.phantom.tissues import Anatomy, compute_anatomy

_FOUR_CHAMBER_RAD = -0.14
"""Turn of the plane that holds the centres of both valves; the right heart lies in front."""
_TURN_RAD = {
    View.A4C: _FOUR_CHAMBER_RAD, View.A5C: _FOUR_CHAMBER_RAD, View.SUBCOSTAL: _FOUR_CHAMBER_RAD,
    View.A2C: 1.15, View.A3C: AORTA_AZIMUTH_RAD, View.PSAX: 0.45,
}  # fmt: skip
"""Turn of the plane about the long axis, towards the anterior wall, which the two-chamber view has
on its right; it leaves the right heart behind."""
VIEWS = tuple(_TURN_RAD)
"""Views that can be sliced."""
_LEVEL = {Level.BASAL: (0.12, 0.2), Level.MID: (0.42, 0.56), Level.APICAL: (0.81, 0.87)}
"""Where a short axis cuts the ventricle, in its length from the mitral annulus."""
_LEVELS_OF_BASE = (Level.BASAL, Level.MID)
_OF_BASE = frozenset({Finding.RVH, Finding.DILATED_RV, Finding.SEPTAL_HYPERTROPHY})
"""Findings that an apical short axis does not show: it holds little of the right ventricle, and
there the septum is thinnest."""


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Position and depth of the probe; mm and rad, heart frame."""

    view: View
    gap_mm: float
    """Chest wall between probe face and apex of the heart."""
    shift_mm: float
    """Probe off the long axis, to the lateral side."""
    roll_rad: float
    """Turn about the long axis, on top of the view's own."""
    tilt_rad: float
    """Plane tipped out of the long axis (anterior positive)."""
    swing_rad: float
    """Beam axis turned within the plane."""
    offset_mm: float = 0.0
    """Probe off the apex, to the front of the plane: the view is foreshortened."""
    level: Level | None = None
    """Level of a short axis."""
    height: float = 0.0
    """Height of a short axis above the mitral annulus, in lengths of the ventricle."""
    depth_mm: float
    opening_rad: float
    """Full angle of the sector."""
    crop: float = 0.88
    """Share of the sector's width that a square image shows."""

    def to_record(self) -> dict[str, Any]:
        """JSON-serialisable values."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Pose:
        """Restore a pose from `to_record`."""
        level = record["level"]
        words = {"view": View(record["view"]), "level": None if level is None else Level(level)}
        return cls(**(record | words))


def sample_pose(
    rng: np.random.Generator, heart: Heart, view: View, opening_deg: tuple[float, float]
) -> Pose:
    """Draw a probe pose: two rotations of a few degrees, and a depth that holds the heart.

    An apical sector may end within the atria, but not before the far edge of an atrial defect.

    One apical probe in four stands so far off the apex that it foreshortens the left ventricle.
    """
    scale = heart.scale
    roll = float(np.clip(rng.normal(0, 0.09), -0.18, 0.18))
    turn = float(np.clip(rng.normal(0, 0.06), -0.12, 0.12))
    opening = float(np.deg2rad(rng.uniform(*opening_deg)))
    gap = float(rng.uniform(6, 16)) * scale + 0.7 * heart.effusion_mm
    side = heart.lv_radius_mm + heart.wall_mm
    right = side + heart.rv_basal_mm + heart.rv_wall_mm
    if view is View.PSAX:
        shown = _LEVELS_OF_BASE if _OF_BASE & heart.finding_names else tuple(Level)
        level = shown[int(rng.integers(len(shown)))]
        # Above the tricuspid annulus at end of systole too, when the ventricle is shorter.
        least = 1.25 * (heart.tricuspid_offset_mm + 2 * scale) / heart.lv_length_mm
        return Pose(
            view=view, level=level, height=max(float(rng.uniform(*_LEVEL[level])), least),
            gap_mm=gap + 16 * scale,
            shift_mm=-0.15 * (right - side), roll_rad=roll, tilt_rad=roll / 2, swing_rad=turn,
            depth_mm=(gap + 2.3 * side + 28 * scale) * float(rng.uniform(1.05, 1.2)),
            opening_rad=opening,
        )  # fmt: skip
    if view is View.SUBCOSTAL:
        gap += float(rng.uniform(22, 36)) * scale  # the liver
        swing = 1.25 + 2 * turn
        if reach := _defect_reach_mm(heart):  # in systole the atria are longer
            across = right + gap - heart.mitral_radius_mm - 0.5 * heart.wall_mm
            along = 0.42 * heart.lv_length_mm + 1.25 * reach
            swing = min(swing, float(np.arctan2(across, along)) + 0.45 * opening)
        return Pose(
            view=view, gap_mm=gap, shift_mm=0.0, roll_rad=roll, tilt_rad=roll / 3,
            swing_rad=swing, opening_rad=opening,
            depth_mm=(gap + right + side + 12 * scale) * float(rng.uniform(1.05, 1.2)),
        )  # fmt: skip
    wide = max(heart.rv_basal_mm - 40 * scale, 0)  # a sector holds a wide heart farther away
    gap += 0.6 * wide if view is View.A4C else 0
    base = gap + heart.apex_mm
    shift = float(np.clip(rng.normal(-3, 3), -8, 3)) * scale
    swing = -float(np.arctan2(shift, base))
    if view in (View.A4C, View.A5C):  # the right heart and the lateral wall reach equally far
        left_rad = np.arctan2(right + shift, base - 0.2 * heart.rv_length_mm)
        right_rad = np.arctan2(side - shift, base - 0.32 * heart.lv_length_mm)
        swing = 0.45 * float(right_rad - left_rad)
    offset = float(np.clip(rng.normal(0, 2.5), -5, 5)) * scale
    if rng.random() < 0.25:
        offset = float(rng.choice([-1.0, 1.0]) * rng.uniform(6, 13)) * scale
    # Wherever the probe stands, it is tipped until the valves come into view.
    aim = 0.66 * aortic_root(heart)[0][1] if view is View.A5C else 0.0
    tilt = np.clip(rng.normal(0, 0.035), -0.08, 0.045) * (0.4 if view is View.A5C else 1)
    tilt += np.arctan2(aim - offset, base)
    if view is not View.A5C:  # farther to the front, beside the atria, is the aorta
        tilt = min(tilt, np.arctan2(4 * scale - offset, base + 30 * scale))
    # One sector in six ends within the atria, one in ten before half of a far wall.
    whole = base + max(heart.la_length_mm, heart.ra_length_mm)
    depth = whole * float(rng.triangular(0.91, 1.12, 1.14))
    depth = max(depth, base + _defect_reach_mm(heart))
    return Pose(
        view=view,
        gap_mm=gap,
        shift_mm=shift,
        roll_rad=roll,
        tilt_rad=float(tilt),
        swing_rad=swing + turn,
        offset_mm=offset,
        depth_mm=depth,
        opening_rad=opening,
        crop=float(rng.uniform(0.88, 1.0)),
    )


def _defect_reach_mm(heart: Heart) -> float:
    """Depth below the annulus at which the far edge of an atrial defect can be judged, mm."""
    asd = heart.find(Finding.ASD)
    if asd is None or asd.size_mm is None:
        return 0.0
    roof = min(heart.la_length_mm, heart.ra_length_mm)
    middle = {"secundum": 0.47 * roof, "primum": asd.size_mm / 2}
    far = middle[asd.kind] + asd.size_mm / 2 if asd.kind in middle else 0.7 * roof
    return far + 8 * heart.scale


@dataclass(frozen=True)
class PolarGrid:
    """Beams of a phased array. `range_mm` (R,), `angle_rad` (B,) from -opening/2 to +opening/2."""

    range_mm: NDArray[np.float32]
    angle_rad: NDArray[np.float32]


def polar_grid(pose: Pose, num_samples: int, num_beams: int) -> PolarGrid:
    """Even grid over the sector of a pose."""
    half = pose.opening_rad / 2
    return PolarGrid(
        np.linspace(0.5, pose.depth_mm, num_samples, dtype=np.float32),
        np.linspace(-half, half, num_beams, dtype=np.float32),
    )


def image_grid(pose: Pose, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Lateral and depth coordinate (size, size) in mm of every pixel, and the pixel's size in mm.

    The probe is at the top centre; the square may cut the lowest corners of a wide sector,
    as the frames of EchoNet-Dynamic do.
    """
    width = max(pose.depth_mm, 2 * pose.crop * pose.depth_mm * float(np.sin(pose.opening_rad / 2)))
    spacing_mm = width / (0.985 * size)
    top = 0.5 * (size - pose.depth_mm / spacing_mm)
    axis = np.arange(size, dtype=np.float32) + 0.5
    lateral, depth = np.meshgrid((axis - size / 2) * spacing_mm, (axis - top) * spacing_mm)
    return lateral.astype(np.float32), depth.astype(np.float32), spacing_mm


def plane_points(
    heart: Heart, pose: Pose, lateral_mm: NDArray[np.float32], depth_mm: NDArray[np.float32]
) -> Points:
    """Heart-frame points (..., 3) of plane coordinates: lateral (image right) and depth (image
    down)."""
    turn = _TURN_RAD[pose.view] + pose.roll_rad
    side = np.array([np.cos(turn), np.sin(turn), 0.0])
    front = np.array([-np.sin(turn), np.cos(turn), 0.0])
    long_axis = np.array([0.0, 0.0, 1.0])
    outer = heart.lv_radius_mm + heart.wall_mm
    if pose.view is View.PSAX:  # seen from the apex, the anterior wall at the top
        straight, out = -front, -long_axis
        away = 1.15 * outer + pose.gap_mm
        above = pose.height * heart.lv_length_mm + away * np.tan(pose.tilt_rad)
        start = above * long_axis + away * front
    else:
        straight, out = -long_axis, front
        start = (heart.apex_mm + pose.gap_mm) * long_axis
    if pose.view is View.SUBCOSTAL:  # from below the right ventricle, the apex to the right
        right = outer + heart.rv_basal_mm + heart.rv_wall_mm + pose.gap_mm
        start = 0.42 * heart.lv_length_mm * long_axis - right * side
    down = np.cos(pose.tilt_rad) * straight + np.sin(pose.tilt_rad) * out
    c, s = np.cos(pose.swing_rad), np.sin(pose.swing_rad)
    e, d = c * side - s * down, s * side + c * down
    origin = start + pose.shift_mm * side + pose.offset_mm * out
    first, across, below = (vector.astype(np.float32) for vector in (origin, e, d))
    points = first + lateral_mm[..., None] * across + depth_mm[..., None] * below
    return np.asarray(points, np.float32)


def slice_image(heart: Heart, pose: Pose, size: int) -> tuple[Anatomy, float]:
    """Anatomy on the (size, size) image grid, and the spacing in mm per pixel."""
    lateral, depth, spacing_mm = image_grid(pose, size)
    points = plane_points(heart, pose, lateral, depth)
    return compute_anatomy(heart, points, least_mm=1.45 * spacing_mm), spacing_mm


def slice_polar(heart: Heart, pose: Pose, grid: PolarGrid) -> Anatomy:
    """Anatomy on the (R, B) beam grid."""
    r, a = grid.range_mm[:, None], grid.angle_rad[None, :]
    points = plane_points(heart, pose, r * np.sin(a), r * np.cos(a))
    between_beams_mm = 0.75 * pose.depth_mm * float(grid.angle_rad[1] - grid.angle_rad[0])
    return compute_anatomy(heart, points, least_mm=1.2 * between_beams_mm)


def sector_mask(pose: Pose, size: int) -> NDArray[np.bool_]:
    """True inside the sector, (size, size)."""
    lateral, depth, _ = image_grid(pose, size)
    r, a = np.hypot(lateral, depth), np.arctan2(lateral, depth)
    return np.asarray((r < pose.depth_mm) & (r > 0.5) & (np.abs(a) < pose.opening_rad / 2))
