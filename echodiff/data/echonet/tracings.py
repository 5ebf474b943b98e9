"""VolumeTracings.csv of the EchoNet data sets: outlines of the left ventricle.

Coordinates are pixels, x to the right and y down, with whole numbers at the pixel centres, as in
the code that made the data sets.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label, Phase
from echodiff.data.video import SUFFIXES
from echodiff.errors import InputError

CHORDS = ("X1", "Y1", "X2", "Y2")
"""A row is a chord across the ventricle; the first row of a frame is the long axis."""
POINTS = ("X", "Y")
"""A row is a point of the outline."""
_NOT_THERE = {"no diastolic": Phase.ED, "no systolic": Phase.ES}


@dataclass(frozen=True)
class Outlines:
    """The outlines of one clip."""

    polygons: dict[int, NDArray[np.float64]]
    """(N, 2) of x and y, by the index of the frame."""
    untraced: frozenset[Phase] = frozenset()
    """Phases that the table marks as not traced."""

    def name_phases(self) -> dict[int, str]:
        """Name the phase of every traced frame: the largest outline is ED and the smallest ES.

        A single outline has the phase that the table does not mark as not traced. If the table
        marks none, the frame is named by its index, because its phase is unknown.
        """
        order = sorted(self.polygons, key=lambda frame: polygon_area(self.polygons[frame]))
        if len(order) > 1:
            return {order[0]: Phase.ES, order[-1]: Phase.ED}
        left = set(Phase) - self.untraced
        return {frame: left.pop() if len(left) == 1 else str(frame) for frame in order}


class Lines(NamedTuple):
    """Contiguous lines of a table, in bytes."""

    start: int
    size: int


@dataclass(frozen=True)
class TracingTable:
    """A VolumeTracings.csv, tens of megabytes large, that is read one clip at a time."""

    path: Path
    header: tuple[str, ...]
    coordinates: tuple[str, ...]
    """`CHORDS` or `POINTS`."""
    first_frame: int
    """Number of a clip's first frame in the table."""

    def scan(self) -> Iterator[tuple[str, Lines]]:
        """Yield the name of each clip, without its suffix, and the place of its lines.

        A clip is yielded once per contiguous block of lines.
        """
        column = self.header.index("FileName")
        try:
            with self.path.open("rb") as file:
                place = begun = len(file.readline())
                name = b""
                for line in file:
                    cells = line.split(b",", column + 1)
                    key = cells[column] if column < len(cells) else b""
                    if key != name:
                        yield clip_stem(name.decode("utf-8")), Lines(begun, place - begun)
                        name, begun = key, place
                    place += len(line)
                yield clip_stem(name.decode("utf-8")), Lines(begun, place - begun)
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path}: {error}") from error

    def read(self, lines: Sequence[Lines]) -> Outlines:
        """Read the outlines of the clip with these lines."""
        text = ""
        try:
            with self.path.open("rb") as file:
                for start, size in lines:
                    file.seek(start)
                    text += file.read(size).decode("utf-8")
            table = list(csv.reader(io.StringIO(text, newline="")))
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{self.path}: {error}") from error
        rows: dict[int, list[list[float]]] = {}
        untraced = set()
        for row in table:
            if len(row) != len(self.header):
                raise InputError(f"{self.path}: {','.join(row)}: has another number of columns")
            cells = dict(zip(self.header, map(str.strip, row), strict=True))
            frame, place = cells["Frame"], [cells[name] for name in self.coordinates]
            if frame.lower() in _NOT_THERE:
                untraced.add(_NOT_THERE[frame.lower()])
            elif frame and all(place):
                try:
                    index, values = int(frame) - self.first_frame, [float(text) for text in place]
                except ValueError as error:
                    raise InputError(f"{self.path}: {','.join(row)}: {error}") from error
                if not np.isfinite(values).all():
                    raise InputError(f"{self.path}: {','.join(row)}: is not finite")
                rows.setdefault(index, []).append(values)
        polygons = {index: self._outline(values) for index, values in rows.items()}
        for index, polygon in polygons.items():
            if index < 0:
                raise InputError(f"{self.path}: traces a frame before {self.first_frame}")
            if not polygon_area(polygon) > 0:
                raise InputError(f"{self.path}: an empty tracing")
        return Outlines(polygons, frozenset(untraced))

    def _outline(self, rows: list[list[float]]) -> NDArray[np.float64]:
        values = np.asarray(rows)
        if self.coordinates == POINTS:
            return values
        chords = values[1:]
        return np.concatenate([chords[:, :2], chords[::-1, 2:]])


def open_tracings(path: Path, coordinates: tuple[str, ...], *, first_frame: int) -> TracingTable:
    """Open a table and read its header; InputError if a column is missing."""
    try:
        with path.open("rb") as file:
            cells = next(csv.reader([file.readline().decode("utf-8-sig")]), [])
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
    header = tuple(cell.strip() for cell in cells)
    for name in ("FileName", *coordinates, "Frame"):
        if name not in header:
            raise InputError(f"{path}: has no column {name}")
    return TracingTable(path, header, coordinates, first_frame)


def clip_stem(name: str) -> str:
    """Return a clip's name without quotes and suffix, which the tables use inconsistently."""
    name = name.strip().strip('"').strip()
    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in SUFFIXES else name


def polygon_area(polygon: NDArray[np.float64]) -> float:
    """Return the area in square pixels of a polygon (N, 2), by the shoelace formula."""
    (x, y), (next_x, next_y) = polygon.T, np.roll(polygon, -1, axis=0).T
    return abs(float(x @ next_y - y @ next_x)) / 2


def fill_polygon(polygon: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Fill a polygon: (H, W) mask with `Label.LV` where a pixel's centre lies inside it, clipped to
    the image."""
    from skimage.draw import polygon as draw_polygon

    mask = np.full(shape, Label.BACKGROUND, dtype=np.uint8)
    rows, columns = draw_polygon(polygon[:, 1], polygon[:, 0], shape)
    mask[rows, columns] = Label.LV
    return mask
