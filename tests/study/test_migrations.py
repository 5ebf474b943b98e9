"""The tables come and go on both databases, and every constraint has its name."""

import threading
import time

import alembic.command
import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from echodiff.errors import InputError
from echodiff.study.database import Database, alembic_config, read_url
from echodiff.study.models import Table


@pytest.fixture
def database(database_url, tmp_path):
    database = Database(read_url(database_url, tmp_path))
    yield database
    database.close()


def test_migrations_make_the_tables_of_the_models_and_remove_them(database):
    database.migrate()
    with database.begin() as connection:
        alembic.command.check(alembic_config(connection))
        made = set(inspect(connection).get_table_names())
    assert made == {*Table.metadata.tables, "alembic_version"}
    with database.begin() as connection:
        alembic.command.downgrade(alembic_config(connection), "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
    database.migrate()
    database.migrate()


def test_every_constraint_has_the_name_of_the_convention(database):
    database.migrate()
    with database.begin() as connection:
        inspector = inspect(connection)
        for table in Table.metadata.tables:
            found = [
                inspector.get_pk_constraint(table),
                *inspector.get_foreign_keys(table),
                *inspector.get_unique_constraints(table),
                *inspector.get_check_constraints(table),
            ]
            for constraint in found:
                start = constraint["name"].split("_")[0]
                assert constraint["name"].startswith(f"{start}_{table}"), constraint
                assert start in {"pk", "fk", "uq", "ck"}


def test_sqlite_waits_for_the_disk_and_never_begins_deferred(tmp_path):
    database = Database(read_url(None, tmp_path))
    with database.begin() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in pragmas]
    assert found == ["wal", 2, 1, 10_000]
    other = Database(read_url(None, tmp_path))
    other.migrate()
    with other.begin() as first, database.read() as second:
        first.execute(text("INSERT INTO study VALUES (1,'k','n','{}',1,'open','s',0,NULL)"))
        assert second.execute(text("SELECT count(*) FROM study")).scalar() == 0
    other.close()
    database.close()


def test_ratings_that_wait_together_are_committed_together_each_by_itself(database):
    database.migrate()
    insert = "INSERT INTO study (key, name, config, version, state, secret, created) VALUES "
    results, begun = {}, threading.Barrier(12)

    def work(number):
        def write(connection):
            key = f"key-{number}"
            row = f"('{key}', 'n', '{{}}', 1, 'open', 's', '2026-01-01 00:00:00')"
            connection.execute(text(insert + row))
            if number % 3 == 0:
                raise ValueError(key)
            return key

        begun.wait()
        try:
            results[number] = database.write(write)
        except ValueError as error:
            results[number] = error
            return
        with database.read() as connection:  # what was returned is committed
            found = text("SELECT count(*) FROM study WHERE key = :key")
            assert connection.execute(found, {"key": f"key-{number}"}).scalar() == 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = {number for number, result in results.items() if isinstance(result, ValueError)}
    assert failed == {0, 3, 6, 9}
    assert all(str(error) == f"key-{number}" for number, error in results.items())
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM study")).scalar() == 8


def test_tables_of_a_newer_version_are_refused(database):
    database.migrate()
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'of_the_future'"))
    with pytest.raises(InputError, match="made by another version of echodiff"):
        database.migrate()


def test_the_sqlite_file_is_its_owners_alone(tmp_path):
    database = Database(read_url(None, tmp_path))
    database.migrate()
    files = list(tmp_path.glob("study.sqlite*"))
    assert len(files) == 3  # with the log and its index
    assert [path.stat().st_mode & 0o077 for path in files] == [0, 0, 0]
    database.close()


def test_a_transaction_that_the_disk_ended_is_never_called_saved(tmp_path):
    """A full disk may make SQLite roll back all that was to be committed together."""
    database = Database(read_url(None, tmp_path))
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE kept (number INTEGER)"))
        connection.execute(text(
            "CREATE TRIGGER full BEFORE INSERT ON kept WHEN new.number = 2 "
            "BEGIN SELECT RAISE(ROLLBACK, 'database or disk is full'); END"
        ))  # fmt: skip
    waits, outcomes = threading.Event(), {}

    def work(number):
        def write(connection):
            if number == 0:
                waits.wait(30)
            connection.execute(text(f"INSERT INTO kept VALUES ({number})"))
            return "saved"

        try:
            outcomes[number] = database.write(write)
        except DBAPIError:
            outcomes[number] = "not saved"

    threads = []
    for number in range(4):  # 1, 2 and 3 wait for 0, and are committed together
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        while number and len(database._waiting) < number:
            time.sleep(0.01)
        time.sleep(0.05)
    waits.set()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        stored = set(connection.scalars(text("SELECT number FROM kept")))
    database.close()
    assert {number for number, outcome in outcomes.items() if outcome == "saved"} == stored == {0}
