"""Sequences of a rating study: which images each reader rates, and in which order."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from echodiff.errors import InputError
from echodiff.study.orders import draw_order, place_repeats
from echodiff.study.plan import Kind, PlannedTask

RESERVE = 1.5
"""Sequences per expected reader: readers drop out."""
_IMPOSSIBLE = 1e9
_TRIES = 20


class Card(NamedTuple):
    """An image as the layout sees it."""

    token: str
    source: str
    patient: str


class Layout(NamedTuple):
    """Counts of a rating study, per source and reader."""

    images: int
    """Images that a reader rates."""
    shared: int
    """How many of them are the same for all readers."""
    repeats: int
    """Images that are shown twice."""

    @property
    def showings(self) -> int:
        """Showings of each source in one sequence, practice left out."""
        return self.images + self.repeats


def count_sequences(readers: int, num_sources: int) -> int:
    """Sequences to lay out: RESERVE for each expected reader, in whole balanced sets."""
    return int(-(-readers * RESERVE // num_sources)) * num_sources


def repeat_gap(num_showings: int) -> int:
    """Fewest places between the two showings of an image: a third of the sequence, or 2."""
    return max(2, num_showings // 3)


def lay_out_rating(
    main: Sequence[Card],
    practice: Sequence[Card],
    layout: Layout,
    num_sequences: int,
    generator: np.random.Generator,
) -> tuple[list[list[PlannedTask]], set[str]]:
    """Sequences of all readers, and the tokens of the images shared by all.

    A reader rates `images` of each source, no two of one patient, `shared` of which all readers
    rate; the rest are those that fewest readers before have rated. Orders are Williams-balanced in
    sets of as many sequences as there are sources (`orders`). Repeats are shown a third of the
    sequence or more after the first time. Practice comes first. InputError if there are too few
    patients.
    """
    sources = list(dict.fromkeys(card.source for card in main))
    usage: Counter[str] = Counter()
    shared = choose_images(main, dict.fromkeys(sources, layout.shared), usage, generator)
    barred = {card.patient for card in shared}
    rest = [card for card in main if card.patient not in barred]
    own_counts = dict.fromkeys(sources, layout.images - layout.shared)
    sequences: list[list[PlannedTask]] = []
    while len(sequences) < num_sequences:
        order = _draw_feasible(len(sources), layout, generator)
        for shift in generator.permutation(len(sources)):
            own = choose_images(rest, own_counts, usage, generator)
            usage.update(card.token for card in own)
            rows = [sources[place] for place in (order + shift) % len(sources)]
            tasks = _fill(rows, shared, own, layout, generator)
            start = [PlannedTask(image_token=practice[place].token, kind="practice")
                     for place in generator.permutation(len(practice))]  # fmt: skip
            sequences.append(start + tasks)
    return sequences[:num_sequences], {card.token for card in shared}


def choose_images(
    cards: Sequence[Card],
    counts: Mapping[str, int],
    usage: Mapping[str, int],
    generator: np.random.Generator,
) -> list[Card]:
    """So many images of each source, all of different patients, least used ones first.

    An assignment of patients to places at the least total use, by the Hungarian method; ties are
    broken at random. InputError if the patients do not suffice.
    """
    best: dict[tuple[str, str], tuple[float, Card]] = {}
    for card, draw in zip(cards, generator.random(len(cards)).tolist(), strict=True):
        cost = usage.get(card.token, 0) + draw
        key = (card.source, card.patient)
        if key not in best or cost < best[key][0]:
            best[key] = (cost, card)
    patients = {patient: row for row, patient in enumerate(dict.fromkeys(p for _, p in best))}
    places = [source for source, count in counts.items() for _ in range(count)]
    if not places:
        return []
    costs = np.full((len(places), len(patients)), _IMPOSSIBLE)
    for (source, patient), (cost, _) in best.items():
        costs[[place == source for place in places], patients[patient]] = cost
    rows, columns = linear_sum_assignment(costs) if len(patients) >= len(places) else ([], [])
    if len(rows) < len(places) or costs[rows, columns].max() >= _IMPOSSIBLE:
        held = Counter(source for source, _ in best)
        told = ", ".join(f"{held[source]} of {source}" for source in counts)
        raise InputError(
            f"--images: {len(places)} images of different patients do not exist in the pools "
            f"(patients: {told}; {len(patients)} in all); ask for fewer"
        )
    names = list(patients)
    return [best[places[row], names[column]][1] for row, column in zip(rows, columns, strict=True)]


def _draw_feasible(
    num_sources: int, layout: Layout, generator: np.random.Generator
) -> "np.typing.NDArray[np.int64]":
    """An order in which the repeats of every source have room."""
    gap = repeat_gap(num_sources * layout.showings)
    for attempt in range(_TRIES):
        order = draw_order(num_sources, layout.showings, generator)
        try:
            place_repeats(order, layout.repeats, gap, generator)
        except InputError:
            if attempt == _TRIES - 1:
                raise
        else:
            break
    return order


def _fill(
    rows: Sequence[str],
    shared: Sequence[Card],
    own: Sequence[Card],
    layout: Layout,
    generator: np.random.Generator,
) -> list[PlannedTask]:
    """One sequence: an image for every place of the order `rows`, repeats included."""
    numbers = {source: number for number, source in enumerate(dict.fromkeys(rows))}
    order = np.array([numbers[source] for source in rows])
    again = place_repeats(order, layout.repeats, repeat_gap(len(rows)), generator)
    is_shared = {card.token for card in shared}
    left = {}
    for source in numbers:
        cards = [card for card in (*shared, *own) if card.source == source]
        left[source] = [cards[place] for place in generator.permutation(len(cards))]
    shown: list[str] = []
    kinds: list[Kind] = []
    for source, first in zip(rows, again.tolist(), strict=True):
        shown.append(left[source].pop().token if first < 0 else shown[first])
        kinds.append("repeat" if first >= 0 else "shared" if shown[-1] in is_shared else "main")
    return [PlannedTask(image_token=token, kind=kind)
            for token, kind in zip(shown, kinds, strict=True)]  # fmt: skip
