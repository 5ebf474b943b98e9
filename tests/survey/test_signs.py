"""Objectives and samplers agree in sign: a network that knows the image draws that image."""

import numpy as np
import pytest
import torch

from echodiff.survey.samplers import build_arm_objective, build_scheduler, sample_denoised
from echodiff.survey.survey_config import DENOISING


def draw_image(seed):
    return torch.rand((2, 1, 8, 8), generator=torch.Generator().manual_seed(seed)) * 1.8 - 0.9


def perfect(arm, image, space="pixel"):
    """What a network that knows `image` predicts of a noisy one: the noise that must be in it."""
    objective = build_arm_objective(arm, space)

    def predict(noisy, times):
        image_64, times = image.double(), times.reshape(-1)
        nothing, one = torch.zeros_like(image_64), torch.ones_like(image_64)
        given = times.float() if arm == "flow" else times.long()
        of_image = objective.mix(one, nothing, given)
        of_noise = objective.mix(nothing, one, given)
        noise = (noisy.double() - of_image * image_64) / of_noise
        return objective.target(image_64, noise, given).float()

    return predict


@pytest.mark.parametrize("num_steps", [1, 2, 8, 32])
@pytest.mark.parametrize("arm", DENOISING)
def test_a_perfect_predictor_draws_its_image_in_any_number_of_steps(arm, num_steps):
    image, noise = draw_image(0), torch.randn(2, 1, 8, 8)
    scheduler = build_scheduler(arm, "ddim", "pixel")
    drawn = sample_denoised(perfect(arm, image), scheduler, noise, num_steps)
    assert torch.allclose(drawn, image, atol=2e-3)


# diffusers makes an array of a tensor in numpy's old way.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("space", ["pixel", "latent"])
@pytest.mark.parametrize("arm", ["diffusion", "diffusion-v"])
def test_dpm_solver_draws_it_too(arm, space):
    image, noise = draw_image(1), torch.randn(2, 1, 8, 8)
    scheduler = build_scheduler(arm, "dpm", space)
    drawn = sample_denoised(perfect(arm, image, space), scheduler, noise, 16)
    assert torch.allclose(drawn, image, atol=5e-3)


def test_targets_have_the_signs_of_diffusers():
    image, noise = torch.tensor([[[[0.5]]]]), torch.tensor([[[[2.0]]]])
    at_start, at_end = torch.tensor([0.0]), torch.tensor([999])
    assert build_arm_objective("flow", "pixel").target(image, noise, at_start).item() == 1.5
    assert build_arm_objective("diffusion", "pixel").target(image, noise, at_end).item() == 2.0
    velocity = build_arm_objective("diffusion-v", "pixel")
    # At the end all is noise: v = sqrt(abar) noise - sqrt(1 - abar) x is -x.
    assert velocity.target(image, noise, at_end).item() == pytest.approx(-0.5, abs=0.02)


def test_every_step_of_flow_removes_as_much_noise():
    scheduler = build_scheduler("flow", "ddim", "pixel")
    seen = []

    def predict(noisy, times):
        seen.append(float(times[0]))
        return torch.zeros_like(noisy)

    sample_denoised(predict, scheduler, torch.zeros(1, 1, 2, 2), 4)
    assert np.allclose(seen, [1000, 750, 500, 250])
