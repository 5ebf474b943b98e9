"""MR and CT images of the slice that the echo shows, as true pairs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.anatomy import Label
from echodiff.phantom.mr_styles import MR_STYLES, MrStyle
from echodiff.phantom.thorax import Organ
from echodiff.phantom.tissues import Anatomy

_LEFT_BLOOD = (Label.LV, Label.LA, Label.AORTA)
_BLOOD = (*_LEFT_BLOOD, Label.RV, Label.RA)
_HEART_MM = 1.8
"""Distance from the heart up to which its labels, pericardium included, are shown."""

# Balanced steady-state cine: bright blood, dark muscle, bright fat. Values in [0, 1].
_MR: dict[Label, float] = {
    Label.BACKGROUND: 0.30,
    Label.LV_MYOCARDIUM: 0.26,
    Label.RV_MYOCARDIUM: 0.28,
    Label.ATRIAL_WALL: 0.36,
    Label.VALVE: 0.45,
    Label.PERICARDIUM: 0.12,
    Label.PERICARDIAL_FLUID: 0.9,
    **dict.fromkeys(_BLOOD, 0.82),
}
_MR_AROUND: dict[Organ, float] = {
    Organ.AIR: 0.0,
    Organ.LUNG: 0.07,
    Organ.LUNG_VESSEL: 0.36,
    Organ.FAT: 0.62,
    Organ.MUSCLE: 0.27,
    Organ.CORTEX: 0.06,
    Organ.MARROW: 0.42,
    Organ.AORTA: 0.80,
    Organ.LIVER: 0.36,
}
# Hounsfield units without contrast medium: blood and muscle nearly alike, fat dark.
_CT_HU: dict[Label, float] = {
    Label.BACKGROUND: -60.0,
    Label.LV_MYOCARDIUM: 52.0,
    Label.RV_MYOCARDIUM: 50.0,
    Label.ATRIAL_WALL: 30.0,
    Label.VALVE: 60.0,
    Label.PERICARDIUM: 15.0,
    Label.PERICARDIAL_FLUID: 12.0,
    **dict.fromkeys(_BLOOD, 40.0),
}
_CT_AROUND_HU: dict[Organ, float] = {
    Organ.AIR: -1000.0,
    Organ.LUNG: -840.0,
    Organ.LUNG_VESSEL: 20.0,
    Organ.FAT: -95.0,
    Organ.MUSCLE: 55.0,
    Organ.CORTEX: 750.0,
    Organ.MARROW: 190.0,
    Organ.AORTA: 40.0,
    Organ.LIVER: 58.0,
}
# Contrast medium in the left heart and, washed out by saline, less in the right.
_CONTRAST_HU: dict[Label, float] = _CT_HU | {
    Label.LV_MYOCARDIUM: 105.0,
    Label.RV_MYOCARDIUM: 100.0,
    Label.ATRIAL_WALL: 80.0,
    Label.VALVE: 110.0,
    Label.RV: 230.0,
    Label.RA: 220.0,
    **dict.fromkeys(_LEFT_BLOOD, 370.0),
}
_CONTRAST_AROUND_HU: dict[Organ, float] = _CT_AROUND_HU | {
    Organ.LUNG_VESSEL: 220.0,
    Organ.AORTA: 370.0,
    Organ.LIVER: 85.0,
}
CT_WINDOW_HU = (-120.0, 180.0)
"""Window that maps Hounsfield units to 0..255."""
CONTRAST_WINDOW_HU = (-160.0, 560.0)
"""The same for the contrast phase."""


def _lookup(values: Mapping[Label, float] | Mapping[Organ, float],
            codes: NDArray[np.uint8]) -> NDArray[np.float32]:  # fmt: skip
    table = np.zeros(max(values) + 1, np.float32)
    for code, value in values.items():
        table[code] = value
    return table[np.minimum(codes, len(table) - 1)]


def simulate_mr(
    anatomy: Anatomy, thorax: NDArray[np.uint8], seed: int, style: MrStyle = MR_STYLES["aspen"]
) -> NDArray[np.uint8]:
    """Cine-like MR (H, W) uint8: tissue contrast, bias field, partial volume, Rician noise.

    thorax: `Organ` values (H, W).
    """
    rng = np.random.default_rng(seed)
    size = anatomy.labels.shape[0]
    signal = _lookup(_MR, anatomy.labels)
    signal = np.where(anatomy.hull_mm > _HEART_MM, _lookup(_MR_AROUND, thorax), signal)
    signal = np.where(anatomy.papillary, 0.3, signal)
    if style.contrast != 1:
        signal = signal**style.contrast
    signal = ndimage.gaussian_filter(signal, size * style.blur)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    slope = rng.uniform(-style.coil_slope, style.coil_slope, 2)
    bias = np.exp(slope[0] * x + slope[1] * y - style.coil_falloff * (x * x + y * y))
    signal = signal * bias
    sigma = rng.uniform(*style.noise)
    noise = rng.standard_normal((2, *signal.shape), dtype=np.float32) * sigma
    magnitude = np.hypot(signal + noise[0], noise[1])
    if style.edge_enhancement:
        smooth = ndimage.gaussian_filter(magnitude, size / 128)
        magnitude = magnitude + style.edge_enhancement * (magnitude - smooth)
    return np.asarray(np.clip(np.rint(255 * magnitude), 0, 255), np.uint8)


def simulate_ct(
    anatomy: Anatomy, thorax: NDArray[np.uint8], seed: int, *, with_contrast: bool = False
) -> NDArray[np.uint8]:
    """CT (H, W) uint8 with streaky noise: in `CT_WINDOW_HU` without contrast medium, where the
    heart shows little of its inside, or in `CONTRAST_WINDOW_HU` with it.

    thorax: `Organ` values (H, W).
    """
    rng = np.random.default_rng(seed)
    size = anatomy.labels.shape[0]
    heart_hu = _CONTRAST_HU if with_contrast else _CT_HU
    around_hu = _CONTRAST_AROUND_HU if with_contrast else _CT_AROUND_HU
    hounsfield = _lookup(heart_hu, anatomy.labels)
    hounsfield[anatomy.papillary] = heart_hu[Label.LV_MYOCARDIUM]
    around = _lookup(around_hu, thorax)
    trabeculae = 60 * ndimage.gaussian_filter(rng.standard_normal(around.shape), size / 256)
    around = around + np.where(thorax == Organ.MARROW, trabeculae, 0)
    hounsfield = np.where(anatomy.hull_mm > _HEART_MM, around, hounsfield)
    hounsfield = ndimage.gaussian_filter(hounsfield, size / 250)
    grain = ndimage.gaussian_filter(rng.standard_normal((size, size), dtype=np.float32), 0.8)
    streak = ndimage.gaussian_filter1d(rng.standard_normal((size, size)), size / 12, axis=1)
    hounsfield = hounsfield + rng.uniform(8, 14) * grain / grain.std() + 5 * streak / streak.std()
    low, high = CONTRAST_WINDOW_HU if with_contrast else CT_WINDOW_HU
    return np.asarray(np.clip(np.rint(255 * (hounsfield - low) / (high - low)), 0, 255), np.uint8)
