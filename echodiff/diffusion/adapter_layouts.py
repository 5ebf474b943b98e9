"""LoRA adapters as others publish them, read into one form: layer, two matrices, scale.

Read are the layouts of diffusers (`unet.<layer>.lora_A.weight`, `.lora.down.weight`, attention
processors `<layer>.processor.to_q_lora.down.weight`), of PEFT (`base_model.model.<layer>` with its
`adapter_config.json`), and of kohya and LyCORIS (`lora_unet_<layer>.lora_down.weight` with an
`.alpha` for each layer), for UNet and text encoder, linear and convolutional layers. Any other
tensor in the file is an InputError: none is ignored.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from echodiff.documents import Kinds, check_kinds, parse_json, read_record
from echodiff.errors import InputError
from echodiff.training.checkpoints import check_finite
from echodiff.training.weight_files import open_safetensors

Part = Literal["unet", "text_encoder"]

CONFIG_NAME = "adapter_config.json"
"""Where PEFT keeps alpha, beside its weights."""

_MATRIX = re.compile(
    r"\A(.+?)[._]lora(?:_linear_layer)?[._](A|B|down|up)(?:\.[\w-]+)?\.(weight|bias)"
)
_KINDS: Kinds = {
    "peft_type": str | None,
    "lora_alpha": float | None,
    "alpha_pattern": dict[str, float] | None,
    "use_rslora": bool | None,
}
_LAYER_PATTERN = re.compile(r"[\w.^$\\-]{1,200}(?:\.\*[\w.^$\\-]{1,200})?")
"""Patterns of layers that peft may match: without what takes an expression for ever."""
_PEFT_PREFIX = "base_model.model."
_PREFIXES: tuple[tuple[str, Part], ...] = (
    ("lora_unet_", "unet"),
    ("unet.", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te_", "text_encoder"),
    ("text_encoder.", "text_encoder"),
    ("text_model.", "text_encoder"),
)
_OTHER_KINDS = {
    "hada_": "a LoHa adapter",
    "lokr_": "a LoKr adapter",
    "dora_scale": "a DoRA adapter",
    "lora_magnitude_vector": "a DoRA adapter",
    "oft_": "an OFT adapter",
    "boft_": "a BOFT adapter",
    "on_input": "an IA3 adapter",
    "lora_mid": "a LoCon adapter with a Tucker core",
    "lora_embedding_": "a LoRA adapter of an embedding",
    "emb_params": "a textual inversion",
    "string_to_param": "a textual inversion",
}
_OTHER_BASES = {
    "lora_te2_": "Stable Diffusion XL",
    "text_encoder_2.": "Stable Diffusion XL",
    "input_blocks": "Stable Diffusion XL, or with the layer names of its code",
    "output_blocks": "Stable Diffusion XL, or with the layer names of its code",
    "double_blocks": "Flux",
    "single_blocks": "Flux",
    "single_transformer_blocks": "Flux",
    "joint_blocks": "Stable Diffusion 3",
    "lora_transformer_": "a diffusion transformer",
}


@dataclass
class LayerUpdate:
    """What an adapter adds to one layer: `scale * up @ down`."""

    key: str
    """Of its first tensor in the file."""
    part: Part
    layer: str
    """Its name in the network, with `_` in place of `.`."""
    name: str
    """The same as the file has it, for PEFT's patterns."""
    matrices: dict[str, torch.Tensor] = field(default_factory=dict)
    """`down` (rank, in, ...), `up` (out, rank, ...), and perhaps `bias` (out); float32."""
    scale: float = 1.0
    """alpha / rank, or alpha / sqrt(rank) where the adapter says so."""

    @property
    def rank(self) -> int:
        return int(self.matrices["down"].shape[0])


def read_adapter(file: Path) -> list[LayerUpdate]:
    """Read every layer's update from a safetensors file; InputError for anything but LoRA."""
    with open_safetensors(file) as opened:
        metadata = opened.metadata() or {}
        state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    _check_kind(file, state)
    check_finite(state.items(), file)
    settings = _Settings(file, state, metadata)
    updates: dict[tuple[Part, str], LayerUpdate] = {}
    alphas: dict[tuple[Part, str], float] = {}
    for key, tensor in state.items():
        if key.endswith(".alpha") and tensor.numel() == 1:
            alphas[_find_place(key.removesuffix(".alpha"))] = float(tensor)
            continue
        found = _MATRIX.fullmatch(key)
        if found is None or not tensor.is_floating_point():
            raise InputError(f"{file}: {key} is no LoRA matrix: not read")
        stem, half, kind = found.groups()
        name = "bias" if kind == "bias" else "down" if half in ("A", "down") else "up"
        place = _find_place(stem)
        update = updates.setdefault(place, LayerUpdate(key, *place, _strip(stem)))
        if name in update.matrices or (name == "bias" and half in ("A", "down")):
            raise InputError(f"{file}: {key} is there twice, under two names")
        update.matrices[name] = tensor.float()
    for place, update in updates.items():
        _check_pair(file, update)
        update.scale = settings.scale(update, alphas.pop(place, None))
    if alphas:
        raise InputError(f"{file}: has an alpha but no matrices for {next(iter(alphas))[1]}")
    return list(updates.values())


def parse_settings(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What diffusers writes into the metadata of an adapter; empty where there is nothing."""
    value = parse_json(metadata.get("lora_adapter_metadata", "{}"))
    if not isinstance(value, dict):
        raise InputError("expected a JSON object")
    return value


def flatten_name(name: str) -> str:
    """A layer's name as kohya writes it, the one form into which all layouts can be brought."""
    return name.replace(".", "_").removeprefix("text_model_")


class _Settings:
    """What a file says of alpha beside its matrices: PEFT's settings, or diffusers' metadata."""

    def __init__(
        self, file: Path, state: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
    ) -> None:
        self.file = file
        self.values: dict[str, Any] = {}
        path = file.parent / CONFIG_NAME
        try:
            if any(key.startswith(_PEFT_PREFIX) for key in state):
                if not path.is_file():
                    raise InputError(f"{file}: its alpha stands in {CONFIG_NAME}, which is missing")
                self.values = read_record(path)
            elif "lora_adapter_metadata" in metadata:
                self.values = parse_settings(metadata)
            for part in ("", "unet.", "text_encoder."):
                check_kinds(self.values, {part + name: kind for name, kind in _KINDS.items()})
            kind = self.values.get("peft_type", "LORA")
        except (InputError, OSError) as error:
            raise InputError(f"{file}: its settings are damaged ({error})") from error
        if kind != "LORA":
            raise InputError(f"{file}: an adapter of type {kind}: only LoRA is read")
        if any(key.rpartition(".")[2] == "use_dora" and self.values[key] for key in self.values):
            raise InputError(f"{file}: a DoRA adapter: only LoRA is read")

    def scale(self, update: LayerUpdate, alpha: float | None) -> float:
        """alpha / rank of a layer; `alpha` is what the file has for it alone."""
        from peft.utils.other import get_pattern_key

        if alpha is None:
            patterns = self._get(update.part, "alpha_pattern") or {}
            if costly := next(
                (name for name in patterns if not _LAYER_PATTERN.fullmatch(name)), ""
            ):
                raise InputError(f"{self.file}: its alpha_pattern {costly[:40]!r} is not read")
            alpha = patterns.get(get_pattern_key(patterns, update.name))
        if alpha is None:
            alpha = self._get(update.part, "lora_alpha")
        if alpha is None:
            return 1.0
        is_root = bool(self._get(update.part, "use_rslora"))
        return float(alpha) / (math.sqrt(update.rank) if is_root else update.rank)

    def _get(self, part: Part, name: str) -> Any:
        return self.values.get(f"{part}.{name}", self.values.get(name))


def _find_place(stem: str) -> tuple[Part, str]:
    """Network and flat name of the layer that the beginning of a key names."""
    part: Part = "unet"
    stem = stem.removeprefix(_PEFT_PREFIX)
    for prefix, named in _PREFIXES:
        if stem.startswith(prefix):
            stem, part = stem.removeprefix(prefix), named
            break
    name = flatten_name(stem).replace("_processor_", "_")
    name = name.removesuffix("_lora")
    if part == "text_encoder":
        name = re.sub(r"(self_attn)_to_([qkv])$", r"\1_\2_proj", name)
        return part, re.sub(r"(self_attn)_to_out(_0)?$", r"\1_out_proj", name)
    return part, re.sub(r"_to_out$", "_to_out_0", name)


def _strip(stem: str) -> str:
    """The name without what says in which network the layer is."""
    for prefix in (_PEFT_PREFIX, "unet.", "text_encoder."):
        stem = stem.removeprefix(prefix)
    return stem


def _check_kind(file: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Say what a file is that is not a LoRA adapter of Stable Diffusion 1.x or 2.x."""
    for key in state:
        for mark, kind in _OTHER_KINDS.items():
            if mark in key:
                raise InputError(f"{file}: {kind} ({key}): only LoRA is read")
    if not any("lora" in key for key in state):
        is_embedding = 0 < len(state) <= 2 and all(
            tensor.ndim <= 2 and tensor.shape[-1:] in {(768,), (1024,), (1280,)}
            for tensor in state.values()
        )
        is_base = any(key.startswith(("model.diffusion_model.", "down_blocks.")) for key in state)
        kind = (
            "a textual inversion: only LoRA is read"
            if is_embedding
            else "the weights of a whole model: give it as --base"
            if is_base
            else "holds no LoRA matrices"
        )
        raise InputError(f"{file}: {kind}")
    for key in state:
        for mark, base in _OTHER_BASES.items():
            if mark in key:
                raise InputError(f"{file}: made for another base: {base} ({key})")


def _check_pair(file: Path, update: LayerUpdate) -> None:
    for name in ("down", "up"):
        if name not in update.matrices:
            raise InputError(f"{file}: {update.key} has no partner: its `{name}` matrix is missing")
        if update.matrices[name].ndim not in (2, 4):
            shape = tuple(update.matrices[name].shape)
            raise InputError(f"{file}: {update.key}: its `{name}` matrix has shape {shape}")
    rank, found = update.rank, update.matrices["up"].shape[1]
    if rank != found:
        raise InputError(
            f"{file}: {update.key}: its matrices have different ranks, {rank} and {found}"
        )
