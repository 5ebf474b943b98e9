"""What a base is made of, from its settings and file headers: whole, and text to image or not.

Read before any weight is loaded and any folder is made, so that what cannot be trained or drawn
from is one line.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from echodiff.documents import check_kinds
from echodiff.errors import InputError
from echodiff.training.checkpoints import read_shapes

WEIGHED_PARTS = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
}
"""Parts with weights, and the class that each must have."""
SETTINGS = {"tokenizer": "tokenizer_config.json", "scheduler": "scheduler_config.json"}
"""Parts without weights, and a file of each."""

_LIBRARIES = (None, "diffusers", "transformers", "stable_diffusion")
"""Where classes of a base may come from; the last is diffusers' own safety checker."""

LATENT_CHANNELS = 4
_TASKS = {5: "depth to image", 7: "upscaling", 8: "editing of images", 9: "inpainting"}
"""What a UNet with more input channels than latents is for."""
_CONDITIONS = {
    "addition_embed_type": "a UNet of Stable Diffusion XL or of its kind",
    "encoder_hid_dim_type": "a UNet that takes more than a text",
    "class_embed_type": "a UNet that takes a class or an image",
    "num_class_embeds": "a UNet that takes a class or an image",
    "time_cond_proj_dim": "a latent consistency model, which takes the guidance as an input",
}
"""Settings of a UNet that is given more than latents, time step and text."""
_SIZES = dict.fromkeys(
    ("in_channels", "out_channels", "cross_attention_dim", "hidden_size"), int | list[int]
)
_WEIGHTS = re.compile(r"(?:diffusion_pytorch_)?model(?:-\d{5}-of-\d{5})?\.safetensors")
_FILE_PARTS = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.",
}
"""Beginnings of the names in one file of the original code."""


def count_unet_parameters(base: Path) -> int:
    """Check every part of a folder or single file, and count the UNet's parameters.

    InputError where a part is missing, damaged, or not of a text-to-image Stable Diffusion.
    """
    return _check_file(base) if base.is_file() else _check_folder(base)


def _check_folder(folder: Path) -> int:
    index = read_index(folder)
    kind = index.get("_class_name", "model")
    if index.get("text_encoder_2", (None,))[0] is not None:
        raise InputError(f"{folder}: a {kind} with two text encoders, not Stable Diffusion 1.x")
    for part in (*WEIGHED_PARTS, *SETTINGS):
        has_part = index.get(part, (None,))[0] is not None
        if not has_part or not (folder / part).is_dir():
            raise InputError(
                f"{folder}: lacks its {part}: a {kind}, not a whole text-to-image base"
            )
    num_parameters = 0
    for part, wanted in WEIGHED_PARTS.items():
        if index[part][-1] != wanted:
            raise InputError(f"{folder}: its {part} is a {index[part][-1]}, not a {wanted}")
        shapes = [read_shapes(file) for file in _find_weights(folder / part)]
        if part == "unet":
            num_parameters = sum(math.prod(shape) for file in shapes for shape in file.values())
    for part, name in SETTINGS.items():
        _read_json(folder / part / name)
    unet, text = (_read_json(folder / part / "config.json") for part in ("unet", "text_encoder"))
    for part, config in (("UNet", unet), ("text encoder", text)):
        try:
            check_kinds(config, _SIZES)
        except InputError as error:
            raise InputError(f"{folder}: its {part}: {error}") from None
    _check_unet(folder, unet, text.get("hidden_size", 512))
    vae = _read_json(folder / "vae" / "config.json")
    if vae.get("latent_channels", LATENT_CHANNELS) != LATENT_CHANNELS:
        raise InputError(f"{folder}: its VAE has {vae['latent_channels']} latent channels, not 4")
    _check_schedule(folder, index["scheduler"][-1], folder / "scheduler" / SETTINGS["scheduler"])
    return num_parameters


def read_index(folder: Path) -> dict[str, Any]:
    """`model_index.json`: each part with its library and class, of libraries that are known."""
    index = _read_json(folder / "model_index.json")
    for part, place in index.items():
        if not isinstance(place, list):
            if part in (*WEIGHED_PARTS, *SETTINGS):
                raise InputError(f"{folder}: its model_index.json names no class of its {part}")
            continue
        if len(place) != 2 or not all(isinstance(word, str | None) for word in place):
            raise InputError(f"{folder}: its model_index.json names no class of its {part}")
        # Whatever stands there diffusers imports: a module of the working folder too.
        if place[0] not in _LIBRARIES:
            raise InputError(
                f"{folder}: its {part} is of {place[0]}, which is neither diffusers nor "
                "transformers and is not imported"
            )
    return index


def _check_unet(folder: Path, config: Mapping[str, Any], text_width: int) -> None:
    num_channels = config.get("in_channels", LATENT_CHANNELS)
    _check_channels(folder, num_channels)
    if config.get("out_channels", LATENT_CHANNELS) != LATENT_CHANNELS:
        raise InputError(f"{folder}: its UNet gives {config['out_channels']} channels, not 4")
    for name, kind in _CONDITIONS.items():
        if config.get(name) is not None:
            raise InputError(f"{folder}: {kind} ({name}), not Stable Diffusion 1.x")
    if (width := config.get("cross_attention_dim")) != text_width:
        raise InputError(
            f"{folder}: its UNet takes texts of width {width}, its text encoder gives {text_width}"
        )


def _check_channels(base: Path, num_channels: int) -> None:
    if num_channels != LATENT_CHANNELS:
        task = _TASKS.get(num_channels, "another task")
        raise InputError(
            f"{base}: its UNet takes {num_channels} channels, as for {task}: "
            f"a text-to-image base takes {LATENT_CHANNELS}"
        )


def _check_schedule(folder: Path, kind: str, file: Path) -> None:
    predicted = _read_json(file).get("prediction_type", "epsilon")
    if "Flow" in kind or predicted not in ("epsilon", "v_prediction"):
        raise InputError(
            f"{folder}: its scheduler is a {kind} that predicts {predicted!r}: "
            "epsilon and v_prediction are known"
        )


def _check_file(path: Path) -> int:
    shapes = read_shapes(path)
    if any(".lora_" in key or key.startswith("lora_") for key in shapes):
        raise InputError(f"{path}: an adapter: give it as --weights, and its base here")
    if any(key.startswith("conditioner.embedders.") for key in shapes):
        raise InputError(f"{path}: Stable Diffusion XL, not 1.x")
    for part, beginning in _FILE_PARTS.items():
        if not any(key.startswith(beginning) for key in shapes):
            raise InputError(f"{path}: lacks its {part}: nothing in it is named {beginning}...")
    unet = {key: shape for key, shape in shapes.items() if key.startswith(_FILE_PARTS["unet"])}
    first = unet.get("model.diffusion_model.input_blocks.0.0.weight", ())
    if len(first) != LATENT_CHANNELS:
        raise InputError(f"{path}: its model is no UNet of Stable Diffusion")
    _check_channels(path, first[1])
    return sum(map(math.prod, unet.values()))


def _find_weights(folder: Path) -> list[Path]:
    """The files that are loaded: no variants (`.fp16`, `.non_ema`) beside them."""
    files = sorted(file for file in folder.iterdir() if _WEIGHTS.fullmatch(file.name))
    if files:
        return files
    there = sorted(file.name for file in folder.iterdir() if file.suffix != ".json")
    reason = f": there is {there[0]}" if there else ""
    raise InputError(f"{folder}: no weights named (diffusion_pytorch_)model.safetensors{reason}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        # Not by `documents`: tokenizers write 10^30 for a length without a limit.
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content.get("")
        return content
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file: the base is not whole") from error
    except (ValueError, OSError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a settings file of a base ({error})") from error
