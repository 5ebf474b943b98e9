"""Feature networks in TorchScript files, fed as clean-fid feeds its Inception."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from echodiff.config import InputError

SIDE = 299
RESIZE = f"{SIDE} bicubic antialiased, one channel, float (clean-fid's)"
BATCH_SIZE = 32


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


def best_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resize_for_inception(image_u8: NDArray[np.uint8]) -> torch.Tensor:
    """Grey image (H, W) -> float32 (299, 299) in 0..255, within 4e-3 of Pillow's bicubic.

    One channel is resized and expanded afterwards: R=G=B, so the other two would come out equal.
    """
    if image_u8.ndim != 2 or image_u8.dtype != np.uint8:
        raise ValueError(f"grey uint8 image (H, W) expected, got {image_u8.dtype} {image_u8.shape}")
    image = torch.from_numpy(np.array(image_u8, dtype=np.float32))[None, None]
    resized = F.interpolate(
        image, size=(SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False
    )
    return resized[0, 0].clamp_(0.0, 255.0)


@torch.inference_mode()
def embed_with_torchscript(
    network: Any, images_u8: Sequence[NDArray[np.uint8]]
) -> NDArray[np.float64]:
    """Features (N, D) of grey images under a network that takes float32 (B, 3, 299, 299) in 0..255.

    That is the interface of clean-fid's `custom_feat_extractor`.
    """
    features = []
    device = best_device()
    for start in range(0, len(images_u8), BATCH_SIZE):
        chunk = images_u8[start : start + BATCH_SIZE]
        batch = torch.stack([resize_for_inception(image) for image in chunk])[:, None]
        output = network(batch.to(device).expand(-1, 3, -1, -1))
        if not isinstance(output, torch.Tensor) or len(output) != len(chunk):
            raise InputError("--features: the network must return one tensor, a row per image")
        features.append(output.flatten(1).double().cpu().numpy())
    return np.concatenate(features)


def build_inception(network: Any) -> Any:
    """The part of the TorchScript behind its own resizer, with the scaling that clean-fid puts
    before it: (B, 3, 299, 299) in 0..255 -> (B, 2048)."""
    layers = network.layers

    def forward(batch: torch.Tensor) -> torch.Tensor:
        return layers((batch - 128.0) / 128.0)

    return forward
