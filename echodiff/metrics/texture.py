"""Texture features without any training, so that a simulator does not grade itself.

Four groups, 64 numbers a frame, after a resize to 128 x 128:

- spectrum (16): log10 of the mean power in 16 equal rings up to Nyquist, under a Hann window:
  resolution, speckle grain, noise;
- histogram (16): square root of the share of pixels (Hellinger) that are black, and in 15 equal
  bins of grey above: gain, dynamic range, compression, how much of the frame the sector fills;
- cooccurrence (20): Haralick statistics of 32 grey levels at lateral and axial distances 1, 2 and
  4, pairs of two black pixels left out: shape and anisotropy of the speckle;
- gradients (12): size, spread, tails, direction and coherence of the gradient, and the size of the
  Laplacian, at two scales.

Each number is centred and scaled by a fixed round constant in its own unit, of the order of the
spread between patients and set by hand so that the groups weigh about alike when the scanner
changes (docs/evaluation.md has the shares); longer groups are weighted down to the same total.
Nothing is fitted to any set, so features of two runs are comparable.
"""

import hashlib
import json
from collections.abc import Sequence
from math import log2

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.feature import graycomatrix

VERSION = "texture-1"
SIDE = 128
RESIZE = f"{SIDE} bicubic antialiased, rounded to 8 bit (Pillow)"
NUM_RINGS = 16
POWER_FLOOR = 1e-2
"""Grey levels squared: about the power of rounding to 8 bit."""
NUM_BINS = 16
BLACK_BELOW = 4
"""Grey level under which a pixel counts as black: the surround of the sector, after JPEG too."""
NUM_LEVELS = 32
DISTANCES_PX = (1, 2, 4)
SCALES_PX = (1.0, 2.0)

# (centre, scale) of each feature, in the feature's own unit (see the function of the group). The
# centres are about those of an echo frame: the kernel of KID depends on where zero is.
_COOCCURRENCE_CENTRES = ((0.9, 0.5, 0.88), (1.25, 0.38, 0.74), (1.55, 0.29, 0.53))
_COOCCURRENCE_SCALES = (0.2, 0.05, 0.08)
_GRADIENT_CENTRES = ((0.9, 0.4, 0.27, 0.05, 0.72, 1.05), (0.8, 0.38, 0.2, 0.03, 0.78, 0.6))
_GRADIENT_SCALES = (0.08, 0.03, 0.04, 0.08, 0.03, 0.08)
CONSTANTS: dict[str, tuple[tuple[float, float], ...]] = {
    "spectrum": tuple((5.0 - 1.1 * log2(ring), 0.25) for ring in range(1, NUM_RINGS + 1)),
    "histogram": ((0.7, 0.06), *((0.15, 0.06),) * (NUM_BINS - 1)),
    "cooccurrence": (
        *(
            pair
            for centres in _COOCCURRENCE_CENTRES
            for _direction in ("lateral", "axial")
            for pair in zip(centres, _COOCCURRENCE_SCALES, strict=True)
        ),
        (-2.0, 0.2),
        (0.74, 0.05),
    ),
    "gradients": tuple(
        pair
        for centres in _GRADIENT_CENTRES
        for pair in zip(centres, _GRADIENT_SCALES, strict=True)
    ),
}
NUM_FEATURES = sum(len(pairs) for pairs in CONSTANTS.values())
CLIP = 10.0
"""Standardised features stop here: an all-black frame is far from everything, not infinitely."""


def sha256() -> str:
    """Hash of everything the features depend on."""
    settings = [
        VERSION,
        SIDE,
        RESIZE,
        NUM_RINGS,
        POWER_FLOOR,
        NUM_BINS,
        BLACK_BELOW,
        NUM_LEVELS,
        DISTANCES_PX,
        SCALES_PX,
        CONSTANTS,
        CLIP,
    ]
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()


def compute_texture_features(images_u8: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Standardised texture features (N, 64) of grey images (H, W), of any sizes."""
    if not len(images_u8):
        return np.zeros((0, NUM_FEATURES))
    return np.stack([_describe(image) for image in images_u8])


def group_slices() -> dict[str, slice]:
    """Columns of each group."""
    ends = np.cumsum([len(pairs) for pairs in CONSTANTS.values()]).tolist()
    return {
        name: slice(end - len(CONSTANTS[name]), end)
        for name, end in zip(CONSTANTS, ends, strict=True)
    }


def _describe(image_u8: NDArray[np.uint8]) -> NDArray[np.float64]:
    if image_u8.ndim != 2 or image_u8.dtype != np.uint8:
        raise ValueError(f"grey uint8 image (H, W) expected, got {image_u8.dtype} {image_u8.shape}")
    if image_u8.shape != (SIDE, SIDE):
        resized = Image.fromarray(image_u8).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        image_u8 = np.asarray(resized)
    image = image_u8.astype(np.float64)
    parts = {
        "spectrum": _spectrum(image),
        "histogram": _histogram(image),
        "cooccurrence": _cooccurrence(image_u8),
        "gradients": _gradients(image),
    }
    longest = max(len(part) for part in parts.values())
    weighted = []
    for name, part in parts.items():
        centre, scale = np.array(CONSTANTS[name]).T
        standard = np.clip((part - centre) / scale, -CLIP, CLIP)
        weighted.append(standard * np.sqrt(longest / len(part)))
    return np.concatenate(weighted)


def _rings() -> NDArray[np.int64]:
    """Ring 1 ... NUM_RINGS of each bin of `rfft2`; 0 is the mean, higher numbers the corners."""
    cycles_y = np.fft.fftfreq(SIDE) * SIDE
    cycles_x = np.fft.rfftfreq(SIDE) * SIDE
    radius = np.hypot(cycles_y[:, None], cycles_x[None, :])
    return np.ceil(radius / (SIDE / 2 / NUM_RINGS)).astype(np.int64)


_RING = _rings()
_RING_SIZE = np.bincount(_RING.ravel())[1 : NUM_RINGS + 1]
_HANN = np.hanning(SIDE + 2)[1:-1]
_WINDOW = np.outer(_HANN, _HANN)


def _spectrum(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """log10 of mean power a ring, grey levels squared, (16,)."""
    power = np.abs(np.fft.rfft2((image - image.mean()) * _WINDOW)) ** 2 / SIDE**2
    total = np.bincount(_RING.ravel(), power.ravel())[1 : NUM_RINGS + 1]
    return np.asarray(np.log10(total / _RING_SIZE + POWER_FLOOR))


def _histogram(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Square roots of shares: black, then 15 bins of grey, (16,)."""
    edges = [0.0, *np.linspace(BLACK_BELOW, 256.0, NUM_BINS).tolist()]
    return np.sqrt(np.histogram(image, bins=edges)[0] / image.size)


def _cooccurrence(image_u8: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(20,) for each distance, lateral then axial: log10 contrast in levels squared, homogeneity,
    correlation; then at distance 1 log10 of the angular second moment, and the share of the
    largest possible entropy."""
    levels = (image_u8 // (256 // NUM_LEVELS)).astype(np.uint8)
    counts = graycomatrix(levels, DISTANCES_PX, (0.0, np.pi / 2), levels=NUM_LEVELS, symmetric=True)
    matrices = counts.astype(np.float64).transpose(2, 3, 0, 1)  # distance, direction, level, level
    matrices[:, :, 0, 0] = 0.0
    matrices /= np.maximum(matrices.sum(axis=(2, 3), keepdims=True), 1.0)
    row, column = np.mgrid[:NUM_LEVELS, :NUM_LEVELS].astype(np.float64)
    difference2 = (row - column) ** 2
    contrast = (matrices * difference2).sum(axis=(2, 3))
    homogeneity = (matrices / (1.0 + difference2)).sum(axis=(2, 3))
    mean = (matrices * row).sum(axis=(2, 3))
    variance = (matrices * row**2).sum(axis=(2, 3)) - mean**2
    covariance = (matrices * row * column).sum(axis=(2, 3)) - mean**2
    correlation = covariance / np.maximum(variance, 1e-6)
    shape = np.stack([np.log10(contrast + 1e-2), homogeneity, correlation], axis=-1)
    near = matrices[0].mean(axis=0)
    entropy = -np.sum(near * np.log(np.maximum(near, 1e-12))) / np.log(NUM_LEVELS**2)
    return np.concatenate([shape.ravel(), [np.log10(np.sum(near**2) + 1e-4), entropy]])


def _gradients(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """(12,) for each scale: mean and spread of log10 gradient in grey levels a pixel, log10 of its
    second moment over the squared mean, log10 of axial over lateral energy, coherence of the
    structure tensor (0 none, 1 one direction), log10 of the spread of the Laplacian."""
    values: list[float] = []
    for scale in SCALES_PX:
        smooth = ndimage.gaussian_filter(image, scale, truncate=3.0)
        inside = smooth >= BLACK_BELOW
        if not inside.any():
            inside[:] = True
        axial, lateral = np.gradient(smooth)
        size = np.hypot(axial, lateral)[inside]
        log_size = np.log10(size + 0.1)
        energy_axial, energy_lateral = (axial[inside] ** 2).mean(), (lateral[inside] ** 2).mean()
        width = 2 * round(2 * scale) + 1
        tensor = [
            ndimage.uniform_filter(product, width)
            for product in (axial**2, lateral**2, axial * lateral)
        ]
        coherence = np.hypot(tensor[0] - tensor[1], 2 * tensor[2]) / (tensor[0] + tensor[1] + 1e-3)
        values += [
            float(log_size.mean()),
            float(log_size.std()),
            float(np.log10(((size**2).mean() + 1e-3) / (size.mean() ** 2 + 1e-3))),
            float(np.log10((energy_axial + 1e-3) / (energy_lateral + 1e-3))),
            float(coherence[inside].mean()),
            float(np.log10(ndimage.laplace(smooth)[inside].std() + 1e-2)),
        ]
    return np.array(values)
