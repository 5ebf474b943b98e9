"""Precision, recall, density and coverage: is the generated set as varied as the real one?

Balls about the frames of a set, out to the k-th nearest other frame, stand for its manifold.
Precision is the share of generated frames in a ball of a reference frame, recall the reverse
(Kynkaanniemi et al., NeurIPS 2019). Density is the number of reference balls about a generated
frame over k, coverage the share of reference balls with a generated frame in them (Naeem et al.,
ICML 2020). All depend on the counts: read them beside the same of real against real.
"""

import numpy as np
from numpy.typing import NDArray

from echodiff.metrics.feature_set import (
    NUM_NEIGHBOURS,
    Array,
    FeatureSet,
    find_kth_smallest,
    pool_groups,
)
from echodiff.metrics.kernel import compute_squared_distances
from echodiff.metrics.resampling import Z_95
from echodiff.metrics.score import Network, Score, Scores, by_name
from echodiff.metrics.score_name import COVERAGES, Kind, ScoreName
from echodiff.metrics.scores import Draws, Repeats, compute_spread_interval, sample_draws

MIN_FRAMES = 4 * NUM_NEIGHBOURS
"""Fewest frames a side: half of them, in a half-sample, still have k neighbours."""
NUM_REPEATS = 40
REPEATS_MAX_COUNT = 2000
"""Most frames a side in the repeats behind intervals and floors."""
COLLAPSE_ERRORS = 3.0
"""A density so many standard errors above that of real frames is called a collapse."""


def score_coverage(
    generated: FeatureSet, reference: FeatureSet, network: Network, *, seed: int
) -> tuple[dict[str, Score], dict[str, str]]:
    """`precision_`, `recall_`, `density_`, `coverage_<features>`; or why they were left out.

    Intervals and floors are those of at most REPEATS_MAX_COUNT frames a side: with more, the
    intervals are too wide, not too narrow.
    """
    names = [ScoreName(kind, network.name) for kind in COVERAGES]
    fewest = min(len(generated), len(reference))
    if fewest < MIN_FRAMES:
        return {}, dict.fromkeys(
            map(str, names), f"needs {MIN_FRAMES} frames a side, there are {fewest}"
        )
    if not (generated.has_neighbours and reference.has_neighbours):
        reason = f"needs {NUM_NEIGHBOURS} frames of other patients for every frame"
        return {}, dict.fromkeys(map(str, names), reason)
    x, y = (one.thinned(REPEATS_MAX_COUNT) for one in (generated, reference))
    draws = sample_draws(x, y, np.random.default_rng(seed))
    repeats = _compute_repeats(x, y, draws)
    scores = []
    for column, (name, value) in enumerate(
        zip(names, compute_coverage(generated, reference), strict=True)
    ):
        halves, floor, at_floor = (rows[:, column] for rows in repeats)
        interval = compute_spread_interval(float(value), halves).clip(min=0.0)
        if name.kind != Kind.DENSITY:
            interval = interval.clip(max=1.0)
        own = Repeats(float(value), interval, floor, at_floor)
        counts = len(generated), len(reference)
        scores.append(
            Score.beside_floor(name, own.estimate, counts, network, own.find_floor(draws))
        )
    return by_name(scores), {}


def compute_coverage(generated: FeatureSet, reference: FeatureSet) -> Array:
    """Precision, recall, density and coverage, (4,), as the package `prdc` defines them."""
    across = compute_squared_distances(generated.features, reference.features)
    return _compare(across, generated.radii, reference.radii)


def rank_frames(generated: FeatureSet, reference: FeatureSet) -> NDArray[np.intp]:
    """Generated frames from the least to the most typical of the reference, (N,) row numbers.

    By their own density, and where that is the same by the distance to the nearest real frame.
    """
    across = compute_squared_distances(generated.features, reference.features)
    density = (across < reference.radii).sum(axis=1)
    return np.lexsort((-across.min(axis=1), density))


def find_collapse(scores: Scores, network: Network) -> str | None:
    """The alarm of a set with less variety than the real one, from the scores of `score_coverage`.

    Where a generator repeats itself, or keeps to the middle of what is real, its frames lie in more
    balls of the reference than real frames do, at the same counts.
    """
    density = scores.get(str(ScoreName(Kind.DENSITY, network.name)))
    if density is None:
        return None
    at_n, floor, high = density.value_at_floor_n, density.floor, density.floor_high
    if at_n is None or floor is None or high is None:
        return None
    error, excess = (high - floor) / Z_95, at_n - floor
    # Both of the means compared have the error of one draw.
    if excess <= COLLAPSE_ERRORS * 2**0.5 * error:
        return None
    return (
        f"collapse: density in {network.name} features is {at_n:.2f}, of "
        f"real frames {floor:.2f} at n {density.floor_n}: less variety than is real"
    )


def _compute_repeats(
    generated: FeatureSet, reference: FeatureSet, draws: Draws
) -> tuple[Array, Array, Array]:
    """The four scores of every repeat, (repeats, 4): of halves, of the floor, and at its counts."""
    n = len(generated)
    features = np.concatenate([generated.features, reference.features])
    groups = pool_groups(generated, reference)
    distances = compute_squared_distances(features, features)
    distances[groups[:, None] == groups] = np.inf

    def compare(first: NDArray[np.intp], second: NDArray[np.intp]) -> Array:
        radii = [find_kth_smallest(distances[np.ix_(rows, rows)]) for rows in (first, second)]
        if not np.isfinite(np.concatenate(radii)).all():
            return np.full(len(COVERAGES), np.nan)  # too few frames of other patients were drawn
        return _compare(distances[np.ix_(first, second)], *radii)

    def repeat(first: Array, from_first: int, second: Array) -> Array:
        pairs = zip(first[:NUM_REPEATS], second[:NUM_REPEATS], strict=True)
        rows = [compare(from_first + np.flatnonzero(a), n + np.flatnonzero(b)) for a, b in pairs]
        table = np.reshape(rows, (len(rows), len(COVERAGES)))
        return table[np.isfinite(table).all(axis=1)]

    return (
        repeat(draws.generated_halves, 0, draws.reference_halves),
        repeat(draws.floor_first, n, draws.floor_second),
        repeat(draws.generated_at_floor, 0, draws.floor_second),
    )


def _compare(across: Array, radii_generated: Array, radii_reference: Array) -> Array:
    """The four scores from squared distances (n, m) and squared radii (n,) and (m,)."""
    is_in_reference = across < radii_reference
    return np.array([
        is_in_reference.any(axis=1).mean(),
        (across < radii_generated[:, None]).any(axis=0).mean(),
        is_in_reference.sum(axis=1).mean() / NUM_NEIGHBOURS,
        (across.min(axis=0) < radii_reference).mean(),
    ])  # fmt: skip
