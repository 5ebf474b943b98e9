"""Entropy of the hearts: one stream for every seed and counter, however large the seed."""


def seed_words(seed: int, *counters: int) -> list[int]:
    """What numpy's SeedSequence is given for the draws of `counters` under `seed`.

    It takes a number as words of 32 bits and fills up with zeros, so [2**32, 0] and [0, 1] would be
    one stream. Seeds beyond 32 bits end in a 1, which no other list of this length has there.
    """
    if seed < 2**32:
        return [seed, *counters]
    return [seed % 2**32, seed >> 32, *counters, 1]
