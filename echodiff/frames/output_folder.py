"""The folder that frames are written to: begun, resumed, overwritten, or refused."""

import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echodiff.documents import parse_json
from echodiff.errors import InputError
from echodiff.files import PARTIAL_PREFIX, cut_torn_line, write_text_atomic
from echodiff.fingerprints import describe_difference
from echodiff.folders import LOCK, clear_folder, remove_leftovers
from echodiff.frames.layout import IMAGES, JOB, MASKS, METADATA, mask_of
from echodiff.frames.maker import refuse_maker
from echodiff.frames.shards import list_names, list_shards, shard_path
from echodiff.images import IMAGE_SUFFIXES

_TORN_NAME = re.compile(r'\{"file_name": "((?:[^"\\]|\\.)*)')


@dataclass(frozen=True)
class OutputFolder:
    """Decides whether a job may write to `out`, and prepares `out` for it."""

    out: Path
    command: str
    """The writing command, one of `maker`; empty where any folder may be cleared."""
    job: Mapping[str, Any] | str
    """What tells one job from another: only a folder that was begun as the same one is resumed."""
    overwrite: bool
    """Clear a frames folder instead of refusing or resuming it."""
    beside: Collection[str]
    """Files that the job writes next to the frames."""

    @property
    def has_rows(self) -> bool:
        """Whether any process has written a row."""
        return (self.out / METADATA).exists() or any(
            p.stat().st_size for p in list_shards(self.out)
        )

    def check_outside(self) -> None:
        """InputError inside another frames folder, where our images would be without a row."""
        for parent in self.out.resolve().parents:
            if (parent / METADATA).is_file() or list_shards(parent):
                raise InputError(
                    f"{self.out}: lies inside {parent}, a frames folder; choose another place"
                )

    def check(self) -> None:
        """InputError where the job must not write here; the folder is left as it is."""
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out}: is a file, not a folder")
        names = {path.name for path in self.out.iterdir()} if self.out.exists() else set()
        is_finished, is_unfinished = METADATA in names, bool(list_shards(self.out))
        if self.overwrite and (is_finished or is_unfinished):
            if self.command:
                refuse_maker(self.out, self.command)
            return
        if is_finished:
            raise InputError(f"{self.out}: is a finished frames folder; --overwrite starts again")
        if is_unfinished:
            self._refuse_other_job()
        elif any(not name.startswith(PARTIAL_PREFIX) and name != LOCK for name in names):
            raise InputError(f"{self.out}: is not empty and is not a frames folder")

    def begin(self) -> None:
        """Clear the folder, or remove what a killed process left half-written; record the job.

        The folder's lock must be held.
        """
        remove_leftovers([self.out, self.out / IMAGES, self.out / MASKS])
        if self.overwrite:
            self._clear()
        remove_strays(self.out)
        text = self.job if isinstance(self.job, str) else json.dumps(self.job)
        write_text_atomic(self.out / JOB, text)

    def finish(self) -> None:
        """Remove the record of the job: the rows are joined."""
        (self.out / JOB).unlink()

    def abandon(self) -> None:
        """Remove everything from a folder without rows, the files in `beside` included."""
        for path in (*list_shards(self.out), *(self.out / name for name in (JOB, *self.beside))):
            path.unlink(missing_ok=True)
        for name in (IMAGES, MASKS):
            with suppress(OSError):
                (self.out / name).rmdir()

    def _refuse_other_job(self) -> None:
        """InputError where the folder was begun as another job; it names what differs."""
        path = self.out / JOB
        begun: Any = path.read_text(encoding="utf-8") if path.exists() else ""
        wanted: Any = self.job
        if not isinstance(wanted, str):
            wanted = json.loads(json.dumps(wanted))
            with suppress(ValueError):
                begun = parse_json(begun)
        if begun == wanted:
            return
        is_told = isinstance(begun, dict) and isinstance(wanted, dict)
        raise InputError(
            f"{self.out}: was begun with other settings or files; --overwrite starts again"
            f"{describe_difference(begun, wanted) if is_told else ''}"
        )

    def _clear(self) -> None:
        written = {METADATA, JOB, *self.beside}
        for path in [self.out / METADATA, *list_shards(self.out)]:
            if path.exists():
                written.add(path.name)
                for name in list_names(path, with_torn=True):
                    written.update((name, mask_of(name)))
        # The rows go last: stopped half-way, this is still a frames folder that can be cleared.
        is_finished = (self.out / METADATA).exists()
        rows = METADATA if is_finished else shard_path(self.out, 0).name
        clear_folder(self.out, written.__contains__, last=rows)


def remove_strays(out: Path) -> None:
    """Remove the image and mask that were being written when the last process was killed.

    The torn last row names them. Any other image without a row is an InputError: it is somebody
    else's.
    """
    named: set[str] = set()
    for shard in list_shards(out):
        torn = _name_in(cut_torn_line(shard))
        named.update(list_names(shard))
        is_cut = not torn.endswith(".png")
        for name in (IMAGES, MASKS) if torn else ():
            for path in (out / name).rglob("*"):
                image = IMAGES + path.relative_to(out).as_posix()[len(name) :]
                is_it = image.startswith(torn) if is_cut else image == torn
                if is_it and image not in named and path.is_file():
                    path.unlink()
    for path in (out / IMAGES).rglob("*"):
        name = path.relative_to(out).as_posix()
        if path.suffix.lower() in IMAGE_SUFFIXES and name not in named:
            raise InputError(f"{path}: no row of this unfinished folder names it; move it away")


def _name_in(torn: bytes) -> str:
    """The image that a torn row names, or as much of its name as was written."""
    found = _TORN_NAME.match(torn.decode("utf-8", "ignore"))
    with suppress(ValueError):
        return str(parse_json(f'"{found[1]}"')) if found else ""
    return ""
