"""`echodiff study export STUDY --out DIR`: ratings and readers as CSV, JSON and Parquet.

One row per rating and one per reader, with the columns of `echodiff.study.columns`, and a codebook.
Source, patient and truth are empty until the study is closed. Names are never exported.
"""

import csv
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.orm import aliased

from echodiff.errors import InputError
from echodiff.files import written_beside
from echodiff.settings.command_line import parse, positional
from echodiff.study.columns import RATING_COLUMNS, READER_COLUMNS, STRUCTURED, TICK_BOXES
from echodiff.study.models import Image, Rating, Reader, Task
from echodiff.study.opening import opened
from echodiff.study.store import OpenStudy, read_state, set_state

PROG = "echodiff study export"
HIDDEN = ("source", "patient", "truth")
"""Columns that stay empty until the study is closed."""
Row = dict[str, Any]
INTEGERS = {"sequence", "trial", "sitting", "score", "ms", "num_ratings", *TICK_BOXES}
NUMBERS = {"zoom", "brightness", "experience_years", "graduated_years", "weekly_readings"}


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write the ratings of a study, one row each, and its readers, with a codebook."""

    study: Path = positional()
    """Study folder."""
    database: str | None = None
    """Database of the study. Default: STUDY/study.sqlite."""
    out: Path
    """Folder for ratings and readers as .csv, .json and .parquet, codebook.json and study.json."""
    close: bool = False
    """Close the study first: no more ratings are taken, for good, and the sources are exported."""
    overwrite: bool = False
    """Replace an earlier export in --out."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """The rows of an export."""

    ratings: list[Row]
    readers: list[Row]
    state: str
    """State of the study; the sources are there only if it is closed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    config = parse(ExportConfig, argv, prog=PROG)
    if (config.out / "ratings.csv").exists() and not config.overwrite:
        raise InputError(f"--out {config.out}: holds an export; --overwrite replaces it")
    with opened(config.study, config.database) as study:
        config.out.mkdir(parents=True, exist_ok=True)  # fails before the study is closed for good
        if config.close:
            set_state(study, "closed")
        export = read_export(study)
        write_export(study, export, config.out)
    print(f"{len(export.ratings)} ratings of {len(export.readers)} readers: {config.out}")
    if export.state != "closed":
        print(f"the study is {export.state}: {', '.join(HIDDEN)} are left empty; --close closes it")
    return 0


def read_export(study: OpenStudy) -> Export:
    """Read all ratings but those of the practice, and all readers but annotators and erased."""
    with study.database.read() as connection:
        state = read_state(connection, study)
        ratings = _read_ratings(connection, study, is_blind=state != "closed")
        readers = _read_readers(connection, study, ratings)
    return Export(ratings=ratings, readers=readers, state=state)


def _read_ratings(connection: Connection, study: OpenStudy, *, is_blind: bool) -> list[Row]:
    companion = aliased(Image)
    hidden = [] if is_blind else [Image.source, Image.patient, Image.truth]
    found = (
        select(
            Reader.token.label("reader"), Reader.sequence, Task.position, Task.sitting, Task.kind,
            Task.condition, Image.token.label("image"), companion.token.label("companion"),
            *hidden, *(getattr(Rating, name) for name in TICK_BOXES), Rating.score, Rating.text,
            Rating.structured, Rating.ms, Rating.display, Rating.created, Rating.changed,
        )
        .select_from(Rating)
        .join(Task, Task.id == Rating.task_id)
        .join(Reader, Reader.id == Task.reader_id)
        .join(Image, Image.id == Task.image_id)
        .join(companion, companion.id == Task.companion_id, isouter=True)
        .where(Reader.study_id == study.id, Task.kind != "practice")
        .order_by(Reader.id, Task.position)
    )  # fmt: skip
    first = {
        number: next((place for place, task in enumerate(tasks) if task.kind != "practice"), 0)
        for number, tasks in enumerate(study.sequences)
    }
    rows = []
    for found_row in connection.execute(found).mappings():
        row = dict(found_row)
        row["trial"] = row["position"] - first.get(row["sequence"], 0) + 1
        row |= {name: int(row[name]) for name in TICK_BOXES}
        row |= {name: row["structured"].get(name) for name in (*STRUCTURED, "diagnosis")}
        row |= {name: row["display"].get(name) for name in ("zoom", "brightness")}
        for name in ("created", "changed"):
            row[name] = None if row[name] is None else row[name].isoformat()
        rows.append({name: row.get(name) for name in RATING_COLUMNS})
    return rows


def _read_readers(connection: Connection, study: OpenStudy, ratings: Sequence[Row]) -> list[Row]:
    found = (
        select(Reader)
        .where(Reader.study_id == study.id, Reader.role == "reader", Reader.state != "erased")
        .order_by(Reader.id)
    )
    rows = []
    for found_row in connection.execute(found).mappings():
        row = {**found_row, **(found_row["questionnaire"] or {}), "reader": found_row["token"]}
        row["num_ratings"] = sum(rating["reader"] == row["reader"] for rating in ratings)
        rows.append({name: row.get(name) for name in READER_COLUMNS})
    return rows


def write_export(study: OpenStudy, export: Export, out: Path) -> None:
    """Write every file of an export to a folder."""
    for name, data in export_files(study, export).items():
        with written_beside(out / name) as partial:
            partial.write_bytes(data)


def zip_export(study: OpenStudy) -> bytes:
    """The files of an export as one zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in export_files(study, read_export(study)).items():
            archive.writestr(name, data)
    return buffer.getvalue()


def export_files(study: OpenStudy, export: Export) -> dict[str, bytes]:
    """File name -> content."""
    tables = {
        "ratings": (export.ratings, RATING_COLUMNS), "readers": (export.readers, READER_COLUMNS),
    }  # fmt: skip
    files = {}
    for name, (rows, columns) in tables.items():
        files[f"{name}.csv"] = _to_csv(rows, list(columns))
        files[f"{name}.json"] = _to_json(rows)
        files[f"{name}.parquet"] = _to_parquet(rows, list(columns))
    files["codebook.json"] = _to_json({name: columns for name, (_, columns) in tables.items()})
    config: Row = {"name": study.config.name, "design": study.config.design, "state": export.state}
    if export.state == "closed":
        config |= {"sources": list(study.config.sources), "diagnoses": list(study.config.diagnoses)}
    files["study.json"] = _to_json(config)
    return files


def _to_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _to_csv(rows: Sequence[Row], columns: list[str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _csv_cell(row[name]) for name in columns} for row in rows)
    # With a mark of UTF-8, without which Excel reads Cyrillic as something else.
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def _csv_cell(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula gets an apostrophe."""
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}:
        return f"'{value}"
    return "" if value is None else value


def _to_parquet(rows: Sequence[Row], columns: list[str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def kind(name: str) -> pa.DataType:
        return pa.int64() if name in INTEGERS else pa.float64() if name in NUMBERS else pa.string()

    schema = pa.schema([(name, kind(name)) for name in columns])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), buffer)
    return buffer.getvalue()
