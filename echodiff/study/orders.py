"""Order in which a reader meets the sources: a Williams design for many images a source.

A Williams square (Williams, Aust. J. Sci. Res. A 2, 149, 1949) shows every source once a reader.
Here a reader sees each source many times. One order is drawn whose successive *differences* of
source numbers, modulo the number of sources, are all equally frequent; it is then shifted by 0, 1,
... S - 1. Over these S readers every source stands at every position once, and every source follows
every source, itself included, equally often: position and carry-over are balanced, and the last
source tells nothing about the next one. Pairs of successive differences are as even as the search
makes them, so that the last two tell little.
"""

import numpy as np
from numpy.typing import NDArray

from echodiff.errors import InputError

MAX_RUN = 3
"""Longest run of one source."""
MAX_FORESEEN = 0.5
"""Largest share of cases in which, after all other sources in a row, the remaining one follows.
Blocks of one image a source would make it 1; chance is 1 / S."""
_MIN_CASES = 4
"""Fewest such cases in which the share is checked."""
_TRIES = 50
_SWAPS = 20_000
_LAST_SWAPS = 1500

Order = NDArray[np.int64]
"""(L,) source numbers from 0."""


def draw_order(num_sources: int, per_source: int, generator: np.random.Generator) -> Order:
    """One order (L,) with each source `per_source` times, differences as even as their number
    allows, no run over MAX_RUN, and no predictable last source of a block."""
    for _ in range(_TRIES):
        order = np.repeat(np.arange(num_sources), per_source)
        generator.shuffle(order)
        order = _even_out(order, num_sources, generator)
        if _cost(order, num_sources) == 0 and share_foreseen(order, num_sources) <= MAX_FORESEEN:
            return order
    raise InputError(
        f"no balanced order of {per_source} images of each of {num_sources} sources was found; "
        "ask for more images a source"
    )


def _even_out(order: Order, num_sources: int, generator: np.random.Generator) -> Order:
    """Swap two places at a time, and keep what is no worse, until the order is balanced."""
    cost = (_cost(order, num_sources), _excess_pairs(order, num_sources))
    left = _SWAPS
    while cost > (0, 0) and left:
        # Once the order is balanced, its pairs of differences get a last, shorter search.
        left = min(left - 1, _LAST_SWAPS) if cost[0] == 0 else left - 1
        one, other = generator.integers(len(order), size=2)
        order[[one, other]] = order[[other, one]]
        swapped = (_cost(order, num_sources), _excess_pairs(order, num_sources))
        if swapped > cost:
            order[[one, other]] = order[[other, one]]
        else:
            cost = swapped
    return order


def _cost(order: Order, num_sources: int) -> int:
    """0 for an order whose differences are as even as possible and whose runs are short enough."""
    counts = count_differences(order, num_sources)
    least, rest = divmod(len(order) - 1, num_sources)
    target = np.full(num_sources, least)
    target[:rest] += 1
    uneven = int(np.abs(np.sort(counts)[::-1] - target).sum())
    return uneven + 2 * int(np.maximum(list_runs(order) - MAX_RUN, 0).sum())


def _excess_pairs(order: Order, num_sources: int) -> int:
    """Pairs of successive differences above their even share."""
    steps = np.diff(order) % num_sources
    counts = np.bincount(steps[:-1] * num_sources + steps[1:], minlength=num_sources**2)
    share = -(-max(0, len(order) - 2) // num_sources**2)
    return int(np.maximum(counts - share, 0).sum())


def count_differences(order: Order, num_sources: int) -> NDArray[np.int64]:
    """How often the next source is 0, 1, ... S - 1 numbers further: (S,)."""
    return np.bincount(np.diff(order) % num_sources, minlength=num_sources)


def list_runs(order: Order) -> NDArray[np.int64]:
    """Lengths of all runs of one source, in order."""
    ends = np.flatnonzero(np.diff(order)) + 1
    return np.diff(np.concatenate([[0], ends, [len(order)]]))


def share_foreseen(order: Order, num_sources: int) -> float:
    """Share of cases in which, after S - 1 different sources in a row, the remaining one follows;
    0 where there are too few cases to tell."""
    total, before = num_sources * (num_sources - 1) // 2, num_sources - 1
    windows = np.lib.stride_tricks.sliding_window_view(order, num_sources)
    ordered = np.sort(windows[:, :before], axis=1)
    is_case = (np.diff(ordered, axis=1) > 0).all(axis=1) & (before > 1)
    cases = windows[is_case]
    if len(cases) < _MIN_CASES:
        return 0.0
    remaining = total - cases[:, :before].sum(axis=1)
    return float((cases[:, before] == remaining).mean())


def place_repeats(
    order: Order, num_repeats: int, gap: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """For every place of an order, the place whose image it shows again; -1 for a first showing.

    Each source has `num_repeats` repeated images, shown twice, at least `gap` places apart.
    """
    again = np.full(len(order), -1)
    for source in np.unique(order):
        places = np.flatnonzero(order == source)
        for _ in range(_TRIES * 10):
            pairs = _pair_places(places, num_repeats, gap, generator)
            if pairs is not None:
                break
        else:
            raise InputError(
                f"--repeats {num_repeats}: too many for {len(places)} showings of a source, "
                f"{gap} images apart"
            )
        for first, second in pairs:
            again[second] = first
    return again


def _pair_places(
    places: NDArray[np.int64], num_pairs: int, gap: int, generator: np.random.Generator
) -> list[tuple[int, int]] | None:
    """Disjoint pairs of places at least `gap` apart, drawn at random; None for a blind alley."""
    left, pairs = [int(place) for place in places], []
    for _ in range(num_pairs):
        found = [(a, b) for a in left for b in left if b - a >= gap]
        if not found:
            return None
        pairs.append(found[int(generator.integers(len(found)))])
        left = [place for place in left if place not in pairs[-1]]
    return pairs
