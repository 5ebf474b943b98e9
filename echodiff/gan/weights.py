"""Weights of generators on disk: safetensors written, published `.pth` read, no code ever run.

A published file says by its key names and shapes which generator it holds; ours says it in the
metadata too, with what the generator takes and gives.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from echodiff.config import InputError
from echodiff.gan.names import GeneratorName, Norm
from echodiff.gan.networks import build_generator
from echodiff.runs import sha256_file
from echodiff.training.checkpoints import check_finite, write_safetensors

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class LoadedGenerator:
    """A generator from a file, and what the file says of it."""

    net: nn.Module
    facts: dict[str, Any]
    """What was given to `save_network`; of a published file name, channels, norm and width."""
    sha256: str
    """Of the file."""


def save_network(path: Path, net: nn.Module, facts: Mapping[str, Any]) -> str:
    """Write the weights of `net` with `facts` (JSON values) as metadata; return their SHA-256.

    Weights that are not finite, and would give black pictures, are an InputError.
    """
    check_finite(net.state_dict().items(), path)
    write_safetensors(path, net.state_dict(), {"echodiff": json.dumps(facts, sort_keys=True)})
    return sha256_file(path)


def load_generator(path: Path) -> LoadedGenerator:
    """Read a generator of this project, or a published one, from `.safetensors` or `.pth`."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    state, facts = _read(path)
    check_finite(state.items(), path)
    net, outline = _recognise(path, _modernise(state), facts)
    return LoadedGenerator(net=net, facts=facts | outline, sha256=sha256_file(path))


def _recognise(
    path: Path, state: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """The generator whose keys and shapes are those of `state`, with its weights in it."""
    shapes = {key: tensor.shape for key, tensor in state.items()}
    for outline in [dict(facts)] if "generator" in facts else _published(state):
        with torch.device("meta"):
            net = build_generator(
                outline["generator"],
                outline["channels"],
                norm=outline["norm"],
                width=outline["width"],
            )
        if {key: value.shape for key, value in net.state_dict().items()} == shapes:
            net.load_state_dict(state, assign=True)
            return net, outline
    raise InputError(f"{path}: holds no generator that is known here")


def _published(state: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
    """What the first layer leaves open: channels and width are in its shape."""
    stem = state.get("model.model.0.weight", state.get("model.1.weight"))
    if stem is None or stem.ndim != 4:
        return []
    sizes = {"channels": int(stem.shape[1]), "width": int(stem.shape[0])}
    return [
        {"generator": name, "norm": norm, **sizes}
        for name in get_args(GeneratorName)
        for norm in get_args(Norm)
    ]


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as opened:
                metadata = opened.metadata() or {}
                state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: not a safetensors file ({error})") from error
        return state, json.loads(metadata.get("echodiff", "{}"))
    if path.suffix != ".pth":
        raise InputError(f"{path}: expected weights, .safetensors or a published .pth")
    try:
        # weights_only: tensors and plain containers; what would run code is not even built.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever damaged bytes lead torch to
        raise InputError(f"{path}: damaged, or carries code, which is never run: refused"
                         ) from error  # fmt: skip
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise InputError(f"{path}: holds no generator that is known here")
    return dict(state), {}


def _modernise(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without the prefix of DataParallel, and without statistics that old instance norms kept."""
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    return {
        key: value
        for key, value in plain.items()
        if key.rpartition(".")[2] not in _STATISTICS or f"{key.rpartition('.')[0]}.weight" in plain
    }
