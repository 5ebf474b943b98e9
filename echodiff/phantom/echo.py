"""Echo from a slice of the heart: scatterers, polar point-spread function, envelope, grey map.

Works on complex baseband: fully developed speckle is the modulus of a circular Gaussian field,
whose envelope has mean/std = 1.91 (Burckhardt, IEEE Trans. Sonics Ultrason. 25(1), 1978).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echodiff.phantom.heart import Heart
from echodiff.phantom.reflectivity import (
    Reflectivity,
    compute_reflectivity,
    roughen,
    smooth_noise,
    to_power,
)
from echodiff.phantom.slices import PolarGrid, Pose, image_grid, polar_grid, slice_polar
from echodiff.phantom.styles import Style

Image = NDArray[np.float32]
_FWHM = 2.3548  # full width at half maximum of a Gaussian, in standard deviations
_HAZE = (0.06, 0.12)
"""Shares of depth and of opening over which strong echoes smear into their surroundings."""
_RIB_RATE = 0.05
"""Share of patients whose rib hides a part of one side."""
_SIDE_LOBES = 0.06
"""Share of the opening over which they smear sideways."""


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
    left_db: float
    """Loss behind ribs and lung on the left side of the image."""
    right_db: float
    """The same on the right, where it hides the lateral wall."""
    fossa_db: float
    """Loss in the middle of the atrial septum, which runs along the beam."""
    clutter_db: float
    """Near-field clutter at the probe, relative to myocardium."""
    num_shadows: int
    noise_db: float
    """Electronic noise at full depth, relative to myocardium."""
    rib_db: float = 0.0
    """Loss behind a rib that partly hides one side of the sector; 0: none."""
    rib_place: float = 0.0
    """Middle of its shadow, as a share of half the opening; negative on the left."""
    rib_width: float = 0.25
    """Half its width, in the same shares."""

    def to_record(self) -> dict[str, Any]:
        """JSON-serialisable values."""
        return asdict(self)


def sample_echo_settings(
    rng: np.random.Generator, name: str, style: Style, scale: float = 1.0
) -> EchoSettings:
    """Draw acquisition parameters around a style.

    name: the style's name in the record. scale: size of the patient as a share of an adult's;
    small hearts are scanned with a shorter pulse and a narrower beam.
    """
    s, u, n = style, rng.uniform, rng.normal
    pulse = scale**1.25
    is_hidden = rng.random() < _RIB_RATE
    rib_db, rib_place, rib_width = u(9, 20), u(0.5, 0.9) * rng.choice([-1.0, 1.0]), u(0.18, 0.34)
    return EchoSettings(
        style=name,
        seed=int(rng.integers(2**31)),
        axial_mm=pulse * s.axial_mm * float(u(0.9, 1.1)),
        lateral_deg=(1 + pulse) / 2 * s.lateral_deg * float(u(0.9, 1.1)),
        dynamic_range_db=s.dynamic_range_db + float(n(0, 3.0)),
        gain_db=s.gain_db + float(n(0, 3.0)),
        blood_db=s.blood_db + float(n(0, 1.5)),
        haze_db=s.haze_db + float(n(0, 1.5)),
        contrast=s.contrast * float(u(0.94, 1.06)),
        near_db=s.near_db,
        looks=s.looks,
        edge_enhancement=s.edge_enhancement,
        attenuation_db_per_mm=float(n(0.0, 0.025)),
        dropout_db=float(u(3.0, 8.0)),
        left_db=float(max(0, u(-8, 9))),
        right_db=float(max(0, u(-6, 10))),
        fossa_db=float(max(0, u(-8, 12))),
        clutter_db=float(n(-5, 3)),
        num_shadows=int(rng.integers(0, 3)),
        noise_db=float(u(-17, -9)),
        rib_db=float(rib_db) if is_hidden else 0.0,
        rib_place=float(rib_place),
        rib_width=float(rib_width),
    )


def simulate_echo(heart: Heart, pose: Pose, settings: EchoSettings, size: int) -> NDArray[np.uint8]:
    """Render a heart as a phased array would show it: (size, size) uint8."""
    detail = max(size, 128)
    grid = polar_grid(pose, num_samples=detail * 5 // 4 + 64, num_beams=detail // 2 + 32)
    rng = np.random.default_rng(settings.seed)
    anatomy = roughen(slice_polar(heart, pose, grid), rng)
    reflectivity = compute_reflectivity(
        anatomy, grid, blood_db=settings.blood_db, fossa_db=settings.fossa_db, rng=rng
    )
    polar_db = _acquire(reflectivity, grid, settings, rng)
    return _display(*_scan_convert(polar_db, pose, size), settings)


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
    return np.asarray(out / np.float32(_gain(sigmas[0]) * _gain(sigmas[1])), np.complex64)


def _gain(sigma: float) -> float:
    """Root of the energy of a sampled Gaussian of unit sum."""
    radius = int(3.0 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return float(np.sqrt((kernel**2).sum()) / kernel.sum())


def _losses_db(grid: PolarGrid, settings: EchoSettings, rng: np.random.Generator) -> Image:
    """Gain and losses on the way to each place, (R, B) dB, added: depth gain, patchy drop-out,
    beams of unequal gain, lung or ribs over the sides of the sector, shadows."""
    shape = (grid.range_mm.size, grid.angle_rad.size)
    depth = grid.range_mm[:, None] / grid.range_mm[-1]
    place = grid.angle_rad[None, :] / grid.angle_rad[-1]
    loss = settings.dropout_db * np.minimum(smooth_noise(shape, (5, 6), rng), 0.8)
    loss = loss + settings.near_db * (np.exp(-depth / 0.22) - 0.15)
    loss = loss - settings.attenuation_db_per_mm * (grid.range_mm[:, None] - 60.0)
    loss = loss - 7.0 * np.exp(-depth / 0.05)  # the probe does not hear its own pulse's end
    loss = loss + 1.3 * np.minimum(depth / 0.3, 1) * smooth_noise(shape, (3, 48), rng)
    for side, side_db in ((-1, settings.left_db), (1, settings.right_db)):
        start = rng.uniform(0.25, 0.7)
        loss = loss - side_db / (1 + np.exp(-(side * place - start) / 0.08))
    loss = loss - 3.0 * np.maximum(0, np.abs(place) - 0.9) / 0.1
    for _ in range(settings.num_shadows):
        centre = rng.choice([-1.0, 1.0]) * rng.uniform(0.45, 1.0)
        width, start = rng.uniform(0.05, 0.16), rng.uniform(0.02, 0.5)
        onset = 1 / (1 + np.exp(-(depth - start) / 0.03))
        loss = loss - rng.uniform(4, 12) * onset * np.exp(-0.5 * ((place - centre) / width) ** 2)
    if settings.rib_db > 0:
        within = settings.rib_width - np.abs(place - settings.rib_place)
        loss = loss - settings.rib_db / (1 + np.exp(-within / 0.04)) * np.minimum(depth / 0.12, 1)
    return np.asarray(loss, np.float32)


def _acquire(
    reflectivity: Reflectivity, grid: PolarGrid, settings: EchoSettings, rng: np.random.Generator
) -> Image:
    """Received envelope in dB relative to myocardium, (R, B)."""
    gain = to_power(0.5 * _losses_db(grid, settings, rng))
    diffuse = gain * to_power(0.5 * reflectivity.diffuse_db)
    specular = gain * reflectivity.specular
    power = diffuse**2 + _clutter_power(np.hypot(diffuse, specular), grid, settings, rng)
    phase = np.exp(2j * smooth_noise(gain.shape, (12, 9), rng)).astype(np.complex64)
    coherent = (1.2 * specular).astype(np.float32) * phase
    amplitude = np.sqrt(power).astype(np.float32)
    received = np.zeros_like(gain)
    for _ in range(settings.looks):
        field = coherent + _scatter(amplitude, rng)
        received += np.abs(_receive(field, grid, settings.axial_mm, settings.lateral_deg)) ** 2
    received /= settings.looks
    # Up close a beam is as wide as the probe, so that echoes there are bars and not a fan.
    tip = int(np.searchsorted(grid.range_mm, 0.2 * grid.range_mm[-1]))
    bars = received[:tip]
    for _ in range(3):
        bars = ndimage.uniform_filter1d(bars, received.shape[1] // 4, axis=1, mode="nearest")
    weight = np.exp(-((grid.range_mm[:tip, None] / (0.1 * grid.range_mm[-1])) ** 2))
    received[:tip] += weight * (bars - received[:tip])
    return np.asarray(10 * np.log10(received + 1e-10), np.float32)


def _clutter_power(
    amplitude: Image, grid: PolarGrid, settings: EchoSettings, rng: np.random.Generator
) -> Image:
    """Power that is not from the place where it is shown, (R, B): side lobes and reverberation of
    everything around, near-field clutter, electronic noise that grows with depth."""
    depth = grid.range_mm[:, None] / grid.range_mm[-1]
    haze = lobes = amplitude
    num_lobe = max(3, round(_SIDE_LOBES * amplitude.shape[1]))
    extent = [max(3, round(share * num)) for share, num in zip(_HAZE, haze.shape, strict=True)]
    for _ in range(3):
        lobes = ndimage.uniform_filter1d(lobes, num_lobe, axis=1, mode="nearest")
        haze = ndimage.uniform_filter(haze, extent, mode="nearest")
    haze = (0.7 * lobes**2 + haze**2) * to_power(settings.haze_db)
    patches = smooth_noise(haze.shape, (7, 6), rng)
    bars = 5 * np.exp(-depth / 0.15) * smooth_noise(haze.shape, (60, 3), rng)
    near = settings.clutter_db - 34 * depth + 4 * smooth_noise(haze.shape, (5, 4), rng) + bars
    noise = settings.noise_db + 5 * (depth - 1)
    return haze * to_power(3.5 * patches) + to_power(near) + to_power(noise + patches)


def _scan_convert(polar_db: Image, pose: Pose, size: int) -> tuple[Image, Image]:
    """Beam grid to image grid, (size, size) dB, and the share of each pixel inside the sector.

    The samples of a pixel are averaged, so that small images are large ones reduced.
    """
    lateral, depth, spacing_mm = image_grid(pose, size)
    r, a = np.hypot(lateral, depth), np.arctan2(lateral, depth)
    num_samples, num_beams = polar_db.shape
    rows = (r - 0.5) / (pose.depth_mm - 0.5) * (num_samples - 1)
    cols = (a / pose.opening_rad + 0.5) * (num_beams - 1)
    per_pixel = max(1.0, spacing_mm * (num_samples - 1) / pose.depth_mm)
    reach = int(np.ceil((per_pixel - 1) / 2))
    share = np.clip(per_pixel / 2 + 0.5 - np.abs(np.arange(-reach, reach + 1)), 0, 1)
    averaged = ndimage.convolve1d(polar_db, share / share.sum(), axis=0, mode="nearest")
    picture = ndimage.map_coordinates(averaged, [rows, cols], order=1, mode="nearest")
    inward_mm = np.minimum(pose.depth_mm - r, r * (pose.opening_rad / 2 - np.abs(a)))
    share = np.where(r > 0.5, np.clip(inward_mm / spacing_mm, 0, 1), 0)
    return np.asarray(picture, np.float32), np.asarray(share, np.float32)


def _display(picture_db: Image, share: Image, settings: EchoSettings) -> NDArray[np.uint8]:
    """Log-compressed grey map; the sector's outside stays 0."""
    grey = 1 + (picture_db - settings.gain_db) / settings.dynamic_range_db
    grey = np.clip(grey, 0, 1) ** settings.contrast
    if amount := settings.edge_enhancement:
        soft = ndimage.gaussian_filter(grey, picture_db.shape[0] / 128)
        grey = np.clip(grey + amount * (grey - soft), 0, 1)
    return np.asarray(np.rint(255 * grey * share), np.uint8)
