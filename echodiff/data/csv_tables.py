"""Read CSV tables separated by commas, semicolons or tabs, in UTF-8 or UTF-16."""

import codecs
import csv
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from echodiff.errors import InputError
from echodiff.frames.rows import MAX_TEXT

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab"}
UNKNOWN = frozenset({"nan", "na", "n/a", "<na>", "none", "null", "unknown", "-"})
"""What programs and people write into a cell that they know nothing for, in any case."""


def is_table(option: str) -> bool:
    """Whether the value of `--captions` names a table."""
    return option.lower().endswith((".csv", ".tsv"))


def read_captions_table(path: Path) -> dict[str, dict[str, str]]:
    """Read a table of captions by `file_name`; every row has a `text`.

    Cells are stripped. Cells such as `nan` become empty, with one warning. InputError for a
    repeated name and for a row without a name.
    """
    rows: dict[str, dict[str, str]] = {}
    num_unknown = num_cut = 0
    for number, row in read_csv(path, needed=("file_name", "text"), flag="--captions"):
        cells = {key: (cell or "").strip() for key, cell in row.items()}
        name = cells.pop("file_name")
        if not name:
            raise InputError(f"{path}, line {number}: has no file_name")
        if name in rows:
            raise InputError(f"{path}, line {number}: {name} is repeated")
        num_unknown += sum(cell.lower() in UNKNOWN for cell in cells.values())
        num_cut += len(cells["text"]) > MAX_TEXT
        cells["text"] = cells["text"][:MAX_TEXT]
        rows[name] = {k: "" if cell.lower() in UNKNOWN else cell for k, cell in cells.items()}
    if num_unknown:
        warnings.warn(
            f"{path}: {num_unknown} cells such as nan or none are read as empty", stacklevel=2
        )
    if num_cut:
        warnings.warn(
            f"{path}: {num_cut} captions are longer than {MAX_TEXT} letters: cut there",
            stacklevel=2,
        )
    return rows


def read_csv(
    path: Path, *, needed: tuple[str, ...], flag: str = ""
) -> list[tuple[int, dict[str, str]]]:
    """Read the rows of a CSV with their line numbers; InputError if a column is missing."""
    return list(iterate_csv(path, needed=needed, flag=flag))


def iterate_csv(
    path: Path, *, needed: tuple[str, ...], flag: str = ""
) -> Iterator[tuple[int, dict[str, str]]]:
    """Same as `read_csv`, one row at a time. Empty rows are skipped."""
    try:
        with path.open(encoding=_find_encoding(path), newline="") as file:
            reader = csv.DictReader(file, strict=True, delimiter=_find_separator(file, needed))
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            for column in needed:
                if column not in reader.fieldnames:
                    separators = ", ".join(SEPARATORS.values())
                    raise InputError(
                        f"{path}: has no column {column}; columns are separated by {separators}"
                    )
            if twice := {c for c in reader.fieldnames if c and reader.fieldnames.count(c) > 1}:
                raise InputError(f"{path}: has two columns {min(twice)}")
            for row in reader:
                if not any(cell and str(cell).strip() for cell in row.values()):
                    continue
                if None in row or any(row[column] is None for column in needed):
                    raise InputError(
                        f"{path}, line {reader.line_num}: has a different number of columns"
                    )
                yield reader.line_num, row
    except OSError as error:
        raise InputError(f"{flag + ': ' if flag else ''}{path}: {error.strerror}") from error
    except UnicodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error}); save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path}: {error}") from error


def _find_encoding(path: Path) -> str:
    """Return UTF-16 if the file begins with its mark, as spreadsheets save "Unicode text"."""
    with path.open("rb") as file:
        head = file.read(2)
    return "utf-16" if head in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE} else "utf-8-sig"


def _find_separator(file: TextIO, needed: tuple[str, ...]) -> str:
    """Return the separator with which the first line names all `needed` columns; else a comma."""
    head = file.readline()
    if head.lower().startswith("sep="):  # a spreadsheet's own first line
        return head[4:5] if head[4:5] in SEPARATORS else ","
    file.seek(0)
    for separator in SEPARATORS:
        names = next(csv.reader([head], delimiter=separator), [])
        if set(needed) <= {name.strip() for name in names}:
            return separator
    return ","
