"""Findings of free text: present, absent or unknown.

`reports.txt` holds sentences in the manner of several authors with the expected answers.
"""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echodiff.anatomy import Finding
from echodiff.captions.findings import (
    Presence,
    findings_in,
    findings_possible_in,
    read_findings,
)

DILATED = ("dilated_lv", "dilated_rv", "dilated_la", "dilated_ra")
GROUPS = {"dilated": DILATED, "septa": ("asd", "vsd"), "all": tuple(Finding)}
SIGNS = {"+": Presence.PRESENT, "-": Presence.ABSENT}


def list_reports() -> list[tuple[str, dict[Finding, Presence]]]:
    reports = []
    for line in (Path(__file__).parent / "reports.txt").read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        text, _, listed = line.rpartition("|")
        expected = dict.fromkeys(Finding, Presence.UNKNOWN)
        for word in sorted(listed.split(), key=lambda word: word[1:] not in GROUPS):
            for name in GROUPS.get(word[1:], (word[1:],)):
                expected[Finding(name)] = SIGNS[word[0]]
        reports.append((text.strip().replace("\\n", "\n"), expected))
    return reports


REPORTS = list_reports()
WORDS = sorted({word for text, _ in REPORTS for word in text.split()} | set(",;.()?:/\n"))


@pytest.mark.parametrize(("text", "expected"), REPORTS, ids=[text[:60] for text, _ in REPORTS])
def test_findings_of_a_report_are_present_absent_or_unknown(text, expected):
    assert read_findings(text) == expected


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


def test_a_text_that_says_nothing_leaves_every_finding_unknown():
    for text in ("", "ДМПП, полости сердца не расширены", "apical four-chamber view", "...,;()?"):
        assert set(read_findings(text).values()) == {Presence.UNKNOWN}, text


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("no large ASD", {Finding.ASD}),
        ("no muscular VSD, LVH", {Finding.VSD, Finding.LVH}),
        ("no significant pericardial effusion", {Finding.PERICARDIAL_EFFUSION}),
        ("known HCM", {Finding.LVH, Finding.SEPTAL_HYPERTROPHY}),
        ("no large ASD, septa intact", set()),
        ("no ASD", set()),
        ("family history of ASD", set()),
    ],
)
def test_what_a_denial_of_one_kind_leaves_open_is_possible(text, possible):
    assert findings_possible_in(text) == possible


@pytest.mark.parametrize(
    "piece",
    ["ASD ", "no ASD, ", "LA, ", "and ", "(", "a/", "?", "\n", "left and right ", "dilated LA and ",
     "or VSD ", "not ", ", and ASD"],
)  # fmt: skip
def test_a_text_of_any_form_is_read_in_time(piece):
    start = time.process_time()
    read_findings((piece * 2000)[:2000])
    assert time.process_time() - start < 2


@given(st.lists(st.sampled_from(WORDS), max_size=40))
def test_any_order_of_words_is_read(words):
    assert set(read_findings(" ".join(words))) == set(Finding)
