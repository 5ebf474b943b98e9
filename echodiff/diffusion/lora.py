"""Rank-r adapters on the cross-attention of a Stable Diffusion UNet: add, save, load.

Each target matrix W becomes W + (alpha / rank) B A (Hu et al. 2021, eq. 3) with A (rank, in)
drawn at random and B (out, rank) zero, so that training starts from the base itself.
"""

import errno
import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from echodiff.config import InputError
from echodiff.files import written_beside
from echodiff.training.checkpoints import (
    check_finite,
    read_shapes,
    with_sorted_header,
    write_safetensors,
)
from echodiff.training.streams import Stream, build_stream, sample_uniform

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

LORA_TARGETS = ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
"""Cross-attention (`attn2`) of every block: where the text meets the image."""

WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
KOHYA_NAME = "pytorch_lora_weights_kohya.safetensors"
PEFT_NAMES = ("adapter_config.json", "adapter_model.safetensors")

_ADAPTER = "default"
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}


def add_lora(unet: "UNet2DConditionModel", *, rank: int, alpha: float, seed: int = 0) -> None:
    """Freeze `unet` and add a float32 adapter to its cross-attention, initialised from `seed`."""
    from peft import LoraConfig

    unet.requires_grad_(False)
    config = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=list(LORA_TARGETS), init_lora_weights=True
    )
    unet.add_adapter(config, adapter_name=_ADAPTER)
    # peft moves an adapter to its base's dtype: in bf16 most updates would round to nothing.
    stream = build_stream(seed, Stream.ADAPTER, 0)
    for name, parameter in lora_parameters(unet).items():
        parameter.data = parameter.data.float()
        if parameter.is_meta:
            continue
        if ".lora_A." in name:
            # The draw of peft (Kaiming uniform, a = sqrt 5) from our own stream.
            bound = 1.0 / math.sqrt(parameter.shape[1])
            values = sample_uniform(stream, parameter.shape) * (2 * bound) - bound
            parameter.data.copy_(values)


def lora_parameters(unet: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Name to parameter of every adapter matrix; a dict, so that it can be walked many times."""
    return {name: parameter for name, parameter in unet.named_parameters() if ".lora_" in name}


def lora_state(unet: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Detached float32 CPU copies by peft's names without the adapter's: `....lora_A.weight`."""
    return {
        name.replace(f".{_ADAPTER}.", "."): parameter.detach().float().cpu().clone().contiguous()
        for name, parameter in lora_parameters(unet).items()
    }


def kohya_state(state: Mapping[str, torch.Tensor], alpha: float) -> dict[str, torch.Tensor]:
    """Rename `state` for the common web UIs; alpha travels as a tensor beside every pair."""
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        module, _, half = name.removesuffix(".weight").rpartition(".")
        stem = "lora_unet_" + module.replace(".", "_")
        renamed[f"{stem}.{'lora_down' if half == 'lora_A' else 'lora_up'}.weight"] = tensor
        renamed[f"{stem}.alpha"] = torch.tensor(float(alpha))
    return renamed


def save_lora(
    folder: Path,
    state: Mapping[str, torch.Tensor],
    *,
    rank: int,
    alpha: float,
) -> str:
    """Write the adapter for diffusers, for kohya's readers and for peft; return its sha256.

    `state` is what `lora_state` returns. Every file is written beside and renamed; the same
    weights are the same bytes.
    """
    from safetensors import SafetensorError

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".lora-") as temporary:
        partial = Path(temporary)
        _write_for_peft(partial, state, rank, alpha)
        _write_for_kohya(partial, state, rank, alpha)
        try:
            _write_for_diffusers(partial, state, rank, alpha)
        except SafetensorError as error:  # its word for a disk that is full
            raise OSError(errno.EIO, str(error), str(folder / WEIGHTS_NAME)) from error
        for name in (*PEFT_NAMES, KOHYA_NAME, WEIGHTS_NAME):
            # Copied, not moved: what diffusers wrote only its owner may read.
            with written_beside(folder / name) as beside:
                shutil.copyfile(partial / name, beside)
    return hashlib.sha256((folder / WEIGHTS_NAME).read_bytes()).hexdigest()


def _write_for_diffusers(
    folder: Path, state: Mapping[str, torch.Tensor], rank: int, alpha: float
) -> None:
    from diffusers import StableDiffusionPipeline

    # Only what fixes the adapter: older and newer peft read it, and diffusers without it would
    # take alpha = rank.
    metadata: dict[str, Any] = {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": list(LORA_TARGETS),
        "lora_dropout": 0.0,
        "bias": "none",
    }
    StableDiffusionPipeline.save_lora_weights(
        save_directory=str(folder),
        unet_lora_layers=dict(state),
        unet_lora_adapter_metadata=metadata,
        safe_serialization=True,
    )
    weights = (folder / WEIGHTS_NAME).read_bytes()
    (folder / WEIGHTS_NAME).write_bytes(with_sorted_header(weights))


def _write_for_kohya(
    folder: Path, state: Mapping[str, torch.Tensor], rank: int, alpha: float
) -> None:
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(float(alpha)),
    }
    write_safetensors(folder / KOHYA_NAME, kohya_state(state, alpha), metadata)


def _write_for_peft(
    folder: Path, state: Mapping[str, torch.Tensor], rank: int, alpha: float
) -> None:
    from peft import LoraConfig

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(LORA_TARGETS))
    config.save_pretrained(str(folder))
    path = folder / PEFT_NAMES[0]
    entries = json.loads(path.read_text(encoding="utf-8"))
    # No path of this machine, and an order: peft keeps the targets in a set.
    entries |= {"base_model_name_or_path": None, "target_modules": sorted(LORA_TARGETS)}
    path.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    renamed = {f"base_model.model.{name}": tensor for name, tensor in state.items()}
    write_safetensors(folder / PEFT_NAMES[1], renamed, {"format": "pt"})


def find_lora(path: Path) -> Path:
    """Return the safetensors file of a run folder or of a file; anything else is an InputError."""
    if path.is_dir():
        file = path / WEIGHTS_NAME
        if not file.is_file():
            raise InputError(f"{path}: holds no {WEIGHTS_NAME}: is the run finished?")
        return file
    if not path.exists():
        raise InputError(f"{path}: no such file or run folder")
    if path.suffix.lower() in _PICKLES:
        raise InputError(f"{path}: a pickle can run code when opened: give a .safetensors file")
    return path


def load_lora(pipeline: "StableDiffusionPipeline", path: Path) -> str:
    """Load an adapter (run folder, or diffusers or kohya file) into `pipeline`; return its sha256.

    Only safetensors are read. An adapter that does not fit the pipeline's UNet is refused before
    anything is changed.
    """
    file = find_lora(path)
    _check_fit(file, read_shapes(file), pipeline.unet)
    check_finite(load_file(file).items(), file)
    try:
        pipeline.load_lora_weights(
            str(file.parent), weight_name=file.name, use_safetensors=True, local_files_only=True
        )
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file}: not an adapter that diffusers can load ({error})") from error
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_fit(file: Path, shapes: Mapping[str, tuple[int, ...]], unet: torch.nn.Module) -> None:
    """Compare every LoRA matrix in `file` with the layer it belongs to."""
    layers = {
        name: module for name, module in unet.named_modules() if isinstance(module, torch.nn.Linear)
    }
    by_kohya_name = {"lora_unet_" + name.replace(".", "_"): name for name in layers}
    num_matched = 0
    for key, shape in shapes.items():
        if len(shape) != 2:  # kohya's alphas; convolutions are left to diffusers
            continue
        stem, half = key.removesuffix(".weight").rsplit(".", 1)
        if half in ("down", "up"):  # the older diffusers names: ....lora.down.weight
            stem = stem.removesuffix(".lora")
        is_down = half in ("lora_A", "lora_down", "down")
        name = by_kohya_name.get(stem, stem.removeprefix("unet."))
        if key.startswith(("text_encoder.", "lora_te")):
            continue
        if name not in layers:
            raise InputError(f"{file}: made for another base: this one has no layer {stem}")
        layer = layers[name]
        found = shape[1] if is_down else shape[0]
        wanted = layer.in_features if is_down else layer.out_features
        if found != wanted:
            raise InputError(
                f"{file}: made for another base: {key} has size {found}, this base needs {wanted}"
            )
        num_matched += 1
    if num_matched == 0:
        raise InputError(f"{file}: holds no LoRA matrices for a UNet")
