"""What each place of a slice sends back to the probe, and what is lost on the way."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.anatomy import Label
from echodiff.phantom.slices import PolarGrid
from echodiff.phantom.tissues import Anatomy

Image = NDArray[np.float32]

# Backscatter in dB relative to myocardium, and specular impedance (arbitrary units), by label.
_TISSUE = {
    Label.BACKGROUND: (-6.0, 0.30),
    Label.LV_MYOCARDIUM: (-1.0, 0.45),
    Label.RV_MYOCARDIUM: (-3.0, 0.35),
    Label.ATRIAL_WALL: (2.0, 0.45),
    Label.VALVE: (5.0, 0.1),
    Label.AORTA: (-18.0, 0.25),
    Label.PERICARDIUM: (-1.0, 0.35),
    Label.PERICARDIAL_FLUID: (-34.0, 0.1),
}
_ADULT_DEPTH_MM = 160.0
"""Depth at which lengths of the texture are in mm; elsewhere they follow the depth."""
_FIBRE_MM = 1.1
"""Thickness of a layer of muscle in the walls' texture."""
_LEAFLET_DB_MM = 6.0
"""Loss by distance from the middle of a leaflet."""


@dataclass(frozen=True)
class Reflectivity:
    """What the tissue of a slice reflects; both (R, B)."""

    diffuse_db: Image
    """Backscatter relative to myocardium."""
    specular: Image
    """Amplitude of smooth interfaces that face the beam."""


def roughen(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """Return the slice (R, B) with borders uneven by about a millimetre, as trabeculae make them.

    Borders stay whole: places move by less than their neighbours are apart.
    """
    shape = anatomy.labels.shape
    rows, cols = np.arange(shape[0])[:, None], np.arange(shape[1])
    down = 0.004 * shape[0] * smooth_noise(shape, (32, 14), rng)
    right = 0.004 * shape[1] * smooth_noise(shape, (32, 14), rng)
    rows = np.clip(rows + np.rint(down).astype(np.int64), 0, shape[0] - 1)
    cols = np.clip(cols + np.rint(right).astype(np.int64), 0, shape[1] - 1)
    place = rows * shape[1] + cols
    return Anatomy(**{f.name: getattr(anatomy, f.name).ravel()[place] for f in fields(anatomy)})


def compute_reflectivity(
    anatomy: Anatomy,
    grid: PolarGrid,
    *,
    blood_db: float,
    fossa_db: float,
    rng: np.random.Generator,
) -> Reflectivity:
    """Reflectivity of a slice on the beam grid.

    fossa_db: loss in the middle of the atrial septum, which is thin there and runs along the beam.
    """
    shape = anatomy.labels.shape
    table = np.full((2, max(Label) + 1), blood_db, np.float32)
    table[1] = 0.1
    for label, (diffuse, specular) in _TISSUE.items():
        table[:, label] = diffuse, specular
    level, impedance = table[0][anatomy.labels], table[1][anatomy.labels]
    level[anatomy.papillary] = -1.5
    impedance[anatomy.papillary] = 0.4
    level[anatomy.fibrous] = 6.0
    impedance[anatomy.fibrous] = 0.6
    level += _leaflet_profile_db(anatomy.labels, grid)

    facing = _facing(anatomy.hull_mm, grid)
    hull = anatomy.hull_mm * np.float32(_ADULT_DEPTH_MM / grid.range_mm[-1])
    outside = anatomy.labels == Label.BACKGROUND
    solid = ~outside & (level > blood_db + 3)
    level = np.where(outside, _surroundings_db(hull, facing, grid, rng), level)
    muscle = 3.0 * smooth_noise(shape, (20, 9), rng)
    muscle += 2.2 * _fibres(hull, grid, rng)
    valve = anatomy.labels == Label.VALVE
    level += muscle * np.where(solid, np.where(valve, 0.6, 1.0), 0.25).astype(np.float32)
    septum, fossa = _atrial_septum(anatomy.labels)
    fading = solid & ~valve & ~septum
    level -= np.where(fading, _along_db(anatomy.labels) * (1 - facing) ** 1.5, 0)
    level -= fossa_db * fossa
    lost = _lost_outline_db(anatomy.labels, hull, grid, rng) * ~septum
    level -= lost
    impedance *= to_power(-0.5 * lost)
    level = _through_slice_db(level) + _grains_db(anatomy, outside, -hull, rng)

    depth = grid.range_mm[:, None] / grid.range_mm[-1]
    soft = ndimage.gaussian_filter1d(impedance, 1.0, axis=0)
    edge = np.abs(np.gradient(soft, axis=0)) * (0.25 + facing**4 * depth * 3.5)
    return Reflectivity(level.astype(np.float32), (5.0 * edge).astype(np.float32))


def _grains_db(
    anatomy: Anatomy, outside: NDArray[np.bool_], inward_mm: Image, rng: np.random.Generator
) -> Image:
    """Scatterers of unequal strength, (R, B) dB: muscle glitters, and chordae and trabeculae are
    single bright points in the ventricles.

    inward_mm: distance from the heart's surface, in mm of an adult.
    """
    shape = anatomy.labels.shape
    white = rng.standard_normal(shape, dtype=np.float32)
    grains = ndimage.uniform_filter(white, (2, 4)) * np.float32(np.sqrt(8))
    blood = np.isin(anatomy.labels, (Label.LV, Label.RV, Label.LA, Label.RA))
    solid_db = np.where(outside | (anatomy.labels == Label.VALVE), 2.6, 3.8) * grains
    points_db = np.where(inward_mm > 14, 30.0, 0.0) * np.clip(grains - 2.4, 0, 0.7)
    return np.asarray(np.where(blood, points_db, solid_db), np.float32)


def _through_slice_db(level: Image) -> Image:
    """Level (R, B) with blurred edges: a beam is some millimetres thick across the slice, in which
    walls curve."""
    power = to_power(level)
    for _ in range(2):
        power = ndimage.uniform_filter1d(power, 3, axis=1, mode="nearest")
    return np.asarray(10 * np.log10(power), np.float32)


def _leaflet_profile_db(labels: NDArray[np.uint8], grid: PolarGrid) -> Image:
    """Loss towards the faces of the leaflets, (R, B), 0 elsewhere: they reflect as thin sheets."""
    valve = labels == Label.VALVE
    inward = valve.astype(np.float32)  # samples from the nearer face, at most 3
    for size in (3, 5):
        inward += ndimage.minimum_filter1d(valve, size, axis=0)
    middle = ndimage.maximum_filter1d(inward, 5, axis=0)
    step_mm = float(grid.range_mm[1] - grid.range_mm[0])
    return np.asarray(-_LEAFLET_DB_MM * step_mm * (middle - inward) * valve, np.float32)


def _surroundings_db(
    hull_mm: Image, facing: Image, grid: PolarGrid, rng: np.random.Generator
) -> Image:
    """Level outside of the heart, (R, B): layers of the chest wall above, pericardium and lung in
    arcs that fade behind the heart, patches of either kind."""
    shape = hull_mm.shape
    depth = grid.range_mm[:, None] / grid.range_mm[-1]
    behind = np.maximum(hull_mm, 0)
    left_db, right_db = rng.uniform(-2, 13, 2)  # one side is rarely like the other
    side = np.interp(np.arange(shape[1]) / shape[1], (0.35, 0.65), (0, 1)).astype(np.float32)
    uneven = np.clip(1 + 0.7 * smooth_noise(shape, (14, 9), rng), 0, 2)
    band = (left_db + (right_db - left_db) * side) * uneven * np.exp(-behind / rng.uniform(3, 9))
    band *= np.clip(2.2 * depth - 0.5, 0, 1) * (0.5 + 0.5 * facing)
    patches = 7.0 * smooth_noise(shape, (6, 5), rng) + 3.0 * smooth_noise(shape, (32, 8), rng)
    spots = np.clip(smooth_noise(shape, (30, 6), rng) - 0.5, 0, 1.5) * np.exp(-behind / 14)
    patches += rng.uniform(4, 24) * spots * np.minimum(depth / 0.5, 1)
    layers = 5.0 * smooth_noise(shape, (60, 2), rng) * np.exp(-depth / 0.09)
    chest = -12.0 * np.exp(-depth / 0.11)
    return np.asarray(rng.uniform(-11, -5) + chest + band + patches + layers, np.float32)


def _lost_outline_db(
    labels: NDArray[np.uint8], hull_mm: Image, grid: PolarGrid, rng: np.random.Generator
) -> Image:
    """Loss along the outline of the atria, (R, B): far from the probe parts of it are not seen, and
    what lies behind is as dark as blood."""
    depth = grid.range_mm[:, None] / grid.range_mm[-1]
    patches = np.clip(smooth_noise(labels.shape, (9, 10), rng) + rng.uniform(-0.7, 0.5), 0, 1)
    thin = np.isin(labels, (Label.ATRIAL_WALL, Label.PERICARDIUM, Label.BACKGROUND))
    near = thin * np.exp(-np.maximum(hull_mm, 0) / 8) * np.clip((depth - 0.5) / 0.15, 0, 1)
    return np.asarray(16.0 * patches * near, np.float32)


def _along_db(labels: NDArray[np.uint8]) -> Image:
    """Loss of walls that run along the beam, (R, B): the thin ones vanish first."""
    thick = labels == Label.LV_MYOCARDIUM
    return np.where(thick, 9.0, 13.0).astype(np.float32)


def _fibres(hull_mm: Image, grid: PolarGrid, rng: np.random.Generator) -> Image:
    """Texture in layers that follow the walls, (R, B), about unit variance."""
    table = ndimage.gaussian_filter(rng.standard_normal((64, 64), dtype=np.float32), (0.7, 1.5),
                                    mode="wrap")  # fmt: skip
    layer = np.floor(hull_mm / (0.5 * _FIBRE_MM)).astype(np.int32) % 64
    depth_mm = grid.range_mm * _ADULT_DEPTH_MM / grid.range_mm[-1]
    along = np.floor(depth_mm / 1.5).astype(np.int32)[:, None] % 64
    return np.asarray(table[layer, along] / table.std(), np.float32)


def _atrial_septum(labels: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], Image]:
    """The atrial septum, (R, B), and a weight in [0, 1] that is 1 in its middle."""
    right = np.logical_or.accumulate(labels == Label.RA, axis=1)
    left = np.logical_or.accumulate((labels == Label.LA)[:, ::-1], axis=1)[:, ::-1]
    septum = (labels == Label.ATRIAL_WALL) & right & left
    rows = np.flatnonzero(septum.any(1))
    if rows.size < 3:
        return septum, np.zeros(labels.shape, np.float32)
    place = (np.arange(labels.shape[0]) - rows[0]) / (rows[-1] - rows[0])
    weight = np.exp(-(((place - 0.5) / 0.25) ** 2))[:, None]
    return septum, np.asarray(septum * weight, np.float32)


def _facing(hull_mm: Image, grid: PolarGrid) -> Image:
    """Cosine between beam and the normal of the heart's surface, (R, B) in [0, 1]."""
    along = np.gradient(hull_mm, axis=0) / float(grid.range_mm[1] - grid.range_mm[0])
    step_mm = grid.range_mm[:, None] * float(grid.angle_rad[1] - grid.angle_rad[0])
    across = np.gradient(hull_mm, axis=1) / step_mm
    return np.asarray(np.abs(along) / (np.hypot(along, across) + 1e-6), np.float32)


def to_power(level_db: Image | float) -> Image:
    """Power of a level in dB."""
    return np.asarray(np.exp(np.float32(np.log(10) / 10) * np.asarray(level_db, np.float32)))


def smooth_noise(shape: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator) -> Image:
    """Smooth field of about unit variance with the given number of cells each way."""
    coarse = rng.standard_normal((cells[0] + 3, cells[1] + 3), dtype=np.float32)
    rows, cols = _spline(shape[0], cells[0]), _spline(shape[1], cells[1])
    # einsum and not @: BLAS starts threads, and one of these runs on every core already.
    field = np.einsum("il,jl->ij", np.einsum("ik,kl->il", 1.4 * rows, coarse), cols)
    return np.asarray(field, np.float32)


@lru_cache(maxsize=64)
def _spline(num: int, cells: int) -> Image:
    """Cubic spline from cells + 3 knots to `num` even places between the second and the last but
    one, as a matrix (num, cells + 3): a field is two small products instead of a gather."""
    places = np.linspace(1, cells + 1, num)[None]
    knots = np.eye(cells + 3)
    columns = [ndimage.map_coordinates(knot, places, order=3, mode="nearest") for knot in knots]
    return np.asarray(np.stack(columns, axis=1), np.float32)
