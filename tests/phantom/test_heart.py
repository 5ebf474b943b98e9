"""The heart is anatomically right, and its findings change the geometry they name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echodiff.anatomy import Finding, Label, View
from echodiff.phantom.acquisition import Acquisition, Population, sample_acquisition
from echodiff.phantom.heart import contract, sample_heart
from echodiff.phantom.slices import sample_pose, slice_image


def _labels(finding=None, seed=0, view=View.A4C, is_child=False, systole=False):
    rng = np.random.default_rng(seed)
    found = frozenset() if finding is None else frozenset({finding})
    heart = sample_heart(rng, found, is_child)
    if systole:
        heart = contract(heart, np.random.default_rng(seed))
    pose = sample_pose(np.random.default_rng(seed), heart, view, (75, 75))
    anatomy, spacing_mm = slice_image(heart, pose, 192)
    return anatomy.labels, spacing_mm


def _area_cm2(labels, spacing_mm, label):
    return (labels == label).sum() * spacing_mm**2 / 100


def _mean_areas(label, **options):
    return np.mean([_area_cm2(*_labels(seed=s, **options), label) for s in range(8)])


def test_four_chambers_stand_where_an_apical_view_shows_them():
    labels, _ = _labels()
    rows, cols = np.mgrid[:192, :192]

    def centre(label):
        inside = labels == label
        return rows[inside].mean(), cols[inside].mean()

    lv, rv, la, ra = (centre(c) for c in (Label.LV, Label.RV, Label.LA, Label.RA))
    assert max(lv[0], rv[0]) < min(la[0], ra[0]), "apex up: ventricles above atria"
    assert lv[1] > rv[1], "left ventricle on the right of the picture"
    assert la[1] > ra[1], "left atrium on the right of the picture"


def test_chamber_areas_lie_in_adult_ranges():
    # ASE/EACVI 2015: apical four-chamber LV area about 20-40 cm2, LA below 25 cm2 or so.
    assert 20 < _mean_areas(Label.LV) < 40
    assert 9 < _mean_areas(Label.LA) < 25


@pytest.mark.parametrize(
    ("finding", "label", "at_least"),
    [
        (Finding.DILATED_LV, Label.LV, 1.3),
        (Finding.DILATED_RV, Label.RV, 1.3),
        (Finding.DILATED_LA, Label.LA, 1.4),
        (Finding.DILATED_RA, Label.RA, 1.4),
    ],
)
def test_dilation_enlarges_its_chamber(finding, label, at_least):
    assert _mean_areas(label, finding=finding) > at_least * _mean_areas(label)


def test_hypertrophy_thickens_the_wall_and_narrows_the_cavity():
    assert _mean_areas(Label.LV_MYOCARDIUM, finding=Finding.LVH) > 1.3 * _mean_areas(
        Label.LV_MYOCARDIUM
    )
    assert _mean_areas(Label.LV, finding=Finding.LVH) < 0.95 * _mean_areas(Label.LV)


def _touch(labels, first, second):
    """Pixels of `first` beside a pixel of `second`, left to right."""
    return int(((labels[:, :-1] == first) & (labels[:, 1:] == second)).sum())


@pytest.mark.parametrize("seed", range(6))
def test_only_a_septal_defect_joins_right_and_left_atrium(seed):
    assert _touch(_labels(seed=seed)[0], Label.RA, Label.LA) == 0
    assert _touch(_labels(Finding.ASD, seed=seed)[0], Label.RA, Label.LA) >= 4


@pytest.mark.parametrize("seed", range(6))
def test_only_a_septal_defect_joins_the_ventricles(seed):
    assert _touch(_labels(seed=seed)[0], Label.RV, Label.LV) == 0
    assert _touch(_labels(Finding.VSD, seed=seed)[0], Label.RV, Label.LV) >= 2


def test_systole_empties_the_ventricle():
    assert _mean_areas(Label.LV, systole=True) < 0.8 * _mean_areas(Label.LV)


def test_a_child_has_a_small_heart():
    assert _mean_areas(Label.LV, is_child=True) < 0.65 * _mean_areas(Label.LV)


def test_two_chamber_view_leaves_the_right_heart_behind():
    labels, _ = _labels(view=View.A2C)
    right = np.isin(labels, (Label.RV, Label.RA)).sum()
    assert right < 0.15 * np.isin(labels, (Label.LV, Label.LA)).sum()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**20), index=st.integers(0, 500))
def test_an_acquisition_survives_json(seed, index):
    drawn = sample_acquisition(seed, index, Population(styles=("cedar",), finding_rate=1.0))
    assert Acquisition.from_json(drawn.to_json(), drawn.text) == drawn
