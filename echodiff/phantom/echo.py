"""Echo from a slice of the heart: scatterers, polar point-spread function, envelope, grey map.

Works on complex baseband: fully developed speckle is the modulus of a circular Gaussian field,
whose envelope has mean/std = 1.91 (Burckhardt, IEEE Trans. Sonics Ultrason. 25(1), 1978).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.anatomy import Label
from echodiff.phantom.heart import Heart
from echodiff.phantom.slices import PolarGrid, Pose, image_grid, polar_grid, slice_polar
from echodiff.phantom.styles import Style
from echodiff.phantom.tissues import Anatomy

Image = NDArray[np.float32]
_FWHM = 2.3548  # full width at half maximum of a Gaussian, in standard deviations

# Backscatter in dB relative to myocardium, and specular impedance (arbitrary units), by label.
_TISSUE = {
    Label.BACKGROUND: (-6.0, 0.30),
    Label.LV_MYOCARDIUM: (0.0, 0.55),
    Label.RV_MYOCARDIUM: (0.0, 0.55),
    Label.ATRIAL_WALL: (1.0, 0.60),
    Label.VALVE: (6.0, 0.9),
    Label.AORTA: (-14.0, 0.25),
    Label.PERICARDIUM: (10.0, 0.9),
}


@dataclass(frozen=True, kw_only=True)
class EchoSettings:
    """Random parameters of one acquisition; with heart and pose they determine every pixel."""

    style: str
    seed: int
    """Seed of scatterers, drop-out and noise."""
    axial_mm: float
    lateral_deg: float
    dynamic_range_db: float
    gain_db: float
    blood_db: float
    haze_db: float
    contrast: float
    near_db: float
    looks: int
    edge_enhancement: float
    attenuation_db_per_mm: float
    """Residual attenuation after depth-gain compensation."""
    dropout_db: float
    """Strength of patchy drop-out."""
    num_shadows: int
    noise_db: float
    """Electronic noise at full depth, relative to myocardium."""

    def to_record(self) -> dict[str, Any]:
        """JSON-serialisable values."""
        return asdict(self)


def sample_echo_settings(rng: np.random.Generator, name: str, style: Style) -> EchoSettings:
    """Draw acquisition parameters around a style; name: the style's name in the record."""
    s, u, n = style, rng.uniform, rng.normal
    return EchoSettings(
        style=name,
        seed=int(rng.integers(2**31)),
        axial_mm=s.axial_mm * float(u(0.9, 1.1)),
        lateral_deg=s.lateral_deg * float(u(0.9, 1.1)),
        dynamic_range_db=s.dynamic_range_db + float(n(0, 1.5)),
        gain_db=s.gain_db + float(n(0, 2.0)),
        blood_db=s.blood_db + float(n(0, 1.5)),
        haze_db=s.haze_db + float(n(0, 1.5)),
        contrast=s.contrast * float(u(0.94, 1.06)),
        near_db=s.near_db,
        looks=s.looks,
        edge_enhancement=s.edge_enhancement,
        attenuation_db_per_mm=float(n(0.02, 0.025)),
        dropout_db=float(u(3.0, 8.0)),
        num_shadows=int(rng.integers(0, 3)),
        noise_db=float(u(-36, -27)),
    )


def simulate_echo(heart: Heart, pose: Pose, settings: EchoSettings, size: int) -> NDArray[np.uint8]:
    """Render a heart as a phased array would show it: (size, size) uint8."""
    detail = max(size, 128)
    grid = polar_grid(pose, num_samples=detail * 5 // 4 + 64, num_beams=detail // 2 + 32)
    anatomy = slice_polar(heart, pose, grid)
    rng = np.random.default_rng(settings.seed)
    level_db, specular = _tissue_maps(anatomy, grid, settings, rng)
    polar_db = _acquire(level_db, specular, grid, settings, rng)
    return _display(_scan_convert(polar_db, pose, size), settings)


def simulate_envelope(
    amplitude: Image, grid: PolarGrid, axial_mm: float, lateral_deg: float, rng: np.random.Generator
) -> Image:
    """Envelope (R, B) of randomly placed scatterers of the given amplitude (R, B).

    The beam has a constant angle, so its width in mm grows with range.
    """
    return np.asarray(np.abs(_receive(_scatter(amplitude, rng), grid, axial_mm, lateral_deg)))


def _scatter(amplitude: Image, rng: np.random.Generator) -> NDArray[np.complex64]:
    shape = (*amplitude.shape, 2)
    field = rng.standard_normal(shape, dtype=np.float32).view(np.complex64)[..., 0]
    return np.asarray(amplitude * field, np.complex64)


def _receive(
    field: NDArray[np.complex64], grid: PolarGrid, axial_mm: float, lateral_deg: float
) -> NDArray[np.complex64]:
    """Point-spread function: Gaussian along the beam and across it, unit energy."""
    step_mm = float(grid.range_mm[1] - grid.range_mm[0])
    step_deg = float(np.rad2deg(grid.angle_rad[1] - grid.angle_rad[0]))
    sigmas = (axial_mm / _FWHM / step_mm, lateral_deg / _FWHM / step_deg)
    out = ndimage.gaussian_filter(field, sigmas, truncate=3.0, mode="nearest")
    energy = 4 * np.pi * sigmas[0] * sigmas[1]  # 1 / sum of squares of a unit-sum 2D Gaussian
    return np.asarray(out * np.float32(np.sqrt(energy)), np.complex64)


def _smooth_noise(
    shape: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator
) -> Image:
    """Smooth field of about unit variance with the given number of cells each way."""
    coarse = rng.standard_normal((cells[0] + 3, cells[1] + 3), dtype=np.float32)
    rows, cols = _spline(shape[0], cells[0]), _spline(shape[1], cells[1])
    # einsum and not @: BLAS starts threads, and one of these runs on every core already.
    field = np.einsum("il,jl->ij", np.einsum("ik,kl->il", 1.4 * rows, coarse), cols)
    return np.asarray(field, np.float32)


@lru_cache(maxsize=64)
def _spline(num: int, cells: int) -> Image:
    """Cubic spline from cells + 3 knots to `num` even places between the second and the last but
    one, as a matrix (num, cells + 3): a field is two small products instead of a gather."""
    places = np.linspace(1, cells + 1, num)[None]
    knots = np.eye(cells + 3)
    columns = [ndimage.map_coordinates(knot, places, order=3, mode="nearest") for knot in knots]
    return np.asarray(np.stack(columns, axis=1), np.float32)


def _tissue_maps(
    anatomy: Anatomy, grid: PolarGrid, settings: EchoSettings, rng: np.random.Generator
) -> tuple[Image, Image]:
    """Backscatter level in dB relative to myocardium, and specular amplitude; both (R, B)."""
    shape = anatomy.labels.shape
    table = np.full((2, max(Label) + 1), settings.blood_db, np.float32)
    table[1] = 0.1
    for label, (level, impedance) in _TISSUE.items():
        table[:, label] = level, impedance
    level, impedance = table[0][anatomy.labels], table[1][anatomy.labels]
    level[anatomy.papillary] = -1.5
    level[anatomy.fibrous] = 5.0
    impedance[anatomy.fibrous] = 0.8
    impedance[anatomy.papillary] = 0.5

    # Outside: chest wall above, a bright band behind the pericardium that fades into lung and
    # liver.
    outside = anatomy.labels == Label.BACKGROUND
    depth = grid.range_mm[:, None] / grid.range_mm[-1]
    band = 15.0 * np.exp(-np.maximum(anatomy.hull_mm, 0) / 9) * np.clip(2.2 * depth - 0.5, 0, 1)
    patchy = 5.5 * _smooth_noise(shape, (5, 5), rng)
    level = np.where(outside, -14.0 + band + patchy - 2.0 * depth, level)
    texture = 2.2 * _smooth_noise(shape, (22, 12), rng)
    level = level + np.where(level > -12, texture, 0.3 * texture)

    facing = _facing(anatomy.hull_mm, grid)
    solid = ~outside & (level > -12)
    level = level - np.where(solid, 9.0 * (1 - facing) ** 2, 0)  # walls along the beam fade
    level = level - np.where(anatomy.labels == Label.PERICARDIUM, 12 * (1 - depth), 0)

    soft = ndimage.gaussian_filter1d(impedance, 1.0, axis=0)
    edge = np.abs(np.gradient(soft, axis=0)) * (0.35 + depth)
    return level.astype(np.float32), (5.0 * edge).astype(np.float32)


def _facing(hull_mm: Image, grid: PolarGrid) -> Image:
    """Cosine between beam and the normal of the heart's surface, (R, B) in [0, 1]."""
    along = np.gradient(hull_mm, axis=0) / float(grid.range_mm[1] - grid.range_mm[0])
    step_mm = grid.range_mm[:, None] * float(grid.angle_rad[1] - grid.angle_rad[0])
    across = np.gradient(hull_mm, axis=1) / step_mm
    return np.asarray(np.abs(along) / (np.hypot(along, across) + 1e-6), np.float32)


def _losses_db(
    grid: PolarGrid, settings: EchoSettings, rng: np.random.Generator
) -> tuple[Image, Image]:
    """Patchy drop-out with the depth gain's remainder (R, B), and shadows (R, B); dB, added."""
    shape = (grid.range_mm.size, grid.angle_rad.size)
    depth = grid.range_mm[:, None] / grid.range_mm[-1]
    patches = settings.dropout_db * np.minimum(_smooth_noise(shape, (6, 8), rng), 0.5)
    tilt = settings.near_db * (np.exp(-depth / 0.22) - 0.15)
    steady = patches + tilt - settings.attenuation_db_per_mm * (grid.range_mm[:, None] - 60.0)

    half = grid.angle_rad[-1]
    across = grid.angle_rad[None, :]
    shadow = -3.0 * np.maximum(0, np.abs(across / half) - 0.8) / 0.2 * rng.uniform(0.2, 2.0)
    for _ in range(settings.num_shadows):
        side = rng.choice([-1.0, 1.0]) * rng.uniform(0.45, 1.0) * half
        width = rng.uniform(0.04, 0.12)
        start = rng.uniform(0.02, 0.5)
        onset = 1 / (1 + np.exp(-(depth - start) / 0.03))
        shadow = shadow - rng.uniform(5, 14) * onset * np.exp(-0.5 * ((across - side) / width) ** 2)
    return np.asarray(steady, np.float32), np.asarray(shadow + 0 * steady, np.float32)


def _acquire(
    level_db: Image,
    specular: Image,
    grid: PolarGrid,
    settings: EchoSettings,
    rng: np.random.Generator,
) -> Image:
    """Received envelope in dB relative to myocardium, (R, B)."""
    steady, shadow = _losses_db(grid, settings, rng)
    loss = 10 ** ((steady + shadow) / 20)
    scatter = 10 ** (level_db / 20)
    depth = grid.range_mm[:, None] / grid.range_mm[-1]
    noise = 10 ** ((settings.noise_db + 12 * (depth - 1)) / 20)
    phase = np.exp(1j * 2.0 * _smooth_noise(level_db.shape, (12, 9), rng)).astype(np.complex64)
    power = np.zeros_like(level_db)
    for _ in range(settings.looks):
        field = _scatter((scatter * loss).astype(np.float32), rng)
        field += (1.2 * specular * loss).astype(np.float32) * phase
        field += _scatter(np.broadcast_to(noise, level_db.shape).astype(np.float32), rng)
        power += np.abs(_receive(field, grid, settings.axial_mm, settings.lateral_deg)) ** 2
    envelope = np.sqrt(power / settings.looks)
    # Reverberation and side lobes smear a little of everything over the dark chambers, most up
    # close.
    haze = ndimage.gaussian_filter(envelope, (14, 10), mode="nearest", truncate=2.0)
    grain = np.abs(_receive(_scatter(np.ones_like(envelope), rng), grid, settings.axial_mm, 2.5))
    near = 1 + 2.5 * np.exp(-depth / 0.09)
    envelope = envelope + 10 ** (settings.haze_db / 20) * haze * grain * near
    return np.asarray(20 * np.log10(envelope + 1e-5), np.float32)


def _scan_convert(polar_db: Image, pose: Pose, size: int) -> Image:
    """Beam grid to image grid, (size, size) dB; outside of the sector -inf."""
    lateral, depth, _ = image_grid(pose, size)
    r, a = np.hypot(lateral, depth), np.arctan2(lateral, depth)
    num_samples, num_beams = polar_db.shape
    rows = (r - 0.5) / (pose.depth_mm - 0.5) * (num_samples - 1)
    cols = (a / pose.opening_rad + 0.5) * (num_beams - 1)
    picture = ndimage.map_coordinates(polar_db, [rows, cols], order=1, mode="nearest")
    inside = (r < pose.depth_mm) & (r > 0.5) & (np.abs(a) < pose.opening_rad / 2)
    return np.asarray(np.where(inside, picture, -np.inf), np.float32)


def _display(picture_db: Image, settings: EchoSettings) -> NDArray[np.uint8]:
    """Log-compressed grey map; the sector's outside stays 0."""
    inside = np.isfinite(picture_db)
    level = np.where(inside, picture_db, -200.0)
    grey = 1 + (level - settings.gain_db) / settings.dynamic_range_db
    grey = np.clip(grey, 0, 1) ** settings.contrast
    if amount := settings.edge_enhancement:
        soft = ndimage.gaussian_filter(grey, picture_db.shape[0] / 128)
        grey = np.clip(grey + amount * (grey - soft), 0, 1)
    return np.asarray(np.rint(255 * grey * inside), np.uint8)
