"""Start an adapter from the matrices of another one instead of drawing them."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from echodiff.diffusion.adapter_layouts import parse_settings
from echodiff.diffusion.lora import find_lora, lora_parameters
from echodiff.documents import check_kinds
from echodiff.errors import InputError
from echodiff.runs import RECORD, Run, sha256_file

_HALVES = {
    "lora_A": "lora_A",
    "lora_B": "lora_B",
    "lora_down": "lora_A",
    "lora_up": "lora_B",
    "lora.down": "lora_A",
    "lora.up": "lora_B",
}
"""What the two matrices of a layer are called, by whatever program."""


def start_from(unet: torch.nn.Module, path: Path | None, *, rank: int, alpha: float) -> str:
    """Put the adapter of a run folder or a LoRA file into that of `unet`; return its SHA-256.

    It must have the same rank and the same layers. Another alpha is worked into the matrices, so
    that the first step starts from what the file draws. Without a path nothing is done, and the
    hash is empty.
    """
    if path is None:
        return ""
    try:
        file = find_lora(path)
        if (path / RECORD).is_file() and not Run.load(path).is_finished:
            raise InputError(f"{path}: the run is not finished")
        state, scales = _read(file)
    except InputError as error:
        raise InputError(f"--init-from {error}") from None
    parameters = lora_parameters(unet)
    wanted = {_place(name.replace(".default.", ".")): name for name in parameters}
    if unknown := sorted(state.keys() - wanted.keys()):
        raise InputError(
            f"--init-from {file}: has {'.'.join(unknown[0])}, which is no part of the adapter here"
        )
    for place, name in wanted.items():
        if place not in state:
            raise InputError(f"--init-from {file}: has no matrix for {name}")
        values, parameter = state[place], parameters[name]
        if values.shape != parameter.shape:
            raise InputError(
                f"--init-from {file}: {'.'.join(place)} is {tuple(values.shape)}, here it is "
                f"{tuple(parameter.shape)}: give its --rank and --base"
            )
        if not values.isfinite().all():
            raise InputError(f"--init-from {file}: {'.'.join(place)} holds NaN or infinity")
        layer, half = place
        factor = scales.get(layer, scales.get("", rank)) / alpha if half == "lora_B" else 1.0
        parameter.data.copy_(values.float() * factor)
    return sha256_file(file)


def _read(file: Path) -> tuple[dict[tuple[str, str], torch.Tensor], dict[str, float]]:
    """Matrices by layer and half, and alphas by layer; that of all layers under the empty name."""
    state, alphas = {}, {}
    try:
        with safe_open(file, framework="pt") as opened:
            names = list(opened.keys())
            adapter = parse_settings(opened.metadata() or {})
            check_kinds(adapter, {"unet.lora_alpha": float})
            for name in names:
                if name.endswith(".alpha"):
                    layer = _layer(name.removesuffix(".alpha"))
                    alphas[layer] = float(opened.get_tensor(name))
                else:
                    state[_place(name)] = opened.get_tensor(name)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{file}: not a safetensors file ({error})") from error
    if "unet.lora_alpha" in adapter:
        alphas[""] = float(adapter["unet.lora_alpha"])
    return state, alphas


def _place(name: str) -> tuple[str, str]:
    stem = name.removesuffix(".weight")
    for written, half in _HALVES.items():
        if stem.endswith(f".{written}"):
            return _layer(stem.removesuffix(f".{written}")), half
    return _layer(stem), ""


def _layer(name: str) -> str:
    """A layer's name as kohya writes it, which all other layouts can be turned into."""
    for prefix in ("lora_unet_", "base_model.model.", "unet."):
        name = name.removeprefix(prefix)
    return name.replace(".", "_")
