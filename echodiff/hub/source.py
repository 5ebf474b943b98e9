"""Load what is pushed: a finished run, its weights, and generated images with their scores."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echodiff.data.leaks import read_maker
from echodiff.data.run_frames import find_run_frames
from echodiff.data.splits import source_of_patient
from echodiff.documents import Kinds, read_record, read_yaml_record
from echodiff.errors import InputError
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.hub.audit_gate import check_audit
from echodiff.published import (
    CONFIG,
    LORA_FILES,
    LORA_FOLDER,
    MASK_FILES,
    PRIVACY,
    SCORES,
    TRAIN_CONTROLNET,
    hash_mask_files,
)
from echodiff.runs import Run, sha256_file

WEIGHTS = "pytorch_lora_weights.safetensors"
KOHYA = "pytorch_lora_weights_kohya.safetensors"
JOB = "generate.json"
LARGEST_BYTES = 5_000_000_000
"""Largest file that one LFS upload takes; an adapter has a few million bytes."""


@dataclass(frozen=True)
class Trained:
    """A finished run whose weights are verified to be those that it wrote."""

    run: Run
    config: dict[str, Any]
    weights_sha256: str
    data: Path
    """Frames folder of the training."""
    frames: dict[str, Frame]
    """Rows of that folder by file name."""
    is_phantom: bool
    files: tuple[str, ...] = (WEIGHTS, KOHYA)
    """Its weights and their settings, relative to the run folder."""

    @property
    def kind(self) -> str | None:
        """Kind of weights that obey masks; None of a LoRA."""
        kind = self.run.record.get("kind")
        return None if kind is None else str(kind)

    @property
    def lora(self) -> str | None:
        """The LoRA that weights that obey masks were trained on top of."""
        lora = self.run.record.get("lora")
        return None if lora is None else str(lora)

    @property
    def sources(self) -> Counter[str]:
        """Number of training frames per data set."""
        named = (self.frames[name].source for name in self.run.record["train"])
        return Counter(source for source in named if source)

    @property
    def num_patients(self) -> int:
        return len({self.frames[name].patient_id or name for name in self.run.record["train"]})

    @property
    def images(self) -> dict[Path, str]:
        """Path of every image in the training's folder, held-out ones too, to its patient.

        A patient is named with its data set, because two data sets may use the same numbers; "" if
        unknown.
        """
        return {
            self.data / name: f"{frame.source or ''}/{frame.patient_id}" if frame.patient_id else ""
            for name, frame in self.frames.items()
        }


@dataclass(frozen=True)
class Generated:
    """Frames that `generate.py` generated, and their scores."""

    folder: Path
    frames: list[Frame]
    job: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def mask_sources(self) -> Counter[str]:
        """Number of masks per data set whose frames they are of; "" where no row names one."""
        return Counter(source_of_patient(row) for row in self.frames if row.mask_file_name)


def load_trained(run_dir: Path, data: Path | None) -> Trained:
    """Open a run; InputError if it is unfinished, changed, or without its training frames."""
    if not run_dir.is_dir():
        raise InputError(
            f"{run_dir}: {'is not a folder' if run_dir.exists() else 'no such folder'}"
        )
    refuse_links(run_dir)
    run = Run.load(run_dir)
    if run.record.get("command") not in ("train_lora", TRAIN_CONTROLNET):
        raise InputError(
            f"{run_dir}: is a run of {run.record.get('command')}; push takes runs of train_lora.py "
            "and of echodiff train-controlnet"
        )
    if not run.is_finished:
        raise InputError(f"{run_dir}: the run is {run.record['status']}, not finished")
    files = _list_files(run)
    for name in (*files, CONFIG):
        if not (run_dir / name).is_file():
            raise InputError(f"{run_dir}: holds no {name}")
        check_size(run_dir / name)
    kind = run.record.get("kind")
    sha256 = hash_mask_files(run_dir, kind) if kind else sha256_file(run_dir / WEIGHTS)
    if sha256 != run.record.get("weights_sha256"):
        raise InputError(
            f"{run_dir / files[0]}: is not what the training wrote (its SHA-256 differs)"
        )
    if not kind:
        check_same_weights(run_dir / WEIGHTS, run_dir / KOHYA)
    if lora := run.record.get("lora"):
        check_lora(run_dir / str(lora), run.record.get("init_sha256"))
    is_phantom = data is None and run.record.get("data_dir") == "frames"
    folder = data or run_dir / str(run.record.get("data_dir", ""))
    try:
        frames = {frame.file_name: frame for frame in load_frames(folder)}
    except InputError as error:
        raise InputError(
            f"{run_dir}: its training frames: {error}; give their folder with --data"
        ) from None
    names = dict.fromkeys([*run.record.get("train", []), *run.record.get("held_out", [])])
    for name in names:
        if name not in frames:
            raise InputError(
                f"{folder}: has no {name}, so it does not hold the training frames of {run_dir}"
            )
    find_run_frames(run, list(names), data=data)
    if "train" not in run.record:
        raise InputError(f"{run_dir}: its record does not say which frames it was trained on")
    config = read_yaml_record(run_dir / CONFIG)
    return Trained(run, config, sha256, folder, frames, is_phantom, files)


def _list_files(run: Run) -> tuple[str, ...]:
    """Weights and their settings in a run folder."""
    if run.record["command"] != TRAIN_CONTROLNET:
        return WEIGHTS, KOHYA
    kind = run.record.get("kind")
    if kind not in MASK_FILES:
        raise InputError(f"{run.run_dir}: its kind is {kind!r}, which is not known")
    of_lora = [f"{LORA_FOLDER}/{name}" for name in LORA_FILES]
    has_lora = run.record.get("lora") is not None
    return (
        *MASK_FILES[kind],
        *(name for name in of_lora if has_lora and (run.run_dir / name).is_file()),
    )


def load_generated(folder: Path, flag: str, weights_sha256: str | None) -> Generated:
    """Open a generated set; InputError if it is unfinished or from other weights."""
    try:
        refuse_links(folder)
        frames = load_frames(folder)
        job = read_maker(folder / JOB) if (folder / JOB).is_file() else {}
        metrics = _read_json(folder / SCORES)
    except InputError as error:
        raise InputError(f"{flag} {error}") from None
    if not job.get("finished") or not isinstance(metrics.get("scores"), dict):
        raise InputError(f"{flag} {folder}: is unfinished: run the same generate.py command again")
    found = {str(job.get("weights_sha256")), *(str(frame.weights) for frame in frames)}
    if weights_sha256 is not None and found != {weights_sha256}:
        other = sorted(found - {weights_sha256})[0]
        raise InputError(
            f"{flag} {folder}: was generated with other weights ({other[:12]}) than those of "
            f"the run ({weights_sha256[:12]}): generate it again"
        )
    return Generated(folder, frames, job, metrics)


def check_comparable(first: Generated, second: Generated, flag: str) -> None:
    """InputError if the scores of two sets must not stand side by side."""
    for what, ours, theirs in (
        ("prompts", *([frame.text for frame in one.frames] for one in (first, second))),
        ("reference", *(one.job.get("reference") for one in (first, second))),
        ("settings", *({**one.job["settings"], "lora_scale": None} for one in (first, second))),
    ):
        if ours != theirs:
            raise InputError(f"{flag} {first.folder}: has other {what} than {second.folder}")


def load_privacy(run_dir: Path, weights_sha256: str) -> dict[str, Any] | None:
    """Read the privacy report of these weights; None if the run folder holds none."""
    path = run_dir / PRIVACY
    if not path.is_file():
        return None
    report = _read_json(path)
    if report.get("weights_sha256") != weights_sha256:
        raise InputError(f"{path}: is about other weights than those of the run: audit again")
    check_audit(path, report)
    return report


def refuse_links(folder: Path) -> None:
    """Raise InputError for a link in `folder` that leads out of it."""
    home = folder.resolve()
    for parent, folders, files in os.walk(folder):
        for name in sorted([*folders, *files]):
            path = Path(parent) / name
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                raise InputError(f"{path}: is a link that leads out of {folder}")


def check_size(path: Path) -> None:
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise InputError(
            f"{path}: {size / 1e9:.1f} GB, above the limit of {LARGEST_BYTES / 1e9:.0f} GB per file"
        )


def check_lora(path: Path, sha256: str | None) -> None:
    """Raise InputError if the LoRA inside a run is not the one that it was trained on top of."""
    settings = path.with_name(LORA_FILES[2])
    parts = [path, settings] if path.name == LORA_FILES[1] and settings.is_file() else [path]
    digest = hashlib.sha256()
    for part in parts:
        if not part.is_file():
            raise InputError(f"{part}: no such file")
        digest.update(part.read_bytes())
    if digest.hexdigest() != sha256:
        raise InputError(f"{path}: is not the LoRA of the training (its SHA-256 differs)")


def check_same_weights(diffusers: Path, kohya: Path) -> None:
    """Raise InputError if the two files of an adapter are not the same matrices at one strength.

    Only the first is compared with what the training wrote and what was audited.
    """
    (first, metadata), (second, _) = _read_adapter(diffusers), _read_adapter(kohya)
    alphas = {value for name, value in second.items() if name.endswith("_alpha")}
    matrices = {name: value for name, value in second.items() if not name.endswith("_alpha")}
    try:
        alpha = float(json.loads(metadata["lora_adapter_metadata"])["unet.lora_alpha"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{diffusers}: its header does not say its alpha") from error
    if first != matrices or alphas != {alpha}:
        raise InputError(f"{kohya}: does not hold the weights of {diffusers.name}")


def _read_adapter(path: Path) -> tuple[dict[str, str | float], dict[str, str]]:
    """Hash of every matrix and value of every scalar, by layer and half; and the header's texts."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, str | float] = {}
    try:
        with safe_open(path, framework="numpy") as opened:
            for name in opened.keys():  # noqa: SIM118
                tensor = opened.get_tensor(name)
                layer = name.removeprefix("unet.").removeprefix("lora_unet_").replace(".", "_")
                layer = layer.replace("lora_down", "lora_A").replace("lora_up", "lora_B")
                kind = f"{tensor.shape}{tensor.dtype}".encode()
                is_matrix = tensor.ndim >= 2
                found[layer] = (
                    hashlib.sha256(kind + tensor.tobytes()).hexdigest()
                    if is_matrix
                    else float(tensor)
                )
            return found, opened.metadata() or {}
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a safetensors file of an adapter ({error})") from error


def _read_json(path: Path, kinds: Kinds | None = None) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path.parent}: holds no {path.name}")
    return read_record(path, kinds)
