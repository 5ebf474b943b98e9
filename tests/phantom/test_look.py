"""Phantoms look like real echo in what can be measured.

The ranges are the interquartile ranges of the 4-chamber frames of CAMUS (Leclerc et al., IEEE TMI
2019), reduced to 256 pixels and measured by the functions below.
"""

import warnings

import numpy as np
import pytest
from scipy import ndimage, signal

from echodiff.__main__ import main
from echodiff.anatomy import Label
from echodiff.frames.reader import load_frames
from echodiff.images import read_gray_u8, read_mask_u8
from echodiff.phantom.styles import STYLES

SIZE, PER_STYLE = 256, 18


def _write(out, style, *flags):
    """Rows, images (256, 256) in grey levels and masks of the frames that the command writes."""
    flags = [*flags, "--styles", style, "--size", str(SIZE), "--workers", "1"]
    main(["phantom", *flags, "--out", str(out)])
    return [
        (
            row,
            read_gray_u8(out / row.file_name).astype(float),
            read_mask_u8(out / row.mask_file_name),
        )
        for row in load_frames(out)
    ]


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Per style: image and mask of each frame; the findings are those of CAMUS' patients."""
    out = tmp_path_factory.mktemp("look")
    found = {}
    for seed, style in enumerate(STYLES):
        flags = ["--findings", "lvh,dilated_lv,dilated_la", "--seed", str(seed)]
        rows = _write(out / style, style, *flags, "--num", str(PER_STYLE))
        found[style] = [frame for _, *frame in rows]
    return found


def _median(frames, measure):
    """Median over all frames, its standard error, and the medians by style."""
    by_style = {style: [measure(*frame) for frame in some] for style, some in frames.items()}
    pooled = np.concatenate(list(by_style.values()))
    error = 1.25 * np.nanstd(pooled) / np.sqrt(np.isfinite(pooled).sum() / 2)  # two of a patient
    medians = {style: np.nanmedian(values) for style, values in by_style.items()}
    return np.nanmedian(pooled), error, medians


def _sector(image):
    lit = ndimage.binary_closing(np.pad(image > 3, 8), iterations=6)[8:-8, 8:-8]
    return ndimage.binary_fill_holes(lit)


def _width_px(profile, first, last):
    """Width at half height of the highest peak between two places; nan for a faint one."""
    peak = first + int(np.argmax(profile[first:last]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", signal._peak_finding_utils.PeakPropertyWarning)
        height = signal.peak_prominences(profile, [peak])[0][0]
        width = signal.peak_widths(profile, [peak], rel_height=0.5)[0][0]
    return width if height > 15 else np.nan


def _leaflet_px(image, mask):
    """Thickness of the closed mitral valve: between the lowest LV and the highest LA pixel."""
    smooth = ndimage.gaussian_filter1d(image, 1.5, axis=1)
    lv, la = mask == Label.LV, mask == Label.LA
    both = np.flatnonzero(lv.any(0) & la.any(0))
    widths = []
    for column in both[both.size // 4 : -both.size // 4]:
        bottom = np.flatnonzero(lv[:, column])[-1]
        top = np.flatnonzero(la[:, column])
        top = top[top > bottom - 2]
        is_closed = top.size and Label.VALVE in mask[bottom : top[0], column]
        if is_closed and top[0] - bottom <= 14:
            first = bottom - 18
            widths.append(_width_px(smooth[first : top[0] + 19, column], 13, top[0] + 6 - first))
    return np.nanmedian(widths) if np.isfinite(widths).sum() >= 5 else np.nan


def _far_wall_px(image, mask):
    """Thickness of the wall behind the left atrium."""
    smooth = ndimage.gaussian_filter1d(image, 1.5, axis=1)
    la, sector = mask == Label.LA, _sector(image)
    deep = np.flatnonzero(la.sum(0) > 12)
    widths = []
    for column in deep[deep.size // 4 : -deep.size // 4]:
        bottom, end = np.flatnonzero(la[:, column])[-1], np.flatnonzero(sector[:, column])[-1]
        if end - bottom >= 14:
            widths.append(_width_px(smooth[bottom - 20 : min(end, bottom + 30), column], 16, 30))
    return np.nanmedian(widths) if np.isfinite(widths).sum() >= 5 else np.nan


def _grain_px(image, mask):
    """Lag along the columns at which the autocovariance of the detrended image falls to half."""
    inner = ndimage.binary_erosion(_sector(image), iterations=6)
    rows = np.flatnonzero(inner.any(1))
    detail = np.where(inner, image - ndimage.gaussian_filter(image, 4), 0)
    detail = detail[rows[0] + 45 : rows[-1] - 5, 60:196]
    covariance = [(detail[lag:] * detail[: detail.shape[0] - lag]).mean() for lag in range(8)]
    return float(np.interp(-0.5, -np.array(covariance) / covariance[0], np.arange(8)))


def _band_db(image, low, high):
    """Mean power between two frequencies (cycles per pixel) in the middle of the frame."""
    window = np.hanning(128)[:, None] * np.hanning(128)
    crop = image[64:192, 64:192]
    power = np.abs(np.fft.fft2((crop - crop.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128))
    return 10 * np.log10(power[(frequency >= low) & (frequency < high)].mean())


MEASURES = {
    "closed mitral leaflet, px": (_leaflet_px, 3.65, 6.22),
    "far wall of the left atrium, px": (_far_wall_px, 3.54, 7.47),
    "axial half-width of the grain, px": (_grain_px, 1.28, 1.51),
    "median grey": (lambda image, mask: np.median(image[_sector(image)]), 70, 100),
    "share of white (240 and above), %": (
        lambda image, mask: 100 * (image[_sector(image)] >= 240).mean(),
        0.01,
        0.54,
    ),
    "blood in the left ventricle": (
        lambda image, mask: np.median(image[mask == Label.LV]),
        53,
        80,
    ),
    "blood in the left atrium": (
        lambda image, mask: np.median(image[mask == Label.LA]),
        56,
        100,
    ),
    "LV wall": (lambda image, mask: np.median(image[mask == Label.LV_MYOCARDIUM]), 94, 119),
    "power at 64 to 32 px, dB": (lambda image, mask: _band_db(image, 1 / 64, 1 / 32), 83.9, 87.9),
    "power at 32 to 16 px, dB": (lambda image, mask: _band_db(image, 1 / 32, 1 / 16), 73.7, 78.8),
    "power at 16 to 8 px, dB": (lambda image, mask: _band_db(image, 1 / 16, 1 / 8), 64.6, 69.0),
    "power at 8 to 4 px, dB": (lambda image, mask: _band_db(image, 1 / 8, 1 / 4), 58.5, 60.6),
    "power at 4 to 2 px, dB": (lambda image, mask: _band_db(image, 1 / 4, 1 / 2), 50.3, 52.0),
}


@pytest.mark.parametrize("name", MEASURES)
def test_phantoms_lie_within_the_middle_half_of_camus(frames, name):
    measure, low, high = MEASURES[name]
    median, error, by_style = _median(frames, measure)
    assert low - error <= median <= high + error, by_style


def test_closed_leaflets_and_the_far_wall_are_thin(tmp_path):
    flags = ["--findings", "none", "--child-rate", "0", "--num", "32", "--seed", "31"]
    rows = _write(tmp_path / "out", "aspen", *flags)
    leaflets_mm = [row.spacing_mm * _leaflet_px(*frame) for row, *frame in rows]
    walls_mm = [row.spacing_mm * _far_wall_px(*frame) for row, *frame in rows]
    assert 2.0 < np.nanmedian(leaflets_mm) < 3.2
    assert 2.0 < np.nanmedian(walls_mm) < 4.5
