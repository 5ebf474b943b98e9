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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from echodiff.diffusion.adapter_layouts import (
    CONFIG_NAME,
    LayerUpdate,
    flatten_name,
    read_adapter,
)
from echodiff.errors import InputError
from echodiff.files import write_text_atomic, written_beside
from echodiff.training.checkpoints import check_finite, with_sorted_header, write_safetensors
from echodiff.training.streams import Stream, build_stream, sample_uniform

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

LORA_TARGETS = ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
"""Cross-attention (`attn2`) of every block: where the text meets the image."""

WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
KOHYA_NAME = "pytorch_lora_weights_kohya.safetensors"
PEFT_NAMES = (CONFIG_NAME, "adapter_model.safetensors")

_ADAPTER = "default"
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}


def add_lora(
    unet: Any,
    *,
    rank: int,
    alpha: float,
    seed: int = 0,
    targets: Sequence[str] = LORA_TARGETS,
) -> dict[str, torch.nn.Parameter]:
    """Freeze a diffusers network and add a float32 adapter to `targets`, initialised from `seed`.

    targets: ends of the names of its layers, by default the cross-attention of a UNet. Returns the
    parameters of the adapter by name.
    """
    from peft import LoraConfig

    unet.requires_grad_(False)
    config = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights=True
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
            bound = 1.0 / math.sqrt(parameter[0].numel())
            values = sample_uniform(stream, parameter.shape) * (2 * bound) - bound
            parameter.data.copy_(values)
    return lora_parameters(unet)


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
    """Rename `state` for the common web UIs; alpha is a tensor next to every pair."""
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

    `state` is what `lora_state` returns; NaN or infinity in it is an InputError. Every file is
    written next to them and renamed; the same weights are the same bytes.
    """
    from safetensors import SafetensorError

    check_finite(state.items(), folder)
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
    write_text_atomic(path, json.dumps(entries, indent=2, sort_keys=True) + "\n")
    renamed = {f"base_model.model.{name}": tensor for name, tensor in state.items()}
    write_safetensors(folder / PEFT_NAMES[1], renamed, {"format": "pt"})


def find_lora(path: Path) -> Path:
    """Return the safetensors file of a run folder, a PEFT folder, or of a file.

    Anything else is an InputError.
    """
    if path.is_dir():
        for name in (WEIGHTS_NAME, PEFT_NAMES[1]):
            if (path / name).is_file():
                return path / name
        raise InputError(f"{path}: holds no {WEIGHTS_NAME}: is the run finished?")
    if not path.exists():
        raise InputError(f"{path}: no such file or run folder")
    if path.suffix.lower() in _PICKLES:
        raise InputError(f"{path}: a pickle can run code when opened: give a .safetensors file")
    return path


def load_lora(pipeline: "StableDiffusionPipeline", path: Path, scale: float = 1.0) -> str:
    """Add `scale` times an adapter to the weights of `pipeline`; return the adapter's sha256.

    `path` is a run folder, or a safetensors file in any layout of `adapter_layouts`; every layer
    keeps its own rank and alpha. An adapter that does not fit the pipeline's UNet or text encoder
    is refused before anything is changed.
    """
    file = find_lora(path)
    updates = read_adapter(file)
    layers = _find_layers(file, updates, pipeline)
    with torch.no_grad():
        for update, layer in zip(updates, layers, strict=True):
            _add(update, layer, scale)
    digest = hashlib.sha256(file.read_bytes())
    if file.name == PEFT_NAMES[1]:
        digest.update((file.parent / CONFIG_NAME).read_bytes())  # alpha is not in the weights
    return digest.hexdigest()


def _add(update: LayerUpdate, layer: Any, scale: float) -> None:
    down, up = update.matrices["down"], update.matrices["up"]
    # A convolution of low rank is one with the kernel of `down`, then one of 1 x 1.
    delta = (up.flatten(1) @ down.flatten(1)) * (update.scale * scale)
    layer.weight += delta.view(layer.weight.shape).to(layer.weight)
    if "bias" in update.matrices:
        layer.bias += (update.matrices["bias"] * (update.scale * scale)).to(layer.bias)


def _find_layers(
    file: Path, updates: list[LayerUpdate], pipeline: "StableDiffusionPipeline"
) -> list[torch.nn.Module]:
    """The layer of every update, in order; InputError where one is missing or has other sizes."""
    layers = {
        (part, flatten_name(name)): module
        for part in ("unet", "text_encoder")
        for name, module in getattr(pipeline, part).named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }
    others = f"{file}: made for another base{_name_base(updates)}"
    for update in updates:
        layer = layers.get((update.part, update.layer))
        if layer is None:
            raise InputError(f"{others}: this one has no layer {update.layer} ({update.key})")
        wanted = tuple(layer.weight.shape)
        down, up = update.matrices["down"].shape, update.matrices["up"].shape
        for found, need in ((down[1], wanted[1]), (up[0], wanted[0])):
            if found != need:
                raise InputError(f"{others}: {update.key} has size {found}, this base needs {need}")
        # A matrix is equivalent to a kernel of 1 x 1.
        kernels = [tuple(shape[2:]) or (1, 1) for shape in (down, up, wanted)]
        if kernels[0] != kernels[2] or kernels[1] != (1, 1):
            raise InputError(f"{file}: {update.key}: a kernel of {kernels[0]} with {kernels[1]}, "
                             f"this base needs {kernels[2]} with (1, 1)")  # fmt: skip
        if "bias" in update.matrices and (
            layer.bias is None or layer.bias.shape != update.matrices["bias"].shape
        ):
            raise InputError(f"{others}: {update.layer} has no such bias ({update.key})")
    return [layers[update.part, update.layer] for update in updates]


def _name_base(updates: list[LayerUpdate]) -> str:
    """` (Stable Diffusion 2.x)`, if the text width of the adapter shows it."""
    widths = {
        768: "Stable Diffusion 1.x",
        1024: "Stable Diffusion 2.x",
        2048: "Stable Diffusion XL",
    }
    for update in updates:
        if update.part == "unet" and update.layer.endswith(("attn2_to_k", "attn2_to_v")):
            name = widths.get(int(update.matrices["down"].shape[1]))
            return f" ({name})" if name else ""
    return ""
