"""The physics that a picture of an ultrasound machine rests on, measured."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import ndimage

from echodiff.anatomy import Finding, Label
from echodiff.phantom.acquisition import (
    Acquisition,
    Population,
    render,
    sample_acquisition,
    sample_patient,
)
from echodiff.phantom.echo import simulate_envelope
from echodiff.phantom.slices import PolarGrid, sector_mask, slice_image
from echodiff.phantom.styles import RANDOM, STYLES

GRID = PolarGrid(
    np.linspace(0.5, 160, 640, dtype=np.float32),
    np.deg2rad(np.linspace(-38, 38, 256)).astype(np.float32),
)


def _uniform(seed=0):
    amplitude = np.ones((640, 256), np.float32)
    return simulate_envelope(amplitude, GRID, 2.0, 2.0, np.random.default_rng(seed))


def test_fully_developed_speckle_has_an_snr_of_1_91():
    envelopes = np.stack([_uniform(seed) for seed in range(6)])
    snr = envelopes.mean() / envelopes.std()
    assert snr == pytest.approx(1.91, rel=0.05)


def test_speckle_power_does_not_depend_on_the_beam():
    wide = simulate_envelope(
        np.ones((640, 256), np.float32), GRID, 4.0, 4.0, np.random.default_rng(1)
    )
    assert (wide**2).mean() == pytest.approx((_uniform() ** 2).mean(), rel=0.1)


def _lateral_width_mm(range_mm):
    """Full width at half maximum across the beam of one scatterer."""
    amplitude = np.zeros((640, 256), np.float32)
    row = int(np.argmin(np.abs(GRID.range_mm - range_mm)))
    amplitude[row, 128] = 1
    line = simulate_envelope(amplitude, GRID, 2.0, 2.0, np.random.default_rng(0))[row]
    step_mm = range_mm * float(GRID.angle_rad[1] - GRID.angle_rad[0])
    return (line > line.max() / 2).sum() * step_mm


def test_lateral_width_grows_with_depth():
    near, far = _lateral_width_mm(40), _lateral_width_mm(120)
    assert far == pytest.approx(3 * near, rel=0.15)


def _frames(style, num=12):
    population = Population(styles=(style,), finding_rate=0.0)
    return [sample_acquisition(5, 2 * i, population) for i in range(num)]


def test_rendering_is_a_function_of_what_was_drawn():
    drawn = _frames("aspen", 1)[0]
    assert np.array_equal(render(drawn, "echo", 128), render(drawn, "echo", 128))


def test_blood_is_dark_walls_are_bright_and_nothing_is_seen_outside_the_sector():
    contrasts = []
    for drawn in _frames("birch", 8):
        picture = render(drawn, "echo", 128).astype(float)
        labels = slice_image(drawn.heart, drawn.pose, 128)[0].labels
        inside = sector_mask(drawn.pose, 128)
        assert picture[~inside].max() == 0
        blood, wall = labels == Label.LV, labels == Label.LV_MYOCARDIUM
        contrasts.append(picture[blood & inside].mean() / picture[wall & inside].mean())
    assert np.median(contrasts) < 0.8  # 0.61 in CAMUS: blood is grey with haze and noise


def _roughness(picture):
    """Mean step across and along the beams in grey levels, their ratio, and grain of the blood."""
    inside = ndimage.binary_erosion(picture > 0, iterations=3)
    across, along = (np.abs(np.diff(picture, axis=axis)) for axis in (1, 0))
    across, along = across[inside[:, 1:]].mean(), along[inside[1:]].mean()
    dark = inside & (picture < np.median(picture[picture > 0]))
    grain = (picture - ndimage.gaussian_filter(picture, 1.5))[dark].std()
    return across, along, across / along, grain


def test_styles_differ_visibly():
    """One of four simple measures tells any two scanners apart in nine of ten pairs of frames."""
    measured = {
        style: np.array([_roughness(render(a, "echo", 128).astype(float)) for a in _frames(style)])
        for style in STYLES
    }
    for first, second in combinations(measured.values(), 2):
        larger = (first[:, None] > second[None]).mean((0, 1))
        assert np.maximum(larger, 1 - larger).max() > 0.9


def _with(drawn, **settings):
    return replace(drawn, echo=replace(drawn.echo, **settings))


def test_drop_out_of_the_atrial_septum_is_in_the_image_and_not_in_the_mask():
    losses = []
    for drawn in _frames("aspen", 6):
        labels = slice_image(drawn.heart, drawn.pose, 128)[0].labels
        right = np.logical_or.accumulate(labels == Label.RA, axis=1)
        left = np.logical_or.accumulate((labels == Label.LA)[:, ::-1], axis=1)[:, ::-1]
        septum = (labels == Label.ATRIAL_WALL) & right & left
        assert not ((labels[:, :-1] == Label.RA) & (labels[:, 1:] == Label.LA)).any()
        rows = np.flatnonzero(septum.any(1))
        middle = septum.copy()
        middle[: rows[rows.size * 2 // 5]] = middle[rows[rows.size * 3 // 5] :] = False
        seen, lost = (
            render(_with(drawn, fossa_db=db), "echo", 128)[middle].mean() for db in (0.0, 12.0)
        )
        losses.append(seen - lost)
    assert np.mean(losses) > 5  # grey levels


def _faintest_septum(drawn):
    """Least contrast of the atrial septum with the blood beside it, in grey levels."""
    labels = slice_image(drawn.heart, drawn.pose, 128)[0].labels
    smooth = ndimage.gaussian_filter(render(drawn, "echo", 128).astype(float), (1, 0.5))
    contrasts = []
    for grey, row in zip(smooth, labels, strict=True):
        right, left = np.flatnonzero(row == Label.RA), np.flatnonzero(row == Label.LA)
        if right.size and left.size:
            first, last = sorted((right[-1], left[0]))
            beside = np.r_[grey[max(0, first - 11) : first - 3], grey[last + 4 : last + 12]]
            contrasts.append(grey[first - 1 : last + 2].max() - np.median(beside))
    middle = slice(len(contrasts) // 5, -len(contrasts) // 5)
    return ndimage.uniform_filter1d(contrasts, 3)[middle].min()


def test_drop_out_leaves_a_defect_to_be_told_from_a_normal_septum():
    faintest = {}
    for rate in (0.0, 1.0):
        population = Population(
            styles=("aspen",), findings=(Finding.ASD,), finding_rate=rate, child_rate=0.0
        )
        faintest[rate] = [
            _faintest_septum(sample_acquisition(1, 2 * i + 1, population)) for i in range(20)
        ]
    assert np.median(faintest[0.0]) > 2 * np.median(faintest[1.0])


def test_lung_over_one_side_darkens_that_side():
    clear, right = (
        np.stack([render(_with(drawn, left_db=0.0, right_db=db, noise_db=-30.0), "echo", 128)
                  for drawn in _frames("birch", 4)]).astype(float)
        for db in (0.0, 12.0)
    )  # fmt: skip
    assert np.abs(clear - right)[..., :64].mean() < 1
    assert right[..., 112:].mean() < 0.8 * clear[..., 112:].mean()


def test_children_are_scanned_with_finer_speckle():
    pulses = {}
    for rate in (0.0, 1.0):
        population = Population(styles=("aspen",), finding_rate=0.0, child_rate=rate)
        drawn = [sample_acquisition(5, 2 * i, population) for i in range(20)]
        # In pixels too: a child's heart fills the image at a smaller depth.
        pulses[rate] = np.median([[a.echo.axial_mm, a.echo.axial_mm / a.pose.depth_mm]
                                  for a in drawn], axis=0)  # fmt: skip
    assert (pulses[1.0] < [0.8, 0.98] * pulses[0.0]).all(), pulses


def test_the_edges_of_the_sector_are_smooth():
    """Pixels that the edge cuts are between black and what is inside."""
    drawn = _frames("aspen", 1)[0]
    picture = render(_with(drawn, noise_db=0.0), "echo", 256).astype(float)
    inside = sector_mask(drawn.pose, 256)
    first = inside[60:180].argmax(1)
    rows = np.arange(60, 180)
    cut, next_to_it = picture[rows, first], picture[rows, first + 3]
    assert 0.2 < cut.mean() / next_to_it.mean() < 0.8


def test_random_style_gives_every_patient_a_scanner_of_its_own():
    """Both frames of a patient come from one scanner; two patients never from the same."""
    drawn = _frames(RANDOM, 8)
    settings = [(a.echo.looks, a.echo.near_db, a.echo.dynamic_range_db) for a in drawn]
    assert len(set(settings)) == 8
    population = Population(styles=(RANDOM,))
    diastole, systole = sample_patient(5, 0, population)
    assert diastole.echo.near_db == systole.echo.near_db
    assert Acquisition.from_json(diastole.to_json()).echo == diastole.echo


def test_a_rib_hides_a_part_of_one_side_in_one_patient_of_twenty():
    population = Population(finding_rate=0.0)
    patients = [sample_patient(3, i, population) for i in range(240)]
    hidden = [pair for pair in patients if pair[0].echo.rib_db > 0]
    assert 0.02 < len(hidden) / len(patients) < 0.09
    for diastole, systole in hidden[:4]:
        assert diastole.echo.rib_place == systole.echo.rib_place
        clear = render(_with(diastole, rib_db=0.0), "echo", 128).astype(float)
        lost = clear - render(diastole, "echo", 128)
        left, right = (lost[:, part][clear[:, part] > 0].mean()
                       for part in (slice(0, 54), slice(74, 128)))  # fmt: skip
        sides = (left, right) if diastole.echo.rib_place < 0 else (right, left)
        assert sides[0] > 3
        assert abs(sides[1]) < 0.5


def _outline(drawn):
    """Step from blood to wall along the far half of the left atrium, in grey levels."""
    labels = slice_image(drawn.heart, drawn.pose, 128)[0].labels
    atrium = labels == Label.LA
    rows = np.flatnonzero(atrium.any(1))
    away = ndimage.distance_transform_edt(~atrium)
    near, inner = (away > 0) & (away < 3.5), ndimage.binary_erosion(atrium, iterations=3)
    near &= np.isin(labels, (Label.BACKGROUND, Label.PERICARDIUM, Label.ATRIAL_WALL))
    near &= sector_mask(drawn.pose, 128) & (np.arange(128)[:, None] > rows.mean())
    picture = ndimage.gaussian_filter(render(drawn, "echo", 128).astype(float), 1)
    return picture[near] - np.median(picture[inner])


def test_parts_of_the_atrial_outline_are_lost():
    steps = [_outline(drawn) for drawn in _frames("aspen", 24)]
    lost = np.array([(step < 10).mean() for step in steps])
    assert 0.06 < np.mean(lost) < 0.17  # 0.11 in 110 frames of CAMUS
    assert np.quantile(lost, 0.8) - np.quantile(lost, 0.2) > 0.1  # 0.18


def test_the_sides_of_a_frame_differ():
    """Next to the heart and behind it one side is brighter in most frames."""
    unlike = []
    for drawn in _frames("birch", 16):
        labels = slice_image(drawn.heart, drawn.pose, 128)[0].labels
        outside = (labels == Label.BACKGROUND) & sector_mask(drawn.pose, 128)
        outside &= np.arange(128)[:, None] > 55
        picture = render(_with(drawn, left_db=0.0, right_db=0.0), "echo", 128).astype(float)
        left, right = (picture[:, part][outside[:, part]].mean()
                       for part in (slice(0, 64), slice(64, 128)))  # fmt: skip
        unlike.append(abs(np.log(left / right)))
    assert np.median(unlike) > 0.2
