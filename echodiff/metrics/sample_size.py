"""A score against the number of images: what is bias of the count, and what is the generator.

The same sets, cut down to fewer images again and again. MMD^2 stays level; a Frechet distance
falls with the count, and so does its baseline, which is why neither is compared across counts.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from echodiff.metrics.feature_set import Array, FeatureSet, pool_groups
from echodiff.metrics.frechet import compute_frechet_distance
from echodiff.metrics.kernel import (
    build_rbf_kernel,
    compute_bandwidth,
    compute_mmd2_draws,
    count_pairs,
)
from echodiff.metrics.resampling import sample_splits
from echodiff.metrics.score import Network
from echodiff.metrics.scores import MIN_FRAMES

FIRST_COUNT = 10
MAX_COUNT = 1280
NUM_DRAWS = 6


def score_by_count(
    generated: FeatureSet, reference: FeatureSet, network: Network, *, seed: int
) -> list[dict[str, Any]]:
    """Rows of `n`, `mmd`, `fd` and their baselines `mmd_floor`, `fd_floor`, for n = 10, 20, 40 ...

    Each is the mean over NUM_DRAWS draws of n generated and n reference frames; `mmd_low`,
    `mmd_high` are its extremes. The baseline is of n against n reference frames of other patients,
    None where there are not twice as many. Draws of frames of a single patient are left out, and
    counts at which there are no others.
    """
    fewest = min(len(generated), len(reference), MAX_COUNT)
    if fewest < MIN_FRAMES or not (generated.has_groups and reference.has_groups):
        return []
    generator = np.random.default_rng(seed)
    kernel = build_rbf_kernel(compute_bandwidth(reference.features))
    features = np.concatenate([generated.features, reference.features])
    groups = pool_groups(generated, reference)
    n, m = len(generated), len(reference)

    def has_pairs(chosen: Array) -> NDArray[np.bool_]:
        return np.asarray(count_pairs(chosen, groups) > 0)

    def compare(first: Array, second: Array) -> tuple[Array, float]:
        mmd, frechet = [], []
        for a, b in zip(first > 0, second > 0, strict=True):
            chosen = a | b
            one, other = (part[chosen][None].astype(float) for part in (a, b))
            mmd += compute_mmd2_draws(features[chosen], kernel, one, other, groups[chosen]).tolist()
            frechet.append(compute_frechet_distance(features[a], features[b]))
        return np.array(mmd), float(np.mean(frechet))

    rows = []
    # The whole set comes last; a count of nearly as many frames is left out.
    counts = [FIRST_COUNT * 2**power for power in range(8)]
    for count in (*(count for count in counts if 1.3 * count < fewest), fewest):
        drawn, _ = sample_splits(generated.groups, count, 0, NUM_DRAWS, generator)
        real, others = sample_splits(reference.groups, count, count, NUM_DRAWS, generator)
        ours = np.pad(drawn, ((0, 0), (0, m)))
        real, others = (np.pad(part, ((0, 0), (n, 0))) for part in (real, others))
        is_usable = has_pairs(ours) & has_pairs(real)
        if not is_usable.any():
            continue
        mmd, frechet = compare(ours[is_usable], real[is_usable])
        row = {"n": count, "features": network.name, "mmd": float(mmd.mean()),
               "mmd_low": float(mmd.min()), "mmd_high": float(mmd.max()), "fd": frechet,
               "mmd_floor": None, "fd_floor": None}  # fmt: skip
        is_usable = has_pairs(real) & has_pairs(others)
        if (others.sum(axis=1) == count).all() and is_usable.any():
            floor, row["fd_floor"] = compare(real[is_usable], others[is_usable])
            row["mmd_floor"] = float(floor.mean())
        rows.append(row)
    return rows
