"""Limits: of the criteria of anatomy by view and age group, of scores, and of what audits find."""

from __future__ import annotations

from dataclasses import dataclass

from echodiff.anatomy import Label, View


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Smallest and largest values that are taken for normal, of one view and age group."""

    area: dict[Label, tuple[float, float]]
    """Of each chamber of the view, as a share of the blood in all of them."""
    thickness: tuple[float, float]
    """Median thickness of the left-ventricular wall over the root of the area of the blood."""


_A4C = Limits(
    area={
        Label.LV: (0.1, 0.65), Label.RV: (0.05, 0.5),
        Label.LA: (0.08, 0.58), Label.RA: (0.06, 0.55),
    },
    thickness=(0.03, 0.35),
)  # fmt: skip
_A2C = Limits(area={Label.LV: (0.2, 0.94), Label.LA: (0.06, 0.8)}, thickness=(0.03, 0.45))
LIMITS: dict[tuple[View, bool], Limits] = {
    (View.A4C, False): _A4C,
    (View.A4C, True): _A4C,
    (View.A2C, False): _A2C,
    (View.A2C, True): _A2C,
}
"""By view and whether it is a child. They hold every phantom, those with a finding included: what
lies beyond is no heart. Images have no scale, so that sizes are shares."""
PRESENT = 0.8
"""Largest piece of a chamber that is no chamber, as a share of its smallest size."""
PIECE = 0.08
"""Least size of a second piece of a chamber, as a share of the first."""
HOLE = 0.03
"""Least size of a hole, as a share of its chamber."""
OPENING = 0.09
"""Most of a border that may be open, over the root of the area of the blood: about five pixels of
a heart in 128."""
LEAK = {Label.LV: 0.16, Label.RV: 0.75, Label.LA: 1.0, Label.RA: 1.2}
"""The same of a free wall. Only that of the left ventricle is seen all around: the others are thin
or run along the beam, and a scan does not show all of them."""
SOLIDITY = {Label.LV: 0.85, Label.RV: 0.62, Label.LA: 0.8, Label.RA: 0.82}
"""Least area of a chamber over that of its convex hull. The right ventricle is a crescent."""
OUTSIDE = 0.55
"""Most of a chamber's outline that the edge of the scan may cut."""
FALL = 0.05
"""Largest fall of the share of intact frames, below the reference or the base, that is no alarm."""
LEAST_OBEDIENCE = 0.5
"""Below it masks are no labels of their images: nearer to masks of other patients than to own."""
SCAN = 0.15
"""Least part of the image that is a scan."""
SCAN_PIECE = 0.05
"""Least size of a piece of the scan, as a share of the largest."""
GREY = 10
"""Grey level from which a pixel belongs to the scan."""

SET_LEVEL = 0.01
"""p of the set, corrected p of an attack and p of near images, below which an audit finds
something."""
AUC_LIMIT = 0.7
"""AUC from which single patients can be told, if its corrected p is below SET_LEVEL too."""
