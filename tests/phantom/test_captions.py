"""Captions say what is there, in about as many words as a clinician's, and are read back."""

import numpy as np
import pytest

from echodiff.anatomy import Finding, View
from echodiff.phantom.acquisition import Population, sample_acquisition
from echodiff.phantom.captions import findings_in

EVERYONE = Population(finding_rate=0.7, views=(View.A4C, View.A2C))


def test_every_caption_names_the_findings_of_its_heart():
    for index in range(400):
        drawn = sample_acquisition(11, index, EVERYONE)
        assert findings_in(drawn.text) == set(drawn.heart.findings), drawn.text


def test_captions_are_as_long_as_the_papers():
    words = [len(sample_acquisition(11, i, EVERYONE).text.split()) for i in range(400)]
    assert 20 < np.mean(words) < 28  # the paper's clinicians wrote 22.95 on average


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", set()),
        ("no ASD, cavities not dilated", set()),
        ("ASD, without upper margin, echocardiogram of the child", {Finding.ASD}),
        ("ASD without lower margin", {Finding.ASD}),
        ("with intact LVH, heart cavities not dilated", set()),
        ("Dilated left ventricle and right atrium", {Finding.DILATED_LV, Finding.DILATED_RA}),
        ("both atria enlarged", {Finding.DILATED_LA, Finding.DILATED_RA}),
        ("inlet ventricular septal defect; LVH", {Finding.VSD, Finding.LVH}),
        ("atrial septum intact without defects", set()),
    ],
)
def test_findings_are_read_from_free_text(text, found):
    assert findings_in(text) == found


def test_two_chamber_captions_claim_nothing_of_the_right_heart():
    only = Population(finding_rate=1.0, views=(View.A2C,))
    shown = {Finding.LVH, Finding.DILATED_LV, Finding.DILATED_LA}
    for index in range(60):
        assert findings_in(sample_acquisition(3, index, only).text) <= shown
