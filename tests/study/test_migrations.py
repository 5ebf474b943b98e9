"""The tables come and go on both databases, and every constraint has its name."""

import threading

import alembic.command
import pytest
from sqlalchemy import inspect, text

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
