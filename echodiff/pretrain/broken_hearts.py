"""Break the anatomy of phantom frames, in the pixels and in the labels alike.

A segmenter that has seen sound hearts alone draws sound hearts into any image. Here it sees torn
walls, merged, missing, extra and split chambers, mirrored and patched hearts, with true labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.anatomy import Label

Labels = NDArray[np.uint8]
Region = NDArray[np.bool_]

CHAMBERS = (Label.LV, Label.RV, Label.LA, Label.RA)
WALLS = (Label.LV_MYOCARDIUM, Label.RV_MYOCARDIUM, Label.ATRIAL_WALL)
SEPTA = ((Label.LA, Label.RA), (Label.LV, Label.RV))
"""Chambers on both sides of each septum."""
VISIBLE = 1.0
"""Least contrast-to-noise ratio of a change that is one."""
HEART = tuple(label for label in Label if label is not Label.BACKGROUND)


class Painted(NamedTuple):
    """A frame (H, W) uint8 and the labels (H, W) of what it shows."""

    image_u8: NDArray[np.uint8]
    labels: Labels


def replace_region(
    frame: Painted, region: Region, by: Sequence[Label], rng: np.random.Generator
) -> Painted:
    """Show what lies nearest of the labels `by` in place of a region, with speckle of the frame.

    The rim of the region goes too, as far as a bright wall shines. The frame itself where no such
    label is outside of it, and where nobody could see the change: what the scan does not show
    cannot be broken.
    """
    sector = find_sector(frame.image_u8)
    wide = ndimage.binary_dilation(region, iterations=max(1, len(region) // 64))
    source = np.isin(frame.labels, by) & ~wide & sector
    if not region.any() or not source.any():
        return frame
    image = frame.image_u8.astype(np.float32)
    y, x = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
    grain = 0.03 * len(region)
    weight = ndimage.gaussian_filter(source.astype(np.float32), grain)
    level = ndimage.gaussian_filter(image * source, grain) / np.maximum(weight, 1e-3)
    level = ndimage.gaussian_filter(level[y, x], 0.5 * grain)
    # Not that of the edge of the sector, which would come along as a streak.
    inner = ndimage.binary_erosion(sector, iterations=3)
    inside = ndimage.gaussian_filter(sector.astype(np.float32), 0.5 * grain)
    mean = ndimage.gaussian_filter(image, 0.5 * grain) / np.maximum(inside, 1e-3)
    speckle = np.where(
        inner,
        (image + 4) / (mean + 4),
        1 + 0.12 * draw_smooth(region.shape, 0.25 * grain / len(region), rng),
    )
    moved = np.roll(speckle, rng.integers(8, len(region) // 2, size=2), (0, 1)).clip(0.7, 1.4)
    share = ndimage.gaussian_filter(wide.astype(np.float32), 0.7) * sector
    painted = (image * (1 - share) + level * moved * share).clip(0, 255)
    if measure_contrast(image, painted, region & sector) < VISIBLE:
        return frame
    labels = np.where(region, frame.labels[y, x], frame.labels)
    return Painted(np.rint(painted).astype(np.uint8), labels.astype(np.uint8))


def measure_contrast(
    before: NDArray[np.floating], after: NDArray[np.floating], region: Region
) -> float:
    """Contrast-to-noise ratio of a change in a region: root mean square of the change of the local
    mean, over the standard deviation of the speckle around that mean. 0 for an empty region."""
    if not region.any():
        return 0.0
    grain = len(region) / 64
    first, second = (ndimage.gaussian_filter(image, grain) for image in (before, after))
    change = float(np.sqrt(((second - first)[region] ** 2).mean()))
    return change / max(1.0, float((after - second)[region].std()))


def find_sector(image_u8: NDArray[np.uint8]) -> Region:
    """Pixels of the scan: all that is not black, and what it encloses."""
    return np.asarray(ndimage.binary_closing(image_u8 > 0, iterations=3))


def find_septum(labels: Labels, first: Label, second: Label) -> Region:
    """Solid pixels between two chambers, where they are no more than half as far apart again as
    where they are nearest."""
    solid = np.isin(labels, WALLS)
    apart = _distance(labels == first) + _distance(labels == second)
    least = float(apart[solid].min()) if solid.any() else 0.0
    return np.asarray(solid & (apart < max(1.5 * least, least + 4)) & (apart < 0.2 * len(labels)))


def find_free_wall(labels: Labels, chamber: Label, reach: float) -> Region:
    """Solid pixels within `reach` pixels of a chamber and nearer to it than to any other."""
    others = [one for one in CHAMBERS if one is not chamber]
    near, far = _distance(labels == chamber), _distance(np.isin(labels, others))
    return np.asarray(np.isin(labels, (*WALLS, Label.PERICARDIUM)) & (near < reach) & (far > reach))


def tear_septum(
    frame: Painted, rng: np.random.Generator, between: tuple[Label, Label], radius: float
) -> Painted:
    """A hole of `radius` pixels in the septum between two chambers, filled with blood."""
    septum = find_septum(frame.labels, *between)
    return replace_region(frame, septum & _draw_disc(septum, rng, radius), CHAMBERS, rng)


def merge_chambers(
    frame: Painted, rng: np.random.Generator, between: tuple[Label, Label]
) -> Painted:
    """No septum at all between two chambers."""
    septum = find_septum(frame.labels, *between)
    return replace_region(frame, septum, CHAMBERS, rng)


def tear_free_wall(
    frame: Painted, rng: np.random.Generator, chamber: Label, radius: float
) -> Painted:
    """A gap of `radius` pixels in the free wall of a chamber."""
    wall = find_free_wall(frame.labels, chamber, 0.1 * len(frame.labels))
    by = (CHAMBERS, (*CHAMBERS, Label.BACKGROUND))[rng.integers(2)]
    return replace_region(frame, wall & _draw_disc(wall, rng, radius), by, rng)


def remove_wall(frame: Painted, rng: np.random.Generator, chamber: Label) -> Painted:
    """A chamber without its free wall: its blood ends at what lies around the heart."""
    wall = find_free_wall(frame.labels, chamber, 0.1 * len(frame.labels))
    return replace_region(frame, wall, CHAMBERS, rng)


def remove_chamber(frame: Painted, rng: np.random.Generator, chamber: Label) -> Painted:
    """Muscle in place of a chamber, or what lies around the heart in place of it and its wall."""
    region = ndimage.binary_dilation(frame.labels == chamber, iterations=2)
    if rng.random() < 0.5:
        return replace_region(frame, region, WALLS, rng)
    region |= find_free_wall(frame.labels, chamber, 0.1 * len(frame.labels))
    return replace_region(frame, region, (Label.BACKGROUND,), rng)


def add_chamber(frame: Painted, rng: np.random.Generator) -> Painted:
    """A pool of blood in a wall or outside of the heart."""
    place = find_sector(frame.image_u8) & ~np.isin(frame.labels, CHAMBERS)
    blob = _draw_disc(place, rng, 0.05 * len(place), stretch=2.0)
    return replace_region(frame, blob & place, CHAMBERS, rng)


def split_chamber(frame: Painted, rng: np.random.Generator, chamber: Label) -> Painted:
    """A wall across a chamber."""
    region = frame.labels == chamber
    if not region.any():
        return frame
    y, x = np.mgrid[: len(region), : len(region)]
    centre, angle = np.argwhere(region)[rng.integers(region.sum())], rng.uniform(0, np.pi)
    away = np.abs((y - centre[0]) * np.cos(angle) + (x - centre[1]) * np.sin(angle))
    band = region & (away < rng.uniform(0.01, 0.025) * len(region))
    return replace_region(frame, band, WALLS, rng)


def remove_heart(frame: Painted, rng: np.random.Generator) -> Painted:
    """The sector without a heart."""
    return replace_region(frame, np.isin(frame.labels, HEART), (Label.BACKGROUND,), rng)


def mirror(frame: Painted) -> Painted:
    """The heart with its sides exchanged."""
    return Painted(*(np.ascontiguousarray(part[:, ::-1]) for part in frame))


def paste(frame: Painted, other: Painted, rng: np.random.Generator) -> Painted:
    """A frame with a part of another heart, along a wavy border."""
    field = draw_smooth(frame.labels.shape, rng.uniform(0.1, 0.25), rng)
    chosen = field > np.quantile(field, rng.uniform(0.25, 0.75))
    share = ndimage.gaussian_filter(chosen.astype(np.float32), 0.7)
    image = np.rint(frame.image_u8 * (1 - share) + other.image_u8 * share).astype(np.uint8)
    return Painted(image, np.where(chosen, other.labels, frame.labels))


def warp(frame: Painted, rng: np.random.Generator, strength: float) -> Painted:
    """Bend a frame by up to about `strength` of its width."""
    size = len(frame.labels)
    shift = [strength * size * draw_smooth(frame.labels.shape, 0.12, rng) for _ in range(2)]
    places = [axis + moved for axis, moved in zip(np.mgrid[:size, :size], shift, strict=True)]
    image = ndimage.map_coordinates(frame.image_u8.astype(np.float32), places, order=1)
    labels = ndimage.map_coordinates(frame.labels, places, order=0)
    return Painted(np.rint(image).astype(np.uint8), labels)


def break_heart(frame: Painted, other: Painted, rng: np.random.Generator) -> Painted:
    """One to three faults, a part of `other`, or no heart at all."""
    kind = rng.random()
    if kind < 0.04:
        return remove_heart(frame, rng)
    if kind < 0.24:
        return paste(frame, other, rng)
    for _ in range(int(rng.integers(1, 4))):
        frame = _add_fault(frame, rng)
    return frame


def _add_fault(frame: Painted, rng: np.random.Generator) -> Painted:
    between, chamber = SEPTA[rng.integers(2)], CHAMBERS[rng.integers(4)]
    # Walls of the others are thin, and a scan does not show all of them.
    walled = Label.LV if rng.random() < 0.5 else chamber
    radius = len(frame.labels) * float(rng.uniform(0.02, 0.08))
    faults: Sequence[Callable[[], Painted]] = (
        *[lambda: tear_septum(frame, rng, between, radius)] * 5,
        *[lambda: merge_chambers(frame, rng, between)] * 2,
        lambda: tear_free_wall(frame, rng, chamber, 1.3 * radius),
        *[lambda: remove_wall(frame, rng, walled)] * 2,
        *[lambda: remove_chamber(frame, rng, chamber)] * 4,
        lambda: split_chamber(frame, rng, chamber),
        lambda: add_chamber(frame, rng),
        lambda: mirror(frame),
    )
    return faults[int(rng.integers(len(faults)))]()


def _draw_disc(
    centres: Region, rng: np.random.Generator, radius: float, stretch: float = 1.0
) -> Region:
    """An ellipse around one of the given pixels; its half axes differ by up to `stretch`."""
    if not centres.any():
        return centres
    places = np.argwhere(centres)
    y, x = np.mgrid[: len(centres), : centres.shape[1]]
    centre = places[rng.integers(len(places))]
    scale = float(rng.uniform(1, stretch)) ** 0.5
    return np.asarray(np.hypot((y - centre[0]) / scale, (x - centre[1]) * scale) < radius)


def _distance(region: Region) -> NDArray[np.float64]:
    return np.asarray(ndimage.distance_transform_edt(~region), np.float64)


def draw_smooth(
    shape: tuple[int, int], scale: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Smooth field of unit variance; scale: its grain as a share of the height."""
    # A grain of many pixels needs no more than a coarse grid.
    step = max(1, int(scale * shape[0] / 3))
    coarse = [-(-side // step) for side in shape]
    field = ndimage.gaussian_filter(rng.normal(size=coarse), scale * shape[0] / step, mode="wrap")
    if step > 1:
        field = ndimage.zoom(field, step, order=1, mode="grid-wrap", grid_mode=True)
    return np.asarray(field[: shape[0], : shape[1]] / field.std(), np.float64)
