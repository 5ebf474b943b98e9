"""Noise multipliers and epsilons against closed forms, and how many patients it takes."""

import math
from typing import Any

import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from echodiff.diffusion.privacy_budget import Budget, compute_epsilon, find_noise_multiplier
from echodiff.errors import InputError


def exact_epsilon(noise_multiplier: float, num_steps: int, delta: float) -> float:
    """Of the Gaussian mechanism in which everybody always takes part (Balle and Wang 2018, eq. 6):
    so many steps are one with a sensitivity larger by the root of their number."""
    size = math.sqrt(num_steps) / noise_multiplier

    def excess(epsilon: float) -> float:
        high, low = size / 2 - epsilon / size, -size / 2 - epsilon / size
        return float(norm.cdf(high) - math.exp(epsilon) * norm.cdf(low) - delta)

    return float(brentq(excess, 0.0, 200.0))


@pytest.mark.parametrize(("multiplier", "num_steps"), [(1.0, 10), (4.0, 40), (8.0, 5)])
def test_without_sampling_both_accountants_bound_the_exact_epsilon_from_above(
    multiplier: float, num_steps: int
) -> None:
    exact = exact_epsilon(multiplier, num_steps, 1e-5)
    prv = compute_epsilon(multiplier, 1.0, num_steps, 1e-5, "prv")
    rdp = compute_epsilon(multiplier, 1.0, num_steps, 1e-5, "rdp")
    assert exact <= prv <= 1.03 * exact
    assert prv <= rdp <= 1.2 * exact


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_the_noise_is_the_least_that_keeps_the_budget(accountant: Any) -> None:
    multiplier = find_noise_multiplier(8.0, 1e-5, 0.2, 200, accountant)
    assert 7.8 < compute_epsilon(multiplier, 0.2, 200, 1e-5, accountant) <= 8.0
    assert multiplier == pytest.approx({"prv": 1.912, "rdp": 2.012}[accountant], rel=0.01)


def test_a_budget_below_the_orders_of_renyi_needs_prv() -> None:
    assert find_noise_multiplier(0.1, 1e-5, 0.2, 50, "prv") > 20
    with pytest.raises(InputError, match="take prv"):
        find_noise_multiplier(0.1, 1e-5, 0.2, 50, "rdp")


def make_budget(**values: Any) -> Budget:
    given: dict[str, Any] = {
        "epsilon_asked": 8.0, "delta": 1e-5, "clip": 1.0, "noise_multiplier": 2.45,
        "num_patients": 40, "patients_per_step": 8, "num_steps": 4, "num_parameters": 800_000,
        "accountant": "rdp", "noise": "secret",
    }  # fmt: skip
    return Budget(**given | values)


def test_at_40_patients_the_noise_is_274_times_the_clip_and_it_says_so() -> None:
    budget = make_budget()
    assert budget.noise_to_signal == pytest.approx(274, abs=0.5)
    text = budget.describe()
    assert "the noise is 274 times the clip, over 800,000 parameters" in text
    assert "40 patients are too few: the adapter will be noise." in text
    assert "About 5,479, with batches of 1,096, bring it to 2" in text
    enough = make_budget(num_patients=5479, patients_per_step=1096)
    assert enough.sample_rate == pytest.approx(budget.sample_rate, rel=1e-3)
    assert "patients are" not in enough.describe()
    assert "few: expect little" in make_budget(num_patients=1500, patients_per_step=300).describe()


def test_what_is_spent_grows_with_the_steps_from_nothing() -> None:
    budget = make_budget(num_steps=100)
    spent = [budget.spent(step) for step in (0, 1, 10, 100)]
    assert spent == sorted(set(spent))
    assert spent[0] == 0
    assert budget.to_record()["epsilon"] == spent[-1]
    assert budget.to_record()["unit"] == "patient"
