"""The look of an echo, one row of numbers a frame; `appearance_scores` compares two sets.

Speckle, spectrum, sector and colour are measured on grey levels as stored: after log compression
and other effects of the scanner and the preparation. They compare sets that were prepared alike, of
one size; the speckle and the spectrum of a set mean nothing alone. All but `balance` are
blind to left and right, and that one detects a mirrored set only over dozens of patients.
"""

import hashlib
import json
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab

from echodiff.data.screens.sector import crop_to, find_sector
from echodiff.images import resize_u8, to_gray_u8

VERSION = "appearance-1"
BLACK_BELOW = 4
"""Grey level under which a pixel counts as black: the surround, after JPEG too."""
WHITE_FROM = 252
NUM_RINGS = 16
POWER_FLOOR = 1e-2
"""Grey levels squared: about the power of rounding to 8 bit."""
PATCHES_ACROSS = 16
MIN_PATCH_PX = 8
MIN_PATCHES = 8
MAX_SLOPE_SHARE = 0.3
"""Share of a patch's variance in a slope above which it is an edge, not speckle."""
SECTOR_SIDE = 96
"""Longest side of the copy that the sector is measured on, and about that of the colours'."""
CHROMA_PERCENTILE = 95
APEX_ROWS = 0.05
"""Top part of the sector's height whose mean column is the apex."""

SPECTRUM = tuple(f"spectrum_{ring}" for ring in range(1, NUM_RINGS + 1))
SECTOR = (
    "sector_share", "sector_apex", "sector_symmetry",
    "sector_left", "sector_top", "sector_right", "sector_bottom",
)  # fmt: skip
COLOUR = ("colour_a", "colour_b", "chroma")
COLUMNS = ("height_px", "width_px", "speckle_snr", *SPECTRUM, *SECTOR, "balance", *COLOUR)


def sha256() -> str:
    """Hash of everything the numbers depend on."""
    settings = [
        VERSION, BLACK_BELOW, WHITE_FROM, NUM_RINGS, POWER_FLOOR, PATCHES_ACROSS, MIN_PATCH_PX,
        MIN_PATCHES, MAX_SLOPE_SHARE, SECTOR_SIDE, CHROMA_PERCENTILE, APEX_ROWS, COLUMNS,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()


def describe_appearance(image_u8: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Numbers (K,) of one frame (H, W) or (H, W, 3), named in `COLUMNS`.

    - height_px, width_px.
    - speckle_snr: mean over standard deviation of grey in homogeneous speckle, the median over
      patches (see `compute_speckle_snr`); NaN where there are not enough of them.
    - spectrum_1 ... 16: log10 of the mean power, grey levels squared, in 16 equal rings up to the
      Nyquist frequency of the frame as it is, under a Hann window.
    - sector_share: share of the image that is scan; sector_apex: column of the scan's top, 0 left
      to 1 right; sector_symmetry: overlap (intersection over union) of the scan and its mirror
      image in its own box; sector_left, top, right, bottom: that box, as shares of the sides.
      Good to a hundredth or two, in both sets alike (the sector comes out a pixel of 96 large);
      all NaN if the image is blank.
    - balance: grey right of the apex column less grey left of it, over their sum: -1 to 1. It is
      the one number here that changes its sign when a heart is mirrored.
    - colour_a, colour_b: means of CIELAB a* and b* over pixels that are not black; chroma: 95th
      percentile of their length. Zero in grey frames; a just visible difference is about 2.3.
    """
    gray = to_gray_u8(image_u8)
    small = resize_u8(gray, _fit(gray.shape))
    return np.array([
        *gray.shape,
        compute_speckle_snr(gray),
        *_spectrum(gray.astype(np.float64)),
        *_sector(small),
        *_colour(image_u8),
    ])  # fmt: skip


def compute_speckle_snr(gray_u8: NDArray[np.uint8]) -> float:
    """Mean over standard deviation of grey (H, W) in homogeneous speckle; NaN without any.

    The image is cut into square patches, a sixteenth of its shorter side or 8 pixels. A plane is
    fitted to each; what it leaves is the speckle, so that a slope of gain is none of it. A patch
    counts if none of its pixels is black or saturated and its plane holds under 0.3 of the
    variance, which leaves out walls' edges and the sector's rim. The result is the median over
    patches, NaN below 8 of them.

    Grey is log-compressed, so this is not the 1.91 of a Rayleigh envelope (Wagner et al., IEEE
    TSU 1983): it falls with the dynamic range shown, and rises with gain, blur and compounding.
    """
    side = max(MIN_PATCH_PX, min(gray_u8.shape) // PATCHES_ACROSS)
    rows, columns = gray_u8.shape[0] // side, gray_u8.shape[1] // side
    cut = gray_u8[: rows * side, : columns * side].reshape(rows, side, columns, side)
    patches = cut.transpose(0, 2, 1, 3).reshape(-1, side * side)
    if not len(patches):
        return np.nan
    is_lit = (patches.min(axis=1) >= BLACK_BELOW) & (patches.max(axis=1) < WHITE_FROM)
    values = patches[is_lit].astype(np.float64)
    mean = values.mean(axis=1)
    ramp = np.arange(side) - (side - 1) / 2
    unit = ramp / np.sqrt(side * np.sum(ramp**2))
    slopes = values @ np.stack([np.repeat(unit, side), np.tile(unit, side)]).T
    total = np.sum((values - mean[:, None]) ** 2, axis=1)
    left = total - np.sum(slopes**2, axis=1)
    is_speckle = (left > (1 - MAX_SLOPE_SHARE) * total) & (left > 0)
    if is_speckle.sum() < MIN_PATCHES:
        return np.nan
    spread = np.sqrt(left[is_speckle] / (side * side - 3))
    return float(np.median(mean[is_speckle] / spread))


@lru_cache(maxsize=8)
def _rings(
    shape: tuple[int, int],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Hann window; ring 1 ... NUM_RINGS of each bin of `rfft2` (0: the mean); bins in each ring."""
    window = np.outer(*(np.hanning(side + 2)[1:-1] for side in shape))
    cycles = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    ring = np.ceil(cycles / (0.5 / NUM_RINGS)).astype(np.int64).ravel()
    return window, ring, np.bincount(ring, minlength=NUM_RINGS + 1)[1 : NUM_RINGS + 1]


def _spectrum(gray: NDArray[np.float64]) -> NDArray[np.float64]:
    window, ring, sizes = _rings(gray.shape)
    power = np.abs(np.fft.rfft2((gray - gray.mean()) * window)) ** 2 / gray.size
    total = np.bincount(ring, power.ravel(), minlength=NUM_RINGS + 1)[1 : NUM_RINGS + 1]
    return np.asarray(np.log10(total / np.maximum(sizes, 1) + POWER_FLOOR))


def _sector(gray_u8: NDArray[np.uint8]) -> list[float]:
    """The columns of SECTOR, then the balance."""
    height, width = gray_u8.shape
    if gray_u8.max() - gray_u8.min() < BLACK_BELOW:
        return [np.nan] * (len(SECTOR) + 1)
    scan = find_sector(gray_u8, gray_u8, is_clip=False)
    rows, columns = crop_to(scan)
    box = scan[rows, columns]
    symmetry = np.count_nonzero(box & box[:, ::-1]) / np.count_nonzero(box | box[:, ::-1])
    top = scan[rows.start : rows.start + max(1, round(APEX_ROWS * len(box)))]
    apex = float((np.nonzero(top)[1] + 0.5).mean())
    lit = (scan * gray_u8).sum(axis=0, dtype=np.float64)
    left, right = lit[: round(apex)].sum(), lit[round(apex) :].sum()
    return [
        float(scan.mean()), apex / width, symmetry,
        columns.start / width, rows.start / height, columns.stop / width, rows.stop / height,
        float((right - left) / max(1, right + left)),
    ]  # fmt: skip


def _colour(image_u8: NDArray[np.uint8]) -> list[float]:
    if image_u8.ndim == 2 or (image_u8 == image_u8[..., :1]).all():
        return [0.0] * len(COLOUR)
    step = -(-max(image_u8.shape) // SECTOR_SIDE)
    pixels = image_u8[::step, ::step]
    pixels = pixels[pixels.max(axis=2) >= BLACK_BELOW]
    if not len(pixels):
        return [0.0] * len(COLOUR)
    a, b = rgb2lab(pixels)[:, 1:].T
    chroma = np.percentile(np.hypot(a, b), CHROMA_PERCENTILE)
    return [float(a.mean()), float(b.mean()), float(chroma)]


def _fit(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a copy whose longest side is at most SECTOR_SIDE."""
    scale = min(1.0, SECTOR_SIDE / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
