"""Named MR scanner styles: how cine MR of one vendor differs from that of another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from echodiff.phantom.styles import RANDOM


@dataclass(frozen=True, kw_only=True)
class MrStyle:
    """Settings of one fictional MR scanner; each frame draws its bias and noise around them."""

    contrast: float
    """Exponent of the grey map; above 1 darkens muscle against blood."""
    coil_falloff: float
    """Fall of the surface coil's sensitivity from the centre to the edge, as an exponent."""
    coil_slope: float
    """Largest slope of the sensitivity across the image, as an exponent per half side."""
    noise: tuple[float, float]
    """Range of the deviation of the Rician noise, as a share of white."""
    blur: float
    """Width of the point spread, as a share of the image's side."""
    edge_enhancement: float
    """Unsharp masking of the image; 0: none."""


MR_STYLES: dict[str, MrStyle] = {
    # even, moderately noisy
    "aspen": MrStyle(
        contrast=1.0,
        coil_falloff=0.18,
        coil_slope=0.25,
        noise=(0.015, 0.035),
        blur=1 / 230,
        edge_enhancement=0.0,
    ),
    # bright muscle, strong coil shading, smooth
    "birch": MrStyle(
        contrast=0.72,
        coil_falloff=0.55,
        coil_slope=0.45,
        noise=(0.008, 0.018),
        blur=1 / 110,
        edge_enhancement=0.0,
    ),
    # dark muscle, noisy, edges sharpened by the scanner
    "cedar": MrStyle(
        contrast=1.45,
        coil_falloff=0.3,
        coil_slope=0.3,
        noise=(0.045, 0.07),
        blur=1 / 260,
        edge_enhancement=0.8,
    ),
}
"""By the names of `styles.STYLES`."""


def draw_mr_style(name: str, rng: np.random.Generator) -> MrStyle:
    """Return an MR style by name; `random` draws a new one, within and beyond the named ones.

    Raises: KeyError: unknown name.
    """
    if name != RANDOM:
        return MR_STYLES[name]
    noise = float(rng.uniform(0.008, 0.06))
    return MrStyle(
        contrast=float(rng.uniform(0.6, 1.7)),
        coil_falloff=float(rng.uniform(0.1, 0.7)),
        coil_slope=float(rng.uniform(0.1, 0.5)),
        noise=(noise, 1.5 * noise),
        blur=float(rng.uniform(1 / 300, 1 / 100)),
        edge_enhancement=float(max(0, rng.uniform(-0.5, 1.0))),
    )
