"""Findings of free text: sentences in the manner of several authors, with the expected answers."""

from pathlib import Path

import pytest

from echodiff.anatomy import Finding
from echodiff.captions.findings import Presence, read_findings

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


def test_there_are_enough_reports():
    assert len(REPORTS) >= 150


@pytest.mark.parametrize(("text", "expected"), REPORTS, ids=[text[:60] for text, _ in REPORTS])
def test_findings_of_a_report_are_present_absent_or_unknown(text, expected):
    assert read_findings(text) == expected
