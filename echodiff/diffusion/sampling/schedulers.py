"""Build diffusers' schedulers with the same time steps for all of them.

Step k of n is at t = round(T (n - k) / n) - 1 (`trailing` of Lin et al. 2024, table 2). The first
is T - 1 for any n, where the latent is pure noise, and the last step ends at the image. The spacing
in a base's configuration is meant for the scheduler it names, and is not used here.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteSchedulerOutput
from torch import Tensor

from echodiff.errors import InputError

NOISE_SCHEDULE = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)
"""What is taken of a base's configuration: how it was trained, and not how it is usually drawn."""


def space_time_steps(num_train: int, steps: int) -> list[int]:
    """Return `steps` (1..num_train) distinct time steps, descending from num_train - 1.

    Integer arithmetic is exact; diffusers' `trailing` adds fractions, and makes 62 steps of 61.
    """
    return [
        (2 * num_train * left + steps) // (2 * steps) - 1  # rounded to the nearest
        for left in range(steps, 0, -1)
    ]


class _Spaced:
    """Scheduler of diffusers that keeps its noise levels in `sigmas`, with our time steps."""

    timesteps: Tensor
    sigmas: Tensor

    def set_timesteps(self, num_inference_steps: int, device: Any = None, **_: Any) -> None:
        super().set_timesteps(num_inference_steps, device=device)  # type: ignore[misc]
        num_train = self.config.num_train_timesteps  # type: ignore[attr-defined]
        steps = torch.tensor(space_time_steps(num_train, num_inference_steps))
        kept = self.alphas_cumprod[steps].double()  # type: ignore[attr-defined]
        self.sigmas = torch.cat([((1 - kept) / kept).sqrt(), torch.zeros(1)]).float()
        self.timesteps = steps.to(self.timesteps)
        self.num_inference_steps = num_inference_steps
        self.set_begin_index(0)  # type: ignore[attr-defined]


class DPMSolver(_Spaced, DPMSolverMultistepScheduler):
    """DPM-Solver++ (Lu et al. 2022); of order 1 it is DDIM (their section 4.1)."""


class KarrasDPMSolver(DPMSolverMultistepScheduler):
    """DPM-Solver++ with noise levels as in Karras et al. 2022, eq. 5, from the highest to 0."""

    def set_timesteps(self, num_inference_steps: int, device: Any = None, **_: Any) -> None:
        super().set_timesteps(num_inference_steps, device=device)
        # Many steps share a time step, and diffusers takes the second of them for the first.
        self.set_begin_index(0)


class UniPC(_Spaced, UniPCMultistepScheduler):
    """UniPC (Zhao et al. 2023)."""


class Euler(_Spaced, EulerDiscreteScheduler):
    """Euler's method in the noise level (Karras et al. 2022, algorithm 1 without its churn)."""

    @property
    def init_noise_sigma(self) -> Tensor:
        """Scale of the first noise, so that all schedulers give the network the same input."""
        return (self.sigmas[0] ** 2 + 1).sqrt()


class PLMS(Euler):
    """Pseudo linear multistep (Liu et al. 2022, eq. 12): Adams-Bashforth over up to four steps.

    The network is called once per step; PNDM's own start needs one more call.
    """

    weights = (
        (1.0,),
        (3 / 2, -1 / 2),
        (23 / 12, -16 / 12, 5 / 12),
        (55 / 24, -59 / 24, 37 / 24, -9 / 24),
    )

    def set_timesteps(self, num_inference_steps: int, device: Any = None, **_: Any) -> None:
        super().set_timesteps(num_inference_steps, device=device)
        self.slopes: list[Tensor] = []

    def step(
        self, model_output: Tensor, timestep: Tensor, sample: Tensor, return_dict: bool = True
    ) -> Any:
        index = self.step_index
        image = super().step(model_output, timestep, sample).pred_original_sample
        slope = (sample - image) / self.sigmas[index]
        self.slopes = [slope, *self.slopes[:3]]
        weighted = zip(self.weights[len(self.slopes) - 1], self.slopes, strict=True)
        mean = sum(weight * earlier for weight, earlier in weighted)
        moved = sample + mean * (self.sigmas[index + 1] - self.sigmas[index])
        return EulerDiscreteSchedulerOutput(moved, image) if return_dict else (moved, image)


# All of them are deterministic given the first noise.
_DPMPP = {"algorithm_type": "dpmsolver++", "timestep_spacing": "trailing"}
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DPMSolver, {**_DPMPP, "solver_order": 1}),
    "dpmpp": (DPMSolver, {**_DPMPP, "solver_order": 2}),
    "dpmpp-karras": (KarrasDPMSolver, {**_DPMPP, "solver_order": 2, "use_karras_sigmas": True}),
    "euler": (Euler, {"timestep_spacing": "trailing"}),
    "unipc": (UniPC, {"timestep_spacing": "trailing"}),
    "pndm": (PLMS, {"timestep_spacing": "trailing"}),
}


def build_scheduler(name: str, base: Any) -> Any:
    """Build the named scheduler on the base's noise schedule and prediction type."""
    if name not in SCHEDULERS:
        raise InputError(f"--scheduler {name}: not one of {', '.join(SCHEDULERS)}")
    scheduler_class, settings = SCHEDULERS[name]
    config = base.scheduler.config
    return scheduler_class(
        **{key: config[key] for key in NOISE_SCHEDULE if key in config}, **settings
    )


def check_steps(steps: int, num_train: int, flag: str) -> None:
    """Refuse more steps than the noise schedule of the base has."""
    if steps > num_train:
        raise InputError(
            f"{flag} {steps}: the noise schedule of the base has {num_train} time steps"
        )
