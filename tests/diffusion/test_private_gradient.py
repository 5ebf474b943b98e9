"""Gradients of patients against a loop over single samples, and their clipped and noised sum."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from echodiff.diffusion import private_gradient
from echodiff.diffusion.lora import LORA_TARGETS, add_lora, lora_parameters
from echodiff.diffusion.objective import build_noise_schedule, compute_losses, epsilon
from echodiff.diffusion.privacy_budget import Budget
from echodiff.diffusion.private_gradient import PrivateGradient
from echodiff.diffusion.samples import Samples

CONVOLUTIONS = ("conv1", "conv2", "conv_in", "attn1.to_q", "ff.net.2")
KEY = b"k" * 32
OBJECTIVE = epsilon(build_noise_schedule({"num_train_timesteps": 1000}))

Build = Callable[..., tuple[Any, Any, PrivateGradient]]


def make_samples(count: int) -> tuple[Samples, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    latents, noise = (torch.randn((count, 4, 8, 8), generator=generator) for _ in range(2))
    times = torch.randint(0, 1000, (count,), generator=generator)
    embeddings = torch.randn((count, 77, 32), generator=generator)
    weights = torch.rand((count,), generator=generator) + 0.5
    return Samples(latents, noise, times, embeddings), weights


@pytest.fixture
def build(tiny_random_base: Path) -> Build:
    """`build(targets, draws, clip, ...)`: a toy UNet with an adapter that has moved, a copy of it
    that Opacus has not touched, and what takes its steps."""

    def make(
        *,
        targets: tuple[str, ...] = LORA_TARGETS,
        draws: int = 1,
        clip: float = 0.1,
        at_once: int = 8,
        rate: float = 1.0,
    ) -> tuple[Any, Any, PrivateGradient]:
        from diffusers import UNet2DConditionModel

        unet = UNet2DConditionModel.from_pretrained(tiny_random_base, subfolder="unet")
        parameters = add_lora(unet, rank=2, alpha=4.0, targets=targets)
        torch.manual_seed(0)
        for parameter in parameters.values():
            parameter.data.add_(0.1 * torch.randn(parameter.shape))
        unet.train()
        plain = copy.deepcopy(unet)
        budget = Budget(
            epsilon_asked=8.0, delta=1e-5, clip=clip, noise_multiplier=2.0, num_patients=10,
            patients_per_step=4, num_steps=3, accountant="rdp", noise="seeded",
            num_parameters=sum(parameter.numel() for parameter in parameters.values()),
        )  # fmt: skip
        optimizer = torch.optim.SGD(parameters.values(), lr=rate)
        return unet, plain, PrivateGradient(
            unet, parameters, optimizer, objective=OBJECTIVE, budget=budget, key=KEY,
            predict=lambda noisy, samples: predict(unet, noisy, samples),
            patients_at_once=at_once, draws=draws,
        )  # fmt: skip

    return make


def predict(unet: Any, noisy: torch.Tensor, samples: Samples) -> torch.Tensor:
    prediction: torch.Tensor = unet(noisy, samples.times, samples.embeddings).sample
    return prediction


def loop_gradients(
    unet: Any, samples: Samples, weights: torch.Tensor, draws: int
) -> list[torch.Tensor]:
    """The mean gradient of each patient, flat, from one backward pass a sample, without Opacus."""
    parameters = list(lora_parameters(unet).values())
    singles = []
    for row in range(len(weights)):
        one = Samples(*(tensor[row : row + 1] for tensor in samples.tensors()))
        loss = compute_losses(lambda *given: predict(unet, *given), OBJECTIVE, one) * weights[row]
        grads = torch.autograd.grad(loss.sum(), parameters)
        singles.append(torch.cat([grad.flatten() for grad in grads]))
    return list(torch.stack(singles).view(-1, draws, len(singles[0])).mean(dim=1))


@pytest.mark.parametrize(("targets", "draws"), [(LORA_TARGETS, 1), (LORA_TARGETS, 3),
                                                (CONVOLUTIONS, 1), (CONVOLUTIONS, 2)])  # fmt: skip
def test_the_gradient_of_a_patient_is_that_of_a_loop_over_single_samples(
    build: Build, targets: tuple[str, ...], draws: int
) -> None:
    unet, plain, gradient = build(targets=targets, draws=draws)
    samples, weights = make_samples(3 * draws)
    gradient.backward(samples, weights)
    parameters = lora_parameters(unet).values()
    found = torch.cat([one.grad_sample.flatten(1) for one in parameters], dim=1)
    wanted = torch.stack(loop_gradients(plain, samples, weights, draws))
    assert found.shape == wanted.shape == (3, sum(one.numel() for one in parameters))
    assert bool((found - wanted).norm() <= 1e-5 * wanted.norm())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_a_step_is_the_clipped_sum_with_the_noise_of_its_number(build: Build, at_once: int) -> None:
    unet, plain, gradient = build(draws=2, clip=0.02, at_once=at_once)
    samples, weights = make_samples(10)
    before = flatten(unet)
    wanted = torch.stack(loop_gradients(plain, samples, weights, 2))
    norms = wanted.norm(dim=1, keepdim=True)
    assert bool((norms > 0.02).any())
    clipped = (wanted * (0.02 / norms).clamp(max=1)).sum(dim=0)
    noise = private_gradient.draw_noise(KEY, 7, len(before)) * 2.0 * 0.02
    loss, norm = gradient.take(7, samples, weights)
    step = before - flatten(unet)  # the rate is 1
    torch.testing.assert_close(step, (clipped + noise.float()) / 4, rtol=1e-3, atol=1e-6)
    assert float(norm) == pytest.approx(float(step.norm()), rel=1e-4)
    with torch.no_grad():
        losses = compute_losses(lambda *g: predict(plain, *g), OBJECTIVE, samples) * weights
    assert float(loss) == pytest.approx(float(losses.sum()) / (4 * 2), rel=1e-4)


def test_a_step_without_a_patient_is_noise_alone(build: Build) -> None:
    unet, _, gradient = build()
    before = flatten(unet)
    samples, weights = make_samples(0)
    loss, _ = gradient.take(3, samples, weights)
    assert float(loss) == 0.0
    noise = private_gradient.draw_noise(KEY, 3, len(before)) * 2.0 * 0.1 / 4
    torch.testing.assert_close(before - flatten(unet), noise.float(), rtol=1e-3, atol=1e-6)
    # And the next step knows nothing of it.
    middle = flatten(unet)
    gradient.take(4, samples, weights)
    noise = private_gradient.draw_noise(KEY, 4, len(before)) * 2.0 * 0.1 / 4
    torch.testing.assert_close(middle - flatten(unet), noise.float(), rtol=1e-3, atol=1e-6)


def test_one_patient_more_moves_a_step_by_the_clip_at_most(build: Build) -> None:
    """The sensitivity that the guarantee rests on, with a frame made to weigh a million times."""
    sums = []
    for count in (3, 4):
        unet, _, gradient = build(clip=0.05)
        before = flatten(unet)
        samples, weights = make_samples(4)
        weights[3] = 1e6
        gradient.take(0, Samples(*(one[:count] for one in samples.tensors())), weights[:count])
        sums.append((before - flatten(unet)) * 4)
    assert float((sums[1] - sums[0]).norm()) == pytest.approx(0.05, rel=1e-3)


def test_in_bfloat16_gradients_are_clipped_in_float32(build: Build) -> None:
    unet, plain, gradient = build(clip=0.01)
    samples, weights = make_samples(3)
    with torch.autocast("cpu", torch.bfloat16):
        gradient.backward(samples, weights)
    parameters = list(lora_parameters(unet).values())
    assert {one.grad_sample.dtype for one in parameters} == {torch.float32}
    found = torch.cat([one.grad_sample.flatten(1) for one in parameters], dim=1)
    wanted = torch.stack(loop_gradients(plain, samples, weights, 1))
    assert bool((found - wanted).norm() <= 0.1 * wanted.norm())


def flatten(unet: Any) -> torch.Tensor:
    parts = [parameter.detach().flatten() for parameter in lora_parameters(unet).values()]
    return torch.cat(parts).clone()
