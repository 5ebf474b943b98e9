"""Scores of one image set against a reference, from features: a value, its interval, its floor.

A score is a dictionary with the same keys everywhere (SCORE_KEYS), ready for `metrics.json`. Names
carry the feature network, and Frechet distances the count as well, since they cannot be compared
across counts. What a score needs and does not get is None (an interval of three patients), or the
score is left out with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from echodiff.metrics.feature_set import Array, FeatureSet, pool_groups
from echodiff.metrics.frechet import compute_frechet_distance, compute_frechet_draws
from echodiff.metrics.kernel import (
    Choices,
    Kernel,
    build_rbf_kernel,
    compute_bandwidth,
    compute_permutation_p,
    count_pairs,
    cubic_kernel,
    sweep_pairs,
)
from echodiff.metrics.kernel_interval import compute_kernel_interval
from echodiff.metrics.kernel_spread import measure_spread
from echodiff.metrics.resampling import (
    Z_95,
    sample_halves,
    sample_permutations,
    sample_splits,
)

Score = dict[str, Any]
SCORE_KEYS = (
    "value", "low", "high", "n", "n_reference", "features", "features_sha256", "resize", "scale",
    "floor", "floor_low", "floor_high", "floor_n", "floor_n_reference", "value_at_floor_n",
)  # fmt: skip
NUM_HALVES = 200
NUM_HALVES_FRECHET = 40  # each costs a decomposition
NUM_PERMUTATIONS = 999
NUM_SPLITS = 40
NUM_SPLITS_FRECHET = 10
MIN_FRAMES = 4
"""Fewest frames a side; below, a covariance or a mean over pairs says nothing."""
KID_SCALE = 1000
"""KID is reported times a thousand, as is usual."""


class Network(Protocol):
    """What a score records of the feature network (see `features.FeatureNetwork`)."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def resize(self) -> str: ...
    @property
    def frechet_name(self) -> str: ...


@dataclass(frozen=True)
class Draws:
    """Which rows each repeat takes; arrays of 0 and 1, (repeats, N generated or reference)."""

    generated_halves: Array
    reference_halves: Array
    floor_first: Array
    """Reference frames in the place of the generated ones."""
    floor_second: Array
    """Reference frames of other patients, in the place of the reference."""
    generated_at_floor: Array
    """As many generated frames as there are in `floor_first`."""


def score_sets(
    generated: FeatureSet, reference: FeatureSet, network: Network, *, seed: int
) -> tuple[dict[str, Score], dict[str, str]]:
    """MMD^2, KID and the Frechet distance; and the reasons for what was left out, by name."""
    frechet_name = f"{network.frechet_name}@{len(generated)}"
    names = (f"mmd_{network.name}", f"kid_{network.name}", frechet_name)
    fewest = min(len(generated), len(reference))
    if fewest < MIN_FRAMES:
        reason = (
            f"needs {MIN_FRAMES} frames a side, there are {len(generated)} generated and "
            f"{len(reference)} of the reference"
        )
        return {}, dict.fromkeys(names, reason)
    generator = np.random.default_rng(seed)
    draws = sample_draws(generated, reference, generator)
    scores: dict[str, Score] = {}
    left_out: dict[str, str] = {}
    tests: dict[str, tuple[Kernel, Array]] = {}
    bandwidth = 0.0
    if no_pairs := _explain_no_pairs(generated, reference):
        left_out |= dict.fromkeys(names[:2], no_pairs)
    else:
        try:
            bandwidth = compute_bandwidth(reference.features)
            permutations = _sample_permutations(generated, reference, generator)
            tests[names[0]] = build_rbf_kernel(bandwidth), permutations
        except ValueError as error:
            left_out[names[0]] = str(error)
        tests[names[1]] = cubic_kernel, _sample_none(generated, reference)
    for name, repeats in compute_kernel_repeats(generated, reference, tests, draws).items():
        permuted = repeats.pop("permuted")
        scale = KID_SCALE if name == names[1] else 1
        scores[name] = build_score(repeats, generated, reference, draws, network, scale=scale)
        if name == names[0]:
            value = float(repeats["value"][0])
            p = compute_permutation_p(value, permuted) if len(permuted) else None
            scores[name] |= {"p": p, "bandwidth": bandwidth}
    scores[names[2]] = _score_frechet(generated, reference, draws, network)
    return scores, left_out


def _explain_no_pairs(generated: FeatureSet, reference: FeatureSet) -> str | None:
    """Why there is no mean over pairs of frames of different patients; None where there is."""
    for name, one in (("generated", generated), ("reference", reference)):
        if not one.has_pairs:
            return f"compares frames of different patients, all {len(one)} of {name} are of one"
    return None


def _sample_permutations(
    generated: FeatureSet, reference: FeatureSet, generator: np.random.Generator
) -> Array:
    if not (generated.has_groups and reference.has_groups):
        return _sample_none(generated, reference)
    return sample_permutations(generated.groups, reference.groups, NUM_PERMUTATIONS, generator)


def _sample_none(generated: FeatureSet, reference: FeatureSet) -> Array:
    return np.zeros((0, len(generated) + len(reference)))


def _score_frechet(
    generated: FeatureSet, reference: FeatureSet, draws: Draws, network: Network
) -> Score:
    x, y = generated.features, reference.features
    splits = slice(NUM_SPLITS_FRECHET)
    value = compute_frechet_distance(x, y)
    spread = compute_frechet_draws(x, y, draws.generated_halves, draws.reference_halves)
    repeats = {
        "value": np.array([value]),
        "interval": compute_spread_interval(value, spread),
        "floor": compute_frechet_draws(y, y, draws.floor_first[splits], draws.floor_second[splits]),
        "at_floor": compute_frechet_draws(
            x, y, draws.generated_at_floor[splits], draws.floor_second[splits]
        ),
    }
    return build_score(repeats, generated, reference, draws, network, scale=1)


def compute_kernel_repeats(
    generated: FeatureSet, reference: FeatureSet, tests: Mapping[str, tuple[Kernel, Array]],
    draws: Draws,
) -> dict[str, dict[str, Array]]:  # fmt: skip
    """The statistic of every kernel, its interval and its repeats, in one pass over the pairs.

    tests: by name a kernel and its permutations (R, N + M), which may be none.
    """
    n, m = len(generated), len(reference)

    def left(rows: Array) -> Array:
        return np.pad(rows, ((0, 0), (0, m)))

    def right(rows: Array) -> Array:
        return np.pad(rows, ((0, 0), (n, 0)))

    parts = {
        "value": (left(np.ones((1, n))), right(np.ones((1, m)))),
        "floor": (right(draws.floor_first), right(draws.floor_second)),
        "at_floor": (left(draws.generated_at_floor), right(draws.floor_second)),
    }
    drawn = Choices(*(np.concatenate(side) for side in zip(*parts.values(), strict=True)))
    ends = np.cumsum([len(first) for first, _ in parts.values()])
    swept = sweep_pairs(
        np.concatenate([generated.features, reference.features]),
        [(kernel, [drawn, Choices(dealt, None)]) for kernel, dealt in tests.values()],
        pool_groups(generated, reference),
        np.concatenate(parts["value"]),
    )
    repeats = {}
    for (name, (kernel, _)), one in zip(tests.items(), swept, strict=True):
        values, permuted = one.draws
        own = dict(zip(parts, np.split(values, ends[:-1]), strict=True)) | {"permuted": permuted}
        spread = measure_spread(float(values[0]), one, generated, reference, kernel)
        own["interval"] = np.zeros(0) if spread is None else compute_kernel_interval(spread)
        repeats[name] = own
    return repeats


def build_score(
    repeats: dict[str, Array], generated: FeatureSet, reference: FeatureSet, draws: Draws,
    network: Network, *, scale: int,
) -> Score:  # fmt: skip
    value = float(repeats["value"][0]) * scale
    low = high = None
    if len(repeats["interval"]):
        low, high = (float(end) * scale for end in repeats["interval"])
    floor = repeats["floor"] * scale
    floor_value = float(floor.mean()) if len(floor) else None
    floor_low = floor_high = None
    if len(floor) > 1:
        floor_low, floor_high = compute_spread_interval(float(floor.mean()), floor).tolist()
    counts = (draws.floor_first.sum(axis=1), draws.floor_second.sum(axis=1))
    floor_counts = [int(np.median(count)) if len(floor) else None for count in counts]
    record = dict(zip(SCORE_KEYS, (
        value, low, high, len(generated), len(reference), network.name, network.sha256,
        network.resize, scale, floor_value, floor_low, floor_high, *floor_counts,
        float(repeats["at_floor"].mean()) * scale if len(repeats["at_floor"]) else None,
    ), strict=True))  # fmt: skip
    return record


def compute_spread_interval(value: float, repeats: Array) -> Array:
    """95 % interval of `value` from the spread of its repeats, (2,); empty without repeats."""
    if len(repeats) < 2:
        return np.zeros(0)
    reach = Z_95 * float(np.std(repeats, ddof=1))
    return np.array([value - reach, value + reach])


def sample_draws(
    generated: FeatureSet, reference: FeatureSet, generator: np.random.Generator
) -> Draws:
    floor_n = min(len(generated), len(reference) // 2)
    first, second = sample_splits(
        reference.groups, floor_n, len(reference) - floor_n, NUM_SPLITS, generator
    )
    order = np.argsort(generator.random((len(first), len(generated))), axis=1)
    at_floor = (order < floor_n).astype(np.float64)
    # With few patients, a part may have frames of only one: such a split has no distance.
    is_usable = np.logical_and.reduce([
        count_pairs(first, reference.groups) > 0,
        count_pairs(second, reference.groups) > 0,
        count_pairs(at_floor, generated.groups) > 0,
    ])  # fmt: skip
    first, second, at_floor = first[is_usable], second[is_usable], at_floor[is_usable]
    generated_halves, reference_halves = (
        sample_halves(one.groups, NUM_HALVES_FRECHET if one.has_groups else 0, generator)
        for one in (generated, reference)
    )
    repeats = min(len(generated_halves), len(reference_halves))
    return Draws(generated_halves[:repeats], reference_halves[:repeats], first, second, at_floor)
