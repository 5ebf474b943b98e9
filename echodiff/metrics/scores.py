"""Scores of one image set against a reference, from features: a value, its interval, its baseline.

What a score needs and does not get is None (an interval of three patients), or the score is left
out with the reason.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

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
from echodiff.metrics.score import Floor, Mean, Network, Score, by_name
from echodiff.metrics.score_name import Kind, ScoreName

Name = TypeVar("Name", bound=Hashable)

NUM_HALVES = 200
NUM_HALVES_FRECHET = 40  # each costs a decomposition
NUM_PERMUTATIONS = 999
NUM_SPLITS = 40
NUM_SPLITS_FRECHET = 10
MIN_FRAMES = 4
"""Fewest frames per set; below, a covariance or a mean over pairs is meaningless."""
STANDARDISED = ("tiny", "texture")
"""Networks whose features KID takes centred on the reference and divided by its mean standard
deviation: they have no unit, and their raw cubes are meaningless. In other networks KID is as
published, so that it can be compared."""
KID_SCALE = 1000
"""KID is reported times a thousand, as is usual."""


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


@dataclass(frozen=True)
class Repeats:
    """A statistic and its repeats."""

    value: float
    interval: Array
    """(2,), or empty."""
    floor: Array
    """(R,) real against real."""
    at_floor: Array
    """(R,) generated against real at the counts of the baseline."""
    permuted: Array = field(default_factory=lambda: np.zeros(0))
    """(R,) of re-dealt frames."""
    least: float = -np.inf
    """The least value that the statistic can have: no interval goes below it."""

    def scaled(self, scale: float) -> "Repeats":
        return Repeats(
            self.value * scale,
            self.interval * scale,
            self.floor * scale,
            self.at_floor * scale,
            self.permuted * scale,
            self.least * scale,
        )

    @property
    def estimate(self) -> Mean:
        if not len(self.interval):
            return Mean(self.value, None, None)
        low, high = self.interval.clip(min=self.least).tolist()
        return Mean(self.value, low, high)

    def find_floor(self, draws: Draws) -> Floor:
        """The baseline, and the score of as many generated frames."""
        if not len(self.floor):
            return Floor(None, None, None, None, None, None)
        mean = float(self.floor.mean())
        spread = compute_spread_interval(mean, self.floor).clip(min=self.least)
        low, high = spread.tolist() if len(spread) else (None, None)
        counts = (draws.floor_first.sum(axis=1), draws.floor_second.sum(axis=1))
        n, n_reference = (int(np.median(count)) for count in counts)
        at_n = float(self.at_floor.mean()) if len(self.at_floor) else None
        return Floor(mean, low, high, n, n_reference, at_n)


def score_sets(
    generated: FeatureSet, reference: FeatureSet, network: Network, *, seed: int
) -> tuple[dict[str, Score], dict[str, str]]:
    """MMD^2, KID and the Frechet distance; and the reasons for what was left out, by name."""
    mmd, kid = (ScoreName(kind, network.name) for kind in (Kind.MMD, Kind.KID))
    is_fid = network.frechet_name == Kind.FID
    frechet = ScoreName(
        Kind.FID if is_fid else Kind.FD, "" if is_fid else network.name, count=len(generated)
    )
    fewest = min(len(generated), len(reference))
    if fewest < MIN_FRAMES:
        reason = (
            f"needs {MIN_FRAMES} frames per set, there are {len(generated)} generated and "
            f"{len(reference)} of the reference"
        )
        return {}, dict.fromkeys(map(str, (mmd, kid, frechet)), reason)
    generator = np.random.default_rng(seed)
    draws = sample_draws(generated, reference, generator)
    scores: list[Score] = []
    left_out: dict[str, str] = {}
    tests: dict[ScoreName, tuple[Kernel, Array]] = {}
    bandwidth = 0.0
    if no_pairs := _explain_no_pairs(generated, reference):
        left_out |= dict.fromkeys(map(str, (mmd, kid)), no_pairs)
    else:
        try:
            bandwidth = compute_bandwidth(reference.features)
            permutations = _sample_none(generated, reference)
            if generated.has_groups and reference.has_groups:
                permutations = sample_permutations(
                    generated.groups, reference.groups, NUM_PERMUTATIONS, generator
                )
            tests[mmd] = build_rbf_kernel(bandwidth), permutations
        except ValueError as error:
            left_out[str(mmd)] = str(error)
        if network.name not in STANDARDISED:  # one pass over the pairs does for both
            tests[kid] = cubic_kernel, _sample_none(generated, reference)
    found = compute_kernel_repeats(generated, reference, tests, draws)
    if kid not in found and not no_pairs:
        test = {kid: (cubic_kernel, _sample_none(generated, reference))}
        found |= compute_kernel_repeats(*standardise(generated, reference), test, draws)
    for name, repeats in found.items():
        counts = len(generated), len(reference)
        if name == kid:
            own = repeats.scaled(KID_SCALE)
            scores.append(Score.beside_floor(name, own.estimate, counts, network,
                                             own.find_floor(draws), scale=KID_SCALE))  # fmt: skip
            continue
        permuted = repeats.permuted
        p = compute_permutation_p(repeats.value, permuted) if len(permuted) else None
        scores.append(Score.beside_floor(name, repeats.estimate, counts, network,
                                         repeats.find_floor(draws), p=p, bandwidth=bandwidth)
        )  # fmt: skip
    scores.append(_score_frechet(frechet, generated, reference, draws, network))
    return by_name(scores), left_out


def standardise(generated: FeatureSet, reference: FeatureSet) -> tuple[FeatureSet, FeatureSet]:
    """Both sets less the mean of the reference, over the root of its mean variance."""
    mean = reference.features.mean(axis=0)
    scale = float(reference.features.var(axis=0, ddof=1).mean()) ** 0.5 or 1.0
    first, second = (
        FeatureSet((one.features - mean) / scale, one.groups) for one in (generated, reference)
    )
    return first, second


def _explain_no_pairs(generated: FeatureSet, reference: FeatureSet) -> str | None:
    """Return why there is no mean over pairs of frames of different patients, else None."""
    for name, one in (("generated", generated), ("reference", reference)):
        if not one.has_pairs:
            return f"compares frames of different patients, all {len(one)} of {name} are of one"
    return None


def _sample_none(generated: FeatureSet, reference: FeatureSet) -> Array:
    return np.zeros((0, len(generated) + len(reference)))


def _score_frechet(
    name: ScoreName, generated: FeatureSet, reference: FeatureSet, draws: Draws, network: Network
) -> Score:
    x, y = generated.features, reference.features
    splits = slice(NUM_SPLITS_FRECHET)
    value = compute_frechet_distance(x, y)
    spread = compute_frechet_draws(x, y, draws.generated_halves, draws.reference_halves)
    repeats = Repeats(
        value=value,
        interval=compute_spread_interval(value, spread),
        floor=compute_frechet_draws(y, y, draws.floor_first[splits], draws.floor_second[splits]),
        at_floor=compute_frechet_draws(
            x, y, draws.generated_at_floor[splits], draws.floor_second[splits]
        ),
        least=0.0,
    )
    return Score.beside_floor(
        name, repeats.estimate, (len(x), len(y)), network, repeats.find_floor(draws)
    )


def compute_kernel_repeats(
    generated: FeatureSet, reference: FeatureSet, tests: Mapping[Name, tuple[Kernel, Array]],
    draws: Draws,
) -> dict[Name, Repeats]:  # fmt: skip
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
        _, floor, at_floor = np.split(values, ends[:-1])
        value = float(values[0])
        spread = measure_spread(value, one, generated, reference, kernel)
        interval = np.zeros(0) if spread is None else compute_kernel_interval(spread)
        repeats[name] = Repeats(value, interval, floor, at_floor, permuted)
    return repeats


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
