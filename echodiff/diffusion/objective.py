"""What a denoising network is trained for: how noise is mixed in, and what it is asked to predict.

Notation: x a latent, e the noise, t the time that the network is told.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from echodiff.diffusion.samples import Samples

if TYPE_CHECKING:
    from diffusers import DDPMScheduler

Predict = Callable[[torch.Tensor, Samples], torch.Tensor]
"""Noisy latents (B, C, h, w) and their samples to what a network predicts (B, C, h, w)."""


@dataclass(frozen=True)
class Objective:
    """How times are drawn, how latents and noise are mixed, and what is to be predicted."""

    draw_times: Callable[[torch.Tensor], torch.Tensor]
    """Uniform numbers (S,) in 0..1, float64, to times (S,)."""
    spread_times: Callable[[int], torch.Tensor]
    """A count S to times (S,), evenly spaced over all there are: those of the held-out loss."""
    mix: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    """Latents, noise (B, C, h, w) and times (B,) to noisy latents (B, C, h, w)."""
    target: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    """Latents, noise and times to what the network should predict, of the same shape."""
    weight: float = 1.0
    """Factor of every loss."""


def epsilon(schedule: "DDPMScheduler", min_snr_gamma: float | None = None) -> Objective:
    """Predict the noise e in sqrt(abar_t) x + sqrt(1 - abar_t) e (Ho et al. 2020, eq. 14)."""
    return _discrete(schedule, lambda latents, noise, times: noise, min_snr_gamma)


def v_prediction(schedule: "DDPMScheduler", min_snr_gamma: float | None = None) -> Objective:
    """Predict the velocity sqrt(abar_t) e - sqrt(1 - abar_t) x (Salimans and Ho 2022, app. D)."""
    return _discrete(schedule, schedule.get_velocity, min_snr_gamma)


def flow(num_times: int = 1000, shift: float = 1.0) -> Objective:
    """Predict the velocity e - x in (1 - s) x + s e (Liu et al. 2023, rectified flow).

    Sign and time are those of diffusers' FlowMatchEulerDiscreteScheduler with the same `shift`: the
    share of noise s is in 0..1, the network is told t = `num_times` s. s is drawn uniformly, then
    shifted to shift s / (1 + (shift - 1) s) (Esser et al. 2024, eq. 23).
    """

    def times_at(shares: torch.Tensor) -> torch.Tensor:
        return (num_times * shift * shares / (1 + (shift - 1) * shares)).float()

    def mix(latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        sigmas = (times / num_times).view(-1, 1, 1, 1)
        return (1 - sigmas) * latents + sigmas * noise

    return Objective(
        draw_times=times_at,
        spread_times=lambda count: times_at((torch.arange(count).double() + 0.5) / count),
        mix=mix,
        target=lambda latents, noise, times: noise - latents,
    )


def build_objective(schedule: "DDPMScheduler", min_snr_gamma: float | None = None) -> Objective:
    """The objective of the base whose noise schedule this is."""
    kinds = {"epsilon": epsilon, "v_prediction": v_prediction}
    return kinds[schedule.config.prediction_type](schedule, min_snr_gamma)


def _discrete(
    schedule: "DDPMScheduler",
    target: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    min_snr_gamma: float | None,
) -> Objective:
    """An objective over the time steps 0..T-1 of `schedule`.

    Min-SNR weights say how often a time step is drawn, not how much it counts: the gradient is the
    same on average, with less noise, and no pass is spent on steps that hardly count.
    """
    num_times = int(schedule.config.num_train_timesteps)
    weights = torch.ones(num_times)
    if min_snr_gamma is not None:
        weights = compute_snr_weights(schedule, torch.arange(num_times), min_snr_gamma)
    cumulative = weights.double().cumsum(0)

    def draw_times(shares: torch.Tensor) -> torch.Tensor:
        drawn = torch.searchsorted(cumulative, shares * cumulative[-1], right=True)
        return drawn.clamp(max=num_times - 1)

    return Objective(
        draw_times=draw_times,
        spread_times=lambda count: ((torch.arange(count) + 0.5) * (num_times / count)).long(),
        mix=schedule.add_noise,
        target=target,
        weight=float(weights.mean()),
    )


def build_noise_schedule(scheduler_config: Any) -> "DDPMScheduler":
    """The training schedule (betas, prediction type) behind any sampler's configuration."""
    from diffusers import DDPMScheduler

    schedule = DDPMScheduler.from_config(scheduler_config)
    if schedule.config.prediction_type not in ("epsilon", "v_prediction"):
        raise ValueError(
            f"base predicts {schedule.config.prediction_type!r}: epsilon and v_prediction are known"
        )
    return schedule


def compute_snr_weights(
    schedule: "DDPMScheduler", timesteps: torch.Tensor, gamma: float
) -> torch.Tensor:
    """Min-SNR weights (B,): min(SNR, gamma) / SNR for noise, / (SNR + 1) for velocity.

    Hang et al. 2023, section 3.4; the SNR of step t is alpha_bar / (1 - alpha_bar).
    """
    alphas = schedule.alphas_cumprod.to(timesteps.device)[timesteps].double()
    snr = alphas / (1.0 - alphas)
    clipped = snr.clamp(max=gamma)
    if schedule.config.prediction_type == "v_prediction":
        return (clipped / (snr + 1.0)).float()
    # With zero terminal SNR the last step has 0/0; its limit is 1, as for every SNR below gamma.
    return torch.where(snr > 0, clipped / snr.clamp(min=1e-12), torch.ones_like(snr)).float()


def denoising_losses(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each sample (B,), in float32 whatever the network ran in."""
    return (prediction.float() - target.float()).square().flatten(1).mean(dim=1)


def compute_losses(predict: Predict, objective: Objective, samples: Samples) -> torch.Tensor:
    """Losses (B,) of `samples`, which lie where the network of `predict` does."""
    latents, noise, times = samples.latents, samples.noise, samples.times
    prediction = predict(objective.mix(latents, noise, times), samples)
    return denoising_losses(prediction, objective.target(latents, noise, times))
