"""Faults of a frames folder that its rows, file names and card tell, without reading pixels."""

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
"""What this software wrote there are numbers and hashes, of which some look like dates."""
_NO_LICENCE = frozenset({"", "unknown", "none", "null", "tbd", "todo"})


def read_listing(folder: Path) -> tuple[list[Frame], list[Fault]]:
    """Frames of all rows that can be read, and what is wrong with the others and with the files.

    InputError where there is no frames folder, not even one that was begun.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: {'is no folder' if folder.exists() else 'no such folder'}")
    faults = [
        Fault("unfinished", path.name, "the command that writes this folder did not end")
        for path in sorted(folder.glob("metadata.partial*"))
    ]
    metadata = folder / METADATA
    if not metadata.is_file():
        if not faults:
            raise InputError(f"{folder}: is no frames folder (no {METADATA})")
        return [], faults
    frames = []
    for number, row in scan_rows(metadata):
        if isinstance(row, InputError):
            faults.append(Fault("broken-row", METADATA, f"line {number}: {row}"))
        else:
            frames.append(row)
    if not frames:
        faults.append(Fault("no-rows", METADATA, "holds no row that can be used"))
    faults += [
        Fault(mismatch.kind, mismatch.file, mismatch.reason)
        for mismatch in find_mismatches(folder, frames)
    ]
    return frames, [*faults, *_find_left_over(folder, frames)]


def find_row_faults(folder: Path, frames: Sequence[Frame]) -> Iterator[Fault]:
    """Splits, captions, identifiers in words, and the card."""
    yield from _find_split_faults(frames)
    for frame in frames:
        if has_split_word(PurePosixPath(frame.file_name).stem):
            message = "datasets would take a word of its name for a split, and drop other files"
            yield Fault("split-word", frame.file_name, message)
        if frame.text.strip().lower() in UNKNOWN:
            message = f"the caption is {frame.text!r}; no caption is the empty text"
            yield Fault("caption-unknown", frame.file_name, message)
        if (length := estimate_tokens(frame.text)) > TOKEN_LIMIT:
            message = f"about {length} tokens, of which CLIP reads {TOKEN_LIMIT}"
            yield Fault("caption-too-long", frame.file_name, message)
        if is_cyrillic(frame.text):
            message = "Cyrillic letters; CLIP reads English"
            yield Fault("caption-cyrillic", frame.file_name, message)
    yield from _find_words_that_tell(frames)
    yield from _find_card_faults(folder)


def _find_left_over(folder: Path, frames: Sequence[Frame]) -> Iterator[Fault]:
    named = {folder / frame.mask_file_name for frame in frames if frame.mask_file_name}
    for path in sorted((folder / MASKS).rglob("*")):
        is_mask = path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        if is_mask and path not in named:
            file = path.relative_to(folder).as_posix()
            yield Fault("mask-without-row", file, f"mask that no row of {METADATA} names")
    aside = list_pictures(folder).aside
    for name, number in sorted(aside.items()):
        yield Fault("no-data-folder", name, f"{number} pictures there are no frames")
    for path in sorted(folder.rglob(f"{PARTIAL_PREFIX}*")):
        file = path.relative_to(folder).as_posix()
        yield Fault("left-over", file, "half a file, of a command that was killed")


def _find_split_faults(frames: Sequence[Frame]) -> Iterator[Fault]:
    homes: dict[str, Counter[str]] = defaultdict(Counter)
    first: dict[tuple[str, str], str] = {}
    for frame in frames:
        if frame.split is None:
            continue
        if frame.split not in SPLITS:
            message = f"split {frame.split!r} is none of {', '.join(SPLITS)}"
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
            f"{len(of_nobody)} of {len(frames)} rows have no patient_id: each counts as a patient "
            "of its own, and one person's frames may be on both sides of a split"
        )
        yield Fault("patient-missing", of_nobody[0], message)


def _find_words_that_tell(frames: Sequence[Frame]) -> Iterator[Fault]:
    """Identifiers in the cells of all rows; a value that many rows share is told once."""
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
        yield Fault("identifier-column", file, f"{place} is of a kind that identifies: {value!r}")
        return
    if is_identifying_age(column, value):
        yield Fault("identifier-age", file, f"{place} says {value}")
    if isinstance(value, float):
        return
    for kind, text in find_identifiers(str(value)):
        yield Fault(kind, file, f"{place} holds {text!r}")
    if column in {"file_name", "patient_id"}:
        words = find_name_words(str(value), at_least=1 if column == "patient_id" else 2)
        if words:
            yield Fault("possible-name", file, f"{place} holds {' '.join(words)!r}")


def _find_card_faults(folder: Path) -> Iterator[Fault]:
    if not (folder / CARD).is_file():
        yield Fault("card-missing", CARD, "is not there: what the data may be used for is unsaid")
        return
    try:
        head = read_head(folder / CARD)
    except InputError as error:
        yield Fault("card-missing", CARD, str(error).removeprefix(f"{folder / CARD}: "))
        return
    licence = str(head.get("license") or "").strip().lower()
    if licence in _NO_LICENCE:
        said = f"license: {licence}" if licence else "no licence"
        yield Fault("licence-unknown", CARD, f"says {said}")
    elif licence == "other" and not (head.get("license_name") and head.get("license_link")):
        message = "says license: other, without license_name and license_link"
        yield Fault("licence-unknown", CARD, message)
