"""Named scanner styles: how images of one hospital differ from those of another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Style:
    """Settings of one fictional scanner; each frame draws its values around them."""

    axial_mm: float
    """Full width at half maximum of the pulse."""
    lateral_deg: float
    """Full width at half maximum of the beam."""
    looks: int
    """Number of independent images averaged (spatial compounding); 1 leaves speckle fully
    developed."""
    dynamic_range_db: float
    gain_db: float
    """Level of bright muscle below white."""
    blood_db: float
    """Blood below muscle."""
    haze_db: float
    """Reverberation haze below muscle."""
    contrast: float
    """Exponent of the grey map; above 1 darkens the mid-tones."""
    opening_deg: tuple[float, float]
    near_db: float
    """Gain of the near field over the far field."""
    edge_enhancement: float
    """Unsharp masking of the grey image; 0: none."""


STYLES: dict[str, Style] = {
    # crisp and grainy, mid-grey far field
    "aspen": Style(
        axial_mm=0.75,
        lateral_deg=1.4,
        looks=4,
        dynamic_range_db=52,
        gain_db=28,
        blood_db=-24,
        haze_db=-13,
        contrast=1.0,
        opening_deg=(72, 78),
        near_db=0.0,
        edge_enhancement=0.0,
    ),
    # compounded and soft, wide sector, dark blood
    "birch": Style(
        axial_mm=0.7,
        lateral_deg=1.4,
        looks=5,
        dynamic_range_db=54,
        gain_db=27,
        blood_db=-28,
        haze_db=-14,
        contrast=1.1,
        opening_deg=(78, 86),
        near_db=-4.0,
        edge_enhancement=0.0,
    ),
    # narrow, hard contrast, coarse grain, bright near field, grey haze in the chambers
    "cedar": Style(
        axial_mm=0.95,
        lateral_deg=1.55,
        looks=6,
        dynamic_range_db=50,
        gain_db=28,
        blood_db=-22,
        haze_db=-11,
        contrast=0.9,
        opening_deg=(64, 70),
        near_db=2.0,
        edge_enhancement=0.25,
    ),
}

RANDOM = "random"
"""A new scanner per patient."""
STYLE_NAMES = (*STYLES, RANDOM)


def draw_style(name: str, rng: np.random.Generator) -> Style:
    """Return a style by name; `random` draws a new one, within and beyond the range of the named
    scanners.

    Raises: KeyError: unknown name.
    """
    if name != RANDOM:
        return STYLES[name]
    opening = float(rng.uniform(62, 82))
    return Style(
        axial_mm=float(rng.uniform(1.9, 3.3)),
        lateral_deg=float(rng.uniform(1.6, 3.1)),
        looks=int(rng.integers(1, 6)),
        dynamic_range_db=float(rng.uniform(46, 72)),
        gain_db=float(rng.uniform(14, 26)),
        blood_db=float(rng.uniform(-34, -19)),
        haze_db=float(rng.uniform(-33, -18)),
        contrast=float(rng.uniform(0.75, 1.4)),
        opening_deg=(opening, opening + 6),
        near_db=float(rng.uniform(-5, 5)),
        edge_enhancement=float(max(0, rng.uniform(-0.4, 0.8))),
    )
