"""Check the rows, file names and data card of a frames folder, without reading pixels."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from echodiff.captions.language import is_cyrillic
from echodiff.data.cards import CARD, read_head
from echodiff.data.check.disclosure import (
    find_identifiers,
    find_name_words,
    is_identifying_age,
    is_identifying_column,
)
from echodiff.data.check.faults import Fault
from echodiff.data.check.tokens import TOKEN_LIMIT, estimate_tokens
from echodiff.data.csv_tables import UNKNOWN
from echodiff.data.folder import has_split_word
from echodiff.data.splits import SPLITS, find_without_patient, patient_of
from echodiff.errors import InputError
from echodiff.files import PARTIAL_PREFIX
from echodiff.frames.layout import MASKS, METADATA
from echodiff.frames.reader import find_mismatches
from echodiff.frames.rows import Frame, scan_rows
from echodiff.images import IMAGE_SUFFIXES, list_pictures

_OWN_COLUMNS = frozenset({"record", "settings", "weights", "seed", "spacing_mm"})
"""Columns written by echodiff: numbers and hashes, some of which look like dates."""
_NO_LICENCE = frozenset({"", "unknown", "none", "null", "tbd", "todo"})


def read_listing(folder: Path) -> tuple[list[Frame], list[Fault]]:
    """Return the valid rows as frames, and the faults of the other rows and of the files.

    InputError if `folder` is not a frames folder, nor an unfinished one.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: {'is not a folder' if folder.exists() else 'no such folder'}")
    faults = [
        Fault("unfinished", path.name, "its command did not finish; run it again")
        for path in sorted(folder.glob("metadata.partial*"))
    ]
    metadata = folder / METADATA
    if not metadata.is_file():
        if not faults:
            raise InputError(f"{folder}: is not a frames folder (no {METADATA})")
        return [], faults
    frames = []
    for number, row in scan_rows(metadata):
        if isinstance(row, InputError):
            faults.append(Fault("broken-row", METADATA, f"line {number}: {row}"))
        else:
            frames.append(row)
    if not frames:
        faults.append(Fault("no-rows", METADATA, "has no usable row"))
    faults += [
        Fault(mismatch.kind, mismatch.file, mismatch.reason)
        for mismatch in find_mismatches(folder, frames)
    ]
    return frames, [*faults, *_find_left_over(folder, frames)]


def find_row_faults(folder: Path, frames: Sequence[Frame]) -> Iterator[Fault]:
    """Find the faults of splits, captions and card, and identifiers in the rows."""
    yield from _find_split_faults(frames)
    for frame in frames:
        if has_split_word(PurePosixPath(frame.file_name).stem):
            message = "`datasets` takes a word in the name for a split, and would drop other files"
            yield Fault("split-word", frame.file_name, message)
        if frame.text.strip().lower() in UNKNOWN:
            message = f"the caption is {frame.text!r}; write an empty text for no caption"
            yield Fault("caption-unknown", frame.file_name, message)
        if (length := estimate_tokens(frame.text)) > TOKEN_LIMIT:
            message = f"about {length} tokens; CLIP reads {TOKEN_LIMIT}"
            yield Fault("caption-too-long", frame.file_name, message)
        if is_cyrillic(frame.text):
            message = "Cyrillic letters; CLIP reads English"
            yield Fault("caption-cyrillic", frame.file_name, message)
    yield from _find_identifiers_in_rows(frames)
    yield from _find_card_faults(folder)


def _find_left_over(folder: Path, frames: Sequence[Frame]) -> Iterator[Fault]:
    named = {folder / frame.mask_file_name for frame in frames if frame.mask_file_name}
    for path in sorted((folder / MASKS).rglob("*")):
        is_mask = path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        if is_mask and path not in named:
            file = path.relative_to(folder).as_posix()
            yield Fault("mask-without-row", file, f"no row of {METADATA} names it")
    aside = list_pictures(folder).aside
    for name, number in sorted(aside.items()):
        yield Fault("no-data-folder", name, f"{number} images in it are ignored")
    for path in sorted(folder.rglob(f"{PARTIAL_PREFIX}*")):
        file = path.relative_to(folder).as_posix()
        yield Fault("left-over", file, "partial file of an interrupted command")


def _find_split_faults(frames: Sequence[Frame]) -> Iterator[Fault]:
    homes: dict[str, Counter[str]] = defaultdict(Counter)
    first: dict[tuple[str, str], str] = {}
    for frame in frames:
        if frame.split is None:
            continue
        if frame.split not in SPLITS:
            message = f"split {frame.split!r} is not one of {', '.join(SPLITS)}"
            yield Fault("unknown-split", frame.file_name, message)
        homes[patient_of(frame)][frame.split] += 1
        first.setdefault((patient_of(frame), frame.split), frame.file_name)
    for patient, counts in homes.items():
        if len(counts) > 1:
            places = " and ".join(f"{split} ({n})" for split, n in counts.most_common())
            rarest = counts.most_common()[-1][0]
            message = f"patient {patient} has frames in {places}"
            yield Fault("patient-in-two-splits", first[patient, rarest], message)
    without = [frame.file_name for frame in frames if frame.split is None]
    if homes and without:
        message = f"{len(without)} of {len(frames)} rows have no split; this is the first"
        yield Fault("split-missing", without[0], message)
    if of_nobody := [frame.file_name for frame in find_without_patient(frames)]:
        message = (
            f"{len(of_nobody)} of {len(frames)} rows have no patient_id: each counts as a "
            "separate patient, so frames of one person may be on both sides of a split"
        )
        yield Fault("patient-missing", of_nobody[0], message)


def _find_identifiers_in_rows(frames: Sequence[Frame]) -> Iterator[Fault]:
    """Find identifiers in all cells; a value that many rows share is reported once."""
    seen: set[tuple[str, Any]] = set()
    for frame in frames:
        for column, cell in frame.to_row().items():
            value = cell if isinstance(cell, str | int | float) else json.dumps(cell)
            is_same = column == "mask_file_name" and Path(str(value)).name in frame.file_name
            if is_same or value == "" or column in _OWN_COLUMNS or (column, value) in seen:
                continue
            seen.add((column, value))
            yield from _find_in_cell(frame.file_name, column, value)


def _find_in_cell(file: str, column: str, value: str | float) -> Iterator[Fault]:
    place = {"file_name": "its name", "text": "its caption"}.get(column, f"column {column}")
    if is_identifying_column(column):
        yield Fault("identifier-column", file, f"{place} identifies people or devices: {value!r}")
        return
    if is_identifying_age(column, value):
        yield Fault("identifier-age", file, f"{place} is {value}")
    if isinstance(value, float):
        return
    for kind, text in find_identifiers(str(value)):
        yield Fault(kind, file, f"{place} contains {text!r}")
    if column in {"file_name", "patient_id"}:
        words = find_name_words(str(value), at_least=1 if column == "patient_id" else 2)
        if words:
            yield Fault("possible-name", file, f"{place} contains {' '.join(words)!r}")


def _find_card_faults(folder: Path) -> Iterator[Fault]:
    if not (folder / CARD).is_file():
        yield Fault("card-missing", CARD, "missing: nobody can tell what the data may be used for")
        return
    try:
        head = read_head(folder / CARD)
    except InputError as error:
        yield Fault("card-missing", CARD, str(error).removeprefix(f"{folder / CARD}: "))
        return
    licence = str(head.get("license") or "").strip().lower()
    if licence in _NO_LICENCE:
        message = f"states license: {licence}" if licence else "states no license"
        yield Fault("licence-unknown", CARD, message)
    elif licence == "other" and not (head.get("license_name") and head.get("license_link")):
        message = "states license: other, without license_name and license_link"
        yield Fault("licence-unknown", CARD, message)
