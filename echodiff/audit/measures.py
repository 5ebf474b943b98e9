"""What a denoising network says of a frame: the numbers behind every membership attack.

Each is taken with the adapter on and with it off, at the same times and the same noise, which are
fixed by the seed and shared by all frames. Smaller means better known.

loss   squared error at pairs of time and noise (Matsumoto et al. 2023, arXiv 2302.03262)
pia    error at the noise that the network itself predicts of the clean frame (PIA, Kong et al.
       2024, arXiv 2305.18355, equation 10)
secmi  error of one step there and back on the deterministic path (SecMI, Duan et al. 2023, arXiv
       2302.01316, equation 9)
sima   norm of the predicted noise of the clean frame (SimA, arXiv 2509.25003)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.objective import Predict
from echodiff.diffusion.samples import Samples
from echodiff.progress import ProgressBar
from echodiff.training.streams import Stream, build_stream, sample_normal

Array = NDArray[np.float64]

NORM = 4
"""Order of the norm of PIA and SimA, as published."""
CLEAN_TIMES = (0.05, 0.1, 0.2, 0.3)
"""Times of PIA and SimA as shares of the schedule."""
SECMI_TIME, SECMI_STEP = 0.1, 0.01
"""Time and step of SecMI as shares of the schedule: 100 and 10 of 1000, as published."""


@dataclass(frozen=True)
class Schedule:
    """Times and noise of an audit, and how much signal a time keeps."""

    abar: Tensor
    """(T,) share of signal in the variance at every time step."""
    is_velocity: bool
    """Whether the network predicts v; else noise."""
    times: Tensor
    """(P,) time of every pair."""
    noise: Tensor
    """(P, C, h, w) noise of every pair."""

    @classmethod
    def draw(
        cls, schedule: Any, num_pairs: int, latent_shape: Sequence[int], seed: int
    ) -> Schedule:
        """Evenly spaced times, and a noise of its own for each.

        schedule: the training schedule of the base (`objective.build_noise_schedule`).
        """
        abar = schedule.alphas_cumprod.float()
        spread = (torch.arange(num_pairs) + 0.5) * (len(abar) / num_pairs)
        stream = build_stream(seed, Stream.AUDIT, 0)
        return cls(
            abar,
            schedule.config.prediction_type == "v_prediction",
            spread.long(),
            sample_normal(stream, (num_pairs, *latent_shape)),
        )

    def at(self, share: float) -> int:
        """Time step at a share of the schedule."""
        return min(len(self.abar) - 1, round(share * len(self.abar)))


class Probe:
    """A network and one batch of clean frames: predicted noise at any time and noise."""

    def __init__(self, predict: Predict, schedule: Schedule, samples: Samples) -> None:
        self.predict, self.schedule, self.samples = predict, schedule, samples
        self.clean = samples.latents

    @cached_property
    def own(self) -> Tensor:
        """Noise that the network predicts of the clean latents at time 0, for PIA and SecMI."""
        return self.noise_of(self.clean, 0)

    def noise_of(self, noisy: Tensor, time: int) -> Tensor:
        """Predict the noise (B, C, h, w) of noisy latents at a time step."""
        times = torch.full((len(noisy),), time, device=noisy.device, dtype=torch.long)
        prediction = self.predict(noisy, replace_times(self.samples, times)).float()
        if not self.schedule.is_velocity:
            return prediction
        signal, rest = self._scales(time)
        return signal * prediction + rest * noisy

    def mix(self, noise: Tensor, time: int) -> Tensor:
        """The clean latents with noise of a time step."""
        signal, rest = self._scales(time)
        return signal * self.clean + rest * noise

    def move(self, noisy: Tensor, start: int, end: int) -> Tensor:
        """A deterministic step from one time to another (Song et al. 2021, DDIM, equation 12)."""
        is_first = noisy is self.clean and start == 0
        noise = self.own if is_first else self.noise_of(noisy, start)
        signal, rest = self._scales(start)
        clean = (noisy - rest * noise) / signal
        signal, rest = self._scales(end)
        return signal * clean + rest * noise

    def _scales(self, time: int) -> tuple[float, float]:
        abar = float(self.schedule.abar[time])
        return abar**0.5, (1 - abar) ** 0.5


def measure_loss(probe: Probe) -> Tensor:
    """(B, P) mean squared error at every pair."""
    columns = []
    for time, one in zip(probe.schedule.times.tolist(), probe.schedule.noise, strict=True):
        noise = one.to(probe.clean.device).expand_as(probe.clean)
        found = probe.noise_of(probe.mix(noise, time), time)
        columns.append((found - noise).square().flatten(1).mean(1))
    return torch.stack(columns, 1)


def measure_pia(probe: Probe) -> Tensor:
    """(B, times) error at the network's own noise."""
    own = probe.own
    times = [probe.schedule.at(share) for share in CLEAN_TIMES]
    errors = [probe.noise_of(probe.mix(own, time), time) - own for time in times]
    return torch.stack([_norm(error) for error in errors], 1)


def measure_secmi(probe: Probe) -> Tensor:
    """(B, 1) error of a step there and back at SECMI_TIME."""
    step = max(1, probe.schedule.at(SECMI_STEP))
    end = max(step, probe.schedule.at(SECMI_TIME) // step * step)
    noisy = probe.clean
    for start in range(0, end, step):
        noisy = probe.move(noisy, start, start + step)
    back = probe.move(probe.move(noisy, end, end + step), end + step, end)
    return (back - noisy).square().flatten(1).mean(1)[:, None]


def measure_sima(probe: Probe) -> Tensor:
    """(B, times) norm of the noise predicted of the clean frame."""
    times = [probe.schedule.at(share) for share in CLEAN_TIMES]
    return torch.stack([_norm(probe.noise_of(probe.clean, time)) for time in times], 1)


MEASURES: Mapping[str, Callable[[Probe], Tensor]] = {
    "loss": measure_loss, "pia": measure_pia, "secmi": measure_secmi, "sima": measure_sima,
}  # fmt: skip


def measure_frames(
    predict: Predict,
    schedule: Schedule,
    sides: Sequence[EncodedFrames],
    *,
    device: torch.device,
    batch_size: int,
    names: Sequence[str] = tuple(MEASURES),
    told: str = "",
) -> dict[str, Array]:
    """Natural logarithms (N, K) of every measure, of all sides in a row.

    The frames are mapped files: memory does not grow with their number. told: for the progress bar.
    """
    parts: dict[str, list[Array]] = {name: [] for name in names}
    total = sum(map(len, sides))
    with torch.inference_mode(), ProgressBar(total=total, desc=told, unit="frame") as bar:
        for samples in _batches(sides, batch_size, device):
            probe = Probe(predict, schedule, samples)
            for name in names:
                values = MEASURES[name](probe).double().clamp_min(1e-12).log()
                parts[name].append(values.cpu().numpy())
            bar.update(len(samples.latents))
    return {name: np.concatenate(part) for name, part in parts.items()}


def replace_times(samples: Samples, times: Tensor) -> Samples:
    """The same samples at other times."""
    return samples._replace(times=times)


def _batches(
    sides: Sequence[EncodedFrames], batch_size: int, device: torch.device
) -> Iterator[Samples]:
    for encoded in sides:
        for start in range(0, len(encoded), batch_size):
            rows = slice(start, start + batch_size)
            latents = encoded.latent_mean[rows].to(device)
            condition = None if encoded.condition is None else encoded.condition[rows].to(device)
            yield Samples(
                latents=latents,
                noise=latents,
                times=torch.zeros(len(latents), dtype=torch.long, device=device),
                embeddings=encoded.embeddings[encoded.caption_index[rows]].to(device),
                condition=condition,
            )


def _norm(values: Tensor) -> Tensor:
    return values.flatten(1).abs().pow(NORM).mean(1).pow(1 / NORM)
