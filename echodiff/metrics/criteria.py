"""Anatomical criteria on a label map of an apical view: what is wrong with this heart, and where.

After Painchaud et al., "Cardiac Segmentation With Strong Anatomical Guarantees" (IEEE TMI 39(11),
2020), whose list for echo (left ventricle, its wall, left atrium) is extended to four chambers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import convex_hull_image

from echodiff.anatomy import Finding, Label, View
from echodiff.metrics.limits import (
    GREY,
    HOLE,
    LEAK,
    LIMITS,
    OPENING,
    OUTSIDE,
    PIECE,
    PRESENT,
    SCAN,
    SCAN_PIECE,
    SOLIDITY,
)

Labels = NDArray[np.uint8]
Region = NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, right and bottom excluded."""


class Criterion(StrEnum):
    """A property of every heart; the value is its name in metrics.json, after `intact_`."""

    CHAMBERS = "chambers"
    """Every chamber of the view is there."""
    PIECES = "pieces"
    """Every chamber is in one piece."""
    HOLES = "holes"
    """No chamber has a hole."""
    ARRANGEMENT = "arrangement"
    """Left heart on the right of the image, atria below their ventricles and next to them."""
    CONTACT = "contact"
    """No atrium touches the other side's ventricle."""
    ATRIAL_SEPTUM = "atrial_septum"
    """Closed, unless the caption names an ASD."""
    VENTRICULAR_SEPTUM = "ventricular_septum"
    """Closed, unless the caption names a VSD."""
    WALLS = "walls"
    """No chamber is open to the outside of the heart."""
    THICKNESS = "thickness"
    """The wall of the left ventricle is neither too thin nor too thick."""
    SHAPE = "shape"
    """No chamber is bent inward or ragged."""
    SIZE = "size"
    """No chamber is too small or too large a part of the heart."""
    SECTOR = "sector"
    """There is a scan, and it holds the heart."""


@dataclass(frozen=True)
class Fault:
    """A criterion that a heart does not meet."""

    criterion: Criterion
    reason: str
    box: Box
    """Where, in pixels of the label map."""


NAMES = {
    Label.LV: "left ventricle", Label.RV: "right ventricle",
    Label.LA: "left atrium", Label.RA: "right atrium",
}  # fmt: skip
_SEPTA = frozenset({Criterion.ATRIAL_SEPTUM, Criterion.VENTRICULAR_SEPTUM, Criterion.CONTACT})
NOT_HELD_TO: dict[str, frozenset[Criterion]] = {
    # A large defect at the crux joins all four chambers.
    "asd": frozenset({Criterion.ATRIAL_SEPTUM, Criterion.CONTACT}),
    "vsd": frozenset({Criterion.VENTRICULAR_SEPTUM, Criterion.CONTACT}),
    "common_av_valve": _SEPTA,
    "lvh": frozenset({Criterion.THICKNESS}),
    "septal_hypertrophy": frozenset({Criterion.THICKNESS}),
    "hypoplastic_lv": frozenset({Criterion.CHAMBERS, Criterion.SIZE, Criterion.THICKNESS}),
    "hypoplastic_rv": frozenset({Criterion.CHAMBERS, Criterion.SIZE}),
    **{f"dilated_{chamber}": frozenset({Criterion.SIZE}) for chamber in ("lv", "rv", "la", "ra")},
}
"""Criteria that a heart with a finding need not meet."""
_ABOVE = {Label.LA: Label.LV, Label.RA: Label.RV}
_SOLID = [label for label in Label if label not in (Label.BACKGROUND, Label.PERICARDIUM)]
_ALL = slice(None)
MARGIN = 6
"""Pixels around the heart that are looked at."""
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


@dataclass(frozen=True)
class Expected:
    """What is known of the heart that a frame shows."""

    view: View
    is_child: bool = False
    findings: frozenset[Finding] | None = frozenset()
    """None where nothing tells them: then a septum may be open."""


def list_criteria(expected: Expected) -> tuple[Criterion, ...]:
    """The criteria that apply to a heart."""
    is_unknown = expected.findings is None or expected.view is not View.A4C
    off = set(_SEPTA if is_unknown else ())
    for finding in expected.findings or ():
        off |= NOT_HELD_TO.get(str(finding), frozenset())
    return tuple(criterion for criterion in Criterion if criterion not in off)


def find_scan(image_u8: NDArray[np.uint8]) -> Region:
    """(H, W) -> (H, W): the convex hull of the parts that are not black, but for small ones.

    A dark scan falls into several; letters and marks beside it are small.
    """
    parts, num = ndimage.label(ndimage.binary_opening(image_u8 > GREY))
    if not num:
        return np.zeros(image_u8.shape, bool)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    large = np.flatnonzero(sizes >= SCAN_PIECE * sizes.max())
    return np.asarray(convex_hull_image(np.isin(parts, large)))


def find_faults(labels: Labels, scan: Region, expected: Expected) -> list[Fault]:
    """Criteria that a label map (H, W) of `Label` values does not meet, those that apply to it.

    scan: (H, W) where the scan is.
    """
    heart = _Heart(labels, scan, expected)
    applied = list_criteria(expected)
    faults = [fault for check in _CHECKS for fault in check(heart)]
    return [fault for fault in faults if fault.criterion in applied]


class _Heart:
    """A label map with what several criteria need of it."""

    def __init__(self, labels: Labels, scan: Region, expected: Expected) -> None:
        # The part with the heart alone, which is a third of the image; its margin is wider than
        # any neighbourhood that a check looks at.
        places = ndimage.find_objects(np.isin(labels, _SOLID).astype(np.uint8))
        y, x = places[0] if places else (_ALL, _ALL)
        self.top, self.left = (max(0, (side.start or 0) - MARGIN) for side in (y, x))
        part = tuple(
            slice(start, None if side.stop is None else side.stop + MARGIN)
            for start, side in ((self.top, y), (self.left, x))
        )
        self.labels, self.scan, self.expected = labels[part], scan[part], expected
        self.share_of_scan = float(scan.mean())
        self.limits = LIMITS[expected.view, expected.is_child]
        self.chambers = {label: self.labels == label for label in self.limits.area}
        self.areas = {label: int(region.sum()) for label, region in self.chambers.items()}
        self.blood = sum(self.areas.values())
        self.unit = max(1.0, self.blood**0.5)
        """Root of the area of the blood, pixels."""
        self.present = [
            label for label, region in self.chambers.items()
            if _largest(region).sum() > PRESENT * self.limits.area[label][0] * self.blood
        ]  # fmt: skip
        """Chambers that are there at all, however small."""

    def box(self, region: Region | None = None) -> Box:
        """Around a region, or around the scan."""
        region = self.scan if region is None or not region.any() else region
        places = ndimage.find_objects(region.astype(np.uint8))
        if not places:
            return (
                self.left, self.top,
                self.left + self.labels.shape[1], self.top + self.labels.shape[0],
            )  # fmt: skip
        y, x = places[0]
        return x.start + self.left, y.start + self.top, x.stop + self.left, y.stop + self.top


def _check_chambers(heart: _Heart) -> Iterator[Fault]:
    missing = [label for label in heart.chambers if label not in heart.present]
    if len(missing) == len(heart.chambers):
        yield Fault(Criterion.CHAMBERS, "no heart", heart.box())
        return
    for label in missing:
        yield Fault(Criterion.CHAMBERS, f"no {NAMES[label]}", heart.box(heart.labels > 0))


def _check_pieces(heart: _Heart) -> Iterator[Fault]:
    for label in heart.present:
        # A leaflet in the chamber, or a line of one pixel, does not divide it.
        whole = heart.chambers[label] | (heart.labels == Label.VALVE)
        parts, _ = ndimage.label(ndimage.binary_dilation(whole, _CROSS))
        sizes = np.bincount(parts[heart.chambers[label]])
        second = np.flatnonzero(sizes > PIECE * sizes.max())
        if len(second) > 1:
            small = int(second[sizes[second].argsort()[-2]])
            region = (parts == small) & heart.chambers[label]
            reason = f"{NAMES[label]} in {len(second)} pieces"
            yield Fault(Criterion.PIECES, reason, heart.box(region))


def _check_holes(heart: _Heart) -> Iterator[Fault]:
    for label in heart.present:
        whole = heart.chambers[label] | np.isin(heart.labels, (Label.VALVE, Label.AORTA))
        # Blood of the ventricle under a domed valve is none.
        solid = ~np.isin(heart.labels, list(NAMES))
        parts, _ = ndimage.label(ndimage.binary_fill_holes(whole) & ~whole & solid)
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        if sizes.max() > HOLE * heart.areas[label]:
            yield Fault(Criterion.HOLES, f"hole in the {NAMES[label]}",
                        heart.box(parts == sizes.argmax()))  # fmt: skip


def _check_arrangement(heart: _Heart) -> Iterator[Fault]:
    centres = {
        label: np.array(ndimage.center_of_mass(heart.chambers[label])) for label in heart.present
    }
    for left, right in ((Label.RV, Label.LV), (Label.RA, Label.LA)):
        if {left, right} <= centres.keys() and centres[left][1] >= centres[right][1]:
            both = heart.chambers[left] | heart.chambers[right]
            reason = f"{NAMES[left]} not left of the {NAMES[right]}"
            yield Fault(Criterion.ARRANGEMENT, reason, heart.box(both))
    for atrium, ventricle in _ABOVE.items():
        if not {atrium, ventricle} <= centres.keys():
            continue
        both = heart.chambers[atrium] | heart.chambers[ventricle]
        if centres[atrium][0] <= centres[ventricle][0]:
            reason = f"{NAMES[atrium]} not below the {NAMES[ventricle]}"
            yield Fault(Criterion.ARRANGEMENT, reason, heart.box(both))
        elif _distance(heart.chambers[ventricle])[heart.chambers[atrium]].min() > 0.15 * heart.unit:
            reason = f"{NAMES[atrium]} apart from the {NAMES[ventricle]}"
            yield Fault(Criterion.ARRANGEMENT, reason, heart.box(both))


def _check_contacts(heart: _Heart) -> Iterator[Fault]:
    if heart.expected.view is not View.A4C:
        return
    for criterion, first, second, words in (
        (Criterion.ATRIAL_SEPTUM, Label.LA, Label.RA, "atrial septum open"),
        (Criterion.VENTRICULAR_SEPTUM, Label.LV, Label.RV, "ventricular septum open"),
        (Criterion.CONTACT, Label.LV, Label.RA, "left ventricle opens into the right atrium"),
        (Criterion.CONTACT, Label.RV, Label.LA, "right ventricle opens into the left atrium"),
    ):
        region = _touching(heart.chambers[first], heart.chambers[second])
        length = int((region & heart.chambers[first]).sum())
        if length > OPENING * heart.unit:
            yield Fault(criterion, f"{words} over {length} px", heart.box(region))


def _check_walls(heart: _Heart) -> Iterator[Fault]:
    outside = np.isin(heart.labels, (Label.BACKGROUND, Label.PERICARDIUM)) & heart.scan
    outside &= ~ndimage.binary_dilation(~heart.scan, iterations=2)
    for label in heart.present:
        border = heart.chambers[label] & ndimage.binary_dilation(outside, _CROSS)
        length = int(border.sum())
        if length > LEAK[label] * heart.unit:
            reason = f"{NAMES[label]} without wall over {length} px"
            yield Fault(Criterion.WALLS, reason, heart.box(border))


def _check_shape(heart: _Heart) -> Iterator[Fault]:
    for label in heart.present:
        # An open leaflet reaches into the blood.
        chamber = _largest(heart.chambers[label])
        whole = chamber | (heart.labels == Label.VALVE) & convex_hull_image(chamber)
        solidity = whole.sum() / convex_hull_image(chamber).sum()
        if solidity < SOLIDITY[label]:
            reason = f"{NAMES[label]} misshapen, {100 * solidity:.0f} % of its convex hull"
            yield Fault(Criterion.SHAPE, reason, heart.box(chamber))


def _check_thickness(heart: _Heart) -> Iterator[Fault]:
    if Label.LV not in heart.present:
        return
    wall = heart.labels == Label.LV_MYOCARDIUM
    inner = wall & ndimage.binary_dilation(heart.chambers[Label.LV], _CROSS)
    if not inner.any():
        yield Fault(Criterion.THICKNESS, "left ventricle without wall",
                    heart.box(heart.chambers[Label.LV]))  # fmt: skip
        return
    solid = wall | heart.chambers[Label.LV] | ~heart.scan
    depth = np.asarray(ndimage.distance_transform_edt(solid))[inner]
    thickness = float(np.median(depth)) / heart.unit
    low, high = heart.limits.thickness
    if not low <= thickness <= high:
        word = "thin" if thickness < low else "thick"
        reason = f"wall of the left ventricle too {word}, {np.median(depth):.0f} px"
        yield Fault(Criterion.THICKNESS, reason, heart.box(wall))


def _check_size(heart: _Heart) -> Iterator[Fault]:
    for label in heart.present:
        share = heart.areas[label] / heart.blood
        low, high = heart.limits.area[label]
        if not low <= share <= high:
            word = "small" if share < low else "large"
            reason = f"{NAMES[label]} too {word}, {100 * share:.0f} % of the blood"
            yield Fault(Criterion.SIZE, reason, heart.box(heart.chambers[label]))


def _check_sector(heart: _Heart) -> Iterator[Fault]:
    if heart.share_of_scan < SCAN:
        yield Fault(Criterion.SECTOR, "no scan", heart.box())
        return
    beyond = ~ndimage.binary_erosion(heart.scan, iterations=2)
    for label in heart.present:
        chamber = heart.chambers[label]
        outline = chamber & ~ndimage.binary_erosion(chamber)
        cut = outline & beyond
        if cut.sum() > OUTSIDE * outline.sum():
            reason = f"{NAMES[label]} cut off by the edge of the scan"
            yield Fault(Criterion.SECTOR, reason, heart.box(cut))


_CHECKS = (
    _check_sector, _check_chambers, _check_pieces, _check_holes, _check_arrangement,
    _check_contacts, _check_walls, _check_shape, _check_thickness, _check_size,
)  # fmt: skip


def _largest(region: Region) -> Region:
    """The largest piece."""
    parts, num = ndimage.label(region)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax() if num else region)


def _touching(first: Region, second: Region) -> Region:
    """Pixels of either region next to the other."""
    return np.asarray(
        (first & ndimage.binary_dilation(second, _CROSS))
        | (second & ndimage.binary_dilation(first, _CROSS))
    )


def _distance(region: Region) -> NDArray[np.float64]:
    return np.asarray(ndimage.distance_transform_edt(~region), np.float64)
