"""The heart is anatomically right, measured over 200 hearts, without drawing a single pixel."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from echodiff.anatomy import KINDS, AgeGroup, Finding, Grade, Label, Level, Sex, View
from echodiff.phantom.acquisition import (
    VISIBLE,
    Acquisition,
    Population,
    sample_acquisition,
    sample_patient,
)
from echodiff.phantom.heart import contract, sample_heart
from echodiff.phantom.slices import (
    image_grid,
    plane_points,
    polar_grid,
    sample_pose,
    sector_mask,
    slice_image,
    slice_polar,
)
from echodiff.phantom.tissues import compute_anatomy

NUM = 200
SIZE = 96
PAIRS = {"lv": (Label.LV, Label.LA), "rv": (Label.RV, Label.RA)}


def draw_beat(seed, *findings, view=View.A4C, straight=False, **options):
    """A heart at end of diastole and of systole, and how a probe sees it."""
    rng = np.random.default_rng(seed)
    diastole = sample_heart(rng, findings, **options)
    systole = contract(diastole, rng)
    pose = sample_pose(rng, diastole, view, (75, 75))
    if straight:  # down the long axis
        pose = replace(pose, offset_mm=0.0, tilt_rad=0.0, roll_rad=0.0)
    return diastole, systole, pose


def measure(heart, pose, size=SIZE):
    anatomy, spacing_mm = slice_image(heart, pose, size)
    return anatomy.labels, spacing_mm


@cache
def normal_beats():
    return [draw_beat(seed) for seed in range(NUM)]


@cache
def normal_slices():
    return [(measure(d, p), measure(s, p)) for d, s, p in normal_beats()]


def area_cm2(labels, spacing_mm, label):
    return (labels == label).sum() * spacing_mm**2 / 100


def mean_area(label, *findings, systole=False, num=12, **options):
    areas = []
    for seed in range(num):
        diastolic, systolic, pose = draw_beat(seed, *findings, **options)
        areas.append(area_cm2(*measure(systolic if systole else diastolic, pose), label))
    return np.mean(areas)


def num_contacts(labels, first, second):
    """Pairs of neighbours, one of each label."""
    pairs = 0
    for a, b in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        pairs += ((a == first) & (b == second)).sum() + ((a == second) & (b == first)).sum()
    return int(pairs)


# What normal means


def test_four_chambers_stand_where_an_apical_view_shows_them():
    rows, cols = np.mgrid[:SIZE, :SIZE]
    for (labels, _), _ in normal_slices():
        centres = {
            label: (rows[labels == label].mean(), cols[labels == label].mean())
            for label in (Label.LV, Label.RV, Label.LA, Label.RA)
        }
        lv, rv, la, ra = centres.values()
        assert max(lv[0], rv[0]) < min(la[0], ra[0]), "apex up: ventricles above atria"
        assert lv[1] > rv[1], "left ventricle on the right of the picture"
        assert la[1] > ra[1], "left atrium on the right of the picture"


@pytest.mark.parametrize(
    ("sex", "ef", "edv_ml", "edv_ml_m2", "wall_mm"),
    [
        (Sex.MALE, (52, 72), (62, 150), (34, 74), (6, 10)),
        (Sex.FEMALE, (54, 74), (46, 106), (29, 61), (6, 9)),
    ],
)
def test_normal_adults_are_within_the_limits_of_their_sex(sex, ef, edv_ml, edv_ml_m2, wall_mm):
    """ASE/EACVI 2015, tables 2 to 4 and 6."""
    hearts = [d for d, _, _ in normal_beats() if d.sex is sex]
    assert 80 < len(hearts) < 120
    for heart in hearts:
        diameter = 2 * heart.lv_radius_mm
        assert ef[0] <= heart.ef <= ef[1]
        assert edv_ml[0] <= heart.lv_ml <= edv_ml[1]
        assert edv_ml_m2[0] - 5 <= heart.lv_ml / heart.bsa_m2 <= edv_ml_m2[1]
        assert wall_mm[0] - 0.5 <= heart.wall_mm <= heart.septum_mm + 1e-6 + 0.5
        assert max(heart.wall_mm, heart.septum_mm) <= wall_mm[1]
        assert 2 * heart.wall_mm / diameter <= 0.42
        assert heart.la_ml_m2 <= 34
    means = {Sex.MALE: (62, 106), Sex.FEMALE: (64, 76)}[sex]
    assert np.mean([h.ef for h in hearts]) == pytest.approx(means[0], abs=1.5)
    assert np.mean([h.lv_ml for h in hearts]) == pytest.approx(means[1], rel=0.08)


def test_the_ejection_fraction_is_that_of_the_volumes():
    for diastole, systole, _ in normal_beats():
        ef = 100 * (1 - systole.lv_ml / diastole.lv_ml)
        assert ef == pytest.approx(diastole.ef, abs=0.1)
        assert systole.ef == diastole.ef


def simpson_ml(labels, spacing_mm, label):
    """Volume by disks, from one plane, the long axis upright in the image."""
    widths = (labels == label).sum(axis=1) * spacing_mm
    return float((np.pi / 4 * widths**2).sum() * spacing_mm / 1000)


def test_disks_over_the_mask_find_the_ejection_fraction():
    errors = []
    for seed in range(NUM // 4):
        diastole, systole, pose = draw_beat(seed, straight=True)
        pose = replace(pose, swing_rad=0.0, opening_rad=3.0)
        volumes = [simpson_ml(*measure(h, pose), Label.LV) for h in (diastole, systole)]
        errors.append(100 * (1 - volumes[1] / volumes[0]) - diastole.ef)
    assert np.abs(np.mean(errors)) < 2.5
    assert np.abs(errors).max() < 8


def test_the_left_atrium_fills_to_twice_its_least_volume():
    ratios = [s.la_ml / d.la_ml for d, s, _ in normal_beats()]
    assert 1.9 < np.mean(ratios) < 2.1
    assert 1.6 < min(ratios) < max(ratios) < 2.4


def test_the_right_heart_of_adults_is_of_normal_size_and_function():
    """ASE/EACVI 2015, tables 8 to 10: RV area 8-24 cm2 at end of diastole, fractional area change
    at least 35 %; mean right-atrial area below 18 cm2."""
    sizes, changes, atria = [], [], []
    for seed in range(40):
        diastole, systole, pose = draw_beat(seed, straight=True)
        whole = replace(pose, opening_rad=3.0, depth_mm=1.15 * pose.depth_mm)
        slices = [measure(heart, whole, 160) for heart in (diastole, systole)]
        full, emptied = (area_cm2(*one, Label.RV) for one in slices)
        sizes.append(full)
        changes.append(1 - emptied / full)
        atria.append(area_cm2(*slices[1], Label.RA))
        assert full < 0.75 * area_cm2(*slices[0], Label.LV)
    assert 8 < min(sizes) < max(sizes) < 24
    assert 0.4 < np.mean(changes) < 0.56
    assert np.mean(np.array(changes) < 0.35) < 0.05
    assert np.mean(atria) < 18


def test_the_wall_thickens_by_what_keeps_its_volume():
    thickening = [s.wall_mm / d.wall_mm - 1 for d, s, _ in normal_beats()]
    assert 0.3 < np.mean(thickening) < 0.6


@pytest.mark.parametrize("group", [AgeGroup.INFANT, AgeGroup.CHILD])
def test_hearts_of_children_follow_body_surface(group):
    hearts = [draw_beat(seed, age_group=group)[0] for seed in range(60)]
    assert {h.age_group for h in hearts} == {group}
    surface = np.array([h.bsa_m2 for h in hearts])
    volume = np.array([h.lv_ml for h in hearts])
    assert np.corrcoef(surface, volume)[0, 1] > 0.75
    limits = (0.18, 0.6) if group is AgeGroup.INFANT else (0.4, 2.2)
    assert limits[0] < surface.min() < surface.max() < limits[1]
    for heart in hearts:
        assert 25 < heart.lv_ml / heart.bsa_m2 < 90
        assert heart.lv_ml / heart.bsa_m2 < 74
        assert 56 <= heart.ef <= 73
        assert 2 * heart.wall_mm / (2 * heart.lv_radius_mm) <= 0.42
        assert heart.la_ml_m2 <= 34


# Valves


@pytest.mark.parametrize(("ventricle", "atrium"), PAIRS.values(), ids=PAIRS)
def test_valves_are_closed_in_systole(ventricle, atrium):
    """No pixel of a ventricle beside one of its atrium, at either hinge or between the leaflets."""
    leaks = [num_contacts(labels, ventricle, atrium) for _, (labels, _) in normal_slices()]
    assert leaks == [0] * NUM
    closed = [(labels == Label.VALVE).sum() for _, (labels, _) in normal_slices()]
    assert min(closed) > 20


@pytest.mark.parametrize("view", [View.A4C, View.A2C])
def test_valves_are_closed_in_systole_with_findings_and_at_coarse_pixels(view):
    names = [f for f in Finding if f not in (Finding.ASD, Finding.VSD, Finding.COMMON_AV_VALVE)]
    for seed, name in enumerate(names * 2):
        _, systole, pose = draw_beat(seed, name, view=view)
        labels, _ = measure(systole, pose, 64)
        for ventricle, atrium in PAIRS.values():
            assert num_contacts(labels, ventricle, atrium) == 0, name


@pytest.mark.parametrize("size", [128, 256])
def test_valves_and_septa_are_closed_on_the_beams_too(size):
    """The echo is drawn from the beams of the probe, the mask from its pixels."""
    for seed in range(30):
        group = list(AgeGroup)[seed % 3]
        _, systole, pose = draw_beat(seed, age_group=group)
        grid = polar_grid(pose, num_samples=size * 5 // 4 + 64, num_beams=size // 2 + 32)
        labels = slice_polar(systole, pose, grid).labels
        for pair in (*PAIRS.values(), (Label.RA, Label.LA), (Label.RV, Label.LV)):
            assert num_contacts(labels, *pair) == 0, (seed, pair)


def test_the_valves_of_both_ventricles_open_together():
    for diastole, _, _ in normal_beats():
        mitral, tricuspid = diastole.mitral_opening_rad, diastole.tricuspid_opening_rad
        assert (mitral > 0) == (tricuspid > 0)
        assert abs(mitral - tricuspid) < 0.1 + 1e-9
    for seed in range(20):
        heart = draw_beat(seed, Finding.COMMON_AV_VALVE)[0]
        assert heart.mitral_opening_rad == heart.tricuspid_opening_rad


def test_closed_and_open_valves_are_both_seen_at_end_of_diastole():
    open_valves = [d.mitral_opening_rad > 0 for d, _, _ in normal_beats()]
    assert 0.4 < np.mean(open_valves) < 0.8
    for (diastole, _, _), ((labels, _), _) in zip(normal_beats(), normal_slices(), strict=True):
        contacts = num_contacts(labels, Label.LV, Label.LA)
        assert (contacts > 0) == (diastole.mitral_opening_rad > 0)


def test_the_tricuspid_valve_is_nearer_to_the_apex_unless_a_defect_takes_the_offset():
    for diastole, _, _ in normal_beats():
        assert 3 <= diastole.tricuspid_offset_mm <= 8
    for name, kind in ((Finding.ASD, "primum"), (Finding.VSD, "inlet")):
        assert draw_beat(0, name, kinds={name: kind})[0].tricuspid_offset_mm == 0
    assert draw_beat(0, Finding.COMMON_AV_VALVE)[0].tricuspid_offset_mm == 0
    assert draw_beat(0, Finding.ASD, kinds={Finding.ASD: "secundum"})[0].tricuspid_offset_mm > 0


# Findings


@pytest.mark.parametrize(
    ("finding", "label", "systole"),
    [
        (Finding.DILATED_LV, Label.LV, False),
        (Finding.DILATED_RV, Label.RV, False),
        (Finding.DILATED_LA, Label.LA, True),
        (Finding.DILATED_RA, Label.RA, True),
    ],
)
def test_dilation_enlarges_its_chamber_by_its_grade(finding, label, systole):
    areas = [mean_area(label, finding, systole=systole, grades={finding: grade}) for grade in Grade]
    normal = mean_area(label, systole=systole)
    assert 1.1 * normal < areas[0] < areas[1] < areas[2]
    assert areas[2] > 1.45 * normal


@pytest.mark.parametrize("finding", Finding)
@pytest.mark.parametrize("grade", Grade)
def test_the_size_of_every_finding_is_within_its_grade(finding, grade):
    limits = {
        Finding.ASD: (4, 8, 15, 25), Finding.VSD: (3, 5, 10, 15),
        Finding.PERICARDIAL_EFFUSION: (4, 10, 20, 28), Finding.RVH: (5.5, 7, 9, 12),
        Finding.DILATED_LA: (35, 42, 48.5, 70), Finding.LVH: (12, 13, 16, 21),
        Finding.DILATED_LV: (62, 71, 81, 150), Finding.DILATED_RV: (42, 47, 53, 62),
    }.get(finding)  # fmt: skip
    for seed in range(20):
        heart = draw_beat(seed, finding, grades={finding: grade}, age_group=AgeGroup.ADULT)[0]
        found = heart.find(finding)
        assert found.grade is grade
        assert found.cause is None
        size = found.size_mm or found.volume_ml_m2
        assert (size is None) == (finding is Finding.COMMON_AV_VALVE)
        assert (found.kind in KINDS[finding]) if finding in KINDS else found.kind == ""
        rank = list(Grade).index(grade)
        if limits and (heart.sex is Sex.FEMALE or finding not in (Finding.LVH, Finding.DILATED_LV)):
            assert limits[rank] <= size <= limits[rank + 1]


@pytest.mark.parametrize("group", [AgeGroup.INFANT, AgeGroup.CHILD])
@pytest.mark.parametrize(
    ("finding", "sizes"),
    [
        (Finding.THICKENED_VALVES, ("mitral_leaflet_mm", "tricuspid_leaflet_mm")),
        (Finding.RVH, ("rv_wall_mm",)),
        (Finding.LVH, ("wall_mm",)),
        (Finding.DILATED_RV, ("rv_basal_mm",)),
    ],
)
def test_what_is_mildly_large_in_a_child_is_larger_than_normal(group, finding, sizes):
    options = {"age_group": group, "kinds": {Finding.THICKENED_VALVES: "both"}}
    for seed in range(60):
        ill = draw_beat(seed, finding, grades={finding: Grade.MILD}, **options)[0]
        normal = draw_beat(seed, **options)[0]
        assert ill.person == normal.person
        for size in sizes:
            assert getattr(ill, size) > 1.05 * getattr(normal, size)


def test_the_right_ventricular_wall_thins_in_the_first_months():
    hearts = [draw_beat(seed, age_group=AgeGroup.INFANT)[0] for seed in range(300)]
    ratios = {
        name: np.mean([h.rv_wall_mm / h.wall_mm for h in hearts if low <= h.age_years < high])
        for name, low, high in (("newborn", 0, 0.05), ("older", 0.4, 1))
    }
    assert 0.75 < ratios["newborn"] < 1.1
    assert 0.35 < ratios["older"] < 0.5


def test_a_common_valve_has_the_grade_of_its_largest_defect():
    names = Finding.ASD, Finding.COMMON_AV_VALVE
    for seed in range(10):
        for defect, valve in ((Grade.SEVERE, Grade.MILD), (Grade.MILD, Grade.MODERATE)):
            grades = {Finding.ASD: defect, Finding.COMMON_AV_VALVE: valve}
            heart = draw_beat(seed, *names, grades=grades)[0]
            largest = max(defect, valve, key=list(Grade).index)
            found = {heart.find(n).grade for n in (*names, Finding.VSD)}
            assert found == {largest}


def test_secundum_to_primum_is_about_four_to_one():
    kinds = [draw_beat(seed, Finding.ASD)[0].find(Finding.ASD).kind for seed in range(400)]
    assert 3 < kinds.count("secundum") / kinds.count("primum") < 6
    assert kinds.count("sinus_venosus") > 10


@pytest.mark.parametrize(
    ("finding", "associated"),
    [
        (Finding.ASD, {Finding.DILATED_RA, Finding.DILATED_RV}),
        (Finding.VSD, {Finding.DILATED_LA, Finding.DILATED_LV}),
        (Finding.DILATED_RV, {Finding.DILATED_RA}),
        (Finding.DILATED_LV, {Finding.DILATED_LA}),
        (
            Finding.COMMON_AV_VALVE,
            {Finding.ASD, Finding.VSD, Finding.DILATED_LA, Finding.DILATED_LV, Finding.DILATED_RA},
        ),
        (Finding.HYPOPLASTIC_LV, {Finding.DILATED_RV}),
    ],
)
def test_severe_findings_have_their_associated_findings(finding, associated):
    for seed in range(20):
        heart = draw_beat(seed, finding, grades={finding: Grade.SEVERE})[0]
        assert associated <= heart.finding_names
        causes = {f.name: f.cause for f in heart.findings}
        assert causes.pop(finding) is None
        assert set(causes.values()) <= {finding, *associated}
        assert all(f.grade is not Grade.MILD for f in heart.findings)


@pytest.mark.parametrize("finding", [Finding.ASD, Finding.VSD])
def test_a_small_defect_may_stand_alone(finding):
    small = [draw_beat(seed, finding, grades={finding: Grade.MILD})[0] for seed in range(40)]
    assert 0.4 < np.mean([len(heart.findings) == 1 for heart in small]) < 1


def test_a_ventricle_that_dilates_by_itself_is_weak_and_one_that_a_defect_fills_is_not():
    severe = {Finding.DILATED_LV: Grade.SEVERE}
    assert all(draw_beat(s, Finding.DILATED_LV, grades=severe)[0].ef < 30 for s in range(20))
    filled = [draw_beat(s, Finding.VSD, grades={Finding.VSD: Grade.SEVERE})[0] for s in range(20)]
    assert all(heart.ef >= 52 for heart in filled)


def defect_mm(labels, spacing_mm, left, right):
    """Length of the border that two cavities share, along the septum."""
    touching = (labels[:, :-1] == right) & (labels[:, 1:] == left)
    return float(touching.any(axis=1).sum() * spacing_mm)


@pytest.mark.parametrize("kind", KINDS[Finding.ASD])
def test_an_atrial_defect_is_as_wide_in_the_mask_as_its_record_says(kind):
    for seed in range(24):
        grade = list(Grade)[seed % 3]
        options = {"grades": {Finding.ASD: grade}, "kinds": {Finding.ASD: kind}}
        _, systole, pose = draw_beat(seed, Finding.ASD, straight=True, **options)
        pose = replace(pose, swing_rad=0.0, opening_rad=3.0)
        labels, spacing_mm = measure(systole, pose, 192)
        said = systole.find(Finding.ASD).size_mm
        assert defect_mm(labels, spacing_mm, Label.LA, Label.RA) == pytest.approx(said, abs=3.0)


def test_only_a_septal_defect_joins_right_and_left():
    for (diastole, _), (systole, _) in normal_slices():
        for labels in (diastole, systole):
            assert num_contacts(labels, Label.RA, Label.LA) == 0
            assert num_contacts(labels, Label.RV, Label.LV) == 0
            assert num_contacts(labels, Label.RA, Label.LV) == 0
    for seed in range(30):
        for name, pair in (
            (Finding.ASD, (Label.RA, Label.LA)),
            (Finding.VSD, (Label.RV, Label.LV)),
        ):
            _, systole, pose = draw_beat(seed, name)
            assert num_contacts(measure(systole, pose, 128)[0], *pair) >= 1, (seed, name)


CHAMBERS = (Label.LV, Label.RV, Label.LA, Label.RA)
OUTSIDE = (Label.BACKGROUND, Label.PERICARDIUM, Label.PERICARDIAL_FLUID)


@pytest.mark.parametrize("view", VISIBLE)
def test_every_view_of_a_heart_without_a_defect_keeps_right_and_left_apart(view):
    shown = (f for f in Finding if f not in (Finding.VSD, Finding.ASD, Finding.COMMON_AV_VALVE))
    names = [None, *sorted(VISIBLE[view] & {*shown})]
    for seed in range(100):
        name = names[seed % len(names)] if seed % 2 else None
        diastole, systole, pose = draw_beat(
            seed, *([name] if name else []), view=view, visible=VISIBLE[view],
            age_group=list(AgeGroup)[seed % 3],
        )  # fmt: skip
        labels, _ = measure(systole if seed % 4 < 2 else diastole, pose, 128)
        for pair in (
            (Label.LV, Label.RV), (Label.LA, Label.RA), (Label.LV, Label.RA), (Label.RV, Label.LA),
            (Label.RV, Label.AORTA),
        ):  # fmt: skip
            assert num_contacts(labels, *pair) == 0, (seed, pair)


@pytest.mark.parametrize("view", VISIBLE)
def test_every_chamber_has_a_wall_at_coarse_pixels(view):
    population = Population(finding_rate=0.7, views=(view,))
    for index in range(120):
        drawn = sample_acquisition(33, index, population)
        labels, _ = measure(drawn.heart, drawn.pose, 64)
        if not drawn.heart.finding_names & {Finding.VSD, Finding.ASD}:
            assert num_contacts(labels, Label.LV, Label.RA) == 0, index
        for chamber in CHAMBERS:
            for outside in OUTSIDE:
                assert num_contacts(labels, chamber, outside) == 0, (index, chamber, outside)


@pytest.mark.parametrize(
    ("finding", "kind", "pair"),
    [(Finding.VSD, kind, (Label.LV, Label.RV)) for kind in KINDS[Finding.VSD]]
    + [(Finding.ASD, kind, (Label.LA, Label.RA)) for kind in KINDS[Finding.ASD]],
)
def test_a_small_defect_is_open_in_the_mask_whatever_the_valves_do(finding, kind, pair):
    options = {"grades": {finding: Grade.MILD}, "kinds": {finding: kind}}
    for seed in range(24):
        view = (View.A4C, View.SUBCOSTAL)[seed % 2]
        beat = draw_beat(seed, finding, view=view, age_group=list(AgeGroup)[seed % 3], **options)
        for heart in beat[:2]:
            labels, _ = measure(heart, beat[2], 160)
            inside = np.where(sector_mask(beat[2], 160), labels, Label.BACKGROUND)
            assert num_contacts(inside, *pair) > 0, (seed, heart.phase)


def test_a_small_muscular_defect_is_no_funnel():
    options = {"grades": {Finding.VSD: Grade.MILD}, "kinds": {Finding.VSD: "muscular"}}
    wide = []
    for seed in range(12):
        heart, _, pose = draw_beat(seed, Finding.VSD, straight=True, **options)
        closed = tuple(f for f in heart.findings if f.name is not Finding.VSD)
        labels, spacing_mm = measure(heart, pose, 256)
        hole = labels != measure(replace(heart, findings=closed), pose, 256)[0]
        beside = np.roll(labels == Label.RV, 1, axis=1)  # the face of the septum on the right
        wide.append((hole & beside).any(1).sum() * spacing_mm / heart.find(Finding.VSD).size_mm)
    assert 0.8 < np.median(wide) < 1.7


def test_right_ventricular_hypertrophy_is_seen_in_every_short_axis():
    for seed in range(150):
        *hearts, pose = draw_beat(seed, Finding.RVH, view=View.PSAX)
        assert pose.level is not Level.APICAL
        for heart in hearts:
            assert (measure(heart, pose, 128)[0] == Label.RV_MYOCARDIUM).sum() > 20, seed


def test_hypertrophy_thickens_the_wall_and_narrows_the_cavity():
    thick, thin = mean_area(Label.LV_MYOCARDIUM, Finding.LVH), mean_area(Label.LV_MYOCARDIUM)
    assert thick > 1.3 * thin
    assert mean_area(Label.LV, Finding.LVH) < 0.95 * mean_area(Label.LV)


def test_asymmetric_hypertrophy_is_the_septums():
    for seed in range(20):
        heart = draw_beat(seed, Finding.SEPTAL_HYPERTROPHY)[0]
        assert heart.septum_mm >= 1.5 * heart.wall_mm
        assert heart.wall_mm <= 10


@pytest.mark.parametrize(
    ("finding", "label", "ratios"),
    [
        (Finding.HYPOPLASTIC_LV, Label.LV, (0.3, 0.85)),
        (Finding.HYPOPLASTIC_RV, Label.RV, (0.15, 0.75)),
        (Finding.RVH, Label.RV_MYOCARDIUM, (1.5, 4)),
        (Finding.THICKENED_VALVES, Label.VALVE, (1.2, 4)),
    ],
)
def test_a_finding_changes_what_it_names(finding, label, ratios):
    ratio = mean_area(label, finding) / mean_area(label)
    assert ratios[0] < ratio < ratios[1]


def test_an_effusion_surrounds_the_heart_but_not_the_left_atrium():
    for seed in range(20):
        diastole, _, pose = draw_beat(seed, Finding.PERICARDIAL_EFFUSION)
        labels, _ = measure(diastole, pose)
        assert (labels == Label.PERICARDIAL_FLUID).sum() > 30
        fluid = np.nonzero(labels == Label.PERICARDIAL_FLUID)
        la = np.nonzero(labels == Label.LA)
        behind = (fluid[0] > la[0].mean()) & (fluid[1] > la[1].mean())
        assert behind.sum() < 0.05 * len(fluid[0])
    for (labels, _), _ in normal_slices():
        assert Label.PERICARDIAL_FLUID not in labels


def test_a_common_valve_bridges_both_defects_when_closed():
    for seed in range(20):
        _, systole, pose = draw_beat(seed, Finding.COMMON_AV_VALVE, straight=True)
        labels, _ = measure(systole, pose, 192)
        leaflets, _ = ndimage.label(ndimage.binary_dilation(labels == Label.VALVE, iterations=2))
        sizes = np.bincount(leaflets.ravel())[1:]
        assert sizes.max() > 0.9 * sizes.sum()
        for ventricle in (Label.LV, Label.RV):
            for atrium in (Label.LA, Label.RA):
                assert num_contacts(labels, ventricle, atrium) == 0


def test_a_severely_dilated_right_ventricle_forms_the_apex():
    severe = {Finding.DILATED_RV: Grade.SEVERE}
    for seed in range(20):
        heart = draw_beat(seed, Finding.DILATED_RV, grades=severe)[0]
        assert heart.tricuspid_offset_mm + heart.rv_length_mm > heart.lv_length_mm
        normal = draw_beat(seed)[0]
        assert heart.tricuspid_radius_mm > 1.25 * normal.tricuspid_radius_mm


def test_findings_that_exclude_each_other_are_never_drawn_together():
    for seed in range(60):
        names = np.random.default_rng(seed).permutation(list(Finding))[:6]
        found = draw_beat(seed, *map(Finding, names))[0].finding_names
        assert len(found & {Finding.LVH, Finding.DILATED_LV, Finding.HYPOPLASTIC_LV}) <= 1
        assert len(found & {Finding.HYPOPLASTIC_RV, Finding.DILATED_RV}) <= 1


# Papillary muscles, planes


def test_papillary_muscles_grow_out_of_the_wall():
    for seed in range(12):
        heart, _, _ = draw_beat(seed)
        reach = 1.6 * heart.lv_radius_mm
        axes = [np.arange(-reach, reach, 1.5), np.arange(-reach, reach, 1.5)]
        axes.append(np.arange(0, heart.lv_length_mm + 12, 1.5))
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)
        anatomy = compute_anatomy(heart, points)
        muscle = anatomy.papillary & (anatomy.labels == Label.LV)
        wall = anatomy.labels == Label.LV_MYOCARDIUM
        parts, num = ndimage.label(muscle)
        for part in range(1, num + 1):
            assert (ndimage.binary_dilation(parts == part) & wall).any()
        assert 0.01 < muscle.sum() / (anatomy.labels == Label.LV).sum() < 0.12


def test_the_two_chamber_view_has_the_anterior_wall_on_its_right():
    heart, _, pose = draw_beat(0, view=View.A2C)
    left, right = plane_points(heart, pose, np.array([-30.0, 30.0]), np.array([80.0, 80.0]))
    assert right[1] > left[1] + 30  # +y is anterior


def test_two_chamber_view_leaves_the_right_heart_and_the_aorta_behind():
    for seed in range(40):
        diastole, _, pose = draw_beat(seed, view=View.A2C)
        labels, _ = measure(diastole, pose)
        right = np.isin(labels, (Label.RV, Label.RA)).sum()
        assert right < 0.1 * np.isin(labels, (Label.LV, Label.LA)).sum()


def test_some_views_are_foreshortened():
    offsets = np.abs([pose.offset_mm for _, _, pose in normal_beats()])
    assert 0.15 < (offsets > 6).mean() < 0.4
    heart, _, pose = draw_beat(1)
    heights = []
    for offset in (0.0, 12.0):
        tilt = float(np.arctan2(-offset, heart.apex_mm + pose.gap_mm))
        labels, spacing = measure(heart, replace(pose, offset_mm=offset, tilt_rad=tilt))
        heights.append(np.ptp(np.nonzero((labels == Label.LV).any(axis=1))[0]) * spacing)
    assert heights[1] < heights[0] - 2


@pytest.mark.parametrize("view", [View.A3C, View.A5C])
def test_the_long_axis_and_the_five_chamber_view_hold_the_aorta(view):
    num_seen = 0
    for seed in range(20):
        diastole, systole, pose = draw_beat(seed, view=view)
        for heart in (diastole, systole):
            labels, spacing_mm = measure(heart, pose)
            num_seen += area_cm2(labels, spacing_mm, Label.AORTA) > 0.5
            places = {
                label: np.mean(np.nonzero(labels == label), axis=1)
                for label in (Label.LV, Label.LA, Label.RA, Label.AORTA) if (labels == label).any()
            }  # fmt: skip
            row, column = places.get(Label.AORTA, (np.inf, None))
            assert row > places[Label.LV][0]
            if column is not None and Label.LA in places:
                # The three-chamber view has it in front of the atrium, on the right.
                assert (column > places[Label.LA][1]) == (view is View.A3C)
            if column is not None and Label.RA in places:
                assert column > places[Label.RA][1]
    assert num_seen > 0.9 * 40


def test_the_four_chamber_view_seldom_holds_the_outflow_tract():
    share = np.mean([(labels == Label.AORTA).sum() > 3 for (labels, _), _ in normal_slices()])
    assert share < 0.2


def test_the_subcostal_view_has_the_right_heart_at_the_top_and_the_apex_on_the_right():
    for seed in range(20):
        diastole, _, pose = draw_beat(seed, view=View.SUBCOSTAL)
        labels, _ = measure(diastole, pose)
        rows, cols = (
            {name: np.nonzero(labels == name)[axis].mean() for name in (Label.LV, Label.RV,
             Label.LA, Label.RA)} for axis in (0, 1)
        )  # fmt: skip
        assert max(rows[Label.RV], rows[Label.RA]) < min(rows[Label.LV], rows[Label.LA])
        assert max(cols[Label.LA], cols[Label.RA]) < min(cols[Label.LV], cols[Label.RV])


def test_short_axes_show_a_round_ventricle_of_their_level():
    counts = dict.fromkeys(Level, 0)
    for seed in range(40):
        diastole, _, pose = draw_beat(seed, view=View.PSAX)
        anatomy, _ = slice_image(diastole, pose, SIZE)
        rows, cols = np.nonzero(anatomy.labels == Label.LV)
        assert 0.8 < np.ptp(rows) / np.ptp(cols) < 1.25
        right = np.nonzero(anatomy.labels == Label.RV)[1]
        assert right.mean() < cols.mean() if len(right) else pose.level is Level.APICAL
        muscle = (anatomy.papillary & (anatomy.labels == Label.LV)).any()
        assert muscle or pose.level is not Level.MID
        assert not (muscle and pose.level is Level.BASAL)
        counts[pose.level] += 1
    assert min(counts.values()) > 5


def test_a_tipped_short_axis_is_of_its_level_too():
    for seed in range(20):
        heart, _, pose = draw_beat(seed, view=View.PSAX)
        tipped = replace(pose, tilt_rad=0.09, swing_rad=0.0)
        middle = np.array([-tipped.shift_mm])  # straight below the probe, on the long axis
        outer = 1.15 * (heart.lv_radius_mm + heart.wall_mm)
        depth = np.array([(outer + pose.gap_mm) / np.cos(tipped.tilt_rad)])
        point = plane_points(heart, tipped, middle, depth)[0]
        assert point == pytest.approx((0, 0, pose.height * heart.lv_length_mm), abs=0.01)


def test_every_basal_short_axis_lies_above_the_tricuspid_annulus():
    for seed in range(NUM):
        diastole, systole, pose = draw_beat(seed, Finding.LVH, view=View.PSAX)
        if pose.level is Level.BASAL:
            for heart in (diastole, systole):
                assert pose.height * heart.lv_length_mm > heart.tricuspid_offset_mm + heart.scale


def test_a_common_valve_makes_any_defect_its_own():
    kinds = {Finding.ASD: "secundum", Finding.VSD: "muscular"}
    names = Finding.COMMON_AV_VALVE, Finding.ASD, Finding.VSD
    for seed in range(10):
        heart = draw_beat(seed, *names, kinds=kinds)[0]
        assert heart.find(Finding.ASD).kind == "primum"
        assert heart.find(Finding.VSD).kind == "inlet"


@pytest.mark.parametrize(("rate", "share"), [(0.25, (0.8, 1)), (0.0, (0, 0))])
def test_hypoplasia_is_found_in_children_unless_there_are_none(rate, share):
    only = Population(findings=(Finding.HYPOPLASTIC_LV,), finding_rate=1.0, child_rate=rate)
    hearts = [sample_patient(1, patient, only)[0].heart for patient in range(40)]
    assert share[0] <= np.mean([h.age_group is not AgeGroup.ADULT for h in hearts]) <= share[1]


def test_a_view_gives_a_heart_no_associated_finding_that_it_cannot_show():
    for view, shown in VISIBLE.items():
        population = Population(finding_rate=1.0, views=(view,))
        for patient in range(30):
            heart = sample_patient(3, patient, population)[0].heart
            assert heart.findings
            assert heart.finding_names <= shown


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**20), index=st.integers(0, 500))
def test_an_acquisition_survives_json(seed, index):
    views = tuple(VISIBLE)
    drawn = sample_acquisition(
        seed, index, Population(styles=("cedar",), finding_rate=1.0, views=views)
    )
    assert Acquisition.from_json(drawn.to_json(), drawn.text) == drawn
    assert json.loads(drawn.to_json())["heart"]["phase"] == drawn.heart.phase


def _far_walls_beyond(drawn):
    """For each atrium in the slice, the share of its far wall that the sector does not reach."""
    whole = replace(drawn.pose, depth_mm=1.5 * drawn.pose.depth_mm, opening_rad=2.6)
    labels = slice_image(drawn.heart, whole, SIZE)[0].labels
    lateral, depth, _ = image_grid(whole, SIZE)
    beyond = np.hypot(lateral, depth) > drawn.pose.depth_mm
    shares = []
    for label in (Label.LA, Label.RA):
        columns = np.flatnonzero((labels == label).any(0))
        columns = columns[columns.size // 6 : columns.size - columns.size // 6]
        last = SIZE - 1 - (labels[::-1, columns] == label).argmax(0)
        shares += [beyond[last, columns].mean()] if columns.size > 3 else []
    return shares


@pytest.mark.parametrize("view", [View.A4C, View.A2C])
def test_some_sectors_end_within_the_atria_and_few_lose_half_a_far_wall(view):
    population = Population(finding_rate=0.4, views=(view,))
    drawn = [sample_acquisition(9, i, population) for i in range(160)]
    beyond = np.array([max(_far_walls_beyond(a)) for a in drawn])
    assert 0.08 < (beyond > 0).mean() < 0.3
    assert 0.02 < (beyond > 0.5).mean() < 0.14


@pytest.mark.parametrize("kind", KINDS[Finding.ASD])
def test_the_sector_reaches_beyond_every_atrial_defect(kind):
    for seed in range(24):
        for heart in (beat := draw_beat(seed, Finding.ASD, kinds={Finding.ASD: kind}))[:2]:
            whole = replace(beat[2], depth_mm=1.4 * beat[2].depth_mm)
            closed = tuple(f for f in heart.findings if f.name is not Finding.ASD)
            hole = measure(heart, whole)[0] != measure(replace(heart, findings=closed), whole)[0]
            lateral, depth, _ = image_grid(whole, SIZE)
            assert np.hypot(lateral, depth)[hole].max(initial=0) < beat[2].depth_mm - 1


def test_a_ventricular_septum_ends_in_a_rounded_crest():
    """The defect is as wide as it says in the middle of the septum, and wider at its faces."""
    kinds, grades = {Finding.VSD: "inlet"}, {Finding.VSD: Grade.SEVERE}
    for seed in range(6):
        _, systole, pose = draw_beat(seed, Finding.VSD, kinds=kinds, grades=grades, straight=True)
        closed = tuple(f for f in systole.findings if f.name is not Finding.VSD)
        labels, spacing_mm = measure(replace(systole, findings=closed), pose, 192)
        hole = (labels == Label.LV_MYOCARDIUM) & (measure(systole, pose, 192)[0] == Label.LV)
        columns = np.flatnonzero(hole.any(0))
        first = hole[:, columns].argmax(0)
        assert first[columns.size // 2] - first[:-1].min() >= 2
        radius = hole[:, columns[columns.size // 2]].sum() * spacing_mm / 2
        assert radius == pytest.approx(systole.find(Finding.VSD).size_mm / 2, abs=1.5)


def test_an_effusion_in_two_chambers_ends_at_the_groove_on_both_sides():
    grades = {Finding.PERICARDIAL_EFFUSION: Grade.SEVERE}
    for seed in range(8):
        heart, _, pose = draw_beat(seed, Finding.PERICARDIAL_EFFUSION, view=View.A2C, grades=grades)
        labels, spacing_mm = measure(heart, pose)
        fluid, atrium = labels == Label.PERICARDIAL_FLUID, labels == Label.LA
        top = np.flatnonzero(atrium.any(1))[0]
        assert np.flatnonzero(fluid.any(1))[-1] - top < 0.5 * heart.la_length_mm / spacing_mm
