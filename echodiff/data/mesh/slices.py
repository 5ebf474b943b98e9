"""Draw a pose, slice the heart model, and make a pseudo image of the slice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.anatomy import Label, View
from echodiff.data.mesh.cavities import Atlas, build_atlas, find_sure, label_plane
from echodiff.data.mesh.models import Model
from echodiff.data.mesh.sections import Plane
from echodiff.data.mesh.views import (
    HEART,
    Landmarks,
    aim_beam,
    coarse_plane,
    cone_mask,
    find_landmarks,
    frame_heart,
    image_plane,
    place_axes,
    sample_pose,
)
from echodiff.errors import InputError
from echodiff.phantom.pseudo import simulate_pseudo
from echodiff.phantom.seeds import seed_words
from echodiff.phantom.slices import Pose
from echodiff.phantom.tissues import Anatomy

LEVELS = (0.15, 0.85)
"""Where short axes cross the long axis, from 0 at the mitral valve to 1 at the apex."""
NEEDED: Mapping[View, Sequence[Label]] = {
    View.A4C: (Label.LV, Label.LA, Label.RV, Label.RA),
    View.A2C: (Label.LV, Label.LA),
    View.SAX: (Label.LV,),
}
NEEDED_SHARE = 0.01
"""Share of the image that each cavity of `NEEDED` must fill; otherwise the pose is drawn again."""
TRIES = 25
WALLS_MM = {
    Label.LV_MYOCARDIUM: ((Label.LV,), 9.0),
    Label.RV_MYOCARDIUM: ((Label.RV,), 3.5),
    Label.ATRIAL_WALL: ((Label.LA, Label.RA), 2.6),
}
"""Walls added around cavities if a model has none, as thick as the phantom's."""
SAC_MM = 4.0
"""The pericardium bridges grooves of up to twice this width."""


@dataclass(frozen=True)
class CutHeart:
    """A model that is ready to be sliced."""

    model: Model
    atlas: Atlas
    sure: NDArray[np.uint8]
    marks: Landmarks

    def label(self, plane: Plane) -> NDArray[np.uint8]:
        """Return the labels (H, W) on a plane."""
        return label_plane(self.model, self.atlas, self.sure, plane)


@dataclass(frozen=True)
class HeartSlice:
    """A frame and the parameters that produced it."""

    image_u8: NDArray[np.uint8]
    mask_u8: NDArray[np.uint8]
    spacing_mm: float
    record: dict[str, Any]
    """JSON-serialisable; with the model, enough to reproduce the slice."""


def build_heart(model: Model) -> CutHeart:
    """Fill the cavities and find the landmarks."""
    atlas = build_atlas(model)
    return CutHeart(model, atlas, find_sure(atlas), find_landmarks(atlas))


def draw_slice(
    heart: CutHeart, view: View, seed: Sequence[int], size: int, *, complete: bool
) -> HeartSlice:
    """Draw a pose; repeat if a cavity that the view must show is not visible."""
    for attempt in range(TRIES):
        rng = np.random.default_rng(seed_words(*seed, attempt))
        pose = sample_pose(rng, view)
        level = float(rng.uniform(*LEVELS)) if view is View.SAX else 0.5
        radius = float(rng.uniform(0.93, 1.0))
        beam = aim_beam(heart.marks, place_axes(heart.marks, pose, level), pose)
        coarse = coarse_plane(beam)
        pose = frame_heart(pose, heart.label(coarse), coarse, beam)
        plane = image_plane(pose, beam, size, radius)
        labels = heart.label(plane)
        cone = cone_mask(pose, plane)
        areas = [np.mean((labels == label) & cone) for label in NEEDED[view]]
        if min(areas) >= NEEDED_SHARE:
            break
    else:
        names = ", ".join(label.name for label in NEEDED[view])
        raise InputError(f"no plane of {TRIES} near that of {view} shows {names}")
    given = set(Label) if not complete else {tissue.label for tissue in heart.model.tissues}
    added = add_walls(labels, plane.spacing_mm, given)
    hull_mm = find_hull(labels, plane.spacing_mm)
    if Label.PERICARDIUM not in given:
        labels[(labels == Label.BACKGROUND) & (np.abs(hull_mm - 1.2) < 1.3)] = Label.PERICARDIUM
        added.append(Label.PERICARDIUM)
    noise_seed = int(rng.integers(2**31))
    nothing = np.zeros(labels.shape, dtype=bool)
    image = simulate_pseudo(Anatomy(labels, hull_mm, nothing, nothing), cone, noise_seed)
    mask = np.where(cone, labels, Label.BACKGROUND).astype(np.uint8)
    record = write_record(heart, pose, plane) | {
        "added": [label.name for label in added],
        "attempt": attempt,
        "level": level,
        "noise_seed": noise_seed,
    }
    return HeartSlice(image, mask, plane.spacing_mm, record)


def add_walls(labels: NDArray[np.uint8], spacing_mm: float, given: set[Label]) -> list[Label]:
    """Add, in place, the walls that the model does not give; return their names."""
    added = []
    for wall, (cavities, thickness_mm) in WALLS_MM.items():
        blood = np.isin(labels, cavities)
        if blood.any() and wall not in given:
            near = ndimage.distance_transform_edt(~blood) * spacing_mm < thickness_mm
            labels[(labels == Label.BACKGROUND) & near] = wall
            added.append(wall)
    return added


def find_hull(labels: NDArray[np.uint8], spacing_mm: float) -> NDArray[np.float32]:
    """Return the signed distance (H, W) in mm to the surface of the heart with its grooves filled;
    negative inside."""
    outside = ndimage.distance_transform_edt(~np.isin(labels, HEART)) * spacing_mm
    swollen = ndimage.binary_fill_holes(outside < SAC_MM)
    body = ndimage.distance_transform_edt(swollen) * spacing_mm > SAC_MM
    body |= outside == 0
    away = ndimage.distance_transform_edt(~body) - ndimage.distance_transform_edt(body)
    return np.asarray(away * spacing_mm, np.float32)


def write_record(heart: CutHeart, pose: Pose, plane: Plane) -> dict[str, Any]:
    """Return landmarks, pose and plane in mm, in the coordinate system of the model."""
    return {
        "landmarks_mm": {
            name: np.round(getattr(heart.marks, name), 3).tolist()
            for name in ("mitral", "tricuspid", "apex")
        },
        "plane": {
            "origin_mm": np.round(plane.origin_mm, 6).tolist(),
            "right": np.round(plane.right, 9).tolist(),
            "down": np.round(plane.down, 9).tolist(),
            "spacing_mm": plane.spacing_mm,
        },
        "pose": pose.to_record(),
        "unit": heart.model.unit,
    }
