"""Parts of a comparison: normalisation, equal compute, styles, gate, means over trainings."""

from pathlib import Path

import numpy as np
import pytest
import torch

from echodiff.errors import InputError
from echodiff.frames.rows import Frame
from echodiff.survey.arm_trainer import encode_masks
from echodiff.survey.compute import (
    PLAN_FILE,
    ArmPlan,
    StepCost,
    load_plan,
    plan_steps,
    save_plan,
)
from echodiff.survey.costs import _count_seconds
from echodiff.survey.gate import check_gate, join_trainings
from echodiff.survey.latents import LatentSpace
from echodiff.survey.networks import (
    Sizes,
    SpadeAutoencoder,
    StyledUNet,
    build_matched,
    build_seeded,
    count_parameters,
)
from echodiff.survey.normalisation import Normaliser
from echodiff.survey.scanner_style import StyleClassifier
from echodiff.survey.segmentations import Result, summarise
from echodiff.survey.sets import ask_own, ask_random_styles, ask_vendor
from echodiff.survey.survey_config import DECODER, SurveyConfig
from echodiff.survey.verdict import _on_speed, _on_utility, write_verdicts


def images(gamma=1.0, num=3):
    grey = np.random.default_rng(0).integers(20, 230, (num, 16, 16))
    return (255 * (grey / 255) ** gamma).astype(np.uint8)


def test_histogram_brings_another_contrast_back_to_that_of_the_training():
    normalise = Normaliser.of("histogram", images())
    before = np.abs(images(2.0)[0].astype(int) - images()[0]).mean()
    after = np.abs(normalise(images(2.0)[0]).astype(int) - images()[0]).mean()
    assert before > 30
    assert after < 4


def test_zscore_takes_gain_and_offset_away_and_none_does_nothing():
    dark = (images()[0] / 2 + 10).astype(np.uint8)
    normalise = Normaliser.of("zscore", images())
    difference = normalise(dark).astype(int) - normalise(images()[0])
    assert np.abs(difference).max() <= 2
    assert (Normaliser.of("none", images())(dark) == dark).all()


def test_every_arm_gets_the_operations_of_the_reference_to_the_nearest_step():
    costs = {name: StepCost(flops, 0.1, 5, 5) for name, flops in (("a", 100), ("b", 33))}
    plan = plan_steps(costs, costs["a"], 10)
    assert [plan["a"].num_steps, plan["b"].num_steps] == [10, 30]
    assert plan["b"].flops == 990


def test_a_decoder_takes_its_share_from_the_arms_that_draw_with_it():
    costs = {name: StepCost(flops, 0.1, 5, 5)
             for name, flops in (("a", 100), ("b", 50), (DECODER, 30))}  # fmt: skip
    plan = plan_steps(costs, costs["a"], 120, by_decoder=["b"], share=0.25)
    assert [plan[name].num_steps for name in ("a", "b", DECODER)] == [120, 180, 100]
    assert {plan[name].flops for name in ("a", "b")} == {12000}
    # Fewer than a hundred steps would leave the decoder worse than it was.
    short = plan_steps(costs, costs["a"], 119, by_decoder=["b"], share=0.25)
    assert DECODER not in short
    assert short["b"].num_steps == 238


def test_a_plan_that_lacks_something_is_named(tmp_path):
    costs = {"gan": StepCost(100, 0.1, 5, 5)}
    save_plan(tmp_path, plan_steps(costs, costs["gan"], 3))
    assert load_plan(tmp_path)["gan"].num_steps == 3
    path = tmp_path / PLAN_FILE
    path.write_text(path.read_text().replace("decoder_flops", "other"))
    with pytest.raises(InputError, match=r"plan\.json: lacks 'decoder_flops'"):
        load_plan(tmp_path)


def test_time_to_draw_counts_a_set_for_each_training_vendor(tmp_path):
    config = SurveyConfig(out=tmp_path, num_images=10, num_synthetic=4, batch_size=2)
    plan = ArmPlan(StepCost(1, 6.0, 5, 5), 1)  # a second an image
    assert _count_seconds(config, "gan", plan, 1) == 10 + 4
    assert _count_seconds(config, "gan", plan, 3) == 10 + 4 + 4 + 3 * 10


def test_networks_are_matched_in_size_and_are_functions_of_the_seed():
    sizes = Sizes(64, 4, 2)
    unet = build_seeded(StyledUNet, sizes, seed=0, channels=16, in_channels=1, side=64, patch=2)
    vae = build_matched(SpadeAutoencoder, sizes, count_parameters(unet), seed=0)
    assert count_parameters(vae) == pytest.approx(count_parameters(unet), rel=0.03)
    again = build_seeded(StyledUNet, sizes, seed=0, channels=16, in_channels=1, side=64, patch=2)
    assert all(
        torch.equal(one, other)
        for one, other in zip(unet.parameters(), again.parameters(), strict=True)
    )


def test_a_mask_of_latents_has_the_share_of_every_label():
    mask = torch.zeros(1, 4, 4, dtype=torch.uint8)
    mask[0, 0, 0] = 1
    small = encode_masks(mask, 2, 2)
    assert small.shape == (1, 2, 2, 2)
    assert small[0, :, 0, 0].tolist() == [0.75, 0.25]


def test_the_classifier_tells_vendors_apart_by_what_differs():
    rng = np.random.default_rng(0)
    places = np.arange(60) % 3
    features = rng.standard_normal((60, 5)) + 4 * np.eye(3, 5)[places]
    classifier = StyleClassifier.fit(features, places, 3)
    other = rng.standard_normal((60, 5)) + 4 * np.eye(3, 5)[places]
    assert (classifier(other) == places).mean() > 0.95


def test_latents_of_a_base_have_a_mean_and_a_deviation_and_come_back_as_they_were():
    latents = LatentSpace("tiny", torch.device("cpu"))
    ramp = np.linspace(-0.8, 0.8, 64, dtype=np.float32)
    given = np.tile(ramp, (1, 1, 64, 1))
    mean, deviation = latents.encode(given)
    assert mean.shape[1:] == latents.shape(64)
    assert (deviation > 0).all()
    vae, rgb = latents._vae, torch.from_numpy(given).expand(-1, 3, -1, -1)
    decoded = vae.decode(vae.encode(rgb).latent_dist.mean).sample
    direct = decoded.clamp(-1, 1).mean(dim=1, keepdim=True)
    # Scaled for the UNet and back: the same image as the autoencoder alone makes.
    assert torch.allclose(latents.decode(mean), direct, atol=1e-4)
    assert float(mean.std()) == pytest.approx(1, abs=0.7)
    with pytest.raises(InputError, match=r"--resolution 65: the autoencoder of --base tiny"):
        latents.shape(65)


def score(value, low=None, high=None, n=10):
    return {"value": value, "low": low, "high": high, "n": n}


def test_an_arm_passes_its_gate_only_if_every_training_does():
    def training(mmd, obedience):
        scores = {"mmd_tiny": score(mmd), "obedience": score(obedience)}
        return {"scores": scores, "left_out": {}}

    good = training(0.4, 0.5)
    assert check_gate([good, good], 1.0, "mmd_tiny").passed
    far = check_gate([good, training(0.5, 0.5)], 1.0, "mmd_tiny")
    assert far.reasons == (
        "training 1: mmd_tiny 0.500, which must be below 0.500, half of that of noise",
    )
    unread = {"scores": {"mmd_tiny": score(0.4)}, "left_out": {"obedience": "nobody can tell"}}
    deaf = check_gate([training(0.4, 0.49), unread], 1.0, "mmd_tiny")
    assert deaf.reasons == (
        "training 0: obedience 0.49, which must be 0.5 or more",
        "training 1: obedience has no value: nobody can tell",
    )


def test_the_interval_over_trainings_holds_what_is_within_one_and_between_them():
    one = join_trainings([score(1.0, 0.9, 1.2)])
    assert (one["low"], one["high"]) == pytest.approx((0.9, 1.2))
    three = join_trainings([score(value, value - 0.1, value + 0.1) for value in (1.0, 1.1, 1.2)])
    # Student's quantile of two degrees of freedom, 4.303, times 0.1 / sqrt(3); and 0.1.
    reach = ((4.3027 * 0.1 / 3**0.5) ** 2 + 0.1**2) ** 0.5
    assert three["value"] == pytest.approx(1.1)
    assert three["high"] - 1.1 == pytest.approx(reach, rel=1e-3)
    assert three["n"] == 30
    assert join_trainings([score(1.0), None]) is None
    assert join_trainings([score(1.0), score(2.0)])["low"] is None


def ask(num, texts=("a heart",), vendors=("canon", "ge"), frames=20):
    """`num` images for `frames` frames, sorted by vendor as data sets are."""
    rows = [Frame(file_name=f"{place}.png", text=texts[place % len(texts)], patient_id=f"p{place}",
                  vendor=vendors[place * len(vendors) // frames])
            for place in range(frames)]  # fmt: skip
    return ask_own("own", Path(), rows, vendors, num, 4)


def test_fewer_images_than_masks_are_of_all_vendors_and_patients():
    asked = ask(5)
    assert [row.file_name for row in asked.rows] == ["0.png", "4.png", "8.png", "12.png", "16.png"]
    assert set(asked.vendors) == {"canon", "ge"}
    assert len({row.patient_id for row in ask(13).rows}) == 13
    assert [row.file_name for row in ask(42).rows[18:22]] == ["18.png", "19.png", "0.png", "1.png"]


def test_words_name_the_asked_for_scanner_alone():
    # As `echodiff prepare mnms` writes it; a caption may name none.
    asked = ask(20, texts=("end of diastole, canon scanner", "short axis", ""))
    assert asked.captions[0] == "end of diastole, canon scanner"
    moved = ask_vendor(asked, "ge", ("canon", "ge"))
    assert moved.captions[:3] == ["end of diastole, ge scanner", "short axis, ge scanner",
                                  "ge scanner"]  # fmt: skip


@pytest.mark.parametrize("vendors", [("canon", "ge"), ("canon", "ge", "philips")])
def test_random_styles_lie_between_the_training_styles_and_beyond_them(vendors):
    styles = ask_random_styles(ask(400, vendors=vendors), vendors, seed=0).styles
    assert np.allclose(styles.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(styles.mean(axis=0), 1 / len(vendors), atol=0.08)
    share = (styles.min(axis=1) < 0).mean()
    assert 0.3 < share < 0.9
    assert styles.min() >= 1 / len(vendors) * (1 - 2) - 1e-5


def test_gains_of_one_training_have_intervals_over_patients():
    rng = np.random.default_rng(0)
    real = rng.uniform(0.7, 0.8, (1, 12))
    better = real + 0.05 + 0.01 * rng.standard_normal((1, 12))
    results = {
        "real": Result({"test": real}, 10, 0),
        "real + flow": Result({"test": better}, 10, 5),
    }
    found = summarise(results)["real + flow"]["test"]
    difference = (better - real)[0]
    reach = 2.201 * difference.std(ddof=1) / 12**0.5  # Student's, 11 degrees of freedom
    gain = found["gain"]
    assert gain["value"] == pytest.approx(difference.mean())
    assert gain["high"] - gain["value"] == pytest.approx(reach, rel=1e-3)
    assert gain["p_holm"] < 0.05
    assert (found["num_seeds"], found["num_patients"]) == (1, 12)


@pytest.mark.parametrize(("p", "told"), [(0.02, ": above 0."), (0.2, ": not shown to be above 0.")])
def test_the_best_of_several_arms_is_not_above_zero_by_chance(p, told):
    gain = {"value": 0.02, "low": 0.001, "high": 0.04, "p_holm": p}
    copies = {"value": 0.04, "low": 0.01, "high": 0.09}
    arm = {"gate": {"passed": True}, "scores": {"mmd_tiny": score(0.1), "copies_tiny": copies}}
    kinds = ("real + flow", "real + flow, random styles")
    verdict = write_verdicts({
        "arms": {"flow": arm}, "distance": "mmd_tiny", "copies": "copies_tiny",
        "flow_over_diffusion": None, "held_out": ["cedar"],
        "segmentations": {"real": {"test": {"dice": score(0.9)}, "unseen": {"dice": score(0.8)}}}
        | {name: {"test": {"gain": gain}, "unseen": {"gain": gain}} for name in kinds},
    })  # fmt: skip
    assert "Dice is 0.800 (no interval) on cedar, 0.900" in verdict["scanner"]
    assert verdict["scanner"].endswith(told)
    assert verdict["privacy"].startswith("No arm is shown to draw more")


@pytest.mark.parametrize(
    ("high", "told"),
    [
        (
            -0.001,
            "No arm gains Dice over real frames alone. Least loss: flow, -0.003 (95 % interval",
        ),
        (0.001, "Largest gain in Dice over real frames alone: flow, -0.003 (95 % interval"),
    ],
)
def test_a_loss_is_not_called_a_gain(high, told):
    gain = {"value": -0.003, "low": -0.004, "high": high, "p_holm": 0.001}
    found = {"real + flow": {"test": {"gain": gain}}}
    assert _on_utility({"flow": {}}, found, "test").startswith(told)


@pytest.mark.parametrize(
    ("tiny", "texture", "told"),
    [
        ((0.9, 0.7, 1.05), (2.0, 1.8, 2.2), "0.90 (95 % interval 0.70 to 1.05) times, within 10 %"),
        ((-0.33, None, None), (0.57, 0.54, 0.6), "0.57 (95 % interval 0.54 to 0.60) times, within"),
        (None, (0.9, 0.7, 1.3), "0.90 (95 % interval 0.70 to 1.30) times, not shown to be within"),
        ((-0.33, None, None), None, "no ratio with an interval, because a distance is near 0"),
    ],
)
def test_speed_is_told_by_a_distance_that_has_a_ratio(tiny, texture, told):
    """Both arms may be so near to real frames in one network that their ratio means nothing."""
    keys = ("value", "low", "high")
    ratios = {
        name: None if one is None else dict(zip(keys, one, strict=True))
        for name, one in (("mmd_tiny", tiny), ("mmd_texture", texture))
    }
    speed = {"flow_steps": 8, "diffusion_steps": 32, "ratios": ratios}
    assert told in _on_speed({"flow_over_diffusion": speed, "distance": "mmd_tiny"})
