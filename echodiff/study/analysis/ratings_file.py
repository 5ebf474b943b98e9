"""Read ratings and readers from CSV, as `echodiff study export` and spreadsheets write them.

Comma, semicolon or tab; UTF-8 or UTF-16, with or without a byte order mark.
"""

from __future__ import annotations

import csv
import io
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from echodiff.errors import InputError
from echodiff.study.analysis.ratings import (
    MIN_READERS,
    SCORES,
    Floats,
    Mask,
    Ratings,
    Reading,
    Study,
    build_ratings,
    find_flat_readers,
    join,
)
from echodiff.study.analysis.reader_auc import compute_reader_aucs
from echodiff.study.columns import TICK_BOXES

KINDS = ("main", "shared", "repeat")
PRACTICE = "practice"
WITHDRAWN = frozenset({"withdrawn", "erased"})
"""States of readers whose ratings are not analysed."""
FINISHED = frozenset({"", "done", "completed"})
CONDITIONS = {"without": False, "with": True}
"""Values of the column `condition` in a paired design: was a generated image shown beside?"""
_YES, _NO = frozenset({"1", "true", "yes", "x"}), frozenset({"0", "false", "no", ""})


Rows = Sequence[tuple[int, Mapping[str, str]]]
"""Rows by column, each with its line number."""


@dataclass(frozen=True)
class Table:
    """A CSV file: its rows by column name, in lower case, with their line numbers."""

    path: Path
    columns: tuple[str, ...]
    rows: Rows

    def need(self, *columns: str) -> None:
        """Raise InputError for a column that is missing."""
        for column in columns:
            if column not in self.columns:
                raise InputError(
                    f"{self.path}: has no column {column}; it has {', '.join(self.columns)}"
                )

    def fail(self, line: int, text: str) -> InputError:
        """Build the error of a line."""
        return InputError(f"{self.path}: line {line}: {text}")


def read_table(path: Path) -> Table:
    """Read a CSV file; InputError names the file and line of what is wrong."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected a CSV file")
    text = _decode(path)
    start = text.split("\n", 1)[0].rstrip("\r")
    skipped = 0
    if start.lower().startswith("sep="):  # the line by which Excel names its separator
        text, skipped = text.partition("\n")[2], 1
        start = text.split("\n", 1)[0]
    separator = max(",;\t", key=start.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        columns = tuple(name.strip().lower() for name in next(lines, []))
        if "" in columns[:-1] or len(set(columns)) < len(columns) or len(columns) < 2:
            raise InputError(f"{path}: the first line must be names of columns, all different")
        rows = []
        for values in lines:
            line = lines.line_num + skipped
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(columns):
                raise InputError(
                    f"{path}: line {line}: has {len(values)} values for {len(columns)} columns"
                )
            # One form of each letter: other systems write й as two signs, and a name is one.
            cells = (unicodedata.normalize("NFC", value.strip()) for value in values)
            rows.append((line, dict(zip(columns, cells, strict=True))))
    except csv.Error as error:
        raise InputError(f"{path}: line {lines.line_num + skipped}: {error}") from error
    if not rows:
        raise InputError(f"{path}: has no rows")
    return Table(path, columns, tuple(rows))


def read_study(path: Path, *, real: str, readers: Path | None = None) -> Study:
    """Read and check the ratings of a study.

    real: source of the real images. readers: CSV with a row per reader. Ratings of practice images
    and of readers who withdrew, and rows without a score, are left out; `notes` counts them. Rows
    with a condition, with or without, are diagnoses of a paired design, and not of realism.
    """
    table = read_table(path)
    table.need("reader", "source", "image", "score")
    known = {} if readers is None else _read_readers(readers)
    notes: list[str] = []
    rows = _leave_out(table, known, notes)
    _refuse_duplicates(table, rows)
    if readers is not None:
        _check_known(table, rows, known, readers)
    rated: list[tuple[int, Mapping[str, str]]] = []
    paired: list[tuple[int, Mapping[str, str]]] = []
    for line, row in rows:
        condition = row.get("condition", "").lower()
        if condition and condition not in CONDITIONS:
            raise table.fail(line, f"condition {condition}: must be empty, without or with")
        (paired if condition else rated).append((line, row))
    ratings = _build(table, rated, known, real) if rated else None
    if ratings is not None:
        notes += _describe(ratings, known)
    diagnoses = _read_diagnoses(table, paired, notes) if paired else None
    return Study(ratings=ratings, diagnoses=diagnoses, notes=tuple(notes))


def read_ratings(path: Path, *, real: str, readers: Path | None = None) -> Ratings:
    """Read the ratings of realism of a study; InputError if it has none."""
    study = read_study(path, real=real, readers=readers)
    if study.ratings is None:
        raise InputError(f"{path}: has diagnoses only, no ratings of realism")
    return study.ratings


def _build(table: Table, rows: Rows, known: Mapping[str, Mapping[str, str]], real: str) -> Ratings:
    scores = [_read_score(table, line, row["score"]) for line, row in rows]
    people = [row["reader"] for _, row in rows]
    if len({*people}) < MIN_READERS:
        raise InputError(f"{table.path}: has ratings of one reader alone; 2 or more are needed")
    _check_sources(table, rows)
    try:
        built = build_ratings(people, [row["source"] for _, row in rows], scores, real=real,
                              images=[row["image"] for _, row in rows])  # fmt: skip
    except InputError as error:
        raise InputError(f"{table.path}: {error}") from error
    if not np.isfinite(compute_reader_aucs(built)).any():
        raise InputError(f"{table.path}: no reader rated both real and generated images")
    if len(np.unique(built.score)) == 1:
        raise InputError(f"{table.path}: every score is {scores[0]}: there is nothing to analyse")
    return replace(
        built,
        patients=_read_patients(table, rows, built.images),
        trial=_read_trials(table, rows),
        kind=tuple(row.get("kind") or "main" for _, row in rows),
        seconds=_read_seconds(table, rows),
        ticks={name: _read_ticks(table, rows, name)
               for name in TICK_BOXES if name in table.columns},
        experience_years=_read_column(known, built.readers, "experience_years"),
        weekly_readings=_read_column(known, built.readers, "weekly_readings"),
    )  # fmt: skip


# --- Rows -----------------------------------------------------------------------------------------


def _leave_out(table: Table, known: Mapping[str, Mapping[str, str]], notes: list[str]) -> Rows:
    """Return the rows to analyse, and note how many others there are and why."""
    kept: list[tuple[int, Mapping[str, str]]] = []
    num_practice, unrated, withdrawn = 0, Counter[str](), Counter[str]()
    for line, row in table.rows:
        for column in ("reader", "image"):
            if not row[column]:
                raise table.fail(line, f"{column} is empty")
        kind = row.get("kind") or "main"
        if kind not in (*KINDS, PRACTICE):
            raise table.fail(line, f"kind {kind}: must be {', '.join((*KINDS, PRACTICE))}")
        state = known.get(row["reader"], {}).get("state", "") or row.get("state", "")
        if kind == PRACTICE:
            num_practice += 1
        elif state.lower() in WITHDRAWN:
            withdrawn[row["reader"]] += 1
        elif not row["score"]:
            unrated[row["reader"]] += 1
        else:
            kept.append((line, row))
    if num_practice:
        notes.append(f"{num_practice} ratings of practice images are left out")
    if withdrawn:
        notes.append(f"{withdrawn.total()} ratings of {len(withdrawn)} readers who withdrew "
                     f"are left out ({join(sorted(withdrawn))})")  # fmt: skip
    if unrated:
        notes.append(f"{unrated.total()} images of {len(unrated)} readers have no score and are "
                     f"left out ({join(sorted(unrated))})")  # fmt: skip
    if not kept:
        raise InputError(f"{table.path}: has no rating to analyse; " + "; ".join(notes))
    return kept


def _refuse_duplicates(table: Table, rows: Rows) -> None:
    by_image: dict[tuple[str, ...], int] = {}
    by_trial: dict[tuple[str, ...], int] = {}
    for line, row in rows:
        sitting = (row["reader"], row.get("sitting", ""), row.get("condition", ""))
        image = (*sitting, row["image"], str(row.get("kind") == "repeat"))
        if (first := by_image.setdefault(image, line)) != line:
            raise table.fail(line, f"{row['reader']} rated {row['image']} in line {first} already; "
                                   "a hidden repeat has the kind repeat")  # fmt: skip
        if row.get("trial"):
            trial = (*sitting[:2], row["trial"])
            if (first := by_trial.setdefault(trial, line)) != line:
                raise table.fail(line, f"{row['reader']} has trial {row['trial']} in line {first} "
                                       "already")  # fmt: skip


def _check_sources(table: Table, rows: Rows) -> None:
    unknown = [line for line, row in rows if not row["source"]]
    if len(unknown) == len(rows):
        raise InputError(f"{table.path}: the column source is empty: `echodiff study export "
                         "--close` writes it, once the study is closed")  # fmt: skip
    if unknown:
        raise table.fail(unknown[0], "source is empty")
    found: dict[str, str] = {}
    for line, row in rows:
        if found.setdefault(row["image"], row["source"]) != row["source"]:
            raise table.fail(line, f"{row['image']} is of the source {row['source']} here, and of "
                                   f"{found[row['image']]} above")  # fmt: skip


def _read_score(table: Table, line: int, text: str) -> int:
    value = _read_number(text)
    if value is None or value not in SCORES:
        raise table.fail(line, f"score {text}: must be a whole number from 1 to 5")
    return int(value)


def _read_number(text: str) -> float | None:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _read_patients(table: Table, rows: Rows, images: Sequence[str]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for line, row in rows:
        patient = row.get("patient") or row["image"]
        if found.setdefault(row["image"], patient) != patient:
            raise table.fail(line, f"{row['image']} is of patient {patient} here, and of "
                                   f"{found[row['image']]} above")  # fmt: skip
    return tuple(found[image] for image in images)


def _read_trials(table: Table, rows: Rows) -> Floats:
    """Trial numbers; without such a column, the order of the rows of a reader."""
    counts = Counter[str]()
    trials = []
    for line, row in rows:
        counts[row["reader"]] += 1
        value = _read_number(row["trial"]) if row.get("trial") else float(counts[row["reader"]])
        if value is None:
            raise table.fail(line, f"trial {row['trial']}: must be a number")
        trials.append(value)
    return np.array(trials)


def _read_seconds(table: Table, rows: Rows) -> Floats:
    values = []
    for line, row in rows:
        text = row.get("ms", "")
        value = _read_number(text) if text else math.nan
        if value is None or value < 0:
            raise table.fail(line, f"ms {text}: must be milliseconds, 0 or more")
        values.append(value / 1000)
    return np.array(values)


def _read_ticks(table: Table, rows: Rows, name: str) -> Mask:
    values = []
    for line, row in rows:
        text = row[name].lower()
        if text not in _YES | _NO:
            raise table.fail(line, f"{name} {row[name]}: must be 1 or 0")
        values.append(text in _YES)
    return np.array(values, dtype=bool)


def _read_diagnoses(table: Table, rows: Rows, notes: list[str]) -> Reading:
    """Diagnoses of a paired design; those without a true finding, or not answered, are left out
    and counted."""
    table.need("diagnosis", "truth")
    taken = [row for _, row in rows if row["diagnosis"] and row["truth"]]
    if not taken:
        raise InputError(f"{table.path}: has no row with both diagnosis and truth; `echodiff study "
                         "export --close` writes the truth, once the study is closed")  # fmt: skip
    if len(taken) < len(rows):
        notes.append(f"{len(rows) - len(taken)} readings have no diagnosis or no truth and are "
                     "left out")  # fmt: skip
    return Reading(
        reader=tuple(row["reader"] for row in taken),
        case=tuple(row["image"] for row in taken),
        is_with=np.array([CONDITIONS[row["condition"].lower()] for row in taken]),
        is_correct=np.array(
            [row["diagnosis"].casefold() == row["truth"].casefold() for row in taken]
        ),
    )


# --- Readers --------------------------------------------------------------------------------------


def _read_readers(path: Path) -> dict[str, Mapping[str, str]]:
    table = read_table(path)
    table.need("reader")
    found: dict[str, Mapping[str, str]] = {}
    for line, row in table.rows:
        if found.setdefault(row["reader"], row) is not row:
            raise table.fail(line, f"the reader {row['reader']} is there twice")
        for column in ("experience_years", "weekly_readings"):
            value = _read_number(row[column]) if row.get(column) else 0.0
            if value is None or value < 0:
                raise table.fail(line, f"{column} {row[column]}: must be 0 or more")
    return found


def _check_known(
    table: Table, rows: Rows, known: Mapping[str, Mapping[str, str]], path: Path
) -> None:
    for line, row in rows:
        if row["reader"] not in known:
            raise table.fail(line, f"the reader {row['reader']} is not in {path}")


def _read_column(
    known: Mapping[str, Mapping[str, str]], readers: Iterable[str], column: str
) -> Floats:
    texts = [known.get(name, {}).get(column, "") for name in readers]
    numbers = [_read_number(text) if text else math.nan for text in texts]
    return np.array([math.nan if one is None else one for one in numbers])


# --- Text -----------------------------------------------------------------------------------------


def _decode(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    is_utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: is not UTF-8 text; save it as CSV UTF-8 in the spreadsheet"
        ) from error
    if "\0" in text:
        raise InputError(f"{path}: is not a CSV file")
    return text


def _describe(ratings: Ratings, known: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Note what an analysis of these ratings must be read with."""
    notes = []
    states = {name: known.get(name, {}).get("state", "").lower() for name in ratings.readers}
    if open_ := [name for name, state in states.items() if state not in FINISHED]:
        notes.append(f"{len(open_)} readers have not finished ({join(open_)})")
    counts = np.bincount(ratings.without_repeats().reader, minlength=len(ratings.readers))
    if counts.min() < counts.max():
        fewest = [ratings.readers[row] for row in np.flatnonzero(counts < counts.max())]
        notes.append(f"{len(fewest)} of {len(counts)} readers rated fewer images than others: "
                     f"{counts.min()} to {counts.max()}")  # fmt: skip
    notes += [f"{name} gave every image the score {score}"
              for name, score in find_flat_readers(ratings).items()]  # fmt: skip
    return notes
