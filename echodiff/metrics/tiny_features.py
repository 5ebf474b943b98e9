"""Small network that reads findings, view, phase and scanner style off an echo frame.

It is trained on phantom frames by `echodiff pretrain`. Its 64 features give FD(tiny), its findings
give prompt faithfulness. On real frames its findings are meaningless.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from echodiff.anatomy import Finding
from echodiff.images import resize_u8

ASSET = Path(__file__).parent.parent / "assets" / "tiny_features"
VIEWS = ("A4C", "A2C")
PHASES = ("ED", "ES")
STYLES = ("aspen", "birch", "cedar")
SIZE = 128
NUM_FEATURES = 64


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


class TinyFeatures(nn.Module):
    """(B, 1, 128, 128) in [-1, 1] to 64 features; linear heads on top of them."""

    def __init__(self, num_findings: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = 1
        for channels in (24, 48, 80, 112):
            layers += [nn.Conv2d(previous, channels, 3, stride=2, padding=1), _Residual(channels)]
            previous = channels
        self.trunk = nn.Sequential(*layers, nn.GroupNorm(8, previous), nn.SiLU())
        self.features = nn.Linear(2 * previous, NUM_FEATURES)
        self.head_findings = nn.Linear(NUM_FEATURES, num_findings)
        self.head_view = nn.Linear(NUM_FEATURES, len(VIEWS))
        self.head_phase = nn.Linear(NUM_FEATURES, len(PHASES))
        self.head_style = nn.Linear(NUM_FEATURES, len(STYLES))

    def forward(self, image_pm1: Tensor) -> Tensor:
        """Features (B, 64)."""
        x = self.trunk(image_pm1)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        y: Tensor = self.features(pooled)
        return y

    def logits(self, features: Tensor) -> dict[str, Tensor]:
        """Logits of the four heads: findings (B, F), view (B, 2), phase (B, 2), style (B, 3)."""
        hidden = torch.nn.functional.silu(features)
        return {
            "findings": self.head_findings(hidden),
            "view": self.head_view(hidden),
            "phase": self.head_phase(hidden),
            "style": self.head_style(hidden),
        }


class TinyClassifier:
    """The shipped network, ready to read uint8 frames."""

    def __init__(self, network: TinyFeatures, config: dict[str, Any], sha256: str) -> None:
        self.network = network.eval().requires_grad_(False)
        self.config = config
        self.sha256 = sha256
        columns = _list_columns(config)
        self.thresholds = {
            f: float(config["thresholds"][f]) for f in columns if f in config["thresholds"]
        }
        """Probability from which each finding that the network knows counts as found."""
        self._known = [columns.index(finding) for finding in self.thresholds]

    def _run(self, images_u8: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, dict[str, Tensor]]:
        features, logits = [], []
        with torch.inference_mode():
            for start in range(0, len(images_u8), 64):
                batch_u8 = [resize_u8(i, (SIZE, SIZE)) for i in images_u8[start : start + 64]]
                batch_pm1 = torch.from_numpy(np.stack(batch_u8).astype(np.float32) / 127.5 - 1)
                features.append(self.network(batch_pm1[:, None]))
                logits.append(self.network.logits(features[-1]))
        return torch.cat(features), {k: torch.cat([row[k] for row in logits]) for k in logits[0]}

    def embed(self, images_u8: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Features (N, 64) of N grey frames (H, W) uint8 of any size."""
        return self._run(images_u8)[0].double().numpy()

    def findings(self, images_u8: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Probability (N, F) of each finding of `thresholds`, in their order."""
        return self.findings_of(self.embed(images_u8))

    def findings_of(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same (N, F) from the features (N, 64) of the frames."""
        with torch.inference_mode():
            logits = self.network.logits(torch.from_numpy(features).float())["findings"]
        return torch.sigmoid(logits[:, self._known]).double().numpy()

    def classify(self, images_u8: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.int64]]:
        """Index (N,) of the likeliest view, phase and style."""
        logits = self._run(images_u8)[1]
        return {name: logits[name].argmax(1).numpy() for name in ("view", "phase", "style")}


def _list_columns(config: dict[str, Any]) -> list[Finding]:
    """Findings in the order of the head's outputs; a network without `columns` has a threshold for
    each."""
    return [Finding(name) for name in config.get("columns", config["thresholds"])]


@functools.cache
def load_tiny_features(folder: Path = ASSET) -> TinyClassifier:
    """The network in `folder` (`model.safetensors`, `config.json`); the shipped one by default."""
    weights = folder / "model.safetensors"
    config = json.loads((folder / "config.json").read_text("utf-8"))
    network = TinyFeatures(len(_list_columns(config)))
    network.load_state_dict({k: v.float() for k, v in load_file(weights).items()})
    return TinyClassifier(network, config, hashlib.sha256(weights.read_bytes()).hexdigest())
