"""The networks of MONAI behind one door: built from settings, saved and opened as safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from echodiff.anatomy import Label
from echodiff.documents import Kinds, read_record
from echodiff.errors import InputError
from echodiff.files import write_json_atomic
from echodiff.fingerprints import sha256_file
from echodiff.segmentation.label_names import name_label, parse_label
from echodiff.segmentation.segmentation_config import STRIDE
from echodiff.training.checkpoints import check_finite, read_shapes, write_safetensors

WEIGHTS, CONFIG = "segmentation.safetensors", "segmentation.json"
NAMES = ("basic-unet", "dynunet")
MOST_CHANNELS = 1024
_KINDS: Kinds = {"network": str, "width": int, "resolution": int, "labels": list[str]}


@dataclass(frozen=True)
class Architecture:
    """What a network is built from, and what `segmentation.json` holds."""

    network: str
    """One of `NAMES`."""
    width: int
    resolution: int
    """Side of its images, pixels."""
    labels: tuple[Label, ...]
    """Labels of its output channels, the background first."""

    def to_record(self) -> dict[str, Any]:
        """Return JSON values, with labels as `name_label` writes them."""
        return {"network": self.network, "width": self.width, "resolution": self.resolution,
                "labels": [name_label(label) for label in self.labels]}  # fmt: skip


def build_network(architecture: Architecture, seed: int) -> nn.Module:
    """Build a network with random weights: (B, 1, S, S) in -1..1 to logits (B, K, S, S).

    The weights are a function of `seed`; the global generator is left as it was.
    """
    from monai.networks.nets.basic_unet import BasicUNet  # importing MONAI takes seconds
    from monai.networks.nets.dynunet import DynUNet

    width, num_labels = architecture.width, len(architecture.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture.network == "basic-unet":
            features = (width, width, 2 * width, 4 * width, 8 * width, width)
            return BasicUNet(2, 1, num_labels, features=features)
        return DynUNet(
            2, 1, num_labels, kernel_size=[3] * 5, strides=[1, 2, 2, 2, 2],
            upsample_kernel_size=[2] * 4, filters=[width * times for times in (1, 2, 4, 8, 8)],
        )  # fmt: skip


def list_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Every weight once, by name: the state dict of a DynUNet names each of them twice."""
    return {name: value.detach() for name, value in network.named_parameters()}


def restore_weights(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Put back what `list_weights` returned."""
    missing = list_weights(network).keys() ^ weights.keys()
    assert not missing, missing
    network.load_state_dict(weights, strict=False)


def save_network(folder: Path, network: nn.Module, architecture: Architecture) -> str:
    """Write weights and settings of a trained network, and return the hash of the weights."""
    write_json_atomic(folder / CONFIG, architecture.to_record())
    write_safetensors(folder / WEIGHTS, list_weights(network))
    return sha256_file(folder / WEIGHTS)


def load_network(folder: Path) -> tuple[nn.Module, Architecture]:
    """Open what `save_network` wrote; InputError names the file that is missing or does not fit."""
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: holds no segmentation network ({name} is missing)")
    architecture = _read_architecture(folder / CONFIG)
    network = build_network(architecture, seed=0)
    wanted = {name: tuple(tensor.shape) for name, tensor in list_weights(network).items()}
    if read_shapes(folder / WEIGHTS) != wanted:
        raise InputError(f"{folder / WEIGHTS}: not the weights of the network in {CONFIG}")
    restore_weights(network, load_file(folder / WEIGHTS))
    check_finite(network.named_parameters(), folder / WEIGHTS)
    return network.eval().requires_grad_(False), architecture


def _read_architecture(path: Path) -> Architecture:
    record = read_record(path, _KINDS)
    if missing := _KINDS.keys() - record.keys():
        raise InputError(f"{path}: lacks {min(missing)!r}")
    try:
        labels = tuple(map(parse_label, record["labels"]))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    name, width, side = record["network"], record["width"], record["resolution"]
    if (
        name not in NAMES
        or not 0 < width <= MOST_CHANNELS
        or side % STRIDE
        or not 2 * STRIDE <= side <= 4096
        or len(set(labels)) < max(2, len(labels))
        or labels[0] is not Label.BACKGROUND
    ):
        raise InputError(f"{path}: describes no network of this version")
    return Architecture(name, width, side, labels)
