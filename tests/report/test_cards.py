"""The top of a page: which scores it shows, what it calls good or bad, what it says in words."""

from typing import Any

import pytest

from echodiff.metrics.comparison import Difference
from echodiff.report.cards import build_cards, write_ranking_verdict, write_verdict


def score(value: float, **others: Any) -> dict[str, Any]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 80,
            "n_reference": 96, "features": "tiny", **others}  # fmt: skip


FLOOR = {"floor": -0.0001, "floor_low": -0.01, "floor_high": 0.01, "floor_n": 48}
SCORES = {
    "mmd_texture": score(0.3, **FLOOR, p=0.001),
    "mmd_tiny": score(0.0382, **FLOOR, p=0.4),
    "kid_tiny": score(12.0),
    "coverage_tiny": score(0.5, **FLOOR | {"value_at_floor_n": 0.5, "floor_low": 0.9}),
    "specificity": score(0.88, real=0.97),
    "faithfulness": score(0.69, real=0.98),
    "faithfulness_asd": score(0.53, real=1.0),
    "intact": score(0.43, real=0.99),
    "intact_atrial_septum": score(0.6, real=0.99),
}


def test_one_set_has_four_cards_the_most_important_first() -> None:
    cards = build_cards(["Generated"], [SCORES])
    assert [card.label for card in cards] == [
        "Hearts with intact anatomy",
        "Distance, MMD² (texture)",
        "Prompted findings that are found",
        "Findings absent where none is prompted",
    ]
    assert [card.value for card in cards] == ["43 %", "0.3", "69 %", "88 %"]
    # That images can be told apart from real ones, or that a classifier finds less, is usual.
    assert [card.is_good for card in cards] == [False, None, None, False]
    assert cards[0].note == "Target: at most 5 points below reference frames (99 %)."
    assert cards[1].note == "Reference frames against others: 0. Distinguishable."
    assert cards[0].interval == "95 % interval 38 % to 48 %, n 80"


@pytest.mark.parametrize(
    ("name", "value", "is_good"),
    [
        ("intact", score(0.95, real=0.99), True),
        ("intact", score(0.93, real=0.99), False),
        ("intact", score(0.93, real=None), None),
        ("mmd_tiny", score(0.0, **FLOOR, p=0.05), True),
        ("fid@80", score(90.0, **FLOOR | {"floor_high": 95.0, "value_at_floor_n": 94.0}), True),
        ("specificity", score(0.93, real=0.97), True),
        ("copies_tiny", score(0.2, real=0.05), False),
        ("copies_tiny", score(0.2, real=0.05) | {"low": None, "high": None}, None),
        ("coverage_tiny", SCORES["coverage_tiny"], False),
        ("speckle_snr", score(4.0, real=6.0), None),
    ],
)
def test_a_card_is_good_or_bad_against_reference_frames(
    name: str, value: dict[str, Any], is_good: bool | None
) -> None:
    (card,) = build_cards(["Generated"], [{name: value}])
    assert card.is_good is is_good


def test_several_sets_are_ranked_where_all_have_the_score() -> None:
    others = {"mmd_texture": score(0.1), "faithfulness": score(0.2), "speckle_snr": score(4.0)}
    cards = build_cards(["A", "B"], [SCORES | {"speckle_snr": score(6.0)}, others])
    assert [(card.label, card.value, card.note) for card in cards] == [
        ("Distance, MMD² (texture): smallest", "B", "B 0.1; A 0.3."),
        ("Prompted findings that are found: highest", "A", "A 69 %; B 20 %."),
    ]
    assert {card.is_good for card in cards} == {None}


def test_the_verdict_is_one_sentence() -> None:
    assert write_verdict(SCORES, num_alarms=1) == (
        "43 % of the hearts are intact (reference frames: 99 %); the images differ from the "
        "reference in texture features but are not distinguishable from the reference in tiny "
        "features; a prompted finding is found in 69 %; 1 alarm below."
    )
    assert write_verdict({}, num_alarms=0) == ""


def difference(first: str, second: str, value: float, p_holm: float | None) -> Difference:
    return Difference(
        first=first, second=second, score="mmd_tiny", value=value, low=value, high=value,
        p=p_holm, p_holm=p_holm, n_first=80, n_second=80, n_reference=96, features="tiny",
        features_sha256="", resize="",
    )  # fmt: skip


def test_a_set_is_called_nearer_only_if_that_is_significant() -> None:
    pairs = [
        difference("A", "B", 0.4, 0.001),
        difference("A", "C", 0.3, 0.01),
        difference("B", "C", -0.1, 0.3),
    ]
    assert write_ranking_verdict(pairs) == (
        "B is significantly nearer to the reference than A, by MMD² (tiny)."
    )
    assert write_ranking_verdict([difference("A", "B", 0.4, None)]) == (
        "No set is significantly nearer to the reference than another, by MMD² (tiny)."
    )
    assert write_ranking_verdict([]) == ""


def test_anatomy_that_was_chosen_is_neither_good_nor_bad_and_is_not_ranked() -> None:
    chosen = SCORES | {"intact": score(0.99, real=0.95, first_draws=0.4)}
    card = build_cards(["Generated"], [chosen])[0]
    assert (card.value, card.is_good) == ("99 %", None)
    assert card.note == "Chosen by their anatomy (--retries). Kept of the first draws: 40 %."
    assert write_verdict(chosen, num_alarms=0).startswith(
        "99 % of the hearts are intact, chosen for it (reference frames: 95 %)"
    )
    labels = [card.label for card in build_cards(["A", "B"], [chosen, SCORES])]
    assert not any("intact" in label for label in labels)
