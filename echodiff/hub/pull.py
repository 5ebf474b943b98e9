"""`echodiff pull REPO`: download a model as a run folder, or a set as a frames folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from echodiff.errors import InputError
from echodiff.folders import FolderLock
from echodiff.hub.folder import folder_written_beside
from echodiff.published import fetch_published, parse_name
from echodiff.settings.command_line import parse, positional

PROG = "echodiff pull"


@dataclass(frozen=True, kw_only=True)
class PullConfig:
    """Download what `echodiff push` uploaded, and verify every file by its hash.

    The hub is huggingface.co, or the one that HF_ENDPOINT names.
    """

    repo: str = positional()
    """Repository: USER/NAME, or USER/NAME@REV for a branch, tag or commit."""
    out: Path | None = None
    """Folder to write; it must not exist. Default: runs/NAME, or frames/NAME with --dataset."""
    dataset: bool = False
    """Pull a data set of generated frames, not weights."""
    overwrite: bool = False
    """Replace an earlier pull in --out."""

    def __post_init__(self) -> None:
        parse_name(self.repo, "REPO")


def main(argv: Sequence[str] | None = None) -> int:
    """Fetch and verify the files, and copy them out of the hub's cache."""
    config = parse(PullConfig, argv, prog=PROG)
    name = parse_name(config.repo, "REPO")
    root = Path("frames" if config.dataset else "runs")
    out = config.out or root / name.repo.split("/")[1]
    if out.exists() and not config.overwrite:
        raise InputError(f"--out {out}: exists already; --overwrite replaces an earlier pull")
    with FolderLock(out, beside=True):
        folder = fetch_published(name, is_dataset=config.dataset)
        with folder_written_beside(out) as partial:
            for path in sorted(folder.rglob("*")):
                if path.is_file():  # the cache holds links to files
                    copy = partial / path.relative_to(folder)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, copy)
    print(f"{name} at {folder.name[:12]}, hashes verified: {out}")
    return 0
