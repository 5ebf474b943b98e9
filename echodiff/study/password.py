"""`echodiff study password STUDY`: give the organiser a new password, which ends all logins."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from echodiff.errors import InputError
from echodiff.settings.command_line import parse, positional
from echodiff.study.opening import opened
from echodiff.study.secrecy import MIN_PASSWORD, new_password
from echodiff.study.store import ADMIN, set_admin_password

PROG = "echodiff study password"


@dataclass(frozen=True, kw_only=True)
class PasswordConfig:
    """Set the organiser's password."""

    study: Path = positional()
    """Study folder."""
    database: str | None = None
    """Database of the study. Default: STUDY/study.sqlite."""
    file: Path | None = None
    """File with the password on its first line. Default: generate one and print it."""


def read_password(path: Path) -> str:
    """The first line of a file; InputError if it is too short to keep anybody out."""
    try:
        password = (path.read_text("utf-8-sig").splitlines() or [""])[0].strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text") from error
    if len(password) < MIN_PASSWORD:
        raise InputError(f"{path}: a password needs {MIN_PASSWORD} characters or more")
    return password


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    config = parse(PasswordConfig, argv, prog=PROG)
    password = new_password() if config.file is None else read_password(config.file)
    with opened(config.study, config.database) as study:
        set_admin_password(study, password)
    shown = password if config.file is None else f"from {config.file}"
    print(f"organiser {ADMIN}, password {shown}")
    return 0
