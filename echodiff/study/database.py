"""Open the study database by its URL, and bring its tables to the newest migration.

SQLite: WAL, BEGIN IMMEDIATE for every transaction, one writer in one process. With the deferred
BEGIN of the driver, transactions that read first and write later fail at once with "database is
locked", whatever the timeout. PostgreSQL: several processes may serve one study.
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import alembic.command
import alembic.config
import alembic.util
from sqlalchemy import URL, Connection, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from echodiff.errors import InputError

SQLITE_FILE = "study.sqlite"
BUSY_SECONDS = 10
SET_UP_LOCK = 0x6563686F
MIGRATIONS = Path(__file__).with_name("migrations")


def default_url(folder: Path) -> URL:
    """SQLite file inside the study folder."""
    return URL.create("sqlite", database=str(folder / SQLITE_FILE))


def read_url(text: str | None, folder: Path) -> URL:
    """The database that --database names; InputError if it is not one we know."""
    if text is None:
        return default_url(folder)
    try:
        url = make_url(text)
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError) as error:
        raise InputError(f"--database {text!r}: {str(error).splitlines()[0]}") from error
    if url.drivername not in {"sqlite", "postgresql+psycopg"}:
        raise InputError(
            f"--database {url.drivername}: must be sqlite:///FILE or postgresql+psycopg://..."
        )
    if url.drivername == "sqlite" and url.database in {None, "", ":memory:"}:
        raise InputError("--database: a study in memory would be lost; name a file")
    return url


Result = TypeVar("Result")


class _Job:
    """A transaction that waits for its commit."""

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_done = False


class Database:
    """Engine of one study database; `begin()`, `write()` and `read()` open its transactions."""

    def __init__(self, url: URL, *, pool_size: int = 10) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        # Writers of SQLite wait here, in order, and not in its busy handler, which polls.
        self._lock = threading.Lock() if self.is_sqlite else None
        self._waiting: deque[_Job] = deque()
        options: dict[str, Any] = {}
        if self.is_sqlite:
            options = {"timeout": BUSY_SECONDS, "check_same_thread": False}
        self.engine = create_engine(
            url, pool_size=pool_size, max_overflow=pool_size, connect_args=options
        )
        self.reading_engine = self.engine.execution_options(reading=True)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_immediate)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back if it raises."""
        with self._lock or nullcontext(), self.engine.begin() as connection:
            yield connection

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a transaction and return what it returned, after the commit.

        SQLite waits for the disk at every commit and takes one writer at a time. So the one that
        gets there first commits for all that wait: each work in a savepoint, one wait for the disk.
        An exception of a work undoes that work alone.
        """
        if self._lock is None:
            with self.begin() as connection:
                return work(connection)
        job = _Job(work)
        self._waiting.append(job)
        with self._lock:
            if not job.is_done:
                jobs = [self._waiting.popleft() for _ in range(len(self._waiting))]
                self._commit(jobs)
        if job.error is not None:
            raise job.error
        return cast("Result", job.result)

    def _commit(self, jobs: "Sequence[_Job]") -> None:
        try:
            with self.engine.begin() as connection:
                for job in jobs:
                    try:
                        with connection.begin_nested():
                            job.result = job.work(connection)
                    except Exception as error:
                        job.error = error
                        # A full disk may end the whole transaction, with the works before this
                        # one; the driver's COMMIT then does nothing and says nothing.
                        if not _has_begun(connection):
                            raise
        except BaseException as error:
            for job in jobs:
                job.error = job.error or error
        finally:
            for job in jobs:
                job.is_done = True

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads; with SQLite it waits for no writer."""
        with self.reading_engine.begin() as connection:
            yield connection

    @contextmanager
    def set_up(self) -> Iterator[Connection]:
        """A transaction that only one process at a time can be in."""
        with self.begin() as connection:
            if not self.is_sqlite:
                connection.execute(select(func.pg_advisory_xact_lock(SET_UP_LOCK)))
            yield connection

    def migrate(self, revision: str = "head") -> None:
        """Bring the tables to `revision`; InputError if the database cannot be reached, or if a
        newer version of this package made it."""
        place = self.url.render_as_string(hide_password=True)
        try:
            self._create_private()
            with self.set_up() as connection:
                alembic.command.upgrade(alembic_config(connection), revision)
        except DBAPIError as error:
            reason = " ".join(str(error.orig).split())
            raise InputError(f"--database {place}: {reason}") from error
        except alembic.util.CommandError as error:
            raise InputError(
                f"--database {place}: was made by another version of echodiff ({error}); install "
                "that version"
            ) from error

    def _create_private(self) -> None:
        """Create the SQLite file for its owner alone: it holds the sources, names and secrets.
        The files that SQLite writes beside it get the same permissions."""
        if self.is_sqlite:
            with suppress(OSError):  # SQLite itself says what is wrong with the place
                Path(str(self.url.database)).touch(mode=0o600)

    def empty_log(self) -> None:
        """Write SQLite's log to the file and empty it, so that nothing deleted stays in it."""
        if self._lock is not None:
            with self._lock, closing(self.engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # BEGIN is ours
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")


def _begin_immediate(connection: Connection) -> None:
    is_reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")


def _has_begun(connection: Connection) -> bool:
    """Whether SQLite still holds the transaction that was begun."""
    return cast("sqlite3.Connection", connection.connection.driver_connection).in_transaction


def alembic_config(connection: Connection) -> alembic.config.Config:
    """Alembic settings that use this connection and the migrations of the package."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
