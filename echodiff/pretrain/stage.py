"""Run one stage of a pretraining, with its state on disk, so that it can be interrupted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from echodiff.files import written_beside
from echodiff.progress import ProgressBar
from echodiff.training.precision import has_fast_bf16

SAVE_EVERY_S = 90.0
Stateful = torch.nn.Module | torch.optim.Optimizer


def autocast_bf16(device: str) -> torch.autocast:
    """Use bf16 if the hardware multiplies it; otherwise a step in bf16 can take minutes."""
    return torch.autocast(device, torch.bfloat16, enabled=has_fast_bf16(torch.device(device)))


class Stage:
    """Counts the steps of a stage, and saves its networks and optimizers in one file."""

    def __init__(self, path: Path, steps: int, parts: dict[str, Stateful]) -> None:
        self.path, self.steps, self.parts = path, steps, parts
        self.first = 0
        if path.exists():
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.first = int(state.pop("step"))
            for name, part in parts.items():
                part.load_state_dict(state[name])

    def save(self, step: int) -> None:
        """Save the state after `step` steps."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        with written_beside(self.path) as beside:
            torch.save({"step": step, **state}, beside)

    def run(self, title: str) -> Iterator[tuple[int, ProgressBar]]:
        """Yield (step, bar) for the remaining steps; save at intervals and at the end."""
        bar = ProgressBar(
            range(self.first, self.steps), total=self.steps, initial=self.first, desc=title
        )
        saved = time.monotonic()
        for step in bar:
            yield step, bar
            if time.monotonic() - saved > SAVE_EVERY_S:
                self.save(step + 1)
                saved = time.monotonic()
        if self.first < self.steps:
            self.save(self.steps)


def step_generators(
    seed: int, stage: int, step: int
) -> tuple[np.random.Generator, torch.Generator]:
    """Return the random generators of a step. They depend only on (seed, stage, step), so a resumed
    run draws the same numbers."""
    rng = np.random.default_rng([seed, stage, step])
    return rng, torch.Generator().manual_seed(int(rng.integers(2**62)))


def cosine(step: int, steps: int, warmup: int) -> float:
    """Return the learning rate relative to its maximum: linear warm-up, cosine to 2 per cent."""
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * share)))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.no_grad()
def follow(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """Update the exponential moving average of the weights."""
    kept, new = list(average.parameters()), list(network.parameters())
    torch._foreach_lerp_(kept, new, 1 - decay)  # type: ignore[arg-type]


def to_pm1(images_u8: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Convert (B, H, W) uint8 to (B, 1, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(images_u8).to(device, torch.float32)[:, None] / 127.5 - 1
