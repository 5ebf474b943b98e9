"""The published tables come out of the published study's counts, to the last printed digit."""

import numpy as np
import pytest
from scipy import stats

from echodiff.study.analysis.rank_test import adjust_holm, compare_ranks, compute_exact_p

TABLE_1 = {  # KS, Lilliefors, Shapiro-Wilk, Anderson-Darling
    "cut": (0.23, 0.23, 0.83, 10.08),
    "cyclegan": (0.23, 0.23, 0.82, 10.67),  # Lilliefors is printed as .24, and is that of KS
    "stable_diffusion": (0.27, 0.27, 0.79, 13.35),
}
TABLE_2 = {  # U, Z, p, exact p without ties, r
    "cyclegan": (12497, -2.22, "0.026", "0.031", 0.12),
    "cut": (11340.5, -3.54, "0.000", "0.001", 0.19),
    "stable_diffusion": (10166, -4.91, "0.000", "0.000", 0.27),  # .001 is printed for 2e-6
}
TABLE_3 = {
    "real": (3.11, 3, 1.60), "cut": (2.49, 2, 1.46), "cyclegan": (2.72, 3, 1.59),
    "stable_diffusion": (3.95, 4, 1.24),
}  # fmt: skip


def test_the_published_tables_come_out(fixture, analyse, deal):
    status, found, _ = analyse(deal(fixture["counts"], 17))
    assert status == 0
    published = found["as_published"]
    rows = {row["source"]: row for row in published["normality"]}
    for source, expected in TABLE_1.items():
        row = rows[source]
        values = (row["ks"], row["lilliefors"], row["shapiro"], row["anderson_adjusted"])
        assert tuple(round(value, 2) for value in values) == expected
        assert all(row[f"{name}_p"] < 0.001 for name in ("ks", "lilliefors", "shapiro", "anderson"))
    rows = {row["source"]: row for row in published["rank_tests"]}
    for source, (u, z, p, exact, r) in TABLE_2.items():
        row = rows[source]
        assert (row["u"], round(row["z"], 2), round(row["r"], 2)) == (u, z, r)
        assert (f"{row['p']:.3f}", f"{row['p_exact_ties_ignored']:.3f}") == (p, exact)
        assert row["n"] == [170, 170]
    rows = {row["source"]: row for row in published["means"]}
    for source, expected in TABLE_3.items():
        row = rows[source]
        assert (round(row["mean"], 2), row["median"], round(row["sd"], 2)) == expected


def test_the_table_does_not_depend_on_which_source_comes_first(fixture, analyse, deal):
    _, found, _ = analyse(deal(fixture["counts"], 17)[::-1])
    by_source = {row["source"]: row["auc"] for row in found["as_published"]["rank_tests"]}
    assert by_source["cut"] == pytest.approx(0.6076, abs=1e-4)
    assert by_source["stable_diffusion"] == pytest.approx(0.3518, abs=1e-4)


def test_the_exact_p_counts_ties():
    generator = np.random.default_rng(0)
    for _ in range(5):
        first = generator.integers(1, 6, 7)
        second = generator.integers(1, 5, 6)
        pooled = stats.permutation_test(
            (first, second), measure_distance, n_resamples=np.inf, alternative="greater"
        )
        assert compute_exact_p(first, second) == pytest.approx(pooled.pvalue)
    assert compute_exact_p(np.array([2, 2]), np.array([2, 2, 2])) == 1.0


def measure_distance(first, second):
    """Distance of the AUC from chance, rounded so that ties are ties."""
    auc = (first[:, None] > second).mean() + (first[:, None] == second).mean() / 2
    return round(abs(auc - 0.5), 9)


def test_z_is_that_of_scipy_without_continuity():
    generator = np.random.default_rng(1)
    first, second = generator.integers(1, 6, 40), generator.integers(2, 6, 30)
    ours = compare_ranks(first, second)
    theirs = stats.mannwhitneyu(first, second, use_continuity=False, method="asymptotic")
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.auc == pytest.approx(theirs.statistic / (40 * 30))
    assert ours.u == min(theirs.statistic, 1200 - theirs.statistic)


def test_holm_is_monotone_and_capped():
    assert adjust_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_holm([0.6, 0.9]) == [1.0, 1.0]
