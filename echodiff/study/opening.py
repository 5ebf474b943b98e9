"""Open a study for a command: the folder and database that its flags name, closed at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from echodiff.study.database import Database, read_url
from echodiff.study.store import OpenStudy, open_study


@contextmanager
def opened(folder: Path, url: str | None, *, pool_size: int = 10) -> Iterator[OpenStudy]:
    """The study of `folder` in the database at `url`; by default SQLite in the folder."""
    database = Database(read_url(url, folder), pool_size=pool_size)
    try:
        yield open_study(folder, database)
    finally:
        database.close()
