"""Input and target of a denoising network have variance 1 at every time, whatever the objective."""

import pytest
import torch

from echodiff.survey.preconditioning import compute_scales
from echodiff.survey.samplers import build_arm_objective
from echodiff.survey.survey_config import DENOISING


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 0.999])
@pytest.mark.parametrize("space", ["pixel", "latent"])
@pytest.mark.parametrize("arm", DENOISING)
def test_what_is_left_to_predict_has_variance_1_and_is_not_in_the_input(arm, space, share):
    objective = build_arm_objective(arm, space)
    times = objective.draw_times(torch.tensor([share], dtype=torch.float64))
    stream = torch.Generator().manual_seed(0)
    images = 0.5 * torch.randn(1, 1, 400, 400, generator=stream)
    noise = torch.randn(images.shape, generator=stream)
    noisy = objective.mix(images, noise, times)
    scales = compute_scales(objective, times, deviation=0.5)
    left = (objective.target(images, noise, times) - scales.skip * noisy) / scales.out
    assert (scales.inside * noisy).var().item() == pytest.approx(1, abs=0.02)
    assert left.double().var().item() == pytest.approx(1, abs=0.02)
    assert (left * scales.inside * noisy).mean().item() == pytest.approx(0, abs=0.02)


def test_a_network_that_predicts_nothing_gives_the_linear_estimate():
    """For pure noise that is the noise itself: the image is left to the network."""
    objective = build_arm_objective("diffusion", "pixel")
    scales = compute_scales(objective, torch.tensor([999]), deviation=0.5)
    assert scales.skip.item() == pytest.approx(1, abs=1e-4)
    assert 0 < scales.out.item() < 0.01
