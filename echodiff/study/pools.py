"""Draw the pool of every source: no image twice, none that a generator was trained on."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from echodiff.data.check.duplicates import RADIUS, Sketch, sketch
from echodiff.data.leaks import TrainedOn, find_leaks
from echodiff.errors import InputError
from echodiff.images import read_gray_u8
from echodiff.progress import ProgressBar
from echodiff.study.candidates import Candidate, SourceFrames, without_patients

TRAINED, DUPLICATE, UNREADABLE = "trained on", "near-duplicate", "unreadable"
SAME = 2
"""Largest number of differing bits, of 576, at which two images of one generator are the same."""
_AT_ONCE = 64


@dataclass
class Pools:
    """What was drawn."""

    main: dict[str, list[Candidate]] = field(default_factory=dict)
    """Images of every source."""
    practice: dict[str, list[Candidate]] = field(default_factory=dict)
    """Practice images of every source, of patients that `main` does not have."""
    removed: dict[str, Counter[str]] = field(default_factory=dict)
    """Frames of every source that were looked at and left out, by reason."""


class Seen:
    """Perceptual hashes of the images that are taken, and their sources."""

    def __init__(self) -> None:
        self._bits: list[Sketch] = []
        self._sources: list[str] = []

    def take(self, one: Sketch, source: str, *, is_generated: bool) -> bool:
        """Whether no image taken before is a near-duplicate of this one, which is then taken.

        Among the images of one generator only the same image counts: that a generator draws one
        heart again and again is what readers shall see, and leaving it out would flatter it.
        """
        if self._bits:
            distances = np.bitwise_count(np.stack(self._bits) ^ one).sum(axis=1)
            is_own = is_generated & (np.array(self._sources) == source)
            if (distances <= np.where(is_own, SAME, RADIUS)).any():
                return False
        self._bits.append(one)
        self._sources.append(source)
        return True


def draw_pools(
    sources: Sequence[SourceFrames], *, pool: int, practice: int, generator: np.random.Generator
) -> Pools:
    """Draw up to `pool` images and `practice` practice images of every source.

    Practice images come first, so that they are there in any case. Near-duplicates (perceptual
    hash, `duplicates.RADIUS`) of an image taken before, in any pool, are left out (`Seen`), and so
    are frames that a generator of this study was trained on: real frames by patient and image,
    generated ones by image.
    """
    trainings = [training for source in sources for training in source.trainings]
    pools, seen = Pools(), Seen()
    orders = {source.name: _shuffle(source.candidates, generator) for source in sources}
    streams = {}
    for source in sources:
        pools.removed[source.name] = Counter()
        known = without_patients(trainings) if source.is_generated else trainings
        streams[source.name] = _sound(
            orders[source.name], known, seen, pools.removed[source.name], source.is_generated
        )
    for source in sources:
        pools.practice[source.name] = _take(streams[source.name], practice, set())
        if len(pools.practice[source.name]) < practice:
            raise InputError(_too_few(source, pools, practice, "--practice"))
    taken = {one.patient for some in pools.practice.values() for one in some}
    with ProgressBar(total=pool * len(sources), desc="pools", unit="image") as bar:
        for source in sources:
            pools.main[source.name] = _take(streams[source.name], pool, taken, bar)
    for source in sources:
        if not pools.main[source.name]:
            raise InputError(_too_few(source, pools, 1, "--pool"))
    return pools


def list_sound(
    source: SourceFrames,
    trainings: Sequence[TrainedOn],
    seen: Seen,
    generator: np.random.Generator,
    removed: Counter[str],
) -> list[Candidate]:
    """All frames of a source that can be used, in random order, every patient once before any
    comes twice; the others are counted."""
    order = _shuffle(source.candidates, generator)
    return list(_sound(order, trainings, seen, removed, source.is_generated))


def _take(
    stream: Iterator[Candidate], count: int, barred: set[str], bar: ProgressBar | None = None
) -> list[Candidate]:
    """The next `count` of a stream whose patients are not barred, or as many as there are."""
    found: list[Candidate] = []
    while len(found) < count and (one := next(stream, None)) is not None:
        if one.patient not in barred:
            found.append(one)
            if bar is not None:
                bar.update()
    return found


def _shuffle(candidates: Sequence[Candidate], generator: np.random.Generator) -> list[Candidate]:
    """Random order in which all patients come once before any comes twice."""
    met: Counter[str] = Counter()
    rounds: list[tuple[int, int, Candidate]] = []
    for place in generator.permutation(len(candidates)):
        one = candidates[place]
        rounds.append((met[one.patient], len(rounds), one))
        met[one.patient] += 1
    return [one for _, _, one in sorted(rounds, key=lambda entry: entry[:2])]


def _sound(
    order: Sequence[Candidate],
    trainings: Sequence[TrainedOn],
    seen: Seen,
    removed: Counter[str],
    is_generated: bool,
) -> Iterator[Candidate]:
    """Candidates in their order without those that are no use, which are counted."""
    for start in range(0, len(order), _AT_ONCE):
        block = []
        for one in order[start : start + _AT_ONCE]:
            try:
                block.append((one, sketch(read_gray_u8(one.path, max_value=one.max_value))))
            except (InputError, OSError):
                removed[UNREADABLE] += 1
        leaked = _find_leaked([one for one, _ in block], trainings)
        for one, bits in block:
            if one.frame.file_name in leaked:
                removed[TRAINED] += 1
            elif bits is None:
                removed["a single grey level"] += 1
            elif not seen.take(bits, one.source, is_generated=is_generated):
                removed[DUPLICATE] += 1
            else:
                yield one


def _find_leaked(block: Sequence[Candidate], trainings: Sequence[TrainedOn]) -> set[str]:
    if not block or not trainings:
        return set()
    folder = block[0].path
    for _ in block[0].frame.file_name.split("/"):
        folder = folder.parent
    leaks = find_leaks(folder, [one.frame for one in block], trainings)
    return {leak.frame.file_name for leak in leaks}


def _too_few(source: SourceFrames, pools: Pools, wanted: int, flag: str) -> str:
    told = ", ".join(f"{n} {why}" for why, n in pools.removed[source.name].items()) or "none"
    return (
        f"--source {source.name}: {len(source.candidates)} frames are too few for {flag} {wanted}; "
        f"left out: {told}"
    )
