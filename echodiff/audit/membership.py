"""Membership inference: scores of the attacks, patient by patient, and what they tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echodiff.audit.privacy_loss import LowerBound, audit_epsilon
from echodiff.audit.rank_test import MIN_FOR_RATE, RankTest, compare_ranks, measure_rate
from echodiff.audit.set_test import SetTest, compare_sets, join_scores
from echodiff.audit.subjects import Units
from echodiff.errors import InputError
from echodiff.metrics.faithfulness import Estimate

Array = NDArray[np.float64]

OF_BASE = "the base, with nothing added"
"""Reference that a score is held against."""
RECALL = "recall"
"""Name of the attack by images (`audit.recall`), whose find has words of its own in the verdict."""
SET_TEST = "set"
"""Key of the test of the set among the attacks of privacy.json."""


@dataclass(frozen=True)
class Attack:
    """One score a patient; higher means member."""

    name: str
    scores: Array
    """(U,)."""
    what: str
    """What is measured, in words."""
    reference: str = ""
    """What it is held against; empty: nothing."""
    is_joined: bool = True
    """Whether it is part of the test of the set."""


@dataclass(frozen=True)
class Membership:
    """Results of all attacks on one split of patients."""

    tests: Mapping[str, RankTest]
    corrected: Mapping[str, float]
    """p of every attack, corrected for their number (Holm 1979)."""
    rates: Mapping[str, Estimate | None]
    """True positive rate at 1 % false positives; None where it cannot be measured."""
    whole: SetTest
    bound: LowerBound

    @property
    def strongest(self) -> str:
        """Name of the attack with the highest AUC."""
        return max(self.tests, key=lambda name: self.tests[name].auc)


def score_denoiser(
    base: Mapping[str, Array], model: Mapping[str, Array], units: Units
) -> list[Attack]:
    """Attacks on a denoising network, of logarithms (N, K) of each measure (`measures`).

    The mean over times of a logarithm weighs all times alike, though errors differ by orders of
    magnitude; less the same of the base, it leaves out how hard the frame itself is.
    """
    what = {
        "loss": "denoising loss",
        "pia": "PIA: error at the noise that the network predicts itself",
        "secmi": "SecMI: error of a step there and back",
        "sima": "SimA: norm of the predicted noise",
    }
    raw = Attack("loss", -units.average(model["loss"].mean(1)), what["loss"], is_joined=False)
    calibrated = [
        Attack(
            "calibrated_loss" if name == "loss" else name,
            units.average((base[name] - model[name]).mean(1)),
            what[name],
            OF_BASE,
        )
        for name in model
    ]
    return [raw, *calibrated]


def run_attacks(
    attacks: Sequence[Attack], units: Units, *, seed: int, delta: float = 0.0
) -> Membership:
    """Test every attack, the set as a whole, and the epsilon that they show.

    InputError for a score that is not finite: ranks of it would mean nothing.
    """
    for one in attacks:
        if not np.isfinite(one.scores).all():
            raise InputError(f"{one.name}: is not finite: these weights give NaN or infinity")
    tests = {one.name: compare_ranks(one.scores, units, seed=seed) for one in attacks}
    joined = join_scores({one.name: one.scores for one in attacks if one.is_joined})
    return Membership(
        tests,
        correct_holm({name: test.p for name, test in tests.items()}),
        {one.name: measure_rate(one.scores, units) for one in attacks},
        compare_sets(joined, units, seed=seed),
        audit_epsilon(joined, units, seed=seed, delta=delta),
    )


def correct_holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction."""
    order = sorted(p_values, key=lambda name: p_values[name])
    corrected, highest = {}, 0.0
    for place, name in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * p_values[name]))
        corrected[name] = highest
    return {name: corrected[name] for name in p_values}


def to_record(attacks: Sequence[Attack], found: Membership) -> dict[str, Any]:
    """`attacks` and `ceiling` of privacy.json."""
    entries: dict[str, Any] = {}
    for one in attacks:
        rate = found.rates[one.name]
        entries[one.name] = {
            "what": one.what,
            "reference": one.reference or "none",
            **asdict(found.tests[one.name]),
            "p_holm": found.corrected[one.name],
            "tpr_at_1_percent_fpr": asdict(rate) if rate is not None else (
                f"cannot be measured at this N: needs {MIN_FOR_RATE} non-members"
            ),
        }  # fmt: skip
    entries[SET_TEST] = {
        "what": "all attacks joined, members against non-members as a whole",
        "joins": [one.name for one in attacks if one.is_joined],
        **asdict(found.whole),
    }
    return {"attacks": entries, "ceiling": asdict(found.bound)}
