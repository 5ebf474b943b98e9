"""Pseudo image of a slice: the source domain of the GANs (after Gilbert et al., IEEE TMI 2021).

As in the recipe: tissue 175, pericardium 250, all else 50; low-frequency noise, a shadow at the
probe, bright and dark spots, noise of amplitude U(0, 100), the heart darker by a tenth, blur of 7
and 3 pixels of 1024, noise at each pixel, blur again, extremes drawn from U(5, 30) and
U(230, 250), and a cone cut out.

Other than the recipe:
- leaflets are drawn in every image (there with probability 0.4), the pericardium is not thickened;
- coarse and fine noise have one scale each, the pixel (there 1/4 and 1/1, and 1/4 and 1/2);
- all is drawn at the size of the image, in which the last blur is 5 pixels of 1024 too (there it
  follows the reduction to 256);
- the cone is the sector of the slice (there an opening of N(90, 6) degrees of its own);
- no movement: the heart stands where the probe sees it (there turned by up to 15 degrees, cropped
  to a chamber, squeezed sideways and shifted into the wedge).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.anatomy import Label
from echodiff.phantom.tissues import Anatomy

_TISSUE = (
    Label.LV_MYOCARDIUM,
    Label.RV_MYOCARDIUM,
    Label.ATRIAL_WALL,
    Label.VALVE,
)


def simulate_pseudo(anatomy: Anatomy, sector: NDArray[np.bool_], seed: int) -> NDArray[np.uint8]:
    """Pseudo image (S, S) uint8 of a labelled slice; `sector` (S, S) is the cone."""
    rng = np.random.default_rng(seed)
    size = anatomy.labels.shape[0]
    scale = size / 1024  # the recipe draws at 1024 and reduces to 256
    base = np.full((size, size), 50.0, np.float32)
    base[np.isin(anatomy.labels, _TISSUE)] = 175
    base[anatomy.labels == Label.PERICARDIUM] = 250
    base *= (
        rng.uniform(0.75, 1.25, (size // 8 + 1, size // 8 + 1))
        .repeat(8, 0)
        .repeat(8, 1)[:size, :size]
    )
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    base *= 1 - 0.6 * np.exp(-((x - size / 2) ** 2 + y**2) / (2e5 * scale**2))
    for _ in range(3):
        cx, cy = rng.uniform(0, size, 2)
        sign = rng.choice([-1.0, 1.0]) * (rng.random() < 0.5)
        bump = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * (0.12 * size) ** 2))
        base *= 1 + sign * rng.normal(0.3, 0.05) * bump
    base += rng.uniform(-1, 1, base.shape) * rng.uniform(0, 100)
    base *= np.where(anatomy.hull_mm < 0, 0.9, 1.0)
    for radius in (7, 3):
        base = ndimage.gaussian_filter(base, radius * scale)
    base = ndimage.gaussian_filter(base + rng.normal(0, 10, base.shape), 5 * scale)
    low, high = rng.uniform(5, 30), rng.uniform(230, 250)
    inner = base[sector]
    base = low + (base - inner.min()) / (inner.max() - inner.min() + 1e-6) * (high - low)
    return np.asarray(np.clip(np.rint(base), 0, 255) * sector, np.uint8)
