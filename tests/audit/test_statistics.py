"""The statistics of an audit, each against a known truth: exact p, intervals, bounds, nulls."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest, mannwhitneyu

from echodiff.audit.membership import (
    Attack,
    Membership,
    correct_holm,
    run_attacks,
    score_denoiser,
)
from echodiff.audit.privacy_loss import (
    LowerBound,
    audit_epsilon,
    bound_epsilon,
    compute_ceiling,
    compute_p,
)
from echodiff.audit.rank_test import RankTest, compare_ranks, compute_interval, measure_rate
from echodiff.audit.set_test import SetTest, compare_sets, join_scores
from echodiff.audit.shadows import compute_lira, compute_rmia, draw_halves
from echodiff.audit.subjects import Side, Subjects, Units
from echodiff.audit.verdict import judge_weights
from echodiff.errors import InputError
from echodiff.metrics.member_test import compute_gap


def make_units(members, others, strata=1):
    count = members + others
    stratum = np.arange(count) % strata
    return Units(np.arange(count), np.arange(count) < members, stratum)


# --- Ranks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "others"), [(5, 7), (12, 9), (40, 40)])
def test_the_exact_p_is_that_of_scipy(members, others):
    scores = np.random.default_rng(members).normal(size=members + others)
    scores[:members] += 0.4
    found = compare_ranks(scores, make_units(members, others), seed=0)
    theirs = mannwhitneyu(scores[:members], scores[members:], alternative="greater", method="exact")
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert found.auc == pytest.approx(theirs.statistic / (members * others))
    assert found.p_by == "exact"


def test_ties_and_strata_have_the_p_of_all_ways_to_deal_the_members():
    from itertools import combinations

    scores = np.array([1.0, 2, 2, 3, 1, 2, 0, 3, 5, 5, 1, 4])
    units = Units(np.arange(12), np.arange(12) % 3 == 0, np.arange(12) // 6)

    def total(rows, chosen):
        ours, theirs = scores[list(chosen)], scores[[r for r in rows if r not in chosen]]
        pairs = ours[:, None] - theirs[None]
        return (pairs > 0).sum() + (pairs == 0).sum() / 2

    first, second = range(6), range(6, 12)
    observed = total(first, (0, 3)) + total(second, (6, 9))
    sums = [total(first, a) + total(second, b) for a in combinations(first, 2)
            for b in combinations(second, 2)]  # fmt: skip
    found = compare_ranks(scores, units, seed=0)
    assert found.p == pytest.approx(np.mean([one >= observed for one in sums]))
    assert found.auc == pytest.approx(observed / 16)


def test_many_patients_are_dealt_at_random():
    scores = np.random.default_rng(0).normal(size=1200)
    found = compare_ranks(scores, make_units(600, 600), seed=0)
    assert found.p_by == "20000 permutations"
    theirs = mannwhitneyu(scores[:600], scores[600:], alternative="greater").pvalue
    assert found.p == pytest.approx(theirs, abs=0.02)


def test_a_stratum_is_never_compared_with_another():
    """All of the difference is between the vendors: within each there is none."""
    units = Units(np.arange(40), np.arange(40) < 20, (np.arange(40) // 5) % 2)
    vendor = units.stratum * 10.0 + np.tile([0.0, 1, 2, 3, 4], 8)
    assert compare_ranks(vendor, units, seed=0).auc == 0.5


def test_the_interval_covers_the_truth_and_has_a_width_at_its_ends():
    generator, truth, hits = np.random.default_rng(1), 0.7602, 0
    for _ in range(300):
        scores = generator.normal(size=80)
        scores[:40] += 1.0
        auc = (scores[:40, None] > scores[None, 40:]).mean()
        low, high = compute_interval(auc, [(40, 40)])
        hits += low <= truth <= high
    assert 0.92 <= hits / 300 <= 0.99
    low, high = compute_interval(1.0, [(40, 40)])
    assert high == 1.0
    assert 0.88 < low < 0.99


def test_a_rate_at_1_percent_needs_a_thousand_non_members():
    scores = np.concatenate([np.full(10, 5.0), np.linspace(0, 1, 1000)])
    rate = measure_rate(scores, make_units(10, 1000))
    assert (rate.value, rate.num) == (1.0, 10)
    assert 0.6 < rate.low < 0.8
    assert measure_rate(scores[:1009], make_units(10, 999)) is None


def test_a_rate_is_of_members_within_their_stratum():
    """Of the second vendor, whose scores are all higher, there are nearly only members."""
    generator = np.random.default_rng(0)
    is_member = np.repeat([True, False, True, False], [100, 1400, 400, 100])
    stratum = np.repeat([0, 1], [1500, 500])
    scores = generator.normal(size=2000) + 5 * stratum
    rate = measure_rate(scores, Units(np.arange(2000), is_member, stratum))
    assert rate.low < 0.02 < rate.high


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    scores = np.zeros(20)
    scores[3] = value
    with pytest.raises(InputError, match="pia: is not finite"):
        run_attacks([Attack("pia", scores, "")], make_units(10, 10), seed=0)


# --- The set --------------------------------------------------------------------------------------


def test_the_p_of_the_set_is_uniform_over_200_sets_that_nobody_has_seen():
    """Frames of one cache of losses, dealt anew: correlated measures, heavy tails, two strata."""
    generator = np.random.default_rng(0)
    pool = generator.standard_t(3, size=(160, 1)) + generator.normal(size=(160, 4))
    values = []
    for draw in range(200):
        rows = generator.permutation(160)[:80]
        units = make_units(40, 40, strata=2)
        joined = join_scores({str(k): pool[rows, k] for k in range(4)})
        values.append(compare_sets(joined, units, seed=draw, num_permutations=1000).p)
    assert kstest(values, "uniform").pvalue > 0.01


def test_a_set_is_told_where_a_single_patient_is_not():
    generator = np.random.default_rng(3)
    scores = generator.normal(size=(80, 4))
    scores[:40] += 0.45
    units = make_units(40, 40)
    attacks = [Attack(str(k), scores[:, k], "") for k in range(4)]
    found = run_attacks(attacks, units, seed=0)
    assert found.whole.p < 0.01
    assert max(one.auc for one in found.tests.values()) < 0.75


def test_the_raw_loss_is_no_part_of_the_set():
    generator = np.random.default_rng(0)
    base = {name: generator.normal(size=(6, 3)) for name in ("loss", "pia")}
    units = Units(np.array([0, 0, 1, 2, 3, 3]), np.array([True, True, False, False]),
                  np.zeros(4, int))  # fmt: skip
    attacks = score_denoiser(base, {name: one - 1 for name, one in base.items()}, units)
    assert [one.name for one in attacks] == ["loss", "calibrated_loss", "pia"]
    assert [one.is_joined for one in attacks] == [False, True, True]
    assert attacks[1].scores == pytest.approx(np.ones(4))  # how hard a frame is has gone


def test_a_difference_of_vendors_is_no_difference_of_the_set():
    is_member = np.repeat([True, False, True, False], [30, 10, 10, 30])
    units = Units(np.arange(80), is_member, np.repeat([0, 1], 40))
    scores = np.random.default_rng(0).normal(size=80)
    found = [compare_sets(scores + 9 * units.stratum, units, seed=0), compare_sets(scores, units,
             seed=0)]  # fmt: skip
    assert found[0].difference == pytest.approx(found[1].difference)
    assert compute_gap(scores * 0.0 + is_member, is_member, units.stratum.tolist())[0] == (
        pytest.approx(1)
    )


def test_the_gap_of_one_stratum_is_that_of_welch():
    generator = np.random.default_rng(0)
    scores, is_member = generator.normal(size=30), np.arange(30) < 12
    gap, error = compute_gap(scores, is_member, [0] * 30)
    ours, theirs = scores[is_member], scores[~is_member]
    assert gap == pytest.approx(ours.mean() - theirs.mean())
    assert error == pytest.approx(np.sqrt(ours.var(ddof=1) / 12 + theirs.var(ddof=1) / 18))


def test_holm():
    assert correct_holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06}
    )


def judge(tests, whole):
    """The verdict of AUC and corrected p by attack, and of the p of the set."""
    by_name = {
        name: RankTest(auc, auc - 0.1, auc + 0.1, p, "exact", 200, 200)
        for name, (auc, p) in tests.items()
    }
    found = Membership(
        by_name, {name: p for name, (_, p) in tests.items()}, {},
        SetTest(0.0, whole, 20_000, 200, 200), LowerBound(0.0, 4.8, 400, 400, 200, 0.0),
    )  # fmt: skip
    side = Side(Path("frames"), [])
    return judge_weights(Subjects(side, side, side, ()), found, None)


def test_an_attack_that_is_no_part_of_the_set_fails_weights_by_itself():
    tests = {"pia": (0.52, 0.4), "lira": (0.64, 1e-6)}
    verdict = judge(tests, whole=0.2)
    assert not verdict.passed
    assert (
        "can be recognised as a set by lira alone (p below 0.001, corrected for 2" in verdict.text
    )
    assert judge(tests | {"lira": (0.58, 0.05)}, whole=0.2).passed
    assert "recognised as a set (p 0.004)" in judge(tests, whole=0.004).text


def test_weights_that_no_attack_applies_to_are_not_passed():
    side = Side(Path("frames"), [])
    verdict = judge_weights(Subjects(side, side, side, ()), None, None)
    assert (verdict.passed, verdict.text) == (
        False, "failed: nothing was measured: no attack applies to these weights."
    )  # fmt: skip


# --- Epsilon --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "bound"), [(40, 2.55), (80, 3.27), (200, 4.19), (1000, 5.81)])
def test_the_ceiling_is_that_of_every_guess_right(count, bound):
    assert compute_ceiling(count) == pytest.approx(bound, abs=0.005)
    assert bound_epsilon(count, count, count) == pytest.approx(compute_ceiling(count), abs=1e-3)


@pytest.mark.parametrize("patients", [8, 20, 40, 100])
def test_guesses_at_random_show_an_epsilon_in_5_percent_of_audits_at_most(patients):
    """Both sides have a fixed size, so right guesses vary more than by coin flips (hypergeometric
    and always even if all are guessed): the three parts, at a third of the level each, pay it."""
    generator, units, above = np.random.default_rng(0), make_units(patients, patients), 0
    for _ in range(400):
        above += audit_epsilon(generator.normal(size=2 * patients), units, seed=0).epsilon > 0
    assert above <= 26  # 20, and two deviations


def test_a_bound_is_never_above_a_private_mechanism():
    """Randomised response at epsilon 1 is as leaky as its epsilon: at most 5 % may be above."""
    generator, right, above = np.random.default_rng(0), 1 / (1 + np.exp(-1.0)), 0
    units = make_units(100, 100)
    for _ in range(100):
        is_true = generator.random(200) < right
        scores = np.where(units.is_member == is_true, 1.0, 0.0) + generator.random(200) * 1e-6
        above += audit_epsilon(scores, units, seed=0).epsilon > 1.0
    assert above <= 8
    assert compute_p(200, 200, 146, 1.0, 0.0) > 0.4


def test_delta_lowers_the_bound_and_perfect_guesses_come_near_the_ceiling():
    units = make_units(40, 60)
    found = audit_epsilon(units.is_member.astype(float), units, seed=0)
    assert found.num_canaries == 80
    assert found.ceiling == pytest.approx(3.27, abs=0.005)
    assert 2.7 < found.epsilon < found.ceiling
    assert audit_epsilon(units.is_member.astype(float), units, seed=0, delta=1e-3).epsilon < (
        found.epsilon
    )


# --- Shadows --------------------------------------------------------------------------------------


def test_shadows_halve_every_stratum_in_pairs():
    units = make_units(20, 30, strata=2)
    halves = draw_halves(units, 8, seed=0)
    assert (halves.sum(0) == 4).all()
    for stratum in (0, 1):
        assert set(halves[:, units.stratum == stratum].sum(1)) <= {12, 13}


def test_shadows_find_what_raises_the_signal_of_each_patient_a_little():
    """Patients differ more in their level than a training adds: only shadows know the level."""
    generator = np.random.default_rng(0)
    units = make_units(40, 40)
    level = generator.normal(0, 3, size=80)
    halves = draw_halves(units, 16, seed=0)
    shadows = level + 0.8 * halves + generator.normal(0, 0.3, size=(16, 80))
    own = level + 0.8 * units.is_member + generator.normal(0, 0.3, size=80)
    assert compare_ranks(own, units, seed=0).auc < 0.7
    for scores in (
        compute_lira(own, shadows, halves),
        compute_rmia(own, shadows),
    ):
        assert compare_ranks(scores, units, seed=0).auc > 0.9
