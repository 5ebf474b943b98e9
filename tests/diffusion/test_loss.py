"""The loss and its weights against their formulas."""

from typing import Any

import pytest
import torch

from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.loss import (
    build_noise_schedule,
    compute_snr_weights,
    compute_target,
    denoising_losses,
    draw_held_out,
)

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
    assert torch.equal(compute_target(schedule(), latents, noise, steps), noise)
    alpha = schedule().alphas_cumprod[500]
    expected = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
    velocity = compute_target(schedule("v_prediction"), latents, noise, steps)
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
        draw_held_out(encoded, num_frames=9, num_timesteps=1000, seed=1) for _ in range(2)
    )
    assert torch.equal(first.noise, again.noise)
    assert first.timesteps.tolist() == [125, 375, 625, 875]
    assert sorted(first.indices.tolist()) == [0, 1, 2, 3]
    assert not first.posterior.any()
