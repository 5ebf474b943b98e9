"""`echodiff study invite STUDY --num 17 --url https://study.example.org`: invitation links.

Each link is printed once, as `READER<tab>LINK`; the database holds its hash. The server may run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from echodiff.errors import InputError
from echodiff.settings.checks import Count, check_ranges
from echodiff.settings.command_line import parse, positional
from echodiff.study.opening import opened
from echodiff.study.readers import invite

PROG = "echodiff study invite"


@dataclass(frozen=True, kw_only=True)
class InviteConfig:
    """Make invitation links and print them, one reader per line."""

    study: Path = positional()
    """Study folder."""
    database: str | None = None
    """Database of the study. Default: STUDY/study.sqlite."""
    num: Count = 1
    """Number of links."""
    role: Literal["reader", "annotator"] = "reader"
    """reader: rates images. annotator: writes captions."""
    url: str = "http://127.0.0.1:8000"
    """Address at which readers reach the server."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.url.startswith(("http://", "https://")):
            raise InputError(f"--url {self.url}: must begin with https:// or http://")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    config = parse(InviteConfig, argv, prog=PROG)
    with opened(config.study, config.database) as study:
        for reader, token in invite(study, config.num, config.role):
            print(f"{reader}\t{config.url.rstrip('/')}/invitation/{token}")
    return 0
