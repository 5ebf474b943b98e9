"""Weights of generators on disk: safetensors written, published `.pth` read, no code ever run.

A published file says by its key names and shapes which generator it holds; ours says it in the
metadata too, with what the generator takes and gives.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from echodiff.documents import Kinds, check_kinds, parse_json
from echodiff.errors import InputError
from echodiff.gan.names import GeneratorName, Norm
from echodiff.gan.networks.generators import build_generator
from echodiff.runs import sha256_file
from echodiff.training.checkpoints import check_finite, write_safetensors
from echodiff.training.weight_files import name_content, open_safetensors

_KINDS: Kinds = {
    **dict.fromkeys(("generator", "norm", "method", "source_kind"), str),
    **dict.fromkeys(("channels", "width", "resolution"), int),
    "modality": str | None,
    "white_level": int | None,
    "labels": list[int],
}
_MOST = 8192
"""Pixels of a side and channels of a layer."""
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

    Weights that are not finite, and would give black images, are an InputError.
    """
    check_finite(net.state_dict().items(), path)
    write_safetensors(path, net.state_dict(), {"echodiff": json.dumps(facts, sort_keys=True)})
    return sha256_file(path)


def load_generator(path: Path) -> LoadedGenerator:
    """Read a generator of this project, or a published one, from `.safetensors` or `.pth`.

    Weights of any floating-point format are taken as float32. A file may hold more than the
    generator (`{"state_dict": ...}`, `{"G": ..., "D": ...}`), but not two of them.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    content, facts = _read(path)
    found = {name: one for name, state in _states(content) if (one := _recognise(state, facts))}
    if len(found) > 1:
        raise InputError(f"{path}: holds several generators ({', '.join(found)}): save one alone")
    for net, outline in found.values():
        check_finite(net.state_dict().items(), path)
        return LoadedGenerator(net=net, facts=facts | outline, sha256=sha256_file(path))
    raise InputError(f"{path}: holds no generator that is known here")


def _states(
    content: Mapping[str, Any], name: str = "", depth: int = 3
) -> Iterator[tuple[str, Any]]:
    """Everything in a file that could be the state of one network, with the name it has there."""
    tensors = {str(key): value for key, value in content.items() if torch.is_tensor(value)}
    if tensors:
        yield name, tensors
    if depth == 0:
        return
    parts: dict[str, Any] = {
        str(key): value for key, value in content.items() if isinstance(value, Mapping)
    }
    for key, tensor in tensors.items():
        # Networks side by side: `netG.model.1.weight`, `netD.model.0.weight`.
        first, _, rest = key.partition(".")
        if rest:
            parts.setdefault(first, {})[rest] = tensor
    for key, part in parts.items():
        yield from _states(part, f"{name}.{key}".strip("."), depth - 1)


def _recognise(
    state: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any]] | None:
    """The generator whose keys and shapes are those of `state`, with its weights in it."""
    state = _modernise(state)
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
    return None


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


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    if path.suffix == ".safetensors":
        with open_safetensors(path) as opened:
            metadata = opened.metadata() or {}
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        try:
            facts = parse_facts(metadata.get("echodiff", "{}"))
        except InputError as error:
            raise InputError(f"{path}: its metadata is damaged ({error})") from error
        return state, facts
    if path.suffix != ".pth":
        raise InputError(f"{path}: expected weights, .safetensors or a published .pth")
    try:
        # weights_only: tensors and plain containers; what would run code is not even built.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever damaged bytes lead torch to
        reason = name_content(path, is_pickle_known=True)
        raise InputError(
            f"{path}: {reason or 'damaged, or carries code, which is never run: refused'}"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no generator that is known here")
    return content, {}


def parse_facts(text: str) -> dict[str, Any]:
    """What was given to `save_network`; InputError for what it never wrote."""
    facts = parse_json(text)
    if not isinstance(facts, dict):
        raise InputError("expected a JSON object")
    check_kinds(facts, _KINDS)
    if "generator" in facts:
        if missing := sorted({"channels", "norm", "width"} - facts.keys()):
            raise InputError(f"lacks {missing[0]!r}")
        known = {"generator": get_args(GeneratorName), "norm": get_args(Norm), "channels": (1, 3)}
        for name, values in known.items():
            if facts[name] not in values:
                raise InputError(f"{name!r} is {facts[name]!r}, none of {values}")
    for name in ("width", "resolution"):
        if not 1 <= facts.get(name, 1) <= _MOST:
            raise InputError(f"{name!r} is {facts[name]}, not 1 to {_MOST}")
    return facts


def _modernise(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """float32, and without statistics that old instance norms kept.

    Networks that were wrapped (DataParallel's `module.`) are found by `_states`.
    """
    plain = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    return {
        key: value
        for key, value in plain.items()
        if key.rpartition(".")[2] not in _STATISTICS or f"{key.rpartition('.')[0]}.weight" in plain
    }
