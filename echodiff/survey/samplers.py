"""Samplers of the denoising arms, and the noise schedule that both kinds of diffusion share.

Signs: the objectives of `diffusion.objective` are those of diffusers. Epsilon is the noise; v is
sqrt(abar) noise - sqrt(1 - abar) x; the flow is noise - x (MONAI's `RFlowScheduler` has x - noise).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from echodiff.diffusion.objective import (
    Objective,
    build_noise_schedule,
    epsilon,
    flow,
    v_prediction,
)

NUM_TIMES = 1000
_PREDICTION = {"diffusion": "epsilon", "diffusion-v": "v_prediction"}
Predict = Callable[[Tensor, Tensor], Tensor]
"""Noisy images (B, C, s, s) and times (B,) to what the arm predicts, of the same shape."""


def build_scheduler(arm: str, sampler: str, space: str) -> Any:
    """The diffusers scheduler that an arm is sampled with.

    On pixels betas rise linearly (Ho et al. 2020) and the estimate of the image is kept in -1..1,
    where the images are; on latents both are those of Stable Diffusion.
    """
    from diffusers import (
        DDIMScheduler,
        DPMSolverMultistepScheduler,
        FlowMatchEulerDiscreteScheduler,
    )

    if arm == "flow":
        return FlowMatchEulerDiscreteScheduler(num_train_timesteps=NUM_TIMES)
    on_pixels = space == "pixel"
    betas = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
    if not on_pixels:
        betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    shared = {
        **betas, "num_train_timesteps": NUM_TIMES, "prediction_type": _PREDICTION[arm],
        "timestep_spacing": "trailing",  # the first step starts where training had pure noise
    }  # fmt: skip
    if sampler == "dpm":
        return DPMSolverMultistepScheduler(**shared)
    return DDIMScheduler(**shared, clip_sample=on_pixels)


def build_arm_objective(arm: str, space: str) -> Objective:
    """What an arm is trained to predict."""
    if arm == "flow":
        return flow(NUM_TIMES)
    schedule = build_noise_schedule(build_scheduler(arm, "ddim", space).config)
    return {"diffusion": epsilon, "diffusion-v": v_prediction}[arm](schedule)


@torch.no_grad()
def sample_denoised(predict: Predict, scheduler: Any, noise: Tensor, num_steps: int) -> Tensor:
    """Draw images (B, C, s, s) from `noise` in `num_steps` deterministic steps."""
    if hasattr(scheduler.config, "beta_schedule"):
        scheduler.set_timesteps(num_steps, device=noise.device)
    else:
        # Its own spacing ends at one thousandth of the noise, so that the last step would be empty.
        sigmas = np.linspace(1.0, 1.0 / num_steps, num_steps)
        scheduler.set_timesteps(sigmas=sigmas.tolist(), device=noise.device)
    noisy = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    for time in scheduler.timesteps:
        predicted = predict(noisy, time.expand(len(noisy)))
        noisy = scheduler.step(predicted, time, noisy, return_dict=False)[0]
    return noisy
