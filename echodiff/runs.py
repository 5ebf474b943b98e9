"""The run folder: what one training was told, what it did, and what came out.

run_dir/config.yaml  run.json  metrics.jsonl  checkpoints/  samples/  *.safetensors
"""

import gc
import hashlib
import importlib.metadata
import json
import logging
import platform
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from echodiff.config import InputError
from echodiff.fields import yaml_line
from echodiff.files import append_line, write_json_atomic, write_text_atomic

logger = logging.getLogger(__name__)

RECORD = "run.json"

_PACKAGES = (
    "echodiff",
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "safetensors",
    "numpy",
    "scipy",
    "pillow",
)


class Run:
    """One run folder. Make one with `create`, open a finished or stopped one with `load`."""

    def __init__(self, run_dir: Path, record: dict[str, Any], *, is_resumed: bool) -> None:
        self.run_dir = run_dir
        self.record = record
        self.is_resumed = is_resumed
        """Whether `create` found an unfinished run of the same settings to go on with."""

    @classmethod
    def create(
        cls,
        out: Path,
        *,
        command: str,
        config: Mapping[str, Any],
        data: str = "",
        overwrite: bool = False,
        ignored: tuple[str, ...] = ("out", "overwrite"),
    ) -> Self:
        """Begin a run in `out`, or go on with the unfinished one of the same settings there.

        `config` holds plain values (`config.as_dict`); `data` is a hash of what is trained on.
        Keys in `ignored` do not tell one run from another.
        """
        out = Path(out)
        fingerprint = compute_fingerprint(
            {"command": command, "data": data}
            | {k: v for k, v in config.items() if k not in ignored}
        )
        if out.exists() and not out.is_dir():
            raise InputError(f"{out}: is a file, not a folder")
        if (out / RECORD).is_file():
            if not overwrite:
                run = cls.load(out)
                run._refuse_other(fingerprint)
                run.is_resumed = True
                run._write_config(config)
                return run
            _clear(out)
        elif out.exists() and any(out.iterdir()):
            raise InputError(f"{out}: is not empty and is no run folder")
        record = {
            "command": command,
            "status": "running",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "fingerprint": fingerprint,
            "data": data,
            "versions": versions(),
        }
        # The record comes first: without it, the folder would be no run and refused ever after.
        write_json_atomic(out / RECORD, record)
        run = cls(out, record, is_resumed=False)
        run._write_config(config)
        return run

    @classmethod
    def load(cls, run_dir: Path) -> Self:
        """Open an existing run folder."""
        path = Path(run_dir) / RECORD
        if not path.is_file():
            raise InputError(f"{run_dir}: is no run folder (no {RECORD})")
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: {error}") from error
        if not isinstance(record, dict) or "status" not in record:
            raise InputError(f"{path}: is no run record")
        return cls(Path(run_dir), record, is_resumed=False)

    @property
    def is_finished(self) -> bool:
        return bool(self.record["status"] == "finished")

    @property
    def is_resumable(self) -> bool:
        """Whether this is an unfinished run that `create` recognised as the same."""
        return self.is_resumed and not self.is_finished

    @property
    def checkpoints(self) -> Path:
        return self.run_dir / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.run_dir / "samples"

    @property
    def scratch(self) -> Path:
        """What saves a stopped run from doing again; gone when the run is finished."""
        return self.run_dir / "scratch"

    @property
    def metrics(self) -> Path:
        return self.run_dir / "metrics.jsonl"

    def update(self, **fields: Any) -> None:
        """Set fields of `run.json`; the file is the old one or the new one, never between."""
        record = self.record | fields
        write_json_atomic(self.run_dir / RECORD, record)
        self.record = record

    def finish(self, **fields: Any) -> None:
        """Set the last fields and mark the run as finished."""
        gc.collect()  # Windows removes no file that something still maps
        shutil.rmtree(self.scratch, ignore_errors=True)
        if self.scratch.exists():
            logger.warning("%s: not removed, and as private as the frames: delete it", self.scratch)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.update(status="finished", finished=now, **fields)

    def log(self, step: int, **values: Any) -> None:
        """Append one row to `metrics.jsonl`."""
        append_line(self.metrics, json.dumps({"step": step} | values, ensure_ascii=False))

    def rewind(self, step: int) -> None:
        """Drop the rows of `metrics.jsonl` after `step`: a resumed run will write them again."""
        if self.metrics.exists():
            rows = [row for row in self.read_metrics() if row["step"] <= step]
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text_atomic(self.metrics, text)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Rows of `metrics.jsonl` in order; half a last line, of a killed process, is left out."""
        if not self.metrics.exists():
            return []
        whole, _, _ = self.metrics.read_text(encoding="utf-8").rpartition("\n")
        return [json.loads(line) for line in whole.split("\n") if line]

    def _write_config(self, config: Mapping[str, Any]) -> None:
        # Without --overwrite: whoever repeats this run by its file does not ask to clear another.
        lines = [yaml_line(key, value) for key, value in config.items() if key != "overwrite"]
        write_text_atomic(self.run_dir / "config.yaml", "".join(lines))

    def _refuse_other(self, fingerprint: str) -> None:
        if self.record.get("fingerprint") != fingerprint:
            state = "another run"
        elif self.is_finished:
            state = "a finished run"
        else:
            return
        raise InputError(f"{self.run_dir}: is {state}; --overwrite starts anew")


def compute_fingerprint(values: Mapping[str, Any]) -> str:
    """SHA-256 of plain values, whatever their order."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(folder: Path) -> str:
    """SHA-256 over the names and bytes of all files of a folder, hidden ones left out."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            digest.update(f"{name.as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python, of the machine's kind, and of the packages that decide a result."""
    found = {"python": platform.python_version(), "platform": platform.machine()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def next_free(root: Path, stem: str) -> Path:
    """The first of `root/stem-1`, `root/stem-2`, ... that does not exist."""
    number = 1
    while (path := Path(root) / f"{stem}-{number}").exists():
        number += 1
    return path


def newest_finished_run(root: Path = Path("runs"), command: str | None = None) -> Path | None:
    """The run folder under `root` that finished last (of `command`, if given), or None."""
    finished = []
    for path in sorted(Path(root).glob(f"*/{RECORD}")):
        run = Run.load(path.parent)
        if run.is_finished and command in {None, run.record.get("command")}:
            finished.append((str(run.record.get("finished", "")), path.stat().st_mtime_ns, path))
    return max(finished)[2].parent if finished else None


def _clear(run_dir: Path) -> None:
    """Remove what a run writes, and nothing else that may lie there; the record last."""
    for name in ("checkpoints", "samples", "scratch", "logs", "frames"):
        if (run_dir / name).exists():
            shutil.rmtree(run_dir / name)
    for path in run_dir.glob("*.safetensors"):
        path.unlink()
    for name in ("config.yaml", "metrics.jsonl", RECORD):
        (run_dir / name).unlink(missing_ok=True)
