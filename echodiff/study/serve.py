"""`echodiff study serve STUDY`: run the web application that readers rate in.

Without --database the study is in an SQLite file inside its folder, served by this one process.
Behind PostgreSQL several processes may serve one study: --workers, or several machines.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echodiff.errors import InputError
from echodiff.folders import FolderLock
from echodiff.frames.reader import load_frames
from echodiff.settings.checks import Count, Positive, check_ranges
from echodiff.settings.command_line import parse, positional
from echodiff.study.database import Database, read_url
from echodiff.study.opening import opened
from echodiff.study.password import read_password
from echodiff.study.secrecy import new_password
from echodiff.study.store import ADMIN, OpenStudy, has_admin, open_study, set_admin_password
from echodiff.study.web.consent import own_consent

if TYPE_CHECKING:
    from starlette.types import ASGIApp

PROG = "echodiff study serve"
SETTINGS = "ECHODIFF_STUDY_SERVE"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
POOL_SIZE = 20


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Serve a study to its readers; stop with Ctrl+C. Nothing that was shown as saved is lost."""

    study: Path = positional()
    """Study folder, made by echodiff study init."""
    database: str | None = None
    """postgresql+psycopg://USER:PASSWORD@HOST/NAME or sqlite:///FILE. Default: STUDY/study.sqlite.
    A password is better kept in the file that PGPASSFILE names."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0: all of this machine."""
    port: int = 8000
    """Port to listen at; 0: any free one."""
    workers: Count = 1
    """Processes; more than one needs PostgreSQL."""
    https: bool = False
    """Readers reach the server by HTTPS, through a proxy: cookies are sent over nothing else."""
    proxy: str = ""
    """Address of that proxy, whose word on the client's address and scheme is taken."""
    password_file: Path | None = None
    """File with the organiser's password, at the first start. Default: generate and print one."""
    frames: Path | None = None
    """Frames folder that annotators write captions for."""
    rate: Positive = 50.0
    """Requests per second that one session may make."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if not 0 <= self.port <= 65535:
            raise InputError(f"--port {self.port}: must be 0 to 65535")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    config = parse(ServeConfig, argv, prog=PROG)
    url = read_url(config.database, config.study)
    is_sqlite = url.get_backend_name() == "sqlite"
    if is_sqlite and config.workers > 1:
        raise InputError("--workers: an SQLite file is served by one process; use PostgreSQL")
    if config.frames is not None:
        load_frames(config.frames)
    lock = FolderLock(Path(str(url.database)), beside=True) if is_sqlite else nullcontext()
    with bound_socket(config) as listening, lock:
        with opened(config.study, config.database, pool_size=POOL_SIZE) as study:
            application = build(study, config)  # what is wrong with the folder is told first
            prepare_login(study, config)
            announce(study, config, listening)
            if config.workers == 1:
                run_server(application, config, listening)
                return 0
        run_workers(config, listening)
    return 0


@contextmanager
def bound_socket(config: ServeConfig) -> Iterator[socket.socket]:
    """A socket bound to --host and --port, before anything else is touched."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((config.host, config.port))
        except OSError as error:
            place = f"{config.host}:{config.port}"
            raise InputError(
                f"--host, --port: cannot listen at {place}: {error.strerror}"
            ) from error
        yield listening


def prepare_login(study: OpenStudy, config: ServeConfig) -> None:
    """At the first start, give the organiser a password; there is no default one."""
    if has_admin(study):
        return
    given = config.password_file
    password = new_password() if given is None else read_password(given)
    set_admin_password(study, password)
    shown = f"password {password}" if given is None else f"password from {given}"
    print(f"organiser {ADMIN}, {shown}; echodiff study password changes it")


def announce(study: OpenStudy, config: ServeConfig, listening: socket.socket) -> None:
    """Print where the pages are."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    place = f"http://{host}:{listening.getsockname()[1]}"
    print(f"{study.config.name}: {len(study.image_ids)} images, {len(study.sequences)} sequences")
    print(f"database {study.database.url.render_as_string(hide_password=True)}")
    own = [name for name in study.config.languages if own_consent(study, name).is_file()]
    if own and (others := [name for name in study.config.languages if name not in own]):
        print(f"warning: the consent text of {', '.join(others)} is the shipped one, not yours")
    if not config.https and config.host not in LOOPBACK:
        print("warning: without HTTPS the network sees links and answers; see --https")
    print(f"serving at {place}, administration at {place}/admin", flush=True)


def build(study: OpenStudy, config: ServeConfig) -> "ASGIApp":
    """The application of these settings."""
    from echodiff.study.web.application import build_application

    return build_application(study, frames=config.frames, is_https=config.https, rate=config.rate)


def server_options(config: ServeConfig) -> dict[str, Any]:
    """Settings of uvicorn."""
    return {
        "log_level": "warning",
        "access_log": False,  # addresses of readers are nobody's business
        "server_header": False,
        "http": "httptools",
        "ws": "none",
        "lifespan": "off",
        "timeout_keep_alive": 60,
        "proxy_headers": bool(config.proxy),
        "forwarded_allow_ips": config.proxy or None,
    }


def run_server(application: Any, config: ServeConfig, listening: socket.socket) -> None:
    """Serve in this process until it is told to stop."""
    import uvicorn

    settings = uvicorn.Config(application, **server_options(config))
    uvicorn.Server(settings).run(sockets=[listening])


def run_workers(config: ServeConfig, listening: socket.socket) -> None:
    """Serve in several processes, which share the socket."""
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    words = [str(config.study), config.database or "", str(config.frames or "")]
    os.environ[SETTINGS] = "\n".join([*words, str(int(config.https)), str(config.rate)])
    settings = uvicorn.Config(
        f"{__name__}:build_in_worker", factory=True, workers=config.workers,
        **server_options(config),
    )  # fmt: skip
    listening.set_inheritable(True)
    Multiprocess(settings, sockets=[listening]).run()


def build_in_worker() -> "ASGIApp":
    """The application in one of several processes."""
    folder, database, frames, https, rate = os.environ[SETTINGS].split("\n")
    config = ServeConfig(
        study=Path(folder),
        database=database,
        frames=Path(frames) if frames else None,
        https=https == "1",
        rate=float(rate),
    )
    url = read_url(config.database, config.study)
    return build(open_study(config.study, Database(url, pool_size=POOL_SIZE)), config)
