"""Scores of feature sets: keys, floors, intervals that hold what they promise."""

import json

import numpy as np
import pytest

from echodiff.metrics.comparison import (
    compare_sets,
    compute_covariance,
    compute_ratio_interval,
    measure_together,
    rank_sets,
)
from echodiff.metrics.feature_set import FeatureSet
from echodiff.metrics.kernel import build_pairs, build_rbf_kernel, compute_mmd2
from echodiff.metrics.resampling import build_groups
from echodiff.metrics.sample_size import score_by_count
from echodiff.metrics.score import SCORE_KEYS, read_scores, write_scores
from echodiff.metrics.score_name import Kind, ScoreName
from echodiff.metrics.scores import score_sets


class Net:
    name, sha256, resize, frechet_name = "net", "f" * 64, "none", "fd_net"


def feature_set(rng, num, *, mean=0.0, scale=1.0, dim=8, patients=None):
    groups = np.arange(num) if patients is None else np.arange(num) % patients
    return FeatureSet(mean + scale * rng.standard_normal((num, dim)), groups)


def test_every_score_has_the_same_keys_and_fits_json():
    rng = np.random.default_rng(0)
    scores, left_out = score_sets(feature_set(rng, 20), feature_set(rng, 50), Net(), seed=0)
    assert list(scores) == ["mmd_net", "kid_net", "fd_net@20"]
    assert left_out == {}
    for name, score in scores.items():
        extra = ("p", "bandwidth") if name == "mmd_net" else ()
        assert tuple(score.to_record()) == (*SCORE_KEYS, *extra)
        assert (score.n, score.n_reference) == (20, 50)
        assert (score.floor_n, score.floor_n_reference) == (20, 30)
        assert score.low < score.value < score.high
        assert score.floor_low < score.floor < score.floor_high
    json.dumps(write_scores(scores), allow_nan=False)


def test_the_same_seed_gives_the_same_scores():
    rng = np.random.default_rng(1)
    sets = feature_set(rng, 20), feature_set(rng, 30)
    assert score_sets(*sets, Net(), seed=3) == score_sets(*sets, Net(), seed=3)


def test_a_small_reference_has_its_floor_at_a_smaller_count_and_the_score_there():
    rng = np.random.default_rng(2)
    scores, _ = score_sets(feature_set(rng, 40), feature_set(rng, 40), Net(), seed=0)
    frechet = scores["fd_net@40"]
    assert (frechet.floor_n, frechet.floor_n_reference) == (20, 20)
    # Same distribution: at the same counts the score is the floor, at its own it is less.
    assert frechet.value_at_floor_n == pytest.approx(frechet.floor, rel=0.3)
    assert frechet.value < 0.7 * frechet.value_at_floor_n


def test_a_shifted_generator_lies_above_every_floor():
    rng = np.random.default_rng(3)
    scores, _ = score_sets(feature_set(rng, 40, mean=1.0), feature_set(rng, 100), Net(), seed=0)
    for score in scores.values():
        assert score.low > score.floor_high
    assert scores["mmd_net"].p == pytest.approx(0.001)


def test_a_collapsed_generator_passes_for_real_by_fd_and_not_by_mmd():
    rng = np.random.default_rng(4)
    sets = feature_set(rng, 40, scale=np.sqrt(0.5), dim=256), feature_set(rng, 80, dim=256)
    scores, _ = score_sets(*sets, Net(), seed=0)
    assert scores["fd_net@40"].value < scores["fd_net@40"].floor
    assert scores["mmd_net"].low > scores["mmd_net"].floor_high


def test_p_is_uniform_under_the_null():
    rng = np.random.default_rng(5)
    p = []
    for seed in range(120):
        sets = feature_set(rng, 16, dim=3), feature_set(rng, 24, dim=3)
        p.append(score_sets(*sets, Net(), seed=seed)[0]["mmd_net"].p)
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.09)
    assert np.mean(p) == pytest.approx(0.5, abs=0.1)


def test_intervals_hold_the_truth():
    rng = np.random.default_rng(6)
    large = [feature_set(rng, 3000, mean=mean, dim=3) for mean in (0.6, 0.0)]
    bandwidth = 2.3
    truth = compute_mmd2(large[0].features, large[1].features, build_rbf_kernel(bandwidth))
    inside = 0
    for seed in range(100):
        sets = feature_set(rng, 40, mean=0.6, dim=3), feature_set(rng, 40, dim=3)
        score = score_sets(*sets, Net(), seed=seed)[0]["mmd_net"]
        inside += score.low <= truth <= score.high
    assert inside >= 88


def test_frames_of_one_patient_do_not_count_as_many():
    rng = np.random.default_rng(7)
    hearts = np.repeat(rng.standard_normal((12, 8)), 10, axis=0)
    frames = hearts + 0.05 * rng.standard_normal(hearts.shape)
    generated = feature_set(rng, 60)
    widths = []
    for keys in ([i // 10 for i in range(120)], [None] * 120):
        reference = FeatureSet(frames, build_groups(keys))
        score = score_sets(generated, reference, Net(), seed=0)[0]["mmd_net"]
        widths.append(score.high - score.low)
    assert widths[0] > 1.8 * widths[1]


def test_three_patients_have_no_interval_but_a_value():
    rng = np.random.default_rng(8)
    sets = feature_set(rng, 20), feature_set(rng, 30, patients=3)
    scores, left_out = score_sets(*sets, Net(), seed=0)
    assert left_out == {}
    for score in scores.values():
        assert score.low is None
        assert score.high is None
        assert score.value is not None
    assert scores["mmd_net"].p is None


@pytest.mark.parametrize("patients", [2, 3])
def test_pairs_of_one_patient_are_left_out_however_few_patients_there_are(patients):
    rng = np.random.default_rng(9)
    groups = np.arange(60) % patients
    hearts = rng.standard_normal((patients, 8))[groups]
    reference = FeatureSet(hearts + 0.01 * rng.standard_normal((60, 8)), groups)
    generated = feature_set(rng, 20)
    scores, left_out = score_sets(generated, reference, Net(), seed=0)
    assert left_out == {}
    kernel = build_rbf_kernel(scores["mmd_net"].bandwidth)

    def average(first, second, is_pair):
        matrix = kernel(build_pairs(first.features, second.features))
        return matrix[is_pair].mean()

    apart = groups[:, None] != groups
    expected = (
        average(generated, generated, ~np.eye(20, dtype=bool))
        + average(reference, reference, apart)
        - 2.0 * average(generated, reference, np.ones((20, 60), dtype=bool))
    )
    assert scores["mmd_net"].value == pytest.approx(expected, abs=1e-12)
    for score in (scores["mmd_net"], scores["kid_net"]):
        assert score.low is None
        assert score.floor is None
        assert score.value_at_floor_n is None


@pytest.mark.parametrize("swapped", [False, True])
def test_frames_of_one_patient_are_left_out_with_the_reason(swapped):
    rng = np.random.default_rng(9)
    sets = feature_set(rng, 20), feature_set(rng, 30, patients=1)
    scores, left_out = score_sets(*(sets[::-1] if swapped else sets), Net(), seed=0)
    (frechet,) = scores.values()
    assert frechet.value > 0
    assert frechet.floor is None
    assert frechet.floor_n is None
    assert set(left_out) == {"mmd_net", "kid_net"}
    side = "generated" if swapped else "reference"
    assert f"all 30 of {side} are of one" in left_out["mmd_net"]


def test_scores_by_count_leave_out_draws_of_one_patient():
    rng = np.random.default_rng(17)
    rows = score_by_count(feature_set(rng, 60), feature_set(rng, 100, patients=5), Net(), seed=0)
    assert [row["n"] for row in rows] == [40, 60]
    assert all(np.isfinite(row["mmd"]) for row in rows)
    few = feature_set(rng, 60, patients=3)
    assert score_by_count(few, feature_set(rng, 100), Net(), seed=0) == []


@pytest.mark.parametrize("num", [1, 3])
def test_too_few_frames_are_left_out_with_the_reason(num):
    rng = np.random.default_rng(10)
    scores, left_out = score_sets(feature_set(rng, num), feature_set(rng, 30), Net(), seed=0)
    assert scores == {}
    assert set(left_out) == {"mmd_net", "kid_net", f"fd_net@{num}"}
    assert f"{num} generated" in left_out["mmd_net"]


def test_equal_reference_frames_leave_mmd_out():
    rng = np.random.default_rng(11)
    reference = FeatureSet(np.ones((20, 8)), np.arange(20))
    scores, left_out = score_sets(feature_set(rng, 20), reference, Net(), seed=0)
    assert "same features" in left_out["mmd_net"]
    assert "kid_net" in scores


def test_kid_agrees_with_torchmetrics_on_one_whole_subset():
    import torch
    from torchmetrics.image.kid import poly_mmd

    rng = np.random.default_rng(12)
    sets = feature_set(rng, 30, mean=0.3), feature_set(rng, 30)
    ours = score_sets(*sets, Net(), seed=0)[0]["kid_net"]
    x, y = (torch.from_numpy(one.features) for one in sets)
    theirs = poly_mmd(x, y, degree=3, gamma=None, coef=1.0).item()
    assert ours.value / ours.scale == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("name", ["tiny", "texture"])
def test_kid_of_features_without_a_unit_does_not_go_with_their_size(name):
    class Shipped(Net):
        pass

    Shipped.name = name
    rng = np.random.default_rng(12)
    sets = feature_set(rng, 30, mean=0.3), feature_set(rng, 40)
    large = [FeatureSet(50.0 + 1000.0 * one.features, one.groups) for one in sets]
    ours, theirs = (score_sets(*pair, Shipped(), seed=0)[0][f"kid_{name}"]
                    for pair in (sets, large))  # fmt: skip
    assert theirs.value == pytest.approx(ours.value)
    assert (theirs.low, theirs.high) == pytest.approx((ours.low, ours.high))
    assert theirs.floor == pytest.approx(ours.floor)
    assert abs(ours.value) < 2000


def test_a_frechet_interval_does_not_go_below_zero():
    rng = np.random.default_rng(20)
    groups = np.repeat(np.arange(5), [40, 3, 3, 3, 3])
    hearts = 3.0 * rng.standard_normal((5, 4))[groups]
    sets = [FeatureSet(hearts + 0.3 * rng.standard_normal((52, 4)), groups) for _ in range(2)]
    frechet = score_sets(*sets, Net(), seed=0)[0]["fd_net@52"]
    assert frechet.low == 0.0 < frechet.value < frechet.high


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("mmd_tiny", (Kind.MMD, "tiny", "", "", "", None)),
        ("mmd_ratio_my_net", (Kind.MMD_RATIO, "my_net", "", "", "", None)),
        ("fd_my@net@40", (Kind.FD, "my@net", "", "", "", 40)),
        ("fid@800", (Kind.FID, "", "", "", "", 800)),
        ("faithfulness_gain_dilated_lv", (Kind.FAITHFULNESS_GAIN, "", "dilated_lv", "", "", None)),
        ("specificity", (Kind.SPECIFICITY, "", "", "", "", None)),
        ("psnr_mixed", (Kind.PSNR_MIXED, "", "", "", "", None)),
        ("intact", (Kind.INTACT, "", "", "", "", None)),
        ("intact_gain", (Kind.INTACT_GAIN, "", "", "", "", None)),
        ("mask_dice_lv", (Kind.MASK_DICE, "", "", "", "lv", None)),
        ("obedience", (Kind.OBEDIENCE, "", "", "", "", None)),
        ("intact_atrial_septum", (Kind.INTACT, "", "", "atrial_septum", "", None)),
    ],
)
def test_names_are_read_as_they_are_written(name, parts):
    assert ScoreName.parse(name) == ScoreName(*parts)
    assert str(ScoreName(*parts)) == name


def test_a_score_comes_back_from_its_record():
    rng = np.random.default_rng(21)
    scores, _ = score_sets(feature_set(rng, 20), feature_set(rng, 50), Net(), seed=0)
    assert read_scores(json.loads(json.dumps(write_scores(scores)))) == scores
    assert read_scores({"of_tomorrow": {"value": 1.0}}) == {}


def test_a_ratio_says_which_set_is_nearer():
    rng = np.random.default_rng(13)
    far, near = feature_set(rng, 60, mean=1.0), feature_set(rng, 60, mean=0.4)
    reference = feature_set(rng, 100)
    ratio = compare_sets(far, near, reference, Net())
    assert ratio.low < ratio.value < ratio.high < 0.6
    assert ratio.value == pytest.approx(ratio.mmd2_second / ratio.mmd2_first)
    assert (ratio.n_first, ratio.n, ratio.n_reference) == (60, 60, 100)
    alone = score_sets(far, reference, Net(), seed=0)[0]["mmd_net"]
    assert ratio.mmd2_first == pytest.approx(alone.value)


def test_a_ratio_to_nothing_has_no_interval():
    rng = np.random.default_rng(14)
    same, reference = feature_set(rng, 30), feature_set(rng, 60)
    ratio = compare_sets(same, feature_set(rng, 30, mean=1.0), reference, Net())
    assert ratio.low is None
    assert ratio.high is None


def test_ratio_interval_holds_the_truth():
    rng = np.random.default_rng(15)
    truth, inside = 0.4, 0
    covariance = np.array([[0.04, 0.01], [0.01, 0.02]])
    for _ in range(500):
        denominator, numerator = rng.multivariate_normal([1.0, truth], covariance)
        low, high = compute_ratio_interval(denominator, numerator, covariance)
        inside += low is None or low <= truth <= high
    assert 0.93 <= inside / 500 <= 0.97


def test_a_comparison_of_three_frames_is_refused():
    rng = np.random.default_rng(16)
    with pytest.raises(ValueError, match="4 frames"):
        compare_sets(feature_set(rng, 3), feature_set(rng, 30), feature_set(rng, 30), Net())


def test_a_comparison_with_one_patient_is_refused():
    rng = np.random.default_rng(18)
    sets = feature_set(rng, 20), feature_set(rng, 20), feature_set(rng, 30, patients=1)
    with pytest.raises(ValueError, match="two patients"):
        compare_sets(*sets, Net())
    with pytest.raises(ValueError, match="two patients"):
        rank_sets({"a": sets[0], "b": sets[2]}, sets[1], Net())


@pytest.mark.parametrize("means", [(1.0, 0.5), (0.6, 0.6), (0.8, 0.0)])
def test_ratios_and_differences_of_two_sets_hold_the_truth(means):
    rng, held_ratio, held = np.random.default_rng(19), 0, 0
    large = feature_set(rng, 4000, dim=3)
    kernel = build_rbf_kernel(2.3)
    truths = [compute_mmd2(large.features + mean, large.features, kernel) for mean in means]
    for _ in range(200):
        sets = [feature_set(rng, 40, mean=mean, dim=3) for mean in means]
        reference = feature_set(rng, 40, dim=3)
        values, spreads = measure_together(sets, reference, kernel)
        covariance = compute_covariance(*spreads)
        low, high = compute_ratio_interval(*values, covariance, 2.02)
        held_ratio += low is None or low <= truths[1] / truths[0] <= high
        error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1])
        held += abs(values[1] - values[0] - truths[1] + truths[0]) <= 2.02 * error
    assert held_ratio / 200 >= 0.9
    assert 0.9 <= held / 200 <= 0.99
