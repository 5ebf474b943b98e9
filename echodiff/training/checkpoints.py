"""Write and read training checkpoints: safetensors and JSON, never a pickle.

A checkpoint is a folder `step-000123/` with `tensors.safetensors` and `state.json`. It is written
under another name, synced and renamed; only then are older ones removed, so that a kill at any
moment leaves at least one whole checkpoint.
"""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load, save

from echodiff.documents import read_record
from echodiff.errors import InputError
from echodiff.files import write_text_atomic, written_beside
from echodiff.fingerprints import sha256_file
from echodiff.system import sync_file
from echodiff.training.weight_files import open_safetensors

logger = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """What was read back from one checkpoint folder."""

    step: int
    """Optimizer steps done when it was written."""
    tensors: dict[str, torch.Tensor]
    """Flat names to tensors, on the CPU."""
    state: dict[str, Any]
    """JSON values the loop stored: counters, unread losses, the gradient scaler's state."""


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    tensors: Mapping[str, torch.Tensor],
    state: Mapping[str, Any],
    keep: int | Literal["all"],
) -> Path:
    """Write `folder/step-<step>` atomically, then keep the newest `keep` checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:06d}"
    partial = folder / f".{final.name}.partial"
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir()
    try:
        tensor_file = partial / "tensors.safetensors"
        write_safetensors(tensor_file, tensors)
        record = {"step": step, "sha256": sha256_file(tensor_file), "state": dict(state)}
        write_text_atomic(partial / "state.json", json.dumps(record))
        for path in (tensor_file, partial / "state.json"):
            sync_file(path)
    except BaseException:
        shutil.rmtree(partial)
        raise
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)
    for _, old in [] if keep == "all" else _checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def write_safetensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write tensors to `path`, whole or not at all.

    Not by safetensors' own `save_file`: that reports a full disk as something other than OSError,
    and leaves a file that only its owner may read.
    """
    values = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_beside(path) as partial:
        partial.write_bytes(with_sorted_header(save(values, metadata)))


def with_sorted_header(content: bytes) -> bytes:
    """The same safetensors file with its header in a fixed order.

    The library writes metadata in a random order for every file: the same weights would have
    another hash each time.
    """
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":"))
    padded = header.encode("utf-8")
    padded += b" " * (-len(padded) % 8)  # the tensors stay aligned to 8 bytes
    return len(padded).to_bytes(8, "little") + padded + content[8 + size :]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor in a safetensors file, from its header; InputError where it is none."""
    with open_safetensors(path) as opened:
        return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118


def check_finite(tensors: Iterable[tuple[str, torch.Tensor]], place: Path | str) -> None:
    """InputError that names the first tensor which holds NaN or infinity, and `place`."""
    for name, tensor in tensors:
        if not bool(tensor.detach().isfinite().all()):
            raise InputError(f"{place}: {name} holds NaN or infinity")


def load_newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint in `folder`, or None; a damaged one is skipped with a warning."""
    for step, path in reversed(_checkpoints(folder)):
        try:
            record = read_record(path / "state.json", {"sha256": str, "state": dict})
            content = (path / "tensors.safetensors").read_bytes()
            if record["sha256"] != hashlib.sha256(content).hexdigest():
                raise ValueError("its weights do not match their hash")
            # Not mapped: Windows deletes no mapped file, and old checkpoints are deleted.
            return Checkpoint(step=step, tensors=load(content), state=record["state"])
        except (OSError, ValueError, KeyError) as error:
            logger.warning("checkpoint %s is damaged (%s): trying the one before", path, error)
    return None


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Iterable[str]
) -> dict[str, torch.Tensor]:
    """Flatten the state of `optimizer` to `optimizer.<parameter>.<entry>`; `names` in its order."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        f"optimizer.{name}.{entry}": torch.as_tensor(value)
        for name, parameter in zip(names, parameters, strict=True)
        for entry, value in optimizer.state[parameter].items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Iterable[str], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Put back what `optimizer_tensors` took; every entry in its own dtype."""
    state: dict[int, dict[str, Any]] = {}
    for index, name in enumerate(names):
        prefix = f"optimizer.{name}."
        entries = {
            # A whole number is a count that the optimizer kept outside of any tensor.
            key.removeprefix(prefix): tensor.clone()
            if tensor.is_floating_point() or tensor.ndim
            else tensor.item()
            for key, tensor in tensors.items()
            if key.startswith(prefix)
        }
        if entries:
            state[index] = entries
    saved = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})
    for parameter, entries in optimizer.state.items():
        for key, value in entries.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                # Laid out in memory as before: other kernels round the last bit another way.
                entries[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    found = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir()]
    return sorted((int(match[1]), path) for match, path in found if match)
