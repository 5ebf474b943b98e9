"""Feature networks in TorchScript files."""

import warnings
from pathlib import Path
from typing import Any

import torch

from echodiff.errors import InputError
from echodiff.metrics.extractor import Extractor, best_device


def load_torchscript(path: Path) -> Any:
    """Open a TorchScript file for inference on the best device; InputError names a broken file."""
    with warnings.catch_warnings():
        # torch 2.15 deprecates TorchScript, the one form in which this network is published.
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        try:
            network = torch.jit.load(str(path), map_location=best_device())
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{path}: not a TorchScript file, or a damaged one") from error
    return network.eval()


def build_inception(network: Any) -> Extractor:
    """The part of the TorchScript behind its own resizer, with the scaling that clean-fid puts
    before it: (B, 3, 299, 299) in 0..255 -> (B, 2048)."""
    layers = network.layers

    def forward(batch: torch.Tensor) -> Any:
        return layers((batch - 128.0) / 128.0)

    return forward
