"""Every solver starts at noise alone and ends at the image, whatever the number of its steps."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, PNDMScheduler

from echodiff.diffusion.base import load_base
from echodiff.diffusion.sampling.sampler import sample_images
from echodiff.diffusion.sampling.schedulers import SCHEDULERS, build_scheduler, space_time_steps
from echodiff.errors import InputError

# diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates for want of `copy=`.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
CONFIGS = {
    "tiny": DDIMScheduler(**NOISE, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    "sd15": PNDMScheduler(**NOISE, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1),
    "velocity": DDIMScheduler(
        **NOISE, prediction_type="v_prediction", rescale_betas_zero_snr=True, clip_sample=True
    ),
    "another solver's": DPMSolverMultistepScheduler(
        **NOISE, use_karras_sigmas=True, solver_order=3, timestep_spacing="linspace"
    ),
}
STEPS = (1, 2, 12, 25, 61, 200, 501, 1000)
MEAN, SPREAD = 0.7, 0.5


def build(name: str, config: str) -> Any:
    return build_scheduler(name, SimpleNamespace(scheduler=CONFIGS[config]))


def draw_from_a_known_set(name: str, config: str, steps: int) -> float:
    """Largest distance from where the exact flow of N(MEAN, SPREAD^2) ends."""
    scheduler = build(name, config)
    scheduler.set_timesteps(steps, device="cpu")
    assert len(scheduler.timesteps) == steps  # as many calls of the network
    kept = scheduler.alphas_cumprod.double()
    noise = torch.linspace(-2, 2, 9).view(1, 1, 1, 9)
    latents = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        seen, alpha = scheduler.scale_model_input(latents, t).double(), kept[int(t)].sqrt()
        sigma = (1 - alpha**2).sqrt()
        epsilon = sigma * (seen - alpha * MEAN) / (alpha**2 * SPREAD**2 + sigma**2)
        image = (seen - sigma * epsilon) / alpha
        velocity = alpha * epsilon - sigma * image
        answer = epsilon if scheduler.config.prediction_type == "epsilon" else velocity
        latents = scheduler.step(answer.float(), t, latents).prev_sample
    alpha = kept[-1].sqrt()
    scale = SPREAD / (alpha**2 * SPREAD**2 + 1 - alpha**2).sqrt()
    exact = MEAN + scale * (noise.double() - alpha * MEAN)
    return float((latents - exact).abs().max())


@pytest.mark.parametrize("config", ["tiny", "sd15"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_first_time_step_is_noise_alone_at_any_number_of_steps(name: str, config: str) -> None:
    scheduler = build(name, config)
    for steps in (*STEPS, 50, 100, 103, 300, 500, 667, 999):
        scheduler.set_timesteps(steps, device="cpu")
        times = scheduler.timesteps.tolist()
        assert (len(times), times[0]) == (steps, 999)
        assert min(times) >= 0
        if name != "dpmpp-karras":  # whose time steps are rounded from noise levels
            assert times == space_time_steps(1000, steps)


def test_time_steps_are_all_different_and_evenly_spaced() -> None:
    for steps in range(1, 1001):
        times = np.array(space_time_steps(1000, steps))
        assert times[0] == 999
        assert np.abs(times + 1 - np.linspace(1000, 0, steps + 1)[:-1]).max() <= 0.5 + 1e-9
        assert len(set(times)) == steps
    assert space_time_steps(10, 4) == [9, 7, 4, 2]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_more_steps_come_nearer_to_the_exact_solution(name: str) -> None:
    errors = {steps: draw_from_a_known_set(name, "tiny", steps) for steps in STEPS}
    assert errors[1] < 1.1  # one step gives the mean
    assert errors[25] < 0.13
    assert errors[61] < 0.06
    assert all(errors[steps] < 0.025 for steps in (200, 501, 1000))


@pytest.mark.parametrize("config", ["sd15", "velocity", "another solver's"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_other_bases_are_drawn_from_alike(name: str, config: str) -> None:
    assert draw_from_a_known_set(name, config, 103) < 0.05


def test_ddim_is_diffusers_own_where_its_steps_divide_the_schedule() -> None:
    theirs = DDIMScheduler.from_config(
        CONFIGS["tiny"].config, timestep_spacing="trailing", set_alpha_to_one=True
    )
    ours, latents = build("ddim", "tiny"), torch.linspace(-2, 2, 9).view(1, 1, 1, 9)
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(50, device="cpu")
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    drawn = [latents, latents]
    for t in ours.timesteps:
        drawn = [
            scheduler.step(x.sin(), t, x).prev_sample
            for scheduler, x in zip((ours, theirs), drawn, strict=True)
        ]
    torch.testing.assert_close(*drawn, atol=1e-4, rtol=1e-4)


def test_more_steps_give_the_same_image_of_the_embedded_base() -> None:
    assert compare_steps("dpmpp", 100, resolution=64) < 6


@pytest.mark.slow
@pytest.mark.parametrize("steps", [25, 100, 200, 500, 501, 999, 1000])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_any_number_of_steps_gives_the_same_image(name: str, steps: int) -> None:
    assert compare_steps(name, steps, resolution=None) < 6


def compare_steps(name: str, steps: int, resolution: int | None) -> float:
    """Grey levels (rms) between an image of the embedded base at `steps` steps and at 50."""
    pipeline = load_base("tiny", torch.float32)
    images = [
        dict(
            sample_images(
                pipeline, ["ASD, secundum, 4-chamber position"], seed=0, indices=[0], guidance=1.0,
                steps=count, scheduler=name, resolution=resolution,
            )
        )[0].astype(float)
        for count in (50, steps)
    ]  # fmt: skip
    return float(np.sqrt(np.square(images[0] - images[1]).mean()))


def test_more_steps_than_the_base_has_are_refused(tiny_random_base: Path) -> None:
    pipeline = load_base(str(tiny_random_base), torch.float32)
    pipeline.scheduler = DDIMScheduler(num_train_timesteps=100)
    with pytest.raises(InputError, match="--steps 101: the noise schedule of the base has 100"):
        list(sample_images(pipeline, ["heart"], seed=0, indices=[0], steps=101))
    (image,) = sample_images(pipeline, ["heart"], seed=0, indices=[0], steps=100)
    assert image[1].std() > 0
