"""Save and load what obeys a mask: folders of diffusers, or low-rank matrices in one file.

run_dir/controlnet/   config.json, diffusion_pytorch_model.safetensors: diffusers' ControlNetModel
run_dir/t2i_adapter/  the same of diffusers' T2IAdapter
run_dir/control_lora/ config.json (of the ControlNet), control_lora.safetensors
run_dir/concat/       concat.safetensors

Low-rank matrices have peft's names (`<layer>.lora_A.weight`), other parameters their own; that is
what `ControlNetModel.load_lora_adapter(folder, weight_name=..., prefix=None)` reads.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from echodiff.diffusion.lora import find_lora
from echodiff.diffusion.mask_networks import (
    TARGETS,
    AdapterBranch,
    Branch,
    ConcatBranch,
    ControlNetBranch,
    Kind,
    MaskedUNet,
    widen_input,
)
from echodiff.documents import parse_json
from echodiff.errors import InputError
from echodiff.files import write_text_atomic, written_beside
from echodiff.published import LORA_FILES, LORA_FOLDER, MASK_FILES, hash_mask_files
from echodiff.training.checkpoints import check_finite, write_safetensors
from echodiff.training.weight_files import open_safetensors

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
_SETTINGS = "lora_adapter_metadata"
"""Entry of a safetensors header that diffusers reads the settings of an adapter from."""


def save_masked(run_dir: Path, kind: Kind, network: MaskedUNet, *, rank: int, alpha: float) -> str:
    """Write the trained part of `network`; return the SHA-256 of `hash_mask_files`.

    NaN or infinity in it is an InputError. The same weights are the same bytes.
    """
    *configs, weights = (run_dir / name for name in MASK_FILES[kind])
    state = _take_state(kind, network)
    check_finite(state.items(), weights)
    weights.parent.mkdir(parents=True, exist_ok=True)
    branch = network.branch
    for path in configs:
        described: Any = branch.adapter if kind == "t2i-adapter" else branch.controlnet
        write_text_atomic(path, described.to_json_string())
    metadata = {"format": "pt"}
    if kind in ("control-lora", "concat"):
        settings = {
            "r": rank,
            "lora_alpha": alpha,
            "target_modules": list(TARGETS),
            "lora_dropout": 0.0,
            "bias": "none",
        }
        metadata[_SETTINGS] = json.dumps(settings, sort_keys=True)
    write_safetensors(weights, state, metadata)
    return hash_mask_files(run_dir, kind)


def copy_lora(lora: Path, run_dir: Path) -> str:
    """Copy the adapter of a run folder or file into a run; return its place there."""
    file, (usual, of_peft, settings) = find_lora(lora), LORA_FILES
    has_settings = file.name == of_peft and (file.parent / settings).is_file()
    copies = {(of_peft if has_settings else usual): file}
    copies |= {settings: file.parent / settings} if has_settings else {}
    for name, source in copies.items():
        with written_beside(run_dir / LORA_FOLDER / name) as beside:
            shutil.copyfile(source, beside)
    return f"{LORA_FOLDER}/{min(copies, key=LORA_FILES.index)}"


def load_masked(
    run_dir: Path, kind: Kind, unet: Any, *, num_channels: int, factor: int
) -> MaskedUNet:
    """Load the network of a kind around the bare `unet` of its base, float32 on the CPU.

    Low-rank matrices are merged. InputError where the files do not fit the base or the labels.
    """
    hash_mask_files(run_dir, kind)  # all files are there
    weights = run_dir / MASK_FILES[kind][-1]
    branch: Branch
    if kind == "concat":
        widen_input(unet, num_channels)
        _merge(weights, unet)
        branch = ConcatBranch(factor)
    elif kind == "t2i-adapter":
        from diffusers import T2IAdapter

        adapter = _load_folder(T2IAdapter, weights.parent)
        _check_channels(weights, adapter.config.in_channels, num_channels)
        _check_widths(weights, adapter.config.channels, unet)
        branch = AdapterBranch(adapter)
    else:
        from diffusers import ControlNetModel

        if kind == "controlnet":
            controlnet = _load_folder(ControlNetModel, weights.parent)
        else:
            config = _read_config(weights.parent / CONFIG)
            controlnet = ControlNetModel.from_unet(
                unet,
                conditioning_channels=int(config.get("conditioning_channels", 3)),
                conditioning_embedding_out_channels=tuple(
                    config.get("conditioning_embedding_out_channels", ())
                ),
            )
            _merge(weights, controlnet)
        _check_channels(weights, controlnet.config.conditioning_channels, num_channels)
        _check_widths(weights, controlnet.config.block_out_channels, unet)
        branch = ControlNetBranch(controlnet)
    network = MaskedUNet(unet, branch, num_channels).eval().requires_grad_(False)
    check_finite(network.branch.named_parameters(), weights)
    return network


def _take_state(kind: Kind, network: MaskedUNet) -> dict[str, torch.Tensor]:
    branch = network.branch
    if isinstance(branch, AdapterBranch):
        return dict(branch.adapter.state_dict())
    if isinstance(branch, ControlNetBranch):
        state = branch.state()
        trained = {f"controlnet.{n}" for n, p in branch.controlnet.named_parameters()
                   if p.requires_grad}  # fmt: skip
        if kind == "controlnet":
            return state
        names = {name.removeprefix("controlnet.") for name in trained}
        names |= {name for name in state if name.startswith("controlnet_cond_embedding.")}
    else:
        state = network.unet.state_dict()
        names = {name for name, one in network.unet.named_parameters() if one.requires_grad}
    return {name.replace(".default.", "."): state[name].float() for name in sorted(names)}


def _load_folder(cls: Any, folder: Path) -> Any:
    with open_safetensors(folder / WEIGHTS):
        pass
    try:
        return cls.from_pretrained(str(folder), use_safetensors=True, torch_dtype=torch.float32)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{folder}: not a {cls.__name__} of diffusers: {lines[0]}") from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = parse_json(path.read_bytes())
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: expected a JSON object")
    return config


def _merge(file: Path, network: torch.nn.Module) -> None:
    """Add the low-rank matrices of a file to a network, and copy its other parameters into it."""
    with open_safetensors(file) as opened:
        metadata = opened.metadata() or {}
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    try:
        settings = parse_json(metadata[_SETTINGS])
        scale = float(settings["lora_alpha"]) / int(settings["r"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"{file}: its header does not say rank and alpha") from error
    check_finite(tensors.items(), file)
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, values in tensors.items():
            stem, is_low_rank, half = name.rpartition(".lora_")
            if is_low_rank and half == "B.weight":
                continue
            target = parameters.get(f"{stem}.weight" if is_low_rank else name)
            added = _multiply(tensors, stem) if is_low_rank else values
            if target is None or added is None or added.numel() != target.numel():
                raise InputError(f"{file}: made for another base or for other labels: {name}")
            added = added.view(target.shape).to(target)
            target.add_(added * scale) if is_low_rank else target.copy_(added)


def _multiply(tensors: Mapping[str, torch.Tensor], stem: str) -> torch.Tensor | None:
    down, up = (tensors.get(f"{stem}.lora_{half}.weight") for half in "AB")
    if down is None or up is None or up.flatten(1).shape[1] != down.shape[0]:
        return None
    return up.flatten(1) @ down.flatten(1)


def _check_channels(file: Path, found: int, wanted: int) -> None:
    if found != wanted:
        raise InputError(f"{file}: takes {found} channels, its run records {wanted} labels")


def _check_widths(file: Path, channels: Any, unet: Any) -> None:
    ours = list(unet.config.block_out_channels)
    if list(channels) != ours[: len(channels)]:
        raise InputError(f"{file}: made for another base: widths {list(channels)}, here {ours}")
