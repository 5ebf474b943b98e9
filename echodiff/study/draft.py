"""Draw the images and sequences of a study, before a file of it is written."""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echodiff.images import read_gray_u8
from echodiff.study.candidates import Candidate, SourceFrames, find_smallest_side
from echodiff.study.crossover import Case, lay_out_paired
from echodiff.study.equality import Standard, choose_side, find_standard
from echodiff.study.init_config import StudyInitConfig
from echodiff.study.pairs import draw_pairs
from echodiff.study.plan import PlannedTask, Pool
from echodiff.study.pools import draw_pools
from echodiff.study.sequences import Card, Layout, count_sequences, lay_out_rating

TOKEN_BYTES = 12


@dataclass(frozen=True)
class Entry:
    """An image of the study, and where it comes from."""

    card: Card
    candidate: Candidate
    pool: Pool
    truth: str | None = None


@dataclass(frozen=True)
class Draft:
    """A study without its files."""

    entries: list[Entry]
    """By token."""
    sequences: list[list[PlannedTask]]
    standards: Mapping[str, Standard]
    """What makes the images of each source technically equal."""
    diagnoses: tuple[str, ...]
    """True findings that occur, the normal heart first; empty in a rating study."""
    notes: dict[str, Any]
    """What was drawn and left out, for the record."""


def draw_study(config: StudyInitConfig, sources: Sequence[SourceFrames]) -> Draft:
    """Draw the pools, the sequences and the common standard; every step has its own stream."""
    return _draw_paired(config, sources) if config.design == "paired" else _draw_rating(
        config, sources
    )  # fmt: skip


def _draw_rating(config: StudyInitConfig, sources: Sequence[SourceFrames]) -> Draft:
    pools = draw_pools(
        sources, pool=config.pool, practice=config.practice, generator=_stream(config, 0)
    )
    chosen: list[tuple[Candidate, Pool]] = []
    for name in config.names:
        chosen += [(one, "practice") for one in pools.practice[name]]
        chosen += [(one, "main") for one in pools.main[name]]
    drawn = [one for one, _ in chosen]
    cards = deal_cards(drawn, _secret_stream(config, 1, drawn))
    entries = [Entry(card, one, pool) for card, (one, pool) in zip(cards, chosen, strict=True)]
    sequences, shared = lay_out_rating(
        [entry.card for entry in entries if entry.pool == "main"],
        [entry.card for entry in entries if entry.pool == "practice"],
        Layout(config.images, config.shared, config.repeats),
        count_sequences(config.readers, len(sources)),
        _secret_stream(config, 2, drawn),
    )
    entries = [
        replace(entry, pool="shared") if entry.card.token in shared else entry for entry in entries
    ]
    read = {
        name: [reader(entry.candidate) for entry in entries if entry.card.source == name]
        for name in config.names
    }
    standard = find_standard(
        read, side=find_side(config, sources), grey=config.grey, quality=config.quality
    )
    notes = {
        "available": {source.name: len(source.candidates) for source in sources},
        "drawn": {name: len(some) for name, some in pools.main.items()},
        "left_out": {name: dict(counts) for name, counts in pools.removed.items()},
    }
    standards = dict.fromkeys(config.names, standard)
    return Draft(_by_token(entries), sequences, standards, (), notes)


def _draw_paired(config: StudyInitConfig, sources: Sequence[SourceFrames]) -> Draft:
    pairs, diagnoses, notes = draw_pairs(
        *sources, column=config.truth, cases=config.images, practice=config.practice,
        generator=_stream(config, 0),
    )  # fmt: skip
    flat = [one for pair in pairs for one in (pair.real, pair.companion)]
    cards = deal_cards(flat, _secret_stream(config, 1, flat))
    entries, cases = list[Entry](), dict[bool, list[Case]]({True: [], False: []})
    for pair, real, companion in zip(pairs, cards[::2], cards[1::2], strict=True):
        pool: Pool = "practice" if pair.is_practice else "shared"
        entries.append(Entry(real, pair.real, pool, pair.truth))
        entries.append(Entry(companion, pair.companion, "companion"))
        cases[pair.is_practice].append(Case(real.token, companion.token))
    sequences = lay_out_paired(
        cases[False], cases[True], config.sittings, count_sequences(config.readers, 2),
        _secret_stream(config, 2, flat),
    )  # fmt: skip
    # Echo and MR share neither field nor levels: each source has a standard of its own.
    side = find_side(config, sources)
    standards = {
        name: find_standard(
            {name: [reader(entry.candidate) for entry in entries if entry.card.source == name]},
            side=side, grey=config.grey, quality=config.quality,
        )
        for name in config.names
    }  # fmt: skip
    return Draft(_by_token(entries), sequences, standards, diagnoses, notes)


def deal_cards(candidates: Sequence[Candidate], generator: np.random.Generator) -> list[Card]:
    """Give every image a random token; patients keep their key."""
    tokens = [generator.bytes(TOKEN_BYTES).hex() for _ in candidates]
    assert len(set(tokens)) == len(tokens)
    return [Card(token, one.source, one.patient)
            for token, one in zip(tokens, candidates, strict=True)]  # fmt: skip


def find_side(config: StudyInitConfig, sources: Sequence[SourceFrames]) -> int:
    """Side of all images, in pixels; warns if --size enlarges some."""
    smallest = find_smallest_side(sources)
    if config.size is None:
        return choose_side(smallest)
    if config.size > smallest:
        warnings.warn(
            f"--size {config.size}: the smallest image has {smallest} pixels and is enlarged, "
            "which can be seen",
            stacklevel=2,
        )
    return config.size


def reader(candidate: Candidate) -> Callable[[], NDArray[np.uint8]]:
    """A function that reads the image (H, W) of a frame."""
    return partial(read_gray_u8, candidate.path, max_value=candidate.max_value)


def _stream(config: StudyInitConfig, step: int) -> np.random.Generator:
    return np.random.default_rng([config.seed, 10 + step])


def _secret_stream(
    config: StudyInitConfig, step: int, drawn: Sequence[Candidate]
) -> np.random.Generator:
    """A stream that depends on the image files too: from the seed alone, which is 0 in most
    studies, anybody could compute which identifiers are the real images' and the order of sources.
    """
    digest = hashlib.sha256()
    for one in drawn:
        digest.update(hashlib.sha256(one.path.read_bytes()).digest())
    return np.random.default_rng([config.seed, 10 + step, int.from_bytes(digest.digest())])


def _by_token(entries: Sequence[Entry]) -> list[Entry]:
    """Files are written in this order, which tells nothing."""
    return sorted(entries, key=lambda entry: entry.card.token)
