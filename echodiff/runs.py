"""The run folder of one training: settings, record, metrics, checkpoints, weights.

run_dir/config.yaml  run.json  metrics.jsonl  checkpoints/  samples/  *.safetensors
"""

import functools
import gc
import hashlib
import importlib.metadata
import json
import logging
import math
import platform
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from echodiff.documents import Kinds, check_kinds, parse_json, read_record
from echodiff.errors import InputError
from echodiff.files import PARTIAL_PREFIX, append_line, write_json_atomic, write_text_atomic
from echodiff.fingerprints import Job, describe_difference
from echodiff.fingerprints import compute_fingerprint as compute_fingerprint
from echodiff.fingerprints import sha256_file as sha256_file
from echodiff.folders import LOCK, FolderLock, clear_folder, refuse_inputs, remove_leftovers
from echodiff.settings.fields import yaml_line

logger = logging.getLogger(__name__)

RECORD = "run.json"

_WRITTEN = re.compile(
    r"""\A(?:run\.json | privacy\.json | report\.html | config\.yaml | metrics\.jsonl | logs/.*
    | (\.lora-\w+/)?(adapter_config\.json | adapter_model\.safetensors
        | pytorch_lora_weights(_kohya)?\.safetensors)
    | [GDF](_[AB])?\.safetensors | segmentation\.(safetensors | json)
    | (controlnet | t2i_adapter | control_lora)/(config\.json
        | (diffusion_pytorch_model | control_lora)\.safetensors)
    | concat/concat\.safetensors | lora/[^/]+\.(safetensors | json)
    | checkpoints/\.?step-\d+(\.partial)?/(tensors\.safetensors | state\.json)
    | samples/(step-\d+\.png | losses\.(png | svg))
    | scratch/[^/]*\.npy
    | (.*/)?\.partial-[^/]*
    | frames/(metadata\.jsonl | metadata\.partial.*\.jsonl | \.metadata\.partial\.job
        | (images | masks)/phantom-\d+\.png))""",
    re.VERBOSE,
)
"""Files of a run folder that a training writes and --overwrite removes."""

_NOT_SAVED = ("overwrite", "trust", "features_path")
"""Settings that a run's own file does not keep."""
_NAMES = list[str]
_KINDS: Kinds = {
    **dict.fromkeys(
        (
            "command", "status", "created", "finished", "fingerprint", "data", "base",
            "base_sha256", "init_sha256", "weights_sha256", "mixed_precision", "draws",
            "data_dir", "source_dir", "target_dir", "kind", "lora",
        ),
        str,
    ),
    **dict.fromkeys(
        (
            "train", "val", "test", "held_out", "train_source", "train_target", "val_source",
            "val_target", "test_source", "test_target", "held_out_source", "held_out_target",
        ),
        _NAMES,
    ),
    **dict.fromkeys(
        ("settings", "versions", "evaluation", "differential_privacy", "membership"), dict
    ),
    **dict.fromkeys(("frames", "networks_sha256"), dict[str, str]),
    **dict.fromkeys(("resolution", "num_steps", "num_captioned", "num_null_text"), int),
    **dict.fromkeys(("white_level", "source_white_level", "target_white_level"), int | None),
    "trained_on": dict | None,
    "labels": list[str],
    "lora_scale": float,
}  # fmt: skip
"""Fields of `run.json` that commands read."""

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


_RESOLVED = ("mixed_precision",)
"""Settings whose resolved value is in `run.json`, such as `auto`."""


class Run:
    """One run folder. `create` begins or resumes a run, `load` opens an existing one."""

    def __init__(self, run_dir: Path, record: dict[str, Any], *, is_resumed: bool) -> None:
        self.run_dir = run_dir
        self.record = record
        self.is_resumed = is_resumed
        """Whether `create` found an unfinished run of the same settings to resume."""
        self._extension: tuple[Job, Mapping[str, Any]] | None = None

    @classmethod
    def find(
        cls,
        out: Path,
        job: Job,
        *,
        overwrite: bool = False,
        extended: tuple[str, ...] = (),
        inputs: Iterable[Path | None] = (),
    ) -> Self | None:
        """Return the run of `job` in `out` that can be resumed; None if a new one may begin there.

        InputError otherwise, and nothing is changed. The options are those of `create`.
        """
        if out.exists() and not out.is_dir():
            raise InputError(f"{out}: is a file, not a folder")
        if not (out / RECORD).is_file():
            if out.exists() and (strange := _find_strange(out)):
                raise InputError(
                    f"{out}: is not empty and is not a run folder (it holds {strange})"
                )
            refuse_inputs(out, inputs)
            return None
        run = cls.load(out)
        if not {"command", "fingerprint", "versions"} <= run.record.keys():
            raise InputError(f"{out}: holds {RECORD}, which no run of echodiff wrote")
        if not overwrite:
            run._refuse_other(job, extended)
        elif run.record["command"] != job.command:
            raise InputError(
                f"{out}: is a run of {run.record['command']}, and {job.command} --overwrite clears "
                "only its own: move it away first, or choose another --out"
            )
        refuse_inputs(out, inputs)
        return None if overwrite else run

    @classmethod
    def create(
        cls,
        out: Path,
        *,
        command: str,
        config: Mapping[str, Any],
        data: str | Mapping[str, str] = "",
        overwrite: bool = False,
        extended: tuple[str, ...] = (),
        ignored: tuple[str, ...] = ("out", "overwrite"),
        inputs: Iterable[Path | None] = (),
    ) -> Self:
        """Begin a run in `out`, or resume the unfinished one of the same settings there.

        config: plain values (`config.as_dict`).
        data: a hash of what is trained on, or one of every frame by its file name.
        overwrite: first remove what a run wrote there, the record last; where anything else is
        in `out`, nothing is removed, and it is an InputError.
        extended: settings that may differ from those of the run there, which may be finished: it
        is trained on under these once `extend` was called.
        ignored: settings in which the same run may differ.
        inputs: what the command reads; an InputError where it is, holds or is inside `out`.
        """
        out = Path(out)
        job = Job(command, {k: v for k, v in config.items() if k not in ignored}, data)
        run = cls.find(out, job, overwrite=overwrite, extended=extended, inputs=inputs)
        if run is not None:
            remove_leftovers([out, run.checkpoints, run.samples, run.scratch])
            run.is_resumed = True
            if run.record["fingerprint"] != job.fingerprint:
                run._extension = job, config
                return run
        else:
            if (out / RECORD).is_file():
                clear_folder(out, lambda name: bool(_WRITTEN.fullmatch(name)), last=RECORD)
            record = {
                "command": command,
                "status": "running",
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "fingerprint": job.fingerprint,
                "settings": job.settings,
                "data": job.data_sha256,
                "frames": job.files,
                "versions": versions(),
            }
            # The record comes first: without it, the folder would be no run, refused ever after.
            write_json_atomic(out / RECORD, record)
            run = cls(out, record, is_resumed=False)
        run.write_config(config)
        return run

    @classmethod
    def load(cls, run_dir: Path) -> Self:
        """Open an existing run folder."""
        path = Path(run_dir) / RECORD
        if not path.is_file():
            raise InputError(f"{run_dir}: is not a run folder (no {RECORD})")
        record = read_record(path, _KINDS)
        if "status" not in record:
            raise InputError(f"{path}: is not a run record")
        return cls(Path(run_dir), record, is_resumed=False)

    def extend(self) -> None:
        """Take the settings of an `extended` run; until it ends, it is unfinished.

        `create` does not do it: what is wrong with them may be seen later, and changes nothing.
        """
        if self._extension is not None:
            job, config = self._extension
            self._extension = None
            self.update(status="running", fingerprint=job.fingerprint, settings=job.settings)
            self.write_config(config)

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
        """Intermediate files of an unfinished run; removed when it is finished."""
        return self.run_dir / "scratch"

    @property
    def metrics(self) -> Path:
        return self.run_dir / "metrics.jsonl"

    def update(self, **fields: Any) -> None:
        """Set fields of `run.json`; the file is replaced as a whole."""
        record = self.record | fields
        write_json_atomic(self.run_dir / RECORD, record)
        self.record = record

    def finish(self, **fields: Any) -> None:
        """Set the last fields and mark the run as finished."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        if self.scratch.exists():
            gc.collect()  # Windows removes no file that something still maps
            shutil.rmtree(self.scratch, ignore_errors=True)
        if self.scratch.exists():
            logger.warning("%s: not removed, and as private as the frames: delete it", self.scratch)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.update(status="finished", finished=now, **fields)

    def log(self, step: int, **values: float) -> None:
        """Append one row to `metrics.jsonl` without values that are not finite, such as the
        gradient norm of a step that a gradient scaler skips."""
        row = {name: value for name, value in values.items() if math.isfinite(value)}
        append_line(self.metrics, json.dumps({"step": step} | row, ensure_ascii=False))

    def rewind(self, step: int, *, num_rows: int | None = None) -> None:
        """Drop the rows of `metrics.jsonl` after `step`: a resumed run will write them again.

        num_rows: how many there were when its checkpoint was written, where that is known.
        """
        if self.metrics.exists():
            rows = [row for row in self.read_metrics() if row["step"] <= step][:num_rows]
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text_atomic(self.metrics, text)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read the rows of `metrics.jsonl`; an incomplete last line is left out."""
        if not self.metrics.exists():
            return []
        *lines, _ = self.metrics.read_bytes().split(b"\n")
        return [self._parse_row(number, line) for number, line in enumerate(lines, 1) if line]

    def _parse_row(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            row = parse_json(line)
            if not isinstance(row, dict) or "step" not in row:
                raise InputError("expected a JSON object with a step")
            check_kinds(row, {"step": int} | dict.fromkeys(row.keys() - {"step"}, float))
        except InputError as error:
            raise InputError(f"{self.metrics}, line {number}: {error}") from error
        return row

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write `config.yaml`; a comment gives the resolved value of a setting, from `run.json`,
        if it differs. A run that is to be extended keeps its file until `extend`."""
        if self._extension is not None:
            return
        # Whoever repeats this run by its file does not ask to clear another, to train it on, or to
        # run code.
        written = {name: value for name, value in config.items() if name not in _NOT_SAVED}
        written |= {"continue_": False} if "continue_" in written else {}
        lines = []
        for name, value in written.items():
            ran = self.record.get(name, value) if name in _RESOLVED else value
            comment = "" if ran == value else f"  # resolved: {ran}"
            lines.append(yaml_line(name, value).rstrip("\n") + comment + "\n")
        write_text_atomic(self.run_dir / "config.yaml", "".join(lines))

    def _refuse_other(self, job: Job, extended: tuple[str, ...]) -> None:
        """Raise InputError, with the differences, if this is not the requested run."""
        settings = self.record.get("settings", {})
        before = {name: settings[name] for name in extended if name in settings}
        is_extended = before and self.record["fingerprint"] == job.but(before).fingerprint
        if self.record["fingerprint"] != job.fingerprint and not is_extended:
            raise InputError(
                f"{self.run_dir}: is another run; --overwrite starts again"
                f"{describe_difference(self.record, job.to_record())}"
            )
        if self.is_finished and not extended:
            raise InputError(f"{self.run_dir}: is a finished run; --overwrite starts again")


def sha256_tree(folder: Path) -> str:
    """SHA-256 over the names and bytes of all files of a folder except hidden ones."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            digest.update(f"{name.as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python, of the machine type, and of the packages that affect results."""
    found = {"python": platform.python_version(), "platform": platform.machine()}
    return found | {name: _version(name) for name in _PACKAGES}


@functools.cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def next_free(root: Path, stem: str) -> Path:
    """Return the first of `root/stem-1`, `root/stem-2`, ... that does not exist."""
    number = 1
    while (path := Path(root) / f"{stem}-{number}").exists():
        number += 1
    return path


def claim_free(root: Path, stem: str) -> FolderLock:
    """Create the first of `root/stem-1`, `root/stem-2`, ... that does not exist, and lock it."""
    while True:
        with suppress(FileExistsError):  # another process was quicker
            return FolderLock(next_free(root, stem)).acquire(is_new=True)


def newest_finished_run(root: Path = Path("runs"), command: str | None = None) -> Path | None:
    """Return the run folder under `root` that finished last (of `command`, if given), or None."""
    finished = []
    for path in sorted(Path(root).glob(f"*/{RECORD}")):
        run = Run.load(path.parent)
        if run.is_finished and command in {None, run.record.get("command")}:
            finished.append((str(run.record.get("finished", "")), path.stat().st_mtime_ns, path))
    return max(finished)[2].parent if finished else None


def _find_strange(folder: Path) -> str | None:
    hidden = (LOCK, PARTIAL_PREFIX)
    names = (path.name for path in folder.iterdir() if not path.name.startswith(hidden))
    return min(names, default=None)
