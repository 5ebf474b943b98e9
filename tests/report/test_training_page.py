"""The page of a training: what its cards and its verdict say of the curves."""

from echodiff.report.mask_curve import describe_obedience, draw_obedience, find_obeyed_step
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


def obedience(*values: float) -> list[dict[str, float]]:
    baselines = {"drawn_dice_real": 0.8, "drawn_dice_other": 0.4}
    return [{"step": 100 * i, "drawn_dice": v} | baselines for i, v in enumerate(values)]


def test_the_step_from_which_masks_are_obeyed_is_named() -> None:
    """Half of the way from another patient's mask to the frame's own, and not again below it."""
    assert find_obeyed_step(obedience(0.3, 0.7, 0.5, 0.61, 0.75)) == 300
    assert find_obeyed_step(obedience(0.3, 0.7, 0.59)) is None
    assert describe_obedience(obedience(0.3, 0.35, 0.72)) == (
        "Masks are obeyed from step 200 on (Dice 0.72, real frames 0.80, another patient's mask "
        "0.40)."
    )
    assert describe_obedience(obedience(0.3, 0.4)).startswith("Masks are not obeyed yet (Dice 0.40")
    unknown = [row | {"drawn_dice_real": 0.42} for row in obedience(0.3, 0.4)]
    assert "cannot be told" in describe_obedience(unknown)
    assert describe_obedience(losses(0.2, 0.1)) == ""
    chart = draw_obedience(obedience(0.3, 0.35, 0.72))
    assert chart is not None
    for word in ("obeyed from here", "real frames", "another patient"):
        assert word in chart.svg
    assert draw_obedience(obedience(0.3)) is None
    cards = build_training_cards({"kind": "concat"}, {}, obedience(0.3, 0.72))
    assert (cards[2].value, cards[2].interval) == ("0.30 → 0.72", "steps 0 and 100")
