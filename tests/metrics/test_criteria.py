"""Criteria of anatomy on label maps: those of phantoms, and of phantoms that were broken."""

import numpy as np
import pytest

from echodiff.anatomy import Finding, Label, View
from echodiff.metrics.criteria import (
    NOT_HELD_TO,
    Criterion,
    Expected,
    find_faults,
    find_scan,
    list_criteria,
)
from echodiff.phantom.acquisition import Population, sample_acquisition
from echodiff.phantom.slices import sector_mask, slice_image
from echodiff.pretrain import broken_hearts
from echodiff.pretrain.broken_hearts import Painted

SIZE = 128
A4C = Expected(View.A4C)


def draw_labels(seed, findings=(), view=View.A4C):
    population = Population(findings=findings, finding_rate=1.0 if findings else 0.0, views=(view,))
    one = sample_acquisition(seed, 0, population)
    scan = sector_mask(one.pose, SIZE)
    labels = np.where(scan, slice_image(one.heart, one.pose, SIZE)[0].labels, 0).astype(np.uint8)
    return labels, scan


@pytest.fixture(scope="module")
def heart():
    return draw_labels(3)


def name_faults(labels, scan, expected=A4C):
    return {fault.criterion for fault in find_faults(labels, scan, expected)}


@pytest.mark.parametrize("view", [View.A4C, View.A2C])
def test_sound_hearts_meet_all_criteria(view):
    broken = [find_faults(*draw_labels(seed, view=view), Expected(view)) for seed in range(20, 40)]
    assert sum(map(bool, broken)) <= 1


def paint(labels, scan, change):
    """Labels after `change`, a function of broken_hearts, where blood is dark and walls bright."""
    blood, wall = (np.isin(labels, some) for some in (broken_hearts.CHAMBERS, broken_hearts.WALLS))
    grey = np.select([blood, wall], [40, 160], 90)
    frame = Painted(np.where(scan, grey, 0).astype(np.uint8), labels)
    return change(frame, np.random.default_rng(1)).labels


def notch(frame, chamber):
    """Muscle from the lateral wall to the middle of a chamber."""
    y, x = np.nonzero(frame.labels == chamber)
    band = (abs(y - y.mean()) < 0.15 * np.ptp(y)) & (x > x.mean())
    labels = frame.labels.copy()
    labels[y[band], x[band]] = Label.LV_MYOCARDIUM
    return frame._replace(labels=labels)


ATRIA, VENTRICLES = broken_hearts.SEPTA


@pytest.mark.parametrize(
    ("change", "criterion", "words"),
    [
        (lambda f, r: broken_hearts.merge_chambers(f, r, ATRIA), "atrial_septum", "septum open"),
        (lambda f, r: broken_hearts.tear_septum(f, r, ATRIA, 6), "atrial_septum", "septum open"),
        (lambda f, r: broken_hearts.merge_chambers(f, r, VENTRICLES), "ventricular_septum", "over"),
        (lambda f, r: broken_hearts.remove_wall(f, r, Label.LV), "walls", "without wall"),
        (lambda f, r: notch(f, Label.LV), "shape", "left ventricle misshapen"),
        (lambda f, r: broken_hearts.remove_chamber(f, r, Label.LA), "chambers", "no left atrium"),
        (lambda f, r: broken_hearts.split_chamber(f, r, Label.LV), "pieces", "in 2 pieces"),
        (lambda f, r: broken_hearts.mirror(f), "arrangement", "not left of"),
        (broken_hearts.remove_heart, "chambers", "no heart"),
    ],
)  # fmt: skip
def test_a_painted_fault_is_named_with_its_place(heart, change, criterion, words):
    labels = paint(*heart, change)
    (fault, *_) = [f for f in find_faults(labels, heart[1], A4C) if f.criterion == criterion]
    assert words in fault.reason
    left, top, right, bottom = fault.box
    assert 0 <= left < right <= SIZE
    assert 0 <= top < bottom <= SIZE


def test_a_fault_that_nobody_could_see_is_none(heart):
    labels, scan = heart
    rng = np.random.default_rng(0)
    wall = np.isin(labels, broken_hearts.WALLS)
    for brighter, is_seen in ((60, True), (0, False)):
        grey = np.where(scan, 60 + brighter * wall + rng.normal(0, 8, scan.shape), 0)
        frame = Painted(grey.clip(0, 255).astype(np.uint8), labels)
        painted = broken_hearts.merge_chambers(frame, np.random.default_rng(1), ATRIA)
        faults = {fault.criterion for fault in find_faults(painted.labels, scan, A4C)}
        assert (Criterion.ATRIAL_SEPTUM in faults) is is_seen
        assert (painted is frame) is not is_seen


def test_the_box_is_where_the_septum_is_torn(heart):
    labels = paint(*heart, lambda f, r: broken_hearts.tear_septum(f, r, ATRIA, 6))
    changed = np.argwhere(labels != heart[0])
    (fault,) = [f for f in find_faults(labels, heart[1], A4C)
                if f.criterion is Criterion.ATRIAL_SEPTUM]  # fmt: skip
    centre = (fault.box[1] + fault.box[3]) / 2, (fault.box[0] + fault.box[2]) / 2
    assert centre == pytest.approx(changed.mean(axis=0).tolist(), abs=8)


def test_what_the_caption_names_is_no_fault():
    labels, scan = draw_labels(11, findings=(Finding.ASD,))
    opened = labels.copy()  # whatever the plane meets of the defect
    opened[
        paint(labels, scan, lambda f, r: broken_hearts.merge_chambers(f, r, ATRIA)) != labels
    ] = 3
    assert Criterion.ATRIAL_SEPTUM in name_faults(opened, scan)
    asked = Expected(View.A4C, findings=frozenset({Finding.ASD}))
    assert Criterion.ATRIAL_SEPTUM not in name_faults(opened, scan, asked)
    assert Criterion.ATRIAL_SEPTUM not in name_faults(
        opened, scan, Expected(View.A4C, findings=None)
    )
    assert Criterion.VENTRICULAR_SEPTUM in list_criteria(asked)
    large = Expected(View.A4C, findings=frozenset({Finding.DILATED_LA, Finding.LVH}))
    assert not {Criterion.SIZE, Criterion.THICKNESS} & set(list_criteria(large))
    assert set(NOT_HELD_TO) >= {str(finding) for finding in (Finding.ASD, Finding.DILATED_RV)}


def test_a_two_chamber_view_has_no_right_heart_and_no_septa():
    names = list_criteria(Expected(View.A2C))
    assert not {Criterion.ATRIAL_SEPTUM, Criterion.VENTRICULAR_SEPTUM, Criterion.CONTACT} & set(
        names
    )
    labels, scan = draw_labels(5, view=View.A2C)
    assert not find_faults(labels, scan, Expected(View.A2C))


def test_an_image_without_scan_or_heart_is_broken():
    nothing = np.zeros((SIZE, SIZE), np.uint8)
    assert not find_scan(nothing).any()
    assert name_faults(nothing, find_scan(nothing)) == {Criterion.SECTOR, Criterion.CHAMBERS}


def test_the_scan_is_found_in_dark_frames(heart):
    scan = heart[1]
    image = np.where(scan, np.random.default_rng(0).integers(0, 90, scan.shape), 0).astype(np.uint8)
    image[40:60, 50:80] = 0  # a dark chamber
    found = find_scan(image)
    assert (found & scan).sum() / (found | scan).sum() > 0.95
