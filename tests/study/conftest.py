"""Fixtures of the reader study: a study of phantom frames, its site, a PostgreSQL of the test."""

import contextlib
import glob
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs the extra study")


def load(name):
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch):
    monkeypatch.setattr("echodiff.study.secrecy.SCRYPT_N", 2**4)


@pytest.fixture(scope="session")
def phantom():
    return load("phantom_study")


@pytest.fixture
def make_site(phantom, tmp_path):
    """`make_site(**settings)`: a study, its application and a function that invites a person."""
    opened = []

    def make(*, url=None, frames=None, rate=1e6, is_https=False, **settings):
        from starlette.testclient import TestClient

        from echodiff.study.database import Database, read_url
        from echodiff.study.readers import invite
        from echodiff.study.store import open_study
        from echodiff.study.web.application import build_application

        folder = phantom.make_study(tmp_path, **settings)
        database = Database(read_url(url, folder))
        opened.append(database)
        study = open_study(folder, database)
        application = build_application(study, frames=frames, rate=rate, is_https=is_https)

        class Site:
            def client(self):
                base = "https://testserver" if is_https else "http://testserver"
                return TestClient(application, base_url=base, raise_server_exceptions=True)

            def person(self, language="en", role="reader"):
                ((token, invitation),) = invite(study, 1, role)
                person = phantom.Person(self.client(), f"/invitation/{invitation}", language)
                person.token = token
                return person

            def rows(self, statement, **values):
                from sqlalchemy import text

                with database.read() as connection:
                    return [tuple(row) for row in connection.execute(text(statement), values)]

        site = Site()
        site.study, site.folder, site.application = study, folder, application
        return site

    yield make
    for database in opened:
        database.close()


@pytest.fixture
def site(make_site):
    return make_site()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Postgres:
    """A PostgreSQL cluster of the tests: Debian's package, in a folder of its own."""

    def __init__(self, place):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/pg_ctl"))
        if not found and shutil.which("pg_ctl") is None:
            pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
        self.bin = Path(found[-1] if found else shutil.which("pg_ctl")).parent
        self.place, self.port, self.count = place, free_port(), 0
        # PostgreSQL does not run as root.
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            try:
                owner = pwd.getpwnam(self.user)
            except KeyError:
                pytest.skip("there is no user postgres, and PostgreSQL does not run as root")
            os.chown(place, owner.pw_uid, owner.pw_gid)
        self.run("initdb", "-D", place / "data", "-A", "trust", "-U", "study", "-N")
        self.start()

    def run(self, command, *words):
        done = subprocess.run(
            [self.bin / command, *words], user=self.user, cwd="/", capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self):
        options = f"-p {self.port} -k {self.place} -c listen_addresses=127.0.0.1"
        options += " -c max_connections=150"
        log = self.place / "log"
        with log.open("ab"):
            pass
        if self.user:
            owner = pwd.getpwnam(self.user)
            os.chown(log, owner.pw_uid, owner.pw_gid)
        try:
            self.run("pg_ctl", "-D", self.place / "data", "-o", options, "-l", log, "-w", "start")
        except AssertionError as error:
            raise AssertionError(log.read_text("utf-8")) from error

    def stop(self, mode="immediate"):
        self.run("pg_ctl", "-D", self.place / "data", "-m", mode, "-w", "stop")

    def new_url(self):
        """A database of its own for one test."""
        self.count += 1
        place = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "study"]
        self.run("createdb", *place, f"test{self.count}")
        return f"postgresql+psycopg://study@127.0.0.1:{self.port}/test{self.count}"


@pytest.fixture(scope="session")
def postgres():
    # Not in pytest's folder, which root alone may enter.
    with tempfile.TemporaryDirectory(prefix="echodiff-pg-", ignore_cleanup_errors=True) as place:
        cluster = Postgres(Path(place))
        yield cluster
        cluster.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """URL of an empty database, of both kinds."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'other.sqlite'}"
    return request.getfixturevalue("postgres").new_url()


@pytest.fixture(scope="session")
def at_once():
    return load("readers_at_once")


class Server:
    """`echodiff study serve` in a process of its own, which can be killed and started again."""

    def __init__(self, folder, url, *flags, port=None):
        self.port = port or free_port()
        self.command = [
            sys.executable, "-m", "echodiff", "study", "serve", str(folder), "--database", url,
            "--port", str(self.port), "--rate", "100000", *flags,
        ]  # fmt: skip
        self.log = (folder.parent / "server.log").open("ab")
        self.process = None
        self.start()

    @property
    def place(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.process = subprocess.Popen(
            self.command, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self.process.poll() is None, Path(self.log.name).read_text("utf-8")
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.place}/health", timeout=20).read()
                return
            time.sleep(0.05)
        raise TimeoutError(Path(self.log.name).read_text("utf-8"))

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        self.log.close()


@pytest.fixture
def serve(phantom, tmp_path, capsys):
    """`serve(url, readers=3, ...)` -> server, links and a function that reads the database."""
    from sqlalchemy import text

    from echodiff.__main__ import main
    from echodiff.study.database import Database, read_url

    servers, databases = [], []

    def start(url=None, *flags, readers=3, **settings):
        folder = phantom.make_study(tmp_path, readers=readers, **settings)
        url = url or f"sqlite:///{folder / 'study.sqlite'}"
        server = Server(folder, url, *flags)
        servers.append(server)
        command = ["study", "invite", str(folder), "--num", str(readers), "--url", server.place]
        capsys.readouterr()
        assert main([*command, "--database", url]) == 0
        links = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
        databases.append(Database(read_url(url, folder)))

        def rows(statement, **values):
            with databases[-1].read() as connection:
                return [tuple(row) for row in connection.execute(text(statement), values)]

        return server, links, rows

    yield start
    for database in databases:
        database.close()
    for server in servers:
        server.stop()
