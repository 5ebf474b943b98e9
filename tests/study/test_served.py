"""The real server: many readers at once, killed in the middle, no rating lost, each stored once."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from echodiff.__main__ import main
from echodiff.study.secrecy import hash_token

AT_ONCE = Path(__file__).with_name("readers_at_once.py")


STORED = """
SELECT task.token, rating.score, count(*) FROM rating JOIN task ON task.id = rating.task_id
GROUP BY task.token, rating.score
"""


def check_stored(result, rows, expected):
    """Every rating that was shown as saved is stored, once, with its score."""
    assert result["failures"] == []
    shown = {task: score for task, score, _ in result["saved"]}
    stored = {token: score for token, score, count in rows(STORED) if count == 1}
    assert len(shown) == expected
    assert stored == shown


def is_quiet():
    """Times are told of a machine that has nothing else to do: the test itself is a load of 2."""
    return os.getloadavg()[0] < 4


def p95_ms(result):
    times = sorted(ms for *_, ms in result["saved"])
    return times[int(0.95 * len(times))]


def test_no_rating_is_lost_when_the_server_is_killed(at_once, serve):
    server, links, rows = serve(readers=3, per_source=2)
    result = {}
    work = threading.Thread(target=lambda: result.update(at_once.main(links, 0.02)))
    work.start()
    while not rows("SELECT 1 FROM rating LIMIT 1 OFFSET 6"):
        time.sleep(0.02)
    server.kill()
    server.start()
    work.join()
    check_stored(result, rows, 27)
    states = rows("SELECT state FROM reader ORDER BY id")
    assert states == [("done",)] * 3
    assert rows(
        "SELECT count(*) FROM reader WHERE invitation = :h", h=hash_token(links[0][-43:])
    ) == [(1,)]


def test_one_process_serves_an_sqlite_file(serve, capsys, tmp_path):
    server, _, _ = serve(readers=1)
    folder = tmp_path / "study"
    assert main(["study", "serve", str(folder), "--port", str(server.port)]) == 2
    assert "cannot listen" in capsys.readouterr().err
    assert main(["study", "serve", str(folder), "--port", "0"]) == 2
    assert "is writing there" in capsys.readouterr().err
    log = (tmp_path / "server.log").read_text("utf-8")
    assert "organiser admin, password " in log
    assert f"serving at {server.place}" in log


def run_readers(links, tmp_path, pause=0.0):
    place = tmp_path / "links"
    place.write_text("\n".join(links))
    done = subprocess.run(
        [sys.executable, str(AT_ONCE), str(place), str(pause)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_17_readers_at_once_store_680_ratings_once_each(
    serve, request, kind, tmp_path, record_property
):
    url = None if kind == "sqlite" else request.getfixturevalue("postgres").new_url()
    _, links, rows = serve(url, readers=17, per_source=10, practice=0, size=256)
    result = run_readers(links, tmp_path)
    check_stored(result, rows, 680)
    record_property("p95_ms", p95_ms(result))
    if is_quiet():
        assert p95_ms(result) < 100


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_20_kills_lose_no_rating_that_was_shown_as_saved(at_once, serve, request, kind):
    url = None if kind == "sqlite" else request.getfixturevalue("postgres").new_url()
    server, links, rows = serve(url, readers=17, per_source=10, practice=0)
    result = {}
    work = threading.Thread(target=lambda: result.update(at_once.main(links, 0.2)))
    work.start()
    for number in range(20):
        while work.is_alive() and len(rows(STORED)) < 30 * (number + 1):
            time.sleep(0.02)
        assert work.is_alive(), "too fast: the kills are not in the middle"
        server.kill()
        server.start()
    work.join()
    check_stored(result, rows, 680)


@pytest.mark.slow
def test_a_restart_of_postgresql_costs_one_error_and_no_rating(at_once, serve, postgres):
    _, links, rows = serve(postgres.new_url(), readers=5, per_source=5, practice=0)
    result = {}
    work = threading.Thread(target=lambda: result.update(at_once.main(links, 0.05)))
    work.start()
    while not rows("SELECT 1 FROM rating LIMIT 1 OFFSET 30"):
        time.sleep(0.02)
    postgres.stop()
    time.sleep(0.5)
    postgres.start()
    work.join()
    with contextlib.suppress(Exception):
        rows("SELECT 1")  # the connection of before the restart
    check_stored(result, rows, 100)


@pytest.mark.slow
def test_200_readers_at_an_image_in_two_seconds_in_two_processes_on_postgresql(
    serve, postgres, tmp_path, record_property
):
    _, links, rows = serve(
        postgres.new_url(), "--workers", "2", readers=200, per_source=10, practice=0
    )
    result = run_readers(links, tmp_path, pause=2.0)
    check_stored(result, rows, 8000)
    record_property("p95_ms", p95_ms(result))
    if is_quiet():
        assert p95_ms(result) < 250
