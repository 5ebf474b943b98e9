"""Power of the main test by simulation: how many readers and images a difference needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from echodiff.study.analysis.reader_auc import CHANCE
from echodiff.study.analysis.sign_flip import flip_many
from echodiff.study.analysis.simulation import Truth, simulate_aucs

ALPHA = 0.05


def estimate_power(
    truth: Truth,
    null: Truth,
    *,
    readers: Sequence[int],
    images: Sequence[int],
    margin: float,
    num_comparisons: int,
    num_studies: int,
    seed: int,
    is_done: Callable[[], object] = lambda: None,
) -> list[dict[str, Any]]:
    """Estimate the power of every design: count of readers x images of each source per reader.

    truth: with the difference to detect. null: without one; for false alarms and for the power to
    show equivalence within `margin`. With several generated sources every test is at
    ALPHA / num_comparisons, the first and strictest step of Holm's correction. is_done is called
    after each design. Each design has a seed of its own: it does not depend on the others.
    """
    rows = []
    level = ALPHA / num_comparisons
    for num_readers in readers:
        for num_images in images:
            generator = np.random.default_rng([seed, num_readers, num_images])
            with_difference, without = (
                simulate_aucs(one, num_studies, num_readers, num_images, generator)
                for one in (truth, null)
            )
            rows.append({
                "readers": num_readers,
                "images": num_images,
                "ratings_per_reader": num_images * (num_comparisons + 1),
                "power": _count(_differs(with_difference, generator) <= level),
                "false_alarms": _count(_differs(without, generator) <= level),
                "equivalence": _count(_is_equal(without, margin, generator) <= level),
            })  # fmt: skip
            is_done()
    return rows


def find_smallest(rows: Sequence[dict[str, Any]], key: str, target: float) -> list[dict[str, Any]]:
    """For each count of images, the design with fewest readers whose power reaches the target.

    The lower end of the Monte Carlo interval need not reach it.
    """
    found: dict[int, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: int(row["readers"])):
        if row[key]["value"] >= target:
            found.setdefault(row["images"], row)
    return [found[images] for images in sorted(found)]


def _differs(aucs: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    greater, less = flip_many(aucs, CHANCE, generator)
    return np.asarray(2 * np.minimum(greater, less))


def _is_equal(aucs: np.ndarray, margin: float, generator: np.random.Generator) -> np.ndarray:
    greater, _ = flip_many(aucs, CHANCE - margin, generator)
    _, less = flip_many(aucs, CHANCE + margin, generator)
    return np.maximum(greater, less)


def _count(is_rejected: np.ndarray) -> dict[str, Any]:
    """Share of studies, with the exact interval of a binomial share (Clopper and Pearson)."""
    count, total = int(is_rejected.sum()), len(is_rejected)
    interval = stats.binomtest(count, total).proportion_ci(method="exact")
    return {
        "value": count / total,
        "low": float(interval.low),
        "high": float(interval.high),
        "n": total,
        "unit": "simulated studies",
        "method": "share of simulated studies; Clopper-Pearson interval",
    }
