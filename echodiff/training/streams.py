"""Random streams: a draw is a function of (seed, stream, counter), never of history.

By numpy's Philox (Salmon et al. 2011): seed and stream are the key, the counter is the highest
word of its counter, so no two streams ever meet. Torch's CPU generator takes 32 bits of a seed:
of 100,000 images two would share their noise with a chance of 69 %.
"""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch

SEED_BITS, COUNTER_BITS = 96, 64
DRAWN_BY = "philox"
"""Version of the draws in the record of runs and sets: others cannot be resumed."""


class Stream(IntEnum):
    """What a stream is for; part of the numbers it gives, so values stay as they are."""

    ORDER = 1
    NOISE = 2
    HELD_OUT = 3
    STEP = 4
    IMAGE = 5
    ADAPTER = 6
    NETWORK = 7
    MASK = 8
    MOVE = 9
    MEMBERS = 10
    AUDIT = 20


def build_stream(seed: int, stream: Stream, counter: int) -> np.random.Generator:
    """The generator of (seed, stream, counter): the same on any device and process.

    seed: 0 to 2^96 - 1; counter: 0 to 2^64 - 1.
    """
    assert 0 <= seed < 2**SEED_BITS
    assert 0 <= counter < 2**COUNTER_BITS
    philox = np.random.Philox(
        key=int(stream) << SEED_BITS | seed, counter=counter << (256 - COUNTER_BITS)
    )
    return np.random.Generator(philox)


def sample_normal(stream: np.random.Generator, shape: Sequence[int]) -> torch.Tensor:
    """Standard normal numbers, float32 on the CPU."""
    return torch.from_numpy(stream.standard_normal(tuple(shape), dtype=np.float32))


def sample_uniform(stream: np.random.Generator, shape: Sequence[int]) -> torch.Tensor:
    """Numbers in [0, 1), float32 on the CPU."""
    return torch.from_numpy(stream.random(tuple(shape), dtype=np.float32))
