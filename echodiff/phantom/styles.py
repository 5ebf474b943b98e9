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
    # crisp, fine grain
    "aspen": Style(
        axial_mm=0.5,
        lateral_deg=1.15,
        looks=3,
        dynamic_range_db=52,
        gain_db=29,
        blood_db=-24,
        haze_db=-12.5,
        contrast=1.0,
        opening_deg=(72, 78),
        near_db=0.0,
        edge_enhancement=0.0,
    ),
    # compounded and soft, low contrast, wide sector
    "birch": Style(
        axial_mm=0.45,
        lateral_deg=1.2,
        looks=4,
        dynamic_range_db=56,
        gain_db=28,
        blood_db=-28,
        haze_db=-13,
        contrast=1.2,
        opening_deg=(78, 86),
        near_db=-4.0,
        edge_enhancement=0.0,
    ),
    # narrow, hard contrast, rough grain, bright near field
    "cedar": Style(
        axial_mm=1.0,
        lateral_deg=1.85,
        looks=3,
        dynamic_range_db=48,
        gain_db=27.5,
        blood_db=-22,
        haze_db=-10,
        contrast=0.95,
        opening_deg=(64, 70),
        near_db=5.0,
        edge_enhancement=0.05,
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
    dynamic_range = float(rng.uniform(42, 66))
    return Style(
        axial_mm=float(rng.uniform(0.5, 1.7)),
        lateral_deg=float(rng.uniform(1.1, 2.3)),
        looks=int(rng.integers(2, 8)),
        dynamic_range_db=dynamic_range,
        gain_db=dynamic_range * float(rng.uniform(0.42, 0.62)),
        blood_db=float(rng.uniform(-32, -19)),
        haze_db=float(rng.uniform(-19, -7)),
        contrast=float(rng.uniform(0.75, 1.4)),
        opening_deg=(opening, opening + 6),
        near_db=float(rng.uniform(-5, 5)),
        edge_enhancement=float(max(0, rng.uniform(-0.4, 0.8))),
    )
