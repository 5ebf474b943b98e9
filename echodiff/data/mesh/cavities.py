"""Find the cavities between walls, for models that consist only of walls.

From every voxel between the walls, rays are cast in 26 directions. Where two opposite rays both end
at the wall of one chamber, the voxel belongs to that chamber. Unlike a flood fill, this does not
leak through an open valve, a vein or a tear in a mesh. Rays that end at a septum or a valve, which
have a chamber on either side, count half. So does a pair with one ray ending at the left and one at
the right ventricle, because the septum belongs to the left one.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from echodiff.anatomy import Label
from echodiff.data.mesh.models import Model
from echodiff.data.mesh.parts import CAVITIES
from echodiff.data.mesh.sections import Plane, Vector

Labels = NDArray[np.uint8]

VOXEL_MM = 1.25
MARGIN_MM = 6.0
SURE_SHARE = 0.35
"""Share of the 13 pairs of opposite rays that makes a voxel certain of its chamber."""
POSSIBLE_SHARE = 0.6
"""Share of the pairs that must allow a chamber for it to grow beyond its certain voxels, for
example between the leaflets of its valve, where rays reach the next chamber."""
NUM_PAIRS = 13
SMALLEST_SHARE = 0.05
"""Pieces smaller than this share of a chamber's largest piece are dropped."""

_CHAMBERS = (Label.LV, Label.LA, Label.RV, Label.RA)
_NEUTRAL = len(Label)
"""Value of a ray that ends at a septum, a valve or any other wall without its own cavity."""
_NEIGHBOURS = {
    Label.LV: (Label.LA, Label.AORTA),
    Label.LA: (Label.LV,),
    Label.RV: (Label.RA, Label.PULMONARY_ARTERY),
    Label.RA: (Label.RV,),
    Label.AORTA: (Label.LV,),
    Label.PULMONARY_ARTERY: (Label.RV,),
}
"""Cavities with a valve between them."""


@dataclass(frozen=True)
class Atlas:
    """A model as voxels, with its cavities filled."""

    labels: Labels
    """(X, Y, Z) of `Label` values."""
    origin_mm: Vector
    """(3,) centre of voxel (0, 0, 0)."""
    searched: tuple[Label, ...]
    """Cavities missing in the model, which were searched for."""

    def place_mm(self, voxels: Vector) -> Vector:
        """Convert voxel indices (N, 3) to mm (N, 3)."""
        return np.asarray(self.origin_mm + voxels * VOXEL_MM)

    def at(self, points_mm: Vector, values: Labels) -> Labels:
        """Look up `values`, one per voxel, at points (..., 3); 0 outside."""
        voxels = np.moveaxis((points_mm - self.origin_mm) / VOXEL_MM, -1, 0)
        return np.asarray(ndimage.map_coordinates(values, voxels, order=0, cval=0), np.uint8)


def build_atlas(model: Model) -> Atlas:
    """Sample a model on voxels and fill its cavities."""
    origin = model.bounds_mm[0] - MARGIN_MM
    shape = np.ceil((model.bounds_mm[1] + MARGIN_MM - origin) / VOXEL_MM).astype(int) + 1
    index = np.zeros(shape, dtype=np.uint8)
    x, y, up = np.eye(3)
    for layer in range(shape[2]):
        # Right along y and down along x gives (row, column) = (x, y); z runs through the layers.
        plane = Plane(origin + layer * VOXEL_MM * up, y, x, VOXEL_MM, (shape[0], shape[1]))
        index[:, :, layer] = model.sample(plane)
    labels = np.array([0, *(tissue.label for tissue in model.tissues)], dtype=np.uint8)[index]
    searched = find_missing(model)
    if searched:
        codes = [_NEUTRAL if t.encloses is None else int(t.encloses) for t in model.tissues]
        codes = [code * t.is_wall for code, t in zip(codes, model.tissues, strict=True)]
        walls = np.array([0, *codes], dtype=np.uint8)[index]
        labels = fill_cavities(labels, walls, searched)
    return Atlas(labels, origin, searched)


def find_missing(model: Model) -> tuple[Label, ...]:
    """List the cavities with a wall but no body; vessels only if a chamber is missing too."""
    given = {tissue.label for tissue in model.tissues if not tissue.is_wall}
    walled = {tissue.encloses for tissue in model.tissues}
    missing = tuple(label for label in CAVITIES if label in walled and label not in given)
    return missing if set(missing) & set(_CHAMBERS) else ()


def fill_cavities(labels: Labels, walls: Labels, searched: tuple[Label, ...]) -> Labels:
    """Return the labels with cavities filled.

    walls: what a ray hits in each voxel; 0 where it passes.
    """
    free = (labels == 0) & (walls == 0)
    tables = {label: pair_tables(label) for label in searched}
    sure_of = {label: np.zeros(walls.shape, np.float32) for label in searched}
    possible = {label: np.zeros(walls.shape, np.float32) for label in searched}
    for direction in (d for d in product((-1, 0, 1), repeat=3) if d > (0, 0, 0)):
        ahead, behind = look(walls, direction), look(walls, tuple(-step for step in direction))
        pair = ahead.astype(np.uint16) * (_NEUTRAL + 1) + behind
        for label, (evidence, support) in tables.items():
            sure_of[label] += evidence[pair]
            possible[label] += support[pair]
    stack = np.stack([_smooth(sure_of[label]) for label in searched])
    best = np.array(searched, dtype=np.uint8)[stack.argmax(axis=0)]
    seeds = np.where(free & (stack.max(axis=0) > SURE_SHARE), best, 0)
    for label in searched:
        seeds[(seeds == label) & ~_large_pieces(seeds == label)] = 0
    room = {label: _smooth(possible[label]) > POSSIBLE_SHARE for label in searched}
    mask = free & np.any([*room.values(), seeds > 0], axis=0)
    grown = watershed(np.zeros(free.shape, np.uint8), seeds, mask=mask)
    for label in searched:
        grown[(grown == label) & (seeds == 0) & ~room[label]] = 0
    return np.where(free, grown, labels).astype(np.uint8)


def pair_tables(label: Label) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the evidence of two opposite rays for `label`, and whether they allow it.

    Both tables are indexed by ahead * (_NEUTRAL + 1) + behind, and divided by the number of pairs.
    """
    evidence = np.zeros((_NEUTRAL + 1, _NEUTRAL + 1), dtype=np.float32)
    evidence[label, label] = 1.0
    evidence[label, _NEUTRAL] = 0.5
    if label is Label.RV:
        evidence[Label.LV, Label.RV] = 0.5
    support = (evidence > 0).astype(np.float32)
    support[_NEUTRAL, _NEUTRAL] = 1.0
    for neighbour in _NEIGHBOURS[label]:
        support[label, neighbour] = 1.0
    both_ways = (np.maximum(table, table.T).reshape(-1) for table in (evidence, support))
    evidence, support = (np.asarray(table / NUM_PAIRS, np.float32) for table in both_ways)
    return evidence, support


def look(walls: Labels, direction: tuple[int, ...]) -> Labels:
    """Return what the ray of each voxel along a grid diagonal hits first; 0: nothing."""
    axis = next(i for i, step in enumerate(direction) if step)
    layers = np.moveaxis(walls, axis, 0)
    seen = np.zeros_like(layers)
    ahead, (rows, columns) = direction[axis], [s for i, s in enumerate(direction) if i != axis]
    order = range(1, len(layers)) if ahead < 0 else range(len(layers) - 2, -1, -1)
    here, there = zip(_overlap(rows), _overlap(columns), strict=True)
    for layer in order:
        following = layers[layer + ahead]
        seen[layer][here] = np.where(following > 0, following, seen[layer + ahead])[there]
    return np.moveaxis(seen, 0, axis)


def _overlap(step: int) -> tuple[slice, slice]:
    """Return where a layer and the same layer shifted by a step overlap."""
    start, stop = slice(max(0, step), None), slice(None, -abs(step) if step else None)
    return (stop, start) if step >= 0 else (slice(1, None), slice(None, -1))


def _smooth(share: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(ndimage.gaussian_filter(share, 1.2), np.float32)


def _large_pieces(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    pieces, num = ndimage.label(mask)
    if not num:
        return mask
    sizes = np.bincount(pieces.reshape(-1))
    sizes[0] = 0
    return np.asarray((sizes >= SMALLEST_SHARE * sizes.max())[pieces] & mask)


def label_plane(model: Model, atlas: Atlas, sure: Labels, plane: Plane) -> Labels:
    """Cut a model with filled cavities: (H, W) of `Label` values.

    Walls are as exact as the model. Pixels deep within one cavity of the atlas (`sure`, from
    `find_sure`) have its label. Other pixels between the walls get the label of the nearest of
    these that can be reached without crossing a wall.
    """
    index = model.sample(plane)
    labels = np.array([0, *(tissue.label for tissue in model.tissues)], dtype=np.uint8)[index]
    if not atlas.searched:
        return labels
    points = plane.points()
    free = index == 0
    seeds = atlas.at(points, sure)
    grown = watershed(np.zeros(plane.shape, np.uint8), seeds.astype(np.int32), mask=free)
    blood = np.where(grown > 0, grown, atlas.at(points, atlas.labels) + 1) - 1
    return np.where(free, blood, labels).astype(np.uint8)


def find_sure(atlas: Atlas) -> Labels:
    """Return label + 1 for voxels surrounded by their own label only, 0 elsewhere."""
    low = ndimage.minimum_filter(atlas.labels, size=3)
    high = ndimage.maximum_filter(atlas.labels, size=3)
    inner = np.isin(atlas.labels, [Label.BACKGROUND, *atlas.searched]) & (low == high)
    return np.where(inner, atlas.labels + 1, 0).astype(np.uint8)
