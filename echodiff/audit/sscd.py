"""Feature networks in which copies are looked for; among them SSCD, where the user has its file.

SSCD (Pizzi et al. 2022, arXiv 2202.10261) is MIT-licensed and published as TorchScript; it takes
colour images of 288 pixels, normalised as those of ImageNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from echodiff.audit.audit_config import AuditConfig
from echodiff.errors import InputError
from echodiff.images import resize_u8
from echodiff.metrics.extractor import best_device
from echodiff.metrics.features import FeatureNetwork
from echodiff.metrics.frame_features import load_networks
from echodiff.metrics.torchscript import load_torchscript
from echodiff.runs import sha256_file

SIDE = 288
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_copy_networks(config: AuditConfig) -> tuple[FeatureNetwork, ...]:
    """Open the networks of --features, and SSCD."""
    opened = load_networks(config.features, trust=config.trust, modules=config.features_path).opened
    return opened if config.sscd is None else (*opened, load_sscd(config.sscd))


def load_sscd(path: Path) -> FeatureNetwork:
    """Open SSCD; its descriptors are brought to length 1, as its authors do."""
    if not path.is_file():
        raise InputError(f"--sscd {path}: no such file")
    try:
        network = load_torchscript(path)
    except InputError as error:
        raise InputError(f"--sscd {error}") from error

    def embed(images_u8: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        grey = np.stack([resize_u8(image, (SIDE, SIDE)) for image in images_u8])
        values = torch.from_numpy(grey).float()[:, None].expand(-1, 3, -1, -1) / 255
        mean, deviation = (torch.tensor(one).view(1, 3, 1, 1) for one in (_MEAN, _DEVIATION))
        with torch.no_grad():
            found = network(((values - mean) / deviation).to(best_device()))
        if not isinstance(found, torch.Tensor) or found.ndim != 2 or len(found) != len(grey):
            raise InputError(f"--sscd {path}: does not give one descriptor an image")
        found = torch.nn.functional.normalize(found.float(), dim=1)
        return found.double().cpu().numpy()

    width = embed([np.zeros((SIDE, SIDE), np.uint8)]).shape[1]
    return FeatureNetwork(
        name="sscd", sha256=sha256_file(path), num_features=width,
        resize=f"padded to a square with black, then to {SIDE} pixels", embed=embed,
    )  # fmt: skip
