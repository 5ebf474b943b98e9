"""Features of a set of frames with their patients, and what many scores need of the set alone."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from echodiff.metrics.resampling import MIN_GROUPS, Groups, count_groups, thin_groups

Array = NDArray[np.float64]

NUM_NEIGHBOURS = 5
"""k of the k-th nearest frame. Of other patients: frames of one video would make balls tiny."""
BLOCK_ROWS = 256


@dataclass(frozen=True)
class FeatureSet:
    """Features (N, D) of a set of frames and the group (patient, video) of each frame, (N,)."""

    features: Array
    groups: Groups

    def __len__(self) -> int:
        return len(self.features)

    @property
    def has_groups(self) -> bool:
        """Whether there are enough patients for intervals and permutations."""
        return count_groups(self.groups) >= MIN_GROUPS

    @property
    def has_pairs(self) -> bool:
        """Whether there are two frames of different patients: a kernel score needs such pairs."""
        return count_groups(self.groups) >= 2

    @property
    def has_neighbours(self) -> bool:
        """Whether every frame has NUM_NEIGHBOURS frames of other patients."""
        return len(self) - int(np.bincount(self.groups).max(initial=0)) >= NUM_NEIGHBOURS

    @cached_property
    def radii(self) -> Array:
        """Squared distance of each frame to its k-th nearest of another group, (N,).

        Infinite where there are fewer than k.
        """
        features, groups = self.features, self.groups
        squares = np.einsum("nd,nd->n", features, features)
        nearest = np.full((len(features), NUM_NEIGHBOURS), np.inf)
        for start in range(0, len(features), BLOCK_ROWS):
            rows, rest = slice(start, start + BLOCK_ROWS), slice(start, None)
            distances = features[rows] @ features[rest].T
            distances *= -2.0
            distances += squares[rest]
            distances += squares[rows, None]
            distances[groups[rows, None] == groups[rest]] = np.inf
            # Every pair is met once, and both of its frames learn of it.
            nearest[rows] = _keep_nearest(nearest[rows], distances)
            after = slice(start + BLOCK_ROWS, None)
            nearest[after] = _keep_nearest(nearest[after], distances[:, BLOCK_ROWS:].T)
        return np.maximum(nearest.max(axis=1), 0.0)

    def thinned(self, max_count: int) -> "FeatureSet":
        """Whole patients of about `max_count` frames."""
        is_kept, groups = thin_groups(self.groups, max_count)
        return FeatureSet(self.features[is_kept], groups)


def pool_groups(first: FeatureSet, second: FeatureSet) -> Groups:
    """Groups of the frames of both sets, (N1 + N2,); none is in both."""
    return np.concatenate([first.groups, second.groups + count_groups(first.groups)])


def _keep_nearest(nearest: Array, distances: Array) -> Array:
    """The NUM_NEIGHBOURS smallest of each row of (A, NUM_NEIGHBOURS) and (A, B) together."""
    joined = np.concatenate([nearest, distances], axis=1)
    return np.partition(joined, NUM_NEIGHBOURS - 1, axis=1)[:, :NUM_NEIGHBOURS]


def find_kth_smallest(distances: Array) -> Array:
    """The k-th smallest of each row of (A, B), or the largest where there are fewer: (A,)."""
    last = min(NUM_NEIGHBOURS, distances.shape[1]) - 1
    return np.asarray(np.partition(distances, last, axis=1)[:, last])
