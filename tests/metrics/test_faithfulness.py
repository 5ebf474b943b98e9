"""Shares and their intervals against published numbers, and what is held against what."""

import numpy as np
import pytest

from echodiff.anatomy import Finding
from echodiff.captions.findings import Presence, read_findings
from echodiff.metrics.faithfulness import (
    compare_faithfulness,
    compute_difference,
    compute_faithfulness,
    compute_share,
    score_faithfulness,
)

ASD, LVH = frozenset({Finding.ASD}), frozenset({Finding.LVH})
NONE = frozenset()
BOTH = ASD | LVH


class Net:
    name, sha256, resize, frechet_name = "tiny", "0" * 64, "128", "fd_tiny"


def probabilities(*rows):
    """One row a frame: the findings that the classifier sees."""
    return np.array([[0.9 if f in row else 0.1 for f in Finding] for row in rows])


def state(named):
    """What a caption says that states these findings and denies all others."""
    return {f: Presence.PRESENT if f in named else Presence.ABSENT for f in Finding}


def judge(seen, named):
    """named: the findings of each frame; None where it has no caption."""
    stated = [{} if one is None else state(one) for one in named]
    return compute_faithfulness(probabilities(*seen), dict.fromkeys(Finding, 0.5), stated)


def test_share_has_wilsons_interval():
    # Newcombe 1998, Statistics in Medicine 17:857, table I: 81 of 263 and 0 of 20
    share = compute_share(81, 263)
    assert (share.low, share.high) == (
        pytest.approx(0.2553, abs=1e-4),
        pytest.approx(0.3662, abs=1e-4),
    )
    none = compute_share(0, 20)
    assert (none.low, none.high) == (0.0, pytest.approx(0.1611, abs=1e-4))


def test_difference_has_newcombes_interval():
    # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10: 56/70 - 48/80
    difference = compute_difference(compute_share(56, 70), compute_share(48, 80))
    assert difference.value == pytest.approx(0.2)
    assert difference.low == pytest.approx(0.0524, abs=1e-4)
    assert difference.high == pytest.approx(0.3339, abs=1e-4)


def test_counts_what_prompts_name():
    result = judge([ASD, NONE, LVH, NONE], [ASD, ASD, LVH, NONE])
    assert result.found[Finding.ASD].value == 0.5
    assert result.found[Finding.LVH].value == 1.0
    assert result.absent[Finding.ASD].value == 1.0
    assert set(result.found) == {Finding.ASD, Finding.LVH}
    assert result.average_found().value == 0.75
    assert result.average_found([Finding.ASD]).value == 0.5


def test_a_frame_without_a_caption_is_held_to_nothing():
    result = judge([ASD, ASD], [None, None])
    assert not result.found
    assert not result.absent
    assert result.average_found() is None


def test_a_finding_where_none_is_named_costs_specificity():
    result = judge([ASD, NONE, NONE, NONE], [NONE] * 4)
    assert result.absent[Finding.ASD].value == 0.75
    assert result.absent[Finding.LVH].value == 1.0


def test_a_finding_that_a_caption_leaves_open_counts_as_neither():
    texts = ["ASD", "no ASD", "possible ASD", "LVH", "status post repair of an ASD"]
    seen = probabilities(ASD, NONE, ASD, ASD, NONE)
    stated = [read_findings(text) for text in texts]
    result = compute_faithfulness(seen, dict.fromkeys(Finding, 0.5), stated)
    assert (result.found[Finding.ASD].value, result.found[Finding.ASD].num) == (1.0, 1)
    assert (result.absent[Finding.ASD].value, result.absent[Finding.ASD].num) == (1.0, 1)
    assert set(result.found) == {Finding.ASD, Finding.LVH}
    assert result.absent.keys() == {Finding.ASD}
    assert result.average_absent().num == 1


def test_average_interval_covers_the_truth():
    rng = np.random.default_rng(0)
    truth, inside = (0.5, 0.9), 0
    for _ in range(300):
        shares = [compute_share(int(rng.binomial(30, p)), 30) for p in truth]
        named = [ASD] * 30 + [LVH] * 30
        seen = [ASD] * round(shares[0].value * 30) + [NONE] * round(30 - shares[0].value * 30)
        seen += [LVH] * round(shares[1].value * 30) + [NONE] * round(30 - shares[1].value * 30)
        mean = judge(seen, named).average_found()
        inside += mean.low <= 0.7 <= mean.high
    assert 0.92 <= inside / 300 <= 0.99


def test_frames_that_name_two_findings_count_once():
    result = judge([BOTH, ASD, NONE], [BOTH] * 3)
    assert result.found[Finding.ASD].num == result.found[Finding.LVH].num == 3
    assert result.average_found().num == 3
    assert result.average_found().value == 0.5
    # Five findings are absent in all, none is denied by a caption that names it.
    assert result.average_absent().num == 3
    assert judge([ASD, LVH, NONE], [ASD, LVH, None]).average_found().num == 2


def test_average_interval_covers_the_truth_where_findings_share_their_frames():
    # Both findings of a frame are found, or neither is: the mean is as sure as one share.
    rng = np.random.default_rng(0)
    inside = {True: 0, False: 0}
    for _ in range(400):
        first, second = rng.random(30) < 0.6, rng.random(30) < 0.6
        for is_together in inside:
            pairs = zip(first, first if is_together else second, strict=True)
            seen = [(ASD if a else NONE) | (LVH if b else NONE) for a, b in pairs]
            mean = judge(seen, [BOTH] * 30).average_found()
            inside[is_together] += mean.low <= 0.6 <= mean.high
    assert 0.92 <= inside[True] / 400 <= 0.98
    assert 0.92 <= inside[False] / 400 <= 0.99


def test_a_mean_of_whole_shares_is_no_surer_than_one_of_them():
    result = judge([BOTH] * 3, [BOTH] * 3)
    one, mean = result.found[Finding.ASD], result.average_found()
    assert (mean.value, mean.low, mean.high) == (1.0, pytest.approx(one.low), 1.0)


def test_a_mean_over_disjoint_frames_is_the_square_and_add_of_its_shares():
    result = judge([ASD, ASD, NONE, LVH, NONE], [ASD] * 3 + [LVH] * 2)
    asd, lvh = result.found[Finding.ASD], result.found[Finding.LVH]
    mean = result.average_found()
    below = np.hypot(asd.value - asd.low, lvh.value - lvh.low) / 2
    above = np.hypot(asd.high - asd.value, lvh.high - lvh.value) / 2
    assert mean.low == pytest.approx(mean.value - below)
    assert mean.high == pytest.approx(mean.value + above)


def test_a_gain_over_shared_frames_is_as_unsure_as_its_means():
    before = judge([BOTH] * 5 + [NONE] * 15, [BOTH] * 20)
    after = judge([BOTH] * 15 + [NONE] * 5, [BOTH] * 20)
    gains = compare_faithfulness(before, after, Net())
    whole, of_asd = gains["faithfulness_gain"], gains["faithfulness_gain_asd"]
    assert (whole.value, whole.n, whole.n_first) == (0.5, 20, 20)
    assert (whole.low, whole.high) == pytest.approx((of_asd.low, of_asd.high))


def test_a_finding_that_the_classifier_does_not_know_is_named_and_not_scored():
    columns = {Finding.LVH: 0.5, Finding.ASD: 0.2}  # of another order than `Finding`
    stated = [read_findings("ASD"), read_findings("LVH, pericardial effusion")]
    result = compute_faithfulness(np.array([[0.1, 0.3], [0.4, 0.3]]), columns, stated)
    assert {name: share.value for name, share in result.found.items()} == {"asd": 1, "lvh": 0}
    assert result.average_found([Finding.ASD]).value == 1
    assert result.unknown == [Finding.PERICARDIAL_EFFUSION]


def test_records_stand_beside_the_real_share():
    generated = judge([ASD, NONE], [ASD, ASD])
    real = judge([ASD, ASD, NONE], [ASD, ASD, NONE])
    scores = score_faithfulness(generated, real, Net())
    assert scores["faithfulness_asd"].value == 0.5
    assert scores["faithfulness_asd"].real == 1.0
    assert scores["faithfulness"].n == 2
    assert scores["faithfulness"].n_reference == 2
    assert scores["faithfulness_asd"].features_sha256 == "0" * 64


def test_a_gain_is_second_minus_first():
    before = judge([NONE] * 9 + [ASD], [ASD] * 10)
    after = judge([ASD] * 8 + [NONE] * 2, [ASD] * 10)
    gain = compare_faithfulness(before, after, Net())["faithfulness_gain_asd"]
    assert gain.value == pytest.approx(0.7)
    assert gain.low > 0.2
    assert (gain.first, gain.second) == (0.1, 0.8)
