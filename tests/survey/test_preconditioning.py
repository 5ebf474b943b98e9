"""Input and target of a denoising network have variance 1 at every time, whatever the objective."""

import pytest
import torch

from echodiff.survey.methods import Batch, Denoising
from echodiff.survey.preconditioning import compute_scales
from echodiff.survey.samplers import build_arm_objective, build_scheduler
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


@pytest.mark.parametrize("arm", DENOISING)
def test_training_and_drawing_scale_alike(arm):
    """A network that predicts nothing: its loss is that of the linear estimate, and it draws with
    it."""
    objective = build_arm_objective(arm, "pixel")

    class Nothing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.zero = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, times, mask, style):
            return self.zero * x

    seen = []

    method = Denoising(
        Nothing(), objective, build_scheduler(arm, "ddim", "pixel"), shape=(1, 8, 8),
        deviation=0.5, learning_rate=0.0,
    )  # fmt: skip
    stream = torch.Generator().manual_seed(0)
    images, noise = torch.randn(2, 2, 1, 8, 8, generator=stream)
    shares = torch.tensor([0.2, 0.7], dtype=torch.float64)
    times = objective.draw_times(shares)
    scales = compute_scales(objective, times, 0.5)
    noisy = objective.mix(images, noise, times)
    error = scales.skip * noisy - objective.target(images, noise, times)
    (loss,) = method.update(Batch(images, images, images, noise, shares))
    assert loss.item() == pytest.approx(error.square().mean().item(), rel=1e-5)

    def record(predict, scheduler, drawn_from, num_steps):
        seen.append(predict(noisy, times))
        return drawn_from

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("echodiff.survey.methods.sample_denoised", record)
        method.draw(noise, images, images, 4)
    assert torch.allclose(seen[0], scales.skip * noisy)
