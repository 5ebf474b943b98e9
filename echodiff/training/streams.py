"""Random streams: a draw is a function of (seed, stream, counter), never of history."""

import numpy as np
import torch


def build_stream(seed: int, stream: int, counter: int) -> torch.Generator:
    """A CPU generator for (seed, stream, counter): the same on any device and process."""
    state = np.random.SeedSequence([seed, stream, counter]).generate_state(1, np.uint64)
    return torch.Generator("cpu").manual_seed(int(state[0] & np.uint64(2**63 - 1)))
