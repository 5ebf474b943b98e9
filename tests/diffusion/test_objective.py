"""Objectives, the loss and its weights against their formulas."""

from typing import Any

import pytest
import torch

from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.objective import (
    Objective,
    build_noise_schedule,
    build_objective,
    compute_losses,
    compute_snr_weights,
    denoising_losses,
    epsilon,
    flow,
    v_prediction,
)
from echodiff.diffusion.samples import Samples, draw_held_out

SD15_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}


def schedule(prediction_type: str = "epsilon", **options: object) -> Any:
    return build_noise_schedule({**SD15_SCHEDULE, "prediction_type": prediction_type, **options})


def test_min_snr_weights_are_the_papers() -> None:
    steps = torch.tensor([0, 300, 999])
    alphas = schedule().alphas_cumprod[steps].double()
    snr = alphas / (1 - alphas)
    expected = torch.minimum(snr, torch.tensor(5.0)) / snr
    torch.testing.assert_close(
        compute_snr_weights(schedule(), steps, 5.0).double(), expected, rtol=1e-5, atol=0
    )
    velocity = compute_snr_weights(schedule("v_prediction"), steps, 5.0).double()
    expected = torch.minimum(snr, torch.tensor(5.0)) / (snr + 1)
    torch.testing.assert_close(velocity, expected, rtol=1e-5, atol=0)


def test_weights_stay_finite_at_zero_terminal_snr() -> None:
    zero = schedule(rescale_betas_zero_snr=True)
    assert compute_snr_weights(zero, torch.tensor([999]), 5.0).item() == pytest.approx(1.0)


def test_target_is_noise_or_velocity() -> None:
    latents, noise = torch.full((1, 4, 2, 2), 2.0), torch.full((1, 4, 2, 2), 3.0)
    steps = torch.tensor([500])
    assert torch.equal(build_objective(schedule()).target(latents, noise, steps), noise)
    alpha = schedule().alphas_cumprod[500]
    expected = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
    velocity = build_objective(schedule("v_prediction")).target(latents, noise, steps)
    torch.testing.assert_close(velocity, expected)


def test_bases_that_predict_the_image_are_refused() -> None:
    with pytest.raises(ValueError, match="sample"):
        schedule("sample")


def test_losses_are_per_sample_and_float32() -> None:
    prediction = torch.stack([torch.zeros(4, 2, 2), torch.ones(4, 2, 2)]).bfloat16()
    losses = denoising_losses(prediction, torch.full((2, 4, 2, 2), 3.0))
    assert losses.dtype == torch.float32
    assert losses.tolist() == [9.0, 4.0]


def test_held_out_draw_is_fixed_and_spans_the_time_steps() -> None:
    encoded = EncodedFrames(
        file_names=tuple("abcd"),
        latent_mean=torch.zeros(4, 4, 2, 2),
        latent_std=torch.ones(4, 4, 2, 2),
        caption_index=torch.zeros(4, dtype=torch.long),
        embeddings=torch.zeros(1, 77, 8),
    )
    first, again = (
        draw_held_out(encoded, num_frames=9, spread_times=epsilon(schedule()).spread_times, seed=1)
        for _ in range(2)
    )
    assert torch.equal(first.noise, again.noise)
    assert first.times.tolist() == [125, 375, 625, 875]
    assert sorted(first.indices.tolist()) == [0, 1, 2, 3]
    assert not first.posterior.any()


def test_time_steps_are_drawn_as_often_as_min_snr_weighs_them() -> None:
    plain, weighted = epsilon(schedule()), epsilon(schedule(), 5.0)
    weights = compute_snr_weights(schedule(), torch.arange(1000), 5.0)
    shares = (torch.arange(100_000).double() + 0.5) / 100_000
    counts = torch.bincount(weighted.draw_times(shares), minlength=1000)
    expected = weights / weights.sum() * 100_000
    torch.testing.assert_close(counts.float(), expected, rtol=0, atol=1.0)
    assert weighted.weight == pytest.approx(weights.mean().item())
    assert plain.weight == 1.0
    assert torch.bincount(plain.draw_times(shares)).tolist() == [100] * 1000


@pytest.mark.parametrize("objective", [epsilon(schedule()), v_prediction(schedule("v_prediction"))])
def test_an_exact_prediction_has_no_loss_and_gives_the_latents_back(objective: Objective) -> None:
    samples = some_samples(objective)
    noisy = objective.mix(samples.latents, samples.noise, samples.times)
    predicted = objective.target(samples.latents, samples.noise, samples.times)
    losses = compute_losses(lambda noisy, samples: predicted, objective, samples)
    assert losses.tolist() == [0.0] * 4
    # As diffusers' own scheduler undoes it, at each time.
    from diffusers import DDIMScheduler

    kind = "epsilon" if torch.equal(predicted, samples.noise) else "v_prediction"
    sampler = DDIMScheduler(**SD15_SCHEDULE, prediction_type=kind, clip_sample=False)
    sampler.set_timesteps(1000)
    for row, time in enumerate(samples.times):
        step = sampler.step(predicted[row : row + 1], time, noisy[row : row + 1])
        torch.testing.assert_close(
            step.pred_original_sample, samples.latents[row : row + 1], rtol=1e-3, atol=1e-3
        )


def some_samples(objective: Objective) -> Samples:
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn((4, 4, 2, 2), generator=generator) for _ in range(2))
    return Samples(latents, noise, objective.spread_times(4), torch.zeros(4, 7, 3))


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_has_the_sign_and_time_of_diffusers_scheduler(shift: float) -> None:
    """One Euler step with the exact velocity leads from any time straight to the latents."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    sampler = FlowMatchEulerDiscreteScheduler(shift=shift)
    objective = flow(shift=shift)
    # Every time step of the scheduler is one that can be drawn, with its share of noise.
    shares = torch.arange(1000, 0, -1).double() / 1000
    times = objective.draw_times(shares)
    torch.testing.assert_close(times, sampler.timesteps, rtol=1e-6, atol=1e-4)
    latents, noise = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    chosen = sampler.timesteps[[0, 300, 990]]
    noisy = objective.mix(latents, noise, chosen)
    torch.testing.assert_close(noisy, sampler.scale_noise(latents, chosen, noise))
    velocity = objective.target(latents, noise, chosen)
    for row, time in enumerate(chosen):
        sampler.set_timesteps(sigmas=[float(time) / 1000 / (shift - (shift - 1) * time / 1000)])
        step = sampler.step(velocity[row : row + 1], sampler.timesteps[0], noisy[row : row + 1])
        torch.testing.assert_close(step.prev_sample, latents[row : row + 1], rtol=1e-4, atol=1e-5)


def test_flow_is_drawn_over_the_whole_range() -> None:
    times = flow().draw_times(torch.rand(2000, generator=torch.Generator().manual_seed(2)).double())
    assert times.dtype == torch.float32
    assert 0 <= float(times.min()) < 2
    assert 998 < float(times.max()) <= 1000
    assert flow().spread_times(4).tolist() == [125.0, 375.0, 625.0, 875.0]
