"""Group frames of MR files by patient, series, slice and heart beat."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from echodiff.data.dicom.frames import Place
from echodiff.data.dicom.headers import Header, natural_key

OFF_SLICE_MM = 0.5
"""Distance up to which two frames lie in one slice; a quarter of the slices' thickness if less."""
OFF_AXES = 0.01
"""Difference of direction cosines up to which two frames lie in one plane: half a degree."""

Item = TypeVar("Item")


class Shown(NamedTuple):
    """A frame and its file."""

    header: Header
    place: Place


class Group(NamedTuple):
    """Frames of one case: one slice of a series in order of time, or a whole file."""

    name: str
    headers: Sequence[Header]
    frames: Sequence[tuple[Path, int]] = ()
    """Path and index of each frame of a series."""


def list_files_alone(headers: Sequence[Header]) -> Iterator[Group]:
    """Make ultrasound clips and bad files groups of their own."""
    numbers = Counter[str]()
    for header in headers:
        if not header.places:
            kind = "file" if header.problem is not None else "clip"
            numbers[kind] += 1
            yield Group(f"{kind}-{numbers[kind]:04d}", [header])


def group_frames(headers: Sequence[Header]) -> Iterator[Group]:
    """Group frames into cines, ordered by the first file of a series, then along the slice normal.

    Frames of a group share patient, study, series, image type, echo, polarity, size, plane and
    position, and also the acquisition number if that distinguishes acquisitions.
    """
    shown = [Shown(header, place) for header in headers for place in header.places]
    series: dict[Hashable, list[list[Shown]]] = defaultdict(list)
    for key, alike in collect(shown, lambda one: (one.header.series, one.place.kind)).items():
        for slice_frames in split_slices(alike):
            for part, frames in split_beats(slice_frames).items():
                series[key, part].append(frames)
    for number, slices in enumerate(series.values(), start=1):
        for place, frames in enumerate(sorted(slices, key=find_depth), start=1):
            suffix = f"-slice-{place:02d}" if len(slices) > 1 else ""
            ordered = sort_by_time(frames)
            files = {one.header.path: one.header for one in ordered}
            where = [(one.header.path, one.place.frame) for one in ordered]
            yield Group(f"series-{number:04d}{suffix}", list(files.values()), where)


def collect(items: Iterable[Item], key: Callable[[Item], Hashable]) -> dict[Hashable, list[Item]]:
    """Group items by key, in the order in which keys first occur."""
    groups: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def split_slices(frames: Sequence[Shown]) -> list[list[Shown]]:
    """Group frames by plane and position, within a tolerance of the first frame of a slice."""
    slices: list[list[Shown]] = []
    for one in frames:
        for known in slices:
            if is_one_slice(known[0].place, one.place):
                known.append(one)
                break
        else:
            slices.append([one])
    return slices


def is_one_slice(first: Place, second: Place) -> bool:
    for known, other in (
        (first.position_mm, second.position_mm),
        (first.axes, second.axes),
    ):
        if (known is None) != (other is None):
            return False
    if (
        first.axes is not None
        and second.axes is not None
        and np.abs(np.subtract(first.axes, second.axes)).max() > OFF_AXES
    ):
        return False
    if first.position_mm is None or second.position_mm is None:
        return True
    distance = float(np.linalg.norm(np.subtract(first.position_mm, second.position_mm)))
    return distance <= min(OFF_SLICE_MM, (first.thickness_mm or np.inf) / 4)


def split_beats(frames: Sequence[Shown]) -> dict[Hashable, list[Shown]]:
    """Split the frames of a slice by acquisition; then by turn if every time occurs equally often.

    Some scanners number every frame as an acquisition; a number counts only if its frames have
    several times.
    """
    by_number = collect(frames, lambda one: one.place.acquisition)
    counts_frames = all(len({one.place.time_ms for one in own}) == 1 for own in by_number.values())
    if all(one.place.time_ms is None for one in frames):
        counts_frames = all(len(own) == 1 for own in by_number.values())
    parts: dict[Hashable, list[Shown]] = {}
    for number, own in ({"": list(frames)} if counts_frames else by_number).items():
        times = collect(sorted(own, key=_order), lambda one: one.place.time_ms)
        repeats = {len(same) for same in times.values()}
        if len(times) < 2 or len(repeats) > 1 or None in times:
            parts[number, 0] = own
            continue
        for turn in range(repeats.pop()):
            parts[number, turn] = [same[turn] for same in times.values()]
    return parts


def sort_by_time(frames: Sequence[Shown]) -> list[Shown]:
    """Sort by time since the R wave; if times are missing or repeated, by number, then name."""
    times = [one.place.time_ms for one in frames]
    if None in times or len(set(times)) < len(times):
        return sorted(frames, key=_order)
    return sorted(frames, key=lambda one: one.place.time_ms or 0.0)


def find_depth(frames: Sequence[Shown]) -> tuple[tuple[float, ...], float]:
    """Return the rounded axes of a slice, and its position along its normal in mm."""
    place = frames[0].place
    if place.position_mm is None or place.axes is None:
        return (), 0.0 if place.position_mm is None else place.position_mm[2]
    normal = np.cross(place.axes[:3], place.axes[3:])
    axes = tuple(round(part, 1) for part in place.axes)
    return axes, float(normal @ np.array(place.position_mm))


def drop_copies(headers: Sequence[Header]) -> tuple[list[Header], int]:
    """Drop headers of copied files; also return how many were dropped."""
    kept: list[Header] = []
    seen = set()
    for header in headers:
        if header.instance is None or header.instance not in seen:
            kept.append(header)
        seen.add(header.instance)
    return kept, len(headers) - len(kept)


def _order(one: Shown) -> tuple[object, ...]:
    return (*one.place.order, natural_key(one.header.path))
