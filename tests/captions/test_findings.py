"""Captions say what is there, in about as many words as a clinician's, and are read back."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echodiff.anatomy import Finding, View
from echodiff.captions.clinical import write_unchanged
from echodiff.captions.findings import findings_in
from echodiff.files import shipped
from echodiff.phantom.acquisition import Population, sample_acquisition

EVERYONE = Population(findings=tuple(Finding)[:7], finding_rate=0.7, views=(View.A4C, View.A2C))


SHIPPED = {
    "asd": ["asd"] * 5 + ["asd dilated_ra", "asd", "asd dilated_rv dilated_ra"],
    "dilated": [
        "dilated_lv", "dilated_lv dilated_la", "dilated_rv", "dilated_rv dilated_ra",
        "dilated_la", "dilated_ra", "dilated_la dilated_ra",
        "dilated_lv dilated_rv dilated_la dilated_ra",
    ],
    "lvh": ["lvh"] * 3 + ["lvh dilated_la"] + ["lvh"] * 3 + ["lvh dilated_la"],
    "normal": [""] * 8,
    "paediatric": ["", "", "", "asd", "asd dilated_ra", "vsd", "vsd dilated_lv", "lvh"],
    "vsd": ["vsd"] * 5 + ["vsd dilated_lv", "vsd", "vsd dilated_lv dilated_la"],
}  # fmt: skip
"""Findings of each line of the prompt files."""


@given(st.integers(0, 2**32), st.integers(0, 10**6))
def test_every_caption_names_the_findings_of_its_heart(seed, index):
    drawn = sample_acquisition(seed, index, EVERYONE)
    assert findings_in(drawn.text) == drawn.heart.finding_names, drawn.text


@given(st.integers(0, 2**32), st.integers(0, 10**6), st.floats(0, 1))
def test_what_is_unchanged_names_no_finding_and_denies_none_that_is_there(seed, index, share):
    drawn = sample_acquisition(seed, index, EVERYONE)
    heart, view = drawn.heart, drawn.pose.view
    text = write_unchanged(heart, view, np.random.default_rng(index), share)
    found = heart.finding_names
    assert not findings_in(text), text
    assert not (found and "heart" in text.replace("heart cavities", "")), text
    assert not (found & {Finding.ASD, Finding.VSD} and "sept" in text), text
    assert not (Finding.LVH in found and ("walls" in text or "hypertrophy" in text)), text
    assert not (any("dilated" in f for f in found) and "cavities" in text), text


def test_every_part_that_is_unchanged_is_told_where_all_is_asked_for():
    normal = sample_acquisition(0, 0, Population(finding_rate=0.0))
    text = write_unchanged(normal.heart, View.A4C, np.random.default_rng(0), 1.0)
    assert re.match(r"\w* ?heart.*sept.*(wall|myocard).*(cavit|side).*(valve|leaflet)", text)
    nothing = write_unchanged(normal.heart, View.A4C, np.random.default_rng(0), 0.0)
    assert nothing.startswith(("4-chamber", "apical"))


def test_every_shipped_prompt_names_what_it_asks_for():
    found = {}
    for path in shipped("prompts").glob("*.txt"):
        lines = [line for line in path.read_text("utf-8").splitlines() if line[:1] not in ("", "#")]
        found[path.stem] = [" ".join(f for f in Finding if f in findings_in(li)) for li in lines]
    assert found == SHIPPED


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
        # A denial reaches the words after it in its phrase, and no others.
        ("LVH with normal cavity size", {Finding.LVH}),
        ("dilated left ventricle without hypertrophy", {Finding.DILATED_LV}),
        (
            "ASD, right ventricle dilated with intact ventricular septum",
            {Finding.ASD, Finding.DILATED_RV},
        ),
        ("normal left ventricle but dilated right ventricle", {Finding.DILATED_RV}),
        ("left ventricle not dilated and right atrium enlarged", {Finding.DILATED_RA}),
        ("left ventricle and left atrium not dilated", set()),
        (
            "dilated right ventricle and right atrium without hypertrophy",
            {Finding.DILATED_RV, Finding.DILATED_RA},
        ),
        ("dilated left ventricle and right atrium of normal size", {Finding.DILATED_LV}),
        ("LVH without ASD or VSD", {Finding.LVH}),
        ("no atrial and ventricular septal defects", set()),
        ("VSD not seen, ASD absent, LVH", {Finding.LVH}),
        # Chambers by noun, adjective and letters; walls are no chamber.
        ("left atrial enlargement", {Finding.DILATED_LA}),
        ("left and right ventricular dilatation", {Finding.DILATED_LV, Finding.DILATED_RV}),
        ("LV and LA dilated", {Finding.DILATED_LV, Finding.DILATED_LA}),
        (
            "left ventricular hypertrophy and dilated left atrium",
            {Finding.LVH, Finding.DILATED_LA},
        ),
        ("left ventricular outflow tract dilated", set()),
    ],
)
def test_findings_are_read_from_free_text(text, found):
    assert findings_in(text) == found


def test_two_chamber_captions_claim_nothing_of_the_right_heart():
    only = Population(finding_rate=1.0, views=(View.A2C,))
    shown = {Finding.LVH, Finding.DILATED_LV, Finding.DILATED_LA}
    for index in range(60):
        assert findings_in(sample_acquisition(3, index, only).text) <= shown
