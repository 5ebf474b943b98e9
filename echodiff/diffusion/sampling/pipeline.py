"""Load the base and its adapter as a pipeline that is ready to sample, and identify both."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from echodiff.diffusion.base import base_sha256, load_base, num_unet_parameters
from echodiff.diffusion.condition import Channels
from echodiff.diffusion.lora import find_lora, load_lora
from echodiff.diffusion.mask_files import load_masked
from echodiff.diffusion.mask_networks import KINDS, Kind, MaskedUNet
from echodiff.diffusion.sampling.settings import NO_WEIGHTS, GenerateConfig
from echodiff.errors import InputError
from echodiff.frames.rows import check_inside
from echodiff.published import (
    PREFIX,
    TRAIN_CONTROLNET,
    fetch_published,
    hash_mask_files,
    parse_name,
)
from echodiff.runs import RECORD, Run, newest_finished_run
from echodiff.training.checkpoints import check_finite
from echodiff.training.precision import choose_precision

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Masked:
    """What obeys masks, on the device of its base."""

    network: MaskedUNet
    kind: Kind
    channels: Channels
    lora: str
    """Where the LoRA besides it came from; `none` without one."""
    lora_sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Model:
    """Base and adapter, loaded and ready, with what identifies them."""

    pipeline: Any
    base: str
    base_sha256: str
    run: Run | None
    """The training run the adapter comes from, where it is one."""
    weights: str
    """Run folder or file of the adapter; `none` for the bare base."""
    weights_sha256: str
    """Of the adapter; of the base where there is no adapter."""
    lora_scale: float | None
    """Of the adapter; None where there is no adapter."""
    resolution: int | None
    """Side in pixels; None is the base's own."""
    is_reproducible: bool
    """fp32 on a CPU: an image is the same to one grey level in any batch."""
    masked: Masked | None = None
    """Of weights that obey masks."""

    @property
    def name(self) -> str:
        """What drew the images, for a person."""
        scale = f" at scale {self.lora_scale:g}" if self.lora_scale not in (None, 1) else ""
        if self.masked is not None:
            lora = "" if self.lora_scale is None else f" and the LoRA {self.masked.lora}{scale}"
            return f"{self.base} with {self.weights}{lora}"
        return self.base if self.lora_scale is None else f"{self.base} with {self.weights}{scale}"


def load_model(config: GenerateConfig, device: torch.device) -> Model:
    """Load what --base and --weights ask for onto `device`; everything that does not fit is refused
    here, before anything is written."""
    path = find_weights(config.weights, has_masks=config.masks is not None)
    if path is None and config.lora_scale != 1:
        raise InputError(f"--lora-scale {config.lora_scale}: no finished run, so no adapter")
    run = Run.load(path) if path is not None and (path / RECORD).is_file() else None
    _check_use_of_masks(config, path, run)
    trained_on = {} if run is None else run.record
    base = config.base or str(trained_on.get("base") or "tiny")
    digest = base_sha256(base)
    if trained_on.get("base_sha256") != digest and run is not None:
        if config.base is None and base != "tiny":
            # Whoever wrote the record chose it: a folder of this machine, perhaps.
            raise InputError(
                f"--weights {path}: its run.json names the base {base}, which is not the one that "
                f"it records a hash of; --base {base} takes it"
            )
        if "base_sha256" in trained_on:
            logger.warning("--base %s: not the base %s was trained on", base, path)
    precision = choose_precision(
        config.mixed_precision, num_parameters=num_unet_parameters(base), device=device
    )
    dtype = precision.weight_dtype
    pipeline = load_base(base, dtype if path is None else torch.float32)
    networks = {part: getattr(pipeline, part) for part in ("unet", "vae", "text_encoder")}
    lora_scale = None if path is None else config.lora_scale
    weights_sha256, masked = digest, None
    if run is not None and config.masks is not None:
        masked, lora_scale = _load_masked(config, run, pipeline)
        weights_sha256 = hash_mask_files(run.run_dir, masked.kind)
        networks["mask network"] = masked.network.branch
    elif path is not None:
        # Merged into the base the adapter costs nothing. In fp32, before any rounding: the sum is
        # then no further from its 16 bit form than the base alone is from its own.
        try:
            weights_sha256 = load_lora(pipeline, path, config.lora_scale)
        except InputError as error:
            raise InputError(f"--weights {error}") from error
    if path is not None:
        for network in networks.values():
            torch.nn.Module.to(network, dtype)  # diffusers' own warns of layers it has none of
    for part, network in networks.items():
        # After the merge and the cast, either of which may overflow.
        source = f"--base {base}" if path is None else f"--base {base} with --weights {path}"
        check_finite(
            network.named_parameters(part), f"{source} in {str(dtype).removeprefix('torch.')}"
        )
    for network in (pipeline.unet, pipeline.vae, *([masked.network] if masked else [])):
        # Convolutions are a third faster so, on CPUs and GPUs alike.
        network.to(memory_format=torch.channels_last)
    if masked is not None:
        masked.network.branch.to(device)
    resolution = config.resolution or trained_on.get("resolution")
    return Model(
        pipeline=pipeline.to(device),
        base=base,
        base_sha256=digest,
        run=run,
        weights=NO_WEIGHTS if path is None else name_weights(config.weights, path),
        weights_sha256=weights_sha256,
        lora_scale=lora_scale,
        resolution=None if resolution is None else int(resolution),
        is_reproducible=device.type == "cpu" and precision.weight_dtype == torch.float32,
        masked=masked,
    )


def _check_use_of_masks(config: GenerateConfig, path: Path | None, run: Run | None) -> None:
    """InputError for masks with weights that obey none, and for the other way round."""
    obeys = run is not None and run.record.get("command") == TRAIN_CONTROLNET
    if config.masks is not None and not obeys:
        what = "no finished run of it" if path is None else f"--weights {path} is of another kind"
        raise InputError(
            f"--masks {config.masks}: needs weights of echodiff train-controlnet, and {what}"
        )
    if config.masks is None and obeys:
        raise InputError(f"--weights {path}: was trained to obey masks: give some with --masks")


def _load_masked(config: GenerateConfig, run: Run, pipeline: Any) -> tuple[Masked, float | None]:
    """Load the network of a run around the UNet of `pipeline`, and the LoRA besides.

    Returns the scale of that LoRA too, None without one.
    """
    record, place = run.record, f"--weights {run.run_dir}"
    kind = record.get("kind")
    if kind not in KINDS:
        raise InputError(f"{place}: its run.json names the kind {kind!r}, which is not known")
    channels = Channels.of_names(record.get("labels", []), place)
    try:
        network = load_masked(
            run.run_dir,
            kind,
            pipeline.unet,
            num_channels=len(channels),
            factor=int(pipeline.vae_scale_factor),
        )
    except InputError as error:
        raise InputError(f"--weights {error}") from error
    lora, scale, flag = config.lora, config.lora_scale, "--lora"
    if lora is None and (own := record.get("lora")):
        check_inside(own, "lora")
        lora, flag = str(run.run_dir / own), f"{place}, its LoRA:"
        scale *= float(record.get("lora_scale", 1.0))
    if lora is None or lora == NO_WEIGHTS:
        if config.lora_scale != 1:
            raise InputError(f"--lora-scale {config.lora_scale}: there is no LoRA")
        return Masked(network=network, kind=kind, channels=channels, lora=NO_WEIGHTS,
                      lora_sha256=None), None  # fmt: skip
    try:
        digest = load_lora(pipeline, Path(lora), scale)
    except InputError as error:
        raise InputError(f"{flag} {error}") from error
    return Masked(network=network, kind=kind, channels=channels, lora=lora,
                  lora_sha256=digest), scale  # fmt: skip


def find_weights(weights: str | None, *, has_masks: bool = False) -> Path | None:
    """The run folder or file of --weights, fetched from the hub first where it is there; None is
    the bare base.

    has_masks: the newest run is one that obeys masks.
    """
    if weights == NO_WEIGHTS:
        return None
    if weights is None:
        return newest_finished_run(command=TRAIN_CONTROLNET if has_masks else "train_lora")
    if weights.startswith(PREFIX):
        return fetch_published(parse_name(weights, "--weights"))
    path = Path(weights)
    if (path / RECORD).is_file() and Run.load(path).record.get("command") == TRAIN_CONTROLNET:
        return path
    try:
        find_lora(path)
    except InputError as error:
        raise InputError(f"--weights {error}") from None
    return path


def name_weights(weights: str | None, path: Path) -> str:
    """What the records call the weights: of the hub, repository and commit; else their place."""
    if weights is None or not weights.startswith(PREFIX):
        return str(path)
    # The cache names the folder of a revision by its commit.
    return str(parse_name(weights, "--weights")._replace(revision=path.name))
