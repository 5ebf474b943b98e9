"""The four cards of an audit: marked by the limits of its verdict."""

import pytest

from echodiff.report.audit_page import build_cards


def build_record(auc=0.55, p=0.4, set_p=0.5, recall_p=1.0, extracted=0, copies=0, passed=True):
    attack = {"low": 0.5, "high": 0.99, "p_holm": p}
    return {
        "attacks": {
            "loss": {"auc": auc, **attack},
            "recall": {"auc": 0.52, **attack, "p_holm": recall_p},
            "set": {"p": set_p, "num_members": 40, "num_others": 80},
            "extraction": {"num_frames_extracted": extracted, "n": 320, "num_captions": 40,
                           "highest": 0.47, "limit": 0.61},
        },
        "sets": [{"passed": passed, "copies": {"pixels": {
            "share": copies / 80, "low": 0.0, "high": 0.1, "n": 80, "num_copies": copies,
            "highest": 0.5}}}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("found", "good"),
    [
        ({}, [True, True, True, True]),
        ({"auc": 0.65, "p": 0.001}, [True, False, True, True]),  # below the limit, but as a set
        ({"auc": 0.9, "p": 0.001, "set_p": 0.001}, [False, False, True, True]),
        ({"set_p": 0.002}, [True, False, True, True]),
        ({"recall_p": 0.001, "passed": False}, [True, False, False, None]),
        ({"extracted": 3}, [True, True, False, True]),
        ({"copies": 2, "passed": False}, [True, True, True, False]),
    ],
)
def test_a_card_is_marked_as_the_verdict_judges(found, good):
    assert [card.is_good for card in build_cards(build_record(**found))] == good


def test_layouts_that_come_back_are_told_beside_no_copy_by_grain():
    card = build_cards(build_record(recall_p=0.001))[2]
    assert (card.value, card.marks[1]) == ("0", "Layouts found")
    assert "Their layout comes back." in card.note
    assert build_cards(build_record(extracted=1, recall_p=0.001))[2].marks[1] == "Found"
