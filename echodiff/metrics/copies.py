"""Copies of the training set: are generated frames nearer to it than unseen real frames are?

The distance of every generated frame to its nearest training frame is held against that of real
frames of other patients, which have had no chance to be copied (Dar et al., Nature Biomedical
Engineering 2025). A first look and no audit: features see near copies, not every trace of a frame.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from echodiff.metrics.faithfulness import compute_share
from echodiff.metrics.feature_set import Array, FeatureSet
from echodiff.metrics.kernel import compute_squared_distances
from echodiff.metrics.score import Network, Score, Scores, by_name
from echodiff.metrics.score_name import Kind, ScoreName

BLOCK_ROWS = 512
NEAR_SHARE = 0.05
"""Share of real frames that count as near: what a generator that copies nothing has."""
SHARED = "reference frames lie on training frames: the reference must be of other patients"
_SAME = 1e-6
"""Distance over the length of a feature vector below which two frames have the same features."""
MIN_REFERENCE = 20
"""Fewest real frames of which the nearest twentieth means anything."""


def measure_nearest(one: FeatureSet, train: FeatureSet) -> tuple[Array, NDArray[np.intp]]:
    """Distance of each frame of `one` to the nearest training frame, and that one's row: (N,)."""
    distances, rows = [], []
    for start in range(0, len(one), BLOCK_ROWS):
        block = compute_squared_distances(one.features[start : start + BLOCK_ROWS], train.features)
        rows.append(block.argmin(axis=1))
        distances.append(np.sqrt(block.min(axis=1)))
    return np.concatenate(distances), np.concatenate(rows)


def score_copies(
    generated: FeatureSet, reference: FeatureSet, train: FeatureSet, network: Network
) -> tuple[dict[str, Score], dict[str, str]]:
    """`copies_<features>`: share of generated frames as near to the training set as the nearest
    twentieth of real frames; 0.05 is honest.

    Left out where a reference frame lies on a training frame: the nearest would then be at 0, and
    no generated frame could be nearer.
    """
    name = str(ScoreName(Kind.COPIES, network.name))
    if len(reference) < MIN_REFERENCE:
        return {}, {name: f"needs {MIN_REFERENCE} reference frames, there are {len(reference)}"}
    of_real, _ = measure_nearest(reference, train)
    lengths = np.linalg.norm(reference.features, axis=1)
    if num_shared := int((of_real <= _SAME * lengths).sum()):
        return {}, {name: f"{num_shared} {SHARED}"}
    of_generated, _ = measure_nearest(generated, train)
    limit = float(np.quantile(of_real, NEAR_SHARE))
    share = compute_share(int((of_generated < limit).sum()), len(generated))
    score = Score.of_copies(
        share, (len(generated), len(reference), len(train)), network,
        real=float((of_real < limit).mean()), distance=limit,
    )  # fmt: skip
    return by_name([score]), {}


def find_copies(
    scores: Scores, network: Network, left_out: Mapping[str, str] = MappingProxyType({})
) -> str | None:
    """The alarm of a set that lies too near to its training set: twice the honest share or more.

    Another is that copies cannot be told, as the reference shares frames with the training set.
    """
    name = str(ScoreName(Kind.COPIES, network.name))
    if left_out.get(name, "").endswith(SHARED):
        return f"{name} is left out: {left_out[name]}"
    score = scores.get(name)
    if score is None or score.low is None or score.low < 2 * NEAR_SHARE:
        return None
    return (
        f"copies: {100 * score.value:.0f} % of the frames are as near to a training frame in "
        f"{network.name} features as {100 * NEAR_SHARE:.0f} % of unseen real ones"
    )
