"""The denoising loss of a latent diffusion model and its weights. Pure functions."""

from typing import TYPE_CHECKING, Any

import torch

from echodiff.diffusion.batch import Draw, Samples
from echodiff.diffusion.encoding import EncodedFrames
from echodiff.training.streams import Stream, build_stream, sample_normal

if TYPE_CHECKING:
    from diffusers import DDPMScheduler


def build_noise_schedule(scheduler_config: Any) -> "DDPMScheduler":
    """The training schedule (betas, prediction type) behind any sampler's configuration."""
    from diffusers import DDPMScheduler

    schedule = DDPMScheduler.from_config(scheduler_config)
    if schedule.config.prediction_type not in ("epsilon", "v_prediction"):
        raise ValueError(
            f"base predicts {schedule.config.prediction_type!r}: epsilon and v_prediction are known"
        )
    return schedule


def compute_target(
    schedule: "DDPMScheduler", latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """What the UNet is asked for: the noise, or the velocity (Salimans and Ho 2022, app. D).

    `latents` and `noise` (B, C, h, w), `timesteps` (B,) in 0..T-1.
    """
    if schedule.config.prediction_type == "v_prediction":
        velocity: torch.Tensor = schedule.get_velocity(latents, noise, timesteps)
        return velocity
    return noise


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


def compute_losses(unet: Any, schedule: "DDPMScheduler", samples: Samples) -> torch.Tensor:
    """Losses (B,) of `samples`, which lie where `unet` does."""
    latents, noise, timesteps, embeddings = samples
    noisy = schedule.add_noise(latents, noise, timesteps)
    prediction = unet(noisy, timesteps, encoder_hidden_states=embeddings).sample
    return denoising_losses(prediction, compute_target(schedule, latents, noise, timesteps))


def draw_held_out(
    encoded: EncodedFrames, *, num_frames: int, num_timesteps: int, seed: int
) -> Draw:
    """The fixed draw of the held-out loss: evenly spaced time steps, one noise for every frame."""
    count = min(num_frames, len(encoded))
    stream = build_stream(seed, Stream.HELD_OUT, 0)
    order = torch.from_numpy(stream.permutation(len(encoded))[:count])
    noise = sample_normal(stream, (count, *encoded.latent_mean.shape[1:]))
    centres = (torch.arange(count) + 0.5) * (num_timesteps / count)
    return Draw(
        indices=order,
        posterior=torch.zeros_like(noise),
        noise=noise,
        timesteps=centres.long(),
        is_caption_dropped=torch.zeros(count, dtype=torch.bool),
    )
