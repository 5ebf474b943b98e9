"""Find and load the base model: the embedded `tiny`, a hub id, a folder or one safetensors file."""

import functools
import hashlib
import re
from contextlib import nullcontext
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from echodiff.connection import endpoint, told_in_one_line
from echodiff.diffusion.base_parts import SETTINGS, WEIGHED_PARTS, count_unet_parameters, read_index
from echodiff.diffusion.objective import build_noise_schedule
from echodiff.errors import InputError
from echodiff.training.checkpoints import check_finite

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel

_HUB_ID = re.compile(r"\A[\w.-]+/[\w.-]+")
_PICKLES = {".ckpt", ".bin", ".pt", ".pth", ".pkl", ".pickle"}


def find_base(name: str) -> Path:
    """Return the local folder or file behind `name`; a hub id is downloaded into the hub cache."""
    if name == "tiny":
        path = Path(str(resources.files("echodiff") / "assets" / "tiny"))
        if not (path / "model_index.json").is_file():
            raise InputError(
                "--base tiny: the embedded base is not in this installation: "
                "run `echodiff pretrain`, or give a hub id or a folder"
            )
        return path
    path = Path(name)
    if path.suffix.lower() in _PICKLES:
        raise InputError(
            f"--base {name}: a pickle can run code when opened: give its .safetensors version"
        )
    if path.is_file():
        if path.suffix.lower() != ".safetensors":
            raise InputError(f"--base {name}: a single file must end in .safetensors")
        return path
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise InputError(f"--base {name}: no model_index.json: not a diffusers pipeline folder")
        return path
    if not _HUB_ID.fullmatch(name) or name.startswith("."):
        raise InputError(f"--base {name}: no such file or folder")
    return _download(name)


def load_base(name: str, dtype: torch.dtype, **parts: Any) -> "StableDiffusionPipeline":
    """Load `name` on the CPU in `dtype`, without safety checker.

    `parts` replace components: `unet=None` leaves the UNet out, `unet=mine` puts mine in. Weights
    are read from safetensors only.
    """
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.errors import LocalEntryNotFoundError
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_logging

    path = find_base(name)
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    options: dict[str, Any] = {
        "dtype": dtype,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
        "local_files_only": True,
        **parts,
    }
    try:
        if path.is_file():
            config = _single_file_config(path)
            pipeline = StableDiffusionPipeline.from_single_file(
                str(path), **({"config": str(config)} if config else {}), **options
            )
        else:
            pipeline = StableDiffusionPipeline.from_pretrained(
                str(path), use_safetensors=True, **options
            )
    except LocalEntryNotFoundError as error:
        # The hub is queried only for a single file, which lacks the configs and tokenizer.
        raise InputError(
            f"--base {name}: the hub did not give its configuration and tokenizer: without network "
            f"they are read from a diffusers folder {path.with_suffix('')} next to it"
        ) from error
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"--base {name}: {lines[0]}") from error
    if not isinstance(pipeline, StableDiffusionPipeline):
        raise InputError(f"--base {name}: a {type(pipeline).__name__}, not Stable Diffusion 1.x")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_for_training(
    name: str, dtype: torch.dtype, requested_resolution: int | None
) -> tuple["UNet2DConditionModel", "DDPMScheduler", int]:
    """Load the UNet in `dtype` with the noise schedule and the image side to train at."""
    pipeline = load_base(name, dtype, text_encoder=None)
    check_finite(pipeline.unet.named_parameters("unet"), f"--base {name}")
    resolution = choose_resolution(pipeline, requested_resolution)
    try:
        schedule = build_noise_schedule(pipeline.scheduler.config)
    except ValueError as error:
        raise InputError(f"--base {name}: {error}") from error
    return pipeline.unet, schedule, resolution


def choose_resolution(pipeline: "StableDiffusionPipeline", requested: int | None) -> int:
    """Image side in pixels: `requested`, checked, or what the base was made for."""
    factor = int(pipeline.vae_scale_factor)
    config = pipeline.unet.config
    if requested is None:
        return int(config.sample_size) * factor
    # The UNet halves the latent at every level but the last; a remainder breaks its skips.
    multiple = factor * 2 ** (len(config.block_out_channels) - 1)
    if requested % multiple:
        raise InputError(f"--resolution {requested}: this base needs a multiple of {multiple}")
    return requested


def base_sha256(name: str) -> str:
    """Hash what decides the base's output: weights, configurations and tokenizer."""
    path = find_base(name)
    files = [path] if path.is_file() else _content(path)
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(file.name.encode())
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def num_unet_parameters(name: str) -> int:
    """Count the UNet's parameters from the file headers, without loading a weight.

    The first look into a base: one that is not whole, or not text to image, is an InputError here.
    """
    path = find_base(name)
    try:
        return count_unet_parameters(path)
    except InputError as error:
        raise InputError(f"--base {error}") from error


def _content(folder: Path) -> list[Path]:
    """Weights and settings of the parts in use, in a fixed order."""
    wanted = {".safetensors", ".json", ".txt"}
    parts = (*WEIGHED_PARTS, *SETTINGS)
    return sorted(
        file for part in parts for file in (folder / part).glob("*") if file.suffix in wanted
    )


def _single_file_config(path: Path) -> Path | None:
    """Configs and tokenizer for `x.safetensors` without network: a folder `x` next to it."""
    folder = path.with_suffix("")
    if not (folder / "model_index.json").is_file():
        return None
    read_index(folder)
    return folder


@functools.cache
def _download(name: str) -> Path:
    from diffusers import StableDiffusionPipeline
    from huggingface_hub import HfApi

    reason = ""
    try:
        # One quick question first: without a network the download itself tries for minutes.
        with told_in_one_line():
            HfApi(endpoint=endpoint()).model_info(name, timeout=10)
    except InputError as error:
        reason = str(error)
    try:
        with nullcontext() if reason else told_in_one_line():
            return Path(
                StableDiffusionPipeline.download(
                    name,
                    use_safetensors=True,
                    safety_checker=None,
                    feature_extractor=None,
                    local_files_only=bool(reason),  # what an earlier download left in the cache
                )
            )
    except Exception as error:  # the cache may lack any part, of which each is another kind
        raise InputError(
            f"--base {name}: not a file or folder here, and not from the hub: "
            f"{reason or error}; HF_ENDPOINT names another hub, "
            "and a local folder, a .safetensors file or `tiny` need none"
        ) from error
