"""The physics that a picture of an ultrasound machine rests on, measured."""

import numpy as np
import pytest

from echodiff.phantom.acquisition import (
    Acquisition,
    Population,
    render,
    sample_acquisition,
    sample_patient,
)
from echodiff.phantom.echo import simulate_envelope
from echodiff.phantom.slices import PolarGrid, sector_mask
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
    from echodiff.anatomy import Label
    from echodiff.phantom.slices import slice_image

    for drawn in _frames("birch", 4):
        picture = render(drawn, "echo", 128).astype(float)
        labels = slice_image(drawn.heart, drawn.pose, 128)[0].labels
        inside = sector_mask(drawn.pose, 128)
        assert picture[~inside].max() == 0
        blood, wall = labels == Label.LV, labels == Label.LV_MYOCARDIUM
        assert picture[blood & inside].mean() < 0.6 * picture[wall & inside].mean()


def test_styles_differ_visibly():
    means = {}
    for style in STYLES:
        pictures = [render(a, "echo", 128).astype(float) for a in _frames(style)]
        lit = [p[p > 0] for p in pictures]
        means[style] = (
            np.mean([v.mean() for v in lit]),
            np.mean([np.abs(np.diff(p, axis=1)).mean() for p in pictures]),
        )
    values = np.array(list(means.values()))
    spread = np.abs(values[:, None] - values[None]).max(-1)
    assert spread[np.triu_indices(3, 1)].min() > 2.0  # grey levels


def test_random_style_gives_every_patient_a_scanner_of_its_own():
    """Both frames of a patient come from one scanner; two patients never from the same."""
    drawn = _frames(RANDOM, 8)
    settings = [(a.echo.looks, a.echo.near_db, a.echo.dynamic_range_db) for a in drawn]
    assert len(set(settings)) == 8
    population = Population(styles=(RANDOM,))
    diastole, systole = sample_patient(5, 0, population)
    assert diastole.echo.near_db == systole.echo.near_db
    assert Acquisition.from_json(diastole.to_json()).echo == diastole.echo
