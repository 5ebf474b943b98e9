"""MR and CT images of the slice that the echo shows, as true pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.anatomy import Label
from echodiff.phantom.tissues import Anatomy

_BLOOD = (Label.LV, Label.RV, Label.LA, Label.RA, Label.AORTA)

# Balanced steady-state cine: bright blood, dark muscle, bright fat. Values in [0, 1].
_MR = {
    Label.BACKGROUND: 0.30,
    Label.LV_MYOCARDIUM: 0.26,
    Label.RV_MYOCARDIUM: 0.28,
    Label.ATRIAL_WALL: 0.36,
    Label.VALVE: 0.45,
    Label.PERICARDIUM: 0.12,
    Label.PERICARDIAL_FLUID: 0.9,
    **dict.fromkeys(_BLOOD, 0.82),
}
# Hounsfield units without contrast medium: blood and muscle nearly alike, fat dark.
_CT_HU = {
    Label.BACKGROUND: -60.0,
    Label.LV_MYOCARDIUM: 52.0,
    Label.RV_MYOCARDIUM: 50.0,
    Label.ATRIAL_WALL: 30.0,
    Label.VALVE: 60.0,
    Label.PERICARDIUM: 15.0,
    Label.PERICARDIAL_FLUID: 12.0,
    **dict.fromkeys(_BLOOD, 40.0),
}
CT_WINDOW_HU = (-120.0, 180.0)
"""Window that maps Hounsfield units to 0..255."""


def _lookup(values: dict[Label, float], labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    table = np.zeros(max(Label) + 1, np.float32)
    for label, value in values.items():
        table[label] = value
    return table[labels]


def _body(anatomy: Anatomy, rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth field of about unit variance that stands for lung, fat and liver around the heart."""
    shape = anatomy.labels.shape
    rough = rng.standard_normal(shape, dtype=np.float32)
    soft = ndimage.gaussian_filter(rough, shape[0] / 16)
    return np.asarray(soft / soft.std(), np.float32)


def simulate_mr(anatomy: Anatomy, seed: int) -> NDArray[np.uint8]:
    """Cine-like MR (H, W) uint8: tissue contrast, bias field, partial volume, Rician noise."""
    rng = np.random.default_rng(seed)
    size = anatomy.labels.shape[0]
    signal = _lookup(_MR, anatomy.labels)
    outside = anatomy.hull_mm > 2.5
    body = _body(anatomy, rng)
    fat = (anatomy.hull_mm < 9) | (body > 0.8)
    signal = np.where(outside, np.where(fat, 0.62, 0.16 + 0.06 * body), signal)
    signal = np.where(anatomy.papillary, 0.3, signal)
    signal = ndimage.gaussian_filter(signal, size / 230)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    slope = rng.uniform(-0.25, 0.25, 2)
    bias = np.exp(slope[0] * x + slope[1] * y - 0.18 * (x * x + y * y))
    signal = signal * bias
    sigma = rng.uniform(0.015, 0.035)
    noise = rng.standard_normal((2, *signal.shape), dtype=np.float32) * sigma
    magnitude = np.hypot(signal + noise[0], noise[1])
    return np.asarray(np.clip(np.rint(255 * magnitude), 0, 255), np.uint8)


def simulate_ct(anatomy: Anatomy, seed: int) -> NDArray[np.uint8]:
    """Non-contrast CT (H, W) uint8 in `CT_WINDOW_HU`: little contrast inside the heart, streaky
    noise."""
    rng = np.random.default_rng(seed)
    size = anatomy.labels.shape[0]
    hounsfield = _lookup(_CT_HU, anatomy.labels)
    body = _body(anatomy, rng)
    lung = (anatomy.hull_mm > 8) & (body < 0.9)
    hounsfield = np.where(anatomy.hull_mm > 2.5, np.where(lung, -760.0, -85.0), hounsfield)
    hounsfield = ndimage.gaussian_filter(hounsfield, size / 250)
    grain = ndimage.gaussian_filter(rng.standard_normal((size, size), dtype=np.float32), 0.8)
    streak = ndimage.gaussian_filter1d(rng.standard_normal((size, size)), size / 12, axis=1)
    hounsfield = hounsfield + rng.uniform(8, 14) * grain / grain.std() + 5 * streak / streak.std()
    low, high = CT_WINDOW_HU
    return np.asarray(np.clip(np.rint(255 * (hounsfield - low) / (high - low)), 0, 255), np.uint8)
