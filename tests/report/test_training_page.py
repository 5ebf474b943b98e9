"""The page of a training: what its cards and its verdict say of the curves."""

from echodiff.report.training_page import build_training_cards, write_training_verdict


def losses(*values: float) -> list[dict[str, float]]:
    return [{"step": 100 * i, "held_out_loss": value} for i, value in enumerate(values)]


def test_the_verdict_says_where_the_held_out_loss_went() -> None:
    assert write_training_verdict(losses(0.2, 0.12, 0.1)) == (
        "The held-out loss fell by 50 % in 200 steps."
    )
    assert write_training_verdict(losses(0.2, 0.1, 0.101)).endswith("in 200 steps.")
    assert write_training_verdict(losses(0.2, 0.1, 0.15)).endswith(
        "; it was lowest at step 100: later steps may have overfitted."
    )
    assert "rose by 50 %" in write_training_verdict(losses(0.1, 0.15))
    assert write_training_verdict(losses(0.1)) == ""


def test_intact_hearts_or_a_distance_take_the_place_of_the_adapter() -> None:
    record = {"num_captioned": 40, "num_null_text": 400, "num_steps": 880, "held_out": ["a"]}
    config = {"rank": 8, "alpha": 8.0, "batch_size": 1, "learning_rate": 1e-4}
    rows = losses(0.2, 0.1)
    labels = [card.label for card in build_training_cards(record, config, rows)]
    assert labels[2:] == ["Adapter", "Held-out loss, first to last"]
    scored = [row | {"mmd_tiny": 0.4 - row["step"] / 1000, "mmd_tiny_floor": 0.0} for row in rows]
    cards = build_training_cards(record, config, scored)
    assert (len(cards), cards[3].label) == (4, "MMD² (tiny), first to last")
    assert (cards[3].value, cards[3].note) == ("0.4 → 0.3", "Lowest at step 100.")
    judged = [row | {"intact": 0.9 - row["step"] / 1000, "intact_real": 1.0} for row in scored]
    assert build_training_cards(record, config, judged)[3].value == "90 % → 80 %"
