"""`echodiff prepare echonet-dynamic`: AVI, FileList.csv, VolumeTracings.csv -> frames.

The layout is read as the data set's own code reads it (github.com/echonet/dynamic), with one
exception: of two traced outlines the larger is end of diastole, whatever the order of the rows.
"""

import itertools
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import View
from echodiff.data.csv_tables import iterate_csv
from echodiff.data.echonet.tracings import (
    CHORDS,
    Lines,
    Outlines,
    TracingTable,
    clip_stem,
    fill_polygon,
    open_tracings,
)
from echodiff.data.prepare_config import PrepareConfig
from echodiff.data.records import Case, DataSet, Facts, Shot, Source
from echodiff.data.video import find_video, read_frames
from echodiff.errors import InputError
from echodiff.progress import ProgressBar

FILES, TRACINGS, VIDEOS = "FileList.csv", "VolumeTracings.csv", "Videos"
FACTS = {"EF": "ef", "EDV": "edv_ml", "ESV": "esv_ml"}
"""Facts by column of FileList.csv."""
SPLITS = {"TRAIN": "train", "VAL": "val", "TEST": "test"}
SPLITS |= {str(fold): "train" for fold in range(8)} | {"8": "val", "9": "test"}
"""Splits by name, or by fold as in EchoNet-Pediatric."""


@dataclass(frozen=True, kw_only=True)
class EchoNetConfig(PrepareConfig):
    """Convert EchoNet-Dynamic to a frames folder: the frames at end of diastole and end of systole,
    with the traced left ventricle as mask. SRC, or a folder below it, holds FileList.csv,
    VolumeTracings.csv and Videos."""

    every: int | None = None
    """Take every k-th frame of a clip, from the first, instead of ED and ES. Traced frames keep
    their masks."""
    first_frame: int = 0
    """Number of a clip's first frame in VolumeTracings.csv: 0 (as the data set's own code reads it)
    or 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every is not None and self.every < 1:
            raise ValueError(f"--every must be at least 1, got {self.every}")
        if self.first_frame not in {0, 1}:
            raise ValueError(f"--first-frame must be 0 or 1, got {self.first_frame}")


def find_clips(config: EchoNetConfig) -> DataSet:
    """Find the clips listed in FileList.csv: all apical four-chamber, each of another patient."""
    roots = find_roots(config.src)
    if len(roots) > 1:
        raise InputError(f"{config.src}: {FILES} is in {roots[0]} and in {roots[1]}; name one")
    [root] = roots
    table = open_tracings(root / TRACINGS, CHORDS, first_frame=config.first_frame)
    folder = ClipFolder(root, View.A4C, FACTS, table)
    return DataSet(
        name="echonet-dynamic",
        card="echonet-dynamic",
        modality="echo",
        cases=ClipList([folder]),
        read=partial(read_clip, every=config.every),
        listings=folder.listings,
    )


def find_roots(src: Path) -> list[Path]:
    """Find the folders in and below `src` that hold a FileList.csv.

    Symbolic links are followed, each folder once, because links may form a cycle.
    """
    if not src.is_dir():
        raise InputError(f"{src}: no such folder")
    roots = []
    seen = set()
    for folder, folders, files in os.walk(src, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(set(folders) - {VIDEOS})
        if FILES in files:
            roots.append(Path(folder))
    if not roots:
        raise InputError(f"{src}: holds no {FILES}")
    return roots


@dataclass(frozen=True)
class ClipFolder:
    """FileList.csv, VolumeTracings.csv and Videos of one view."""

    root: Path
    view: View
    facts: Mapping[str, str]
    """Fact by the column of FileList.csv."""
    table: TracingTable
    prefix: str = ""
    """Prefix of the names of its frames."""

    @property
    def listings(self) -> list[Path]:
        return [self.root / FILES, self.root / TRACINGS]

    def list_clips(self) -> Iterator["Clip"]:
        """Yield the clips of FileList.csv; report on stderr how many clips are traced but not
        listed.

        InputError for a row without a file name, and for a file name that appears twice.
        """
        lines: dict[str, tuple[Lines, ...]] = {}
        for stem, place in self.table.scan():
            lines[stem] = (*lines.get(stem, ()), place)
        path, seen = self.root / FILES, set[str]()
        for number, row in iterate_csv(path, needed=("FileName", *self.facts, "Split")):
            stem = clip_stem(row["FileName"])
            if not stem or stem in seen:
                reason = f"{stem} comes twice" if stem else "names no file"
                raise InputError(f"{path}, line {number}: {reason}")
            seen.add(stem)
            try:
                facts, problem = read_facts(row, self.facts), None
            except InputError as error:
                facts, problem = {}, f"{path}: {stem}: {error}"
            split = SPLITS.get(row["Split"].strip().upper())
            yield Clip(self, stem, split, facts, lines.get(stem, ()), problem)
        if unlisted := lines.keys() - seen - {""}:
            text = f"{self.table.path}: traces {len(unlisted)} clips that are not in {FILES}"
            ProgressBar.write(f"{text}, such as {min(unlisted)}", file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Clip:
    """One row of FileList.csv, and where its tracing lies."""

    folder: ClipFolder
    stem: str
    """Name of its video without the suffix."""
    split: str | None
    facts: Facts
    lines: tuple[Lines, ...]
    """In `folder.table`."""
    problem: str | None

    @property
    def name(self) -> str:
        return self.folder.prefix + plain_name(self.stem)

    def build_case(self) -> Case:
        return Case(
            name=self.name,
            path=find_video(self.folder.root / VIDEOS / self.stem),
            patient_id=name_patient(self.stem),
            alias=self.stem,
            split=self.split,
            view=self.folder.view,
            facts=self.facts,
            where=(self.folder.table, self.lines),
            problem=self.problem,
        )


class ClipList(Sequence[Case]):
    """Cases sorted by the names of their frames, each built on access.

    Only the rows are stored: a case holds a path, which takes about 1 kB.
    """

    def __init__(self, folders: Iterable[ClipFolder]) -> None:
        clips = (clip for folder in folders for clip in folder.list_clips())
        # What follows a case in the name of a frame decides on the order, too.
        self._clips = sorted(clips, key=lambda clip: (f"{clip.name}_", clip.stem))

    def __len__(self) -> int:
        return len(self._clips)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> list[Case]: ...
    def __getitem__(self, index: int | slice) -> Case | list[Case]:
        if isinstance(index, slice):
            return [clip.build_case() for clip in self._clips[index]]
        return self._clips[index].build_case()


def read_facts(row: Mapping[str, str], columns: Mapping[str, str]) -> dict[str, str | float]:
    """Read the facts of a row; empty cells, NaN, and a sex other than F and M are omitted."""
    facts: dict[str, str | float] = {}
    for column, fact in columns.items():
        text = row[column].strip()
        if fact == "sex":
            if text in {"F", "M"}:
                facts[fact] = text
            continue
        try:
            value = float(text or "nan")
        except ValueError as error:
            raise InputError(f"{column} is {text!r}, not a number") from error
        if math.isfinite(value):
            facts[fact] = value
    return facts


def name_patient(stem: str) -> str:
    """Derive the patient from the name of a clip.

    Clips of EchoNet-Pediatric are named PATIENT-EXAM-NUMBER, as in the code that made the data set.
    A clip with a name of another form counts as a patient of its own, as in EchoNet-Dynamic.
    """
    match = re.fullmatch(r"(CR\w+)-CR\w+-\d+", stem)
    return match[1] if match else stem


def plain_name(stem: str) -> str:
    """Replace characters other than letters, digits, `-`, `_` and `.` by their code."""
    return re.sub(r"[^A-Za-z0-9._-]", lambda match: f"-{ord(match[0]):x}", stem)


def read_clip(case: Case, *, every: int | None) -> Iterator[Shot]:
    """Read ED and ES with their masks, or every k-th frame."""
    table, lines = case.where
    outlines = table.read(lines)
    if every is not None:
        for index, image in read_frames(case.path, itertools.count(0, every)):
            yield build_shot(case, outlines, index, image, str(index))
        return
    phases = outlines.name_phases()
    if not phases:
        raise InputError(f"{case.path}: has no tracing in {table.path}")
    images = dict(read_frames(case.path, sorted(phases)))
    for index in sorted(phases, key=phases.__getitem__):
        if index not in images:
            raise InputError(f"{case.path}: has no frame {index}, which is traced")
        yield build_shot(case, outlines, index, images[index], phases[index])


def build_shot(
    case: Case, outlines: Outlines, index: int, image: NDArray[np.uint8], phase: str
) -> Shot:
    """Build a frame, with its mask if it was traced."""
    mask = None
    if index in outlines.polygons:
        mask = fill_polygon(outlines.polygons[index], image.shape)
        if not mask.any():
            raise InputError(f"{case.path}: frame {index} is traced outside the image")
    name = f"frame-{index:04d}" if phase.isdigit() else phase
    return Shot(name=name, image_u8=image, mask_u8=mask, phase=phase)


SOURCE = Source(EchoNetConfig, find_clips)
