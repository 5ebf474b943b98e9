"""Captions state what a heart has and nothing else, in about as many words as a clinician's."""

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echodiff.anatomy import AgeGroup, Finding, Grade, GradedFinding, Level, View
from echodiff.captions.clinical import write_caption, write_unchanged
from echodiff.captions.findings import Presence, findings_in, read_findings
from echodiff.data.check.tokens import TOKEN_LIMIT, estimate_tokens
from echodiff.files import shipped
from echodiff.phantom.acquisition import VISIBLE, Population, sample_acquisition
from echodiff.phantom.grading import drop_excluded
from echodiff.phantom.heart import contract, sample_heart

EVERYONE = Population(finding_rate=0.7, views=(View.A4C, View.A2C))


def draw_heart(rng):
    """Draw a heart with up to four findings that can occur together, and their company."""
    known, ages = list(Finding), list(AgeGroup)
    drawn = [known[place] for place in rng.permutation(len(known))[: rng.integers(5)]]
    heart = sample_heart(rng, drop_excluded(drawn), age_group=ages[rng.integers(len(ages))])
    return heart if rng.random() < 0.5 else contract(heart, rng)


def with_findings(*findings):
    """A heart of which a caption is told these findings."""
    return replace(sample_heart(np.random.default_rng(0)), findings=findings)


@cache
def read_clause(clause):
    return read_findings(clause)


def test_two_thousand_captions_state_the_findings_of_their_heart_and_deny_none():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        heart = draw_heart(rng)
        text = write_caption(heart, View.A4C, rng)
        assert findings_in(text) == heart.finding_names, text
        # Clause by clause as well: what stands beside a finding may not call its part normal.
        clauses = [read_clause(clause) for clause in text.split(", ")]
        denied = {f for said in clauses for f, presence in said.items() if presence == "absent"}
        assert not denied & heart.finding_names, text
        assert not ("cavity narrow" in text and "normal size" in text), text
        assert estimate_tokens(text) <= 1.15 * TOKEN_LIMIT, text  # it errs to the long side


def test_what_is_unchanged_states_no_finding_and_denies_none_that_is_there():
    rng = np.random.default_rng(1)
    for _ in range(500):
        heart = draw_heart(rng)
        text = write_unchanged(heart, View.A4C, rng, float(rng.random()))
        said = read_findings(text)
        assert Presence.PRESENT not in said.values(), text
        assert all(said[name] is not Presence.ABSENT for name in heart.finding_names), text
        assert not (heart.findings and "heart" in text.replace("heart cavities", "")), text


@given(st.integers(0, 2**32), st.integers(0, 10**6))
def test_every_caption_of_a_phantom_states_the_findings_of_its_heart(seed, index):
    drawn = sample_acquisition(seed, index, EVERYONE)
    assert findings_in(drawn.text) == drawn.heart.finding_names, drawn.text


def test_every_part_that_is_unchanged_is_told_where_all_is_asked_for():
    normal = with_findings()
    text = write_unchanged(normal, View.A4C, np.random.default_rng(0), 1.0)
    assert re.match(r"\w* ?heart.*sept.*(wall|myocard).*(cavit|side).*(valve|leaflet)", text)
    nothing = write_unchanged(normal, View.A4C, np.random.default_rng(0), 0.0)
    assert nothing.startswith(("4-chamber", "apical"))
    two = write_unchanged(normal, View.A2C, np.random.default_rng(0), 1.0)
    assert not re.search("(normal|healthy) heart|heart unchanged", two)


def test_captions_are_as_long_as_the_papers():
    words = [len(sample_acquisition(11, i, EVERYONE).text.split()) for i in range(400)]
    assert 20 < np.mean(words) < 28  # the paper's clinicians wrote 22.95 on average


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        (
            GradedFinding(name=Finding.ASD, grade=Grade.SEVERE, kind="secundum", size_mm=21.4),
            {"large", "21 mm", "defect in the mid interatrial septum", "ventricular septum intact"},
        ),
        (
            GradedFinding(name=Finding.ASD, grade=Grade.MILD, kind="primum", size_mm=6.0),
            {"small", "6 mm", "primum ASD (partial AVSD)", "without lower margin"},
        ),
        (
            GradedFinding(name=Finding.ASD, grade=Grade.MILD, kind="sinus_venosus"),
            {"small", "ASD, without upper margin"},
        ),
        (
            GradedFinding(name=Finding.LVH, grade=Grade.MODERATE, size_mm=14.2),
            {"moderate ", "walls 14 mm", "septa intact", "apical four-chamber view",
             "4-chamber position"},
        ),
        (GradedFinding(name=Finding.DILATED_LA, grade=Grade.MODERATE), {"moderately dilated"}),
    ],
)  # fmt: skip
def test_captions_tell_grade_kind_and_size_in_a_clinicians_words(finding, words):
    heart = with_findings(finding)
    rng = np.random.default_rng(0)
    texts = " | ".join(write_caption(heart, View.A4C, rng) for _ in range(60))
    assert all(word in texts for word in words), texts
    assert "right and left side unchanged" not in texts


@pytest.mark.parametrize(
    ("view", "hidden"),
    [
        (View.A2C, r"right|tricuspid|both|sept(a|um)\b|heart cavities"),
        (View.A3C, r"right|tricuspid|both|sept(a|um)\b|heart cavities"),
        (View.PSAX, r"atri|leaflet|valve|sept(a|um)\b|heart cavities|cavities of"),
        (View.A5C, r"atri|leaflet|valve|septa\b|heart cavities|cavities of"),
    ],
)
def test_a_caption_calls_nothing_normal_that_the_view_does_not_show(view, hidden):
    rng = np.random.default_rng(0)
    for _ in range(60):
        text = write_caption(with_findings(), view, rng)
        assert not re.search(hidden, text), text
        assert Presence.PRESENT not in read_findings(text).values(), text


@given(st.integers(0, 2**32), st.integers(0, 10**6), st.sampled_from(sorted(VISIBLE)))
def test_captions_of_every_view_state_the_findings_of_their_heart(seed, index, view):
    drawn = sample_acquisition(seed, index, Population(finding_rate=0.9, views=(view,)))
    assert findings_in(drawn.text) == drawn.heart.finding_names, drawn.text
    # The septum is one of the left ventricular walls that A2C calls not thickened.
    told = {f for f, said in read_findings(drawn.text).items() if said is not Presence.UNKNOWN}
    assert told <= VISIBLE[view] | {Finding.SEPTAL_HYPERTROPHY}, drawn.text


@pytest.mark.parametrize(
    ("grade", "size_mm", "kind", "words"),
    [
        (Grade.MILD, 4.9, "perimembranous", "small perimembranous VSD, 4 mm"),
        (Grade.MODERATE, 9.9, "perimembranous", "moderate perimembranous VSD, 9 mm"),
        (Grade.SEVERE, 10.0, "muscular", "large muscular VSD, 10 mm"),
    ],
)
def test_a_size_is_below_the_limit_of_the_next_grade(grade, size_mm, kind, words):
    heart = with_findings(GradedFinding(name=Finding.VSD, grade=grade, kind=kind, size_mm=size_mm))
    rng = np.random.default_rng(0)
    texts = " | ".join(write_caption(heart, View.A4C, rng) for _ in range(60))
    assert words in texts
    assert f" {size_mm + 0.5:.0f} mm" not in texts or size_mm == 10


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((Finding.DILATED_LA, Finding.DILATED_RA), "both atria severely (enlarged|dilated)"),
        (
            (Finding.DILATED_LV, Finding.DILATED_RV, Finding.DILATED_LA, Finding.DILATED_RA),
            "all chambers severely (enlarged|dilated)",
        ),
    ],
)
def test_a_grade_stands_behind_both_and_all(names, words):
    heart = with_findings(*(GradedFinding(name=name, grade=Grade.SEVERE) for name in names))
    rng = np.random.default_rng(0)
    texts = [write_caption(heart, View.A4C, rng) for _ in range(60)]
    assert any(re.match(words, text) for text in texts)
    assert not any(re.search("(enlarged|dilated|thickened) (both|all)", text) for text in texts)


def test_a_caption_of_a_short_axis_names_its_level():
    levels = set()
    for index in range(0, 40, 2):
        drawn = sample_acquisition(1, index, Population(views=(View.PSAX,)))
        assert f"short-axis view, {drawn.pose.level} level, " in drawn.text
        levels.add(drawn.pose.level)
    assert levels == set(Level)
    assert "level" not in sample_acquisition(1, 0, EVERYONE).text


# --- Prompt files ------------------------------------------------------------------------------


def list_prompts():
    for path in sorted(shipped("prompts").glob("*.txt")):
        lines = path.read_text("utf-8").splitlines()
        yield path.stem, [line for line in lines if line and not line.startswith("#")]


def test_every_finding_has_a_prompt_file_whose_lines_all_state_it():
    prompts = dict(list_prompts())
    assert set(prompts) == {*map(str, Finding), "dilated", "normal", "paediatric"}
    for name, lines in prompts.items():
        assert len(set(lines)) == 8, name
        assert not re.search("(enlarged|dilated|thickened) (both|all) ", " ".join(lines)), name
        if name in set(Finding):
            assert all(Finding(name) in findings_in(line) for line in lines), name
    assert not any(map(findings_in, prompts["normal"]))
    assert all(len(findings_in(line)) >= 2 for line in prompts["dilated"])


@pytest.mark.parametrize(("name", "lines"), list(list_prompts()))
def test_no_prompt_contradicts_itself(name, lines):
    for line in lines:
        assert estimate_tokens(line) <= TOKEN_LIMIT, line
        stated = findings_in(line)
        clauses = [read_clause(clause) for clause in line.split(", ")]
        denied = {f for said in clauses for f, presence in said.items() if presence == "absent"}
        assert not denied & stated, line
