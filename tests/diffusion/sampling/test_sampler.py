"""Image i depends on (seed, i) alone, and our loop draws what diffusers' pipeline draws."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echodiff.diffusion.base import load_base
from echodiff.diffusion.sampling import sampler as sample
from echodiff.diffusion.sampling.prompts import Prompt
from echodiff.diffusion.sampling.sampler import (
    EXACT_BATCH,
    Sampler,
    count_truncated,
    draw_noise,
    plan_batches,
    sample_images,
)
from echodiff.diffusion.sampling.schedulers import SCHEDULERS, build_scheduler
from echodiff.errors import InputError

# diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates for want of `copy=`.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

PROMPTS = ["ASD, four-chamber view", "LVH, four-chamber view", "normal heart"]


@pytest.fixture(scope="module")
def pipeline(tiny_random_base: Path) -> Any:
    return load_base(str(tiny_random_base), torch.float32)


def draw(
    pipeline: Any,
    indices: Sequence[int],
    prompts: Sequence[str | Prompt] = PROMPTS,
    **options: Any,
) -> dict[int, np.ndarray]:
    settings = {"seed": 3, "steps": 3, "guidance": 4.0, **options}
    return dict(sample_images(pipeline, prompts, indices=indices, **settings))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_one_image_equals_the_pipelines_own(pipeline: Any, scheduler: str) -> None:
    ours = draw(pipeline, [4], scheduler=scheduler, steps=5)[4]
    pipeline.scheduler, kept = build_scheduler(scheduler, pipeline), pipeline.scheduler
    theirs = pipeline(
        PROMPTS[1],
        num_inference_steps=5,
        guidance_scale=4.0,
        latents=draw_noise(3, 4, (4, 8, 8))[None],
        output_type="np",
    ).images[0]
    pipeline.scheduler = kept
    gray_u8 = np.rint(theirs.mean(axis=2) * 255)
    assert ours.shape == gray_u8.shape
    assert np.abs(ours - gray_u8).max() <= 1


def test_without_guidance_equals_the_pipelines_own(pipeline: Any) -> None:
    ours = draw(pipeline, [0], guidance=1.0, scheduler="ddim")[0]
    pipeline.scheduler, kept = build_scheduler("ddim", pipeline), pipeline.scheduler
    theirs = pipeline(
        PROMPTS[0],
        num_inference_steps=3,
        guidance_scale=1.0,
        latents=draw_noise(3, 0, (4, 8, 8))[None],
        output_type="np",
    ).images[0]
    pipeline.scheduler = kept
    assert np.abs(ours - np.rint(theirs.mean(axis=2) * 255)).max() <= 1


def test_image_is_the_same_in_any_batch(pipeline: Any) -> None:
    alone = draw(pipeline, range(7), batch_size=1)
    for batch_size in (2, 5, 7):
        together = draw(pipeline, range(7), batch_size=batch_size)
        for index, image in alone.items():
            assert np.abs(image.astype(int) - together[index]).max() <= 1


def test_exact_is_the_same_to_the_bit_whatever_is_asked_for(pipeline: Any) -> None:
    everything = draw(pipeline, range(EXACT_BATCH + 3), exact=True, batch_size=4)
    few = draw(pipeline, [9, 2], exact=True, batch_size=1)
    assert list(few) == [9, 2]
    for index, image in few.items():
        np.testing.assert_array_equal(image, everything[index])


def test_seeds_indices_and_prompts_change_the_image(pipeline: Any) -> None:
    images = draw(pipeline, [0, 1, 3])
    other = draw(pipeline, [0], seed=4)
    assert not np.array_equal(images[0], images[3])  # same prompt, other noise
    assert not np.array_equal(images[0], other[0])
    reworded = draw(pipeline, [0], prompts=["normal heart, four-chamber view"])
    assert not np.array_equal(images[0], reworded[0])


def test_neighbouring_seeds_share_no_noise() -> None:
    drawn = {
        tuple(draw_noise(seed, index, (4,)).tolist()) for seed in range(4) for index in range(4)
    }
    assert len(drawn) == 16


def test_a_prompt_may_carry_its_own_guidance_and_negative(pipeline: Any) -> None:
    strong = Prompt(text=PROMPTS[0], guidance=9.0)
    mixed = draw(pipeline, [0, 1], prompts=[strong, PROMPTS[1]])
    np.testing.assert_allclose(mixed[0], draw(pipeline, [0], guidance=9.0)[0], atol=1)
    np.testing.assert_allclose(mixed[1], draw(pipeline, [1])[1], atol=1)
    against = draw(pipeline, [0], prompts=[Prompt(text=PROMPTS[0], negative="dilated")])
    assert not np.array_equal(against[0], draw(pipeline, [0])[0])


def test_guidance_acts_within_its_interval_of_steps(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    forward = pipeline.unet.forward

    def count(sample: Any, *inputs: Any, **options: Any) -> Any:
        rows.append(len(sample))
        return forward(sample, *inputs, **options)

    def draw_two(interval: Sequence[float], **options: Any) -> np.ndarray:
        rows.clear()
        settings = {"steps": 4, "guidance": 60.0, "guidance_interval": interval, **options}
        images = draw(pipeline, [0, 1], **settings)
        return np.stack([images[0], images[1]]).astype(int)

    monkeypatch.setattr(pipeline.unet, "forward", count)
    whole = draw_two((0, 1))
    assert rows == [4, 4, 4, 4]
    late = draw_two((0.5, 1))
    assert rows == [2, 2, 4, 4]
    early = draw_two((0, 0.25))
    assert rows == [4, 2, 2, 2]
    with pytest.raises(InputError, match=r"--guidance-interval 0\.8,0\.9: none of 4 steps"):
        draw_two((0.8, 0.9))
    sets = [whole, late, early, draw_two((0, 1), guidance=1.0)]
    assert all(np.abs(a - b).max() > 1 for a, b in itertools.combinations(sets, 2))
    # A captured network takes one shape: the same images by calls of both halves.
    sampler = Sampler(
        pipeline, PROMPTS, seed=3, steps=4, guidance=60.0, scheduler="dpmpp",
        guidance_interval=(0.5, 1),
    )  # fmt: skip
    sampler.min_rows = 2
    rows.clear()
    np.testing.assert_allclose([image for _, image in sampler.sample([0, 1])], late, atol=1)
    assert rows == [4, 4, 4, 4]


def test_resolution_is_free_in_steps_of_the_networks_factor(pipeline: Any) -> None:
    native = draw(pipeline, [0])[0].shape[0]
    assert draw(pipeline, [0], resolution=2 * native)[0].shape == (2 * native, 2 * native)
    with pytest.raises(InputError, match=rf"--resolution {native + 1}: must be a multiple of"):
        draw(pipeline, [0], resolution=native + 1)


def test_training_mode_is_given_back(pipeline: Any) -> None:
    pipeline.unet.train()
    draw(pipeline, [0])
    assert pipeline.unet.training
    pipeline.unet.eval()


def test_unknown_scheduler_and_no_prompt_are_refused(pipeline: Any) -> None:
    with pytest.raises(InputError, match="--scheduler lms"):
        draw(pipeline, [0], scheduler="lms")
    with pytest.raises(InputError, match="no prompt"):
        draw(pipeline, [0], prompts=[])


def test_decoding_goes_in_parts_of_a_bounded_size(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = draw(pipeline, range(5))
    decode, parts = pipeline.vae.decode, []
    monkeypatch.setattr(sample, "DECODED_PIXELS", 2 * 32 * 32)
    monkeypatch.setattr(pipeline.vae, "decode", lambda z: parts.append(len(z)) or decode(z))
    in_parts = draw(pipeline, range(5))
    assert parts == [2, 2, 1]
    for index, image in whole.items():
        assert np.abs(image.astype(int) - in_parts[index]).max() <= 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_image_is_refused(pipeline: Any, value: float) -> None:
    weight = pipeline.vae.decoder.conv_out.bias
    kept = weight.data.clone()
    weight.data.fill_(value)
    with pytest.raises(InputError, match="image 5 is not finite"):
        draw(pipeline, [5])
    weight.data.copy_(kept)


def test_over_long_prompts_are_counted(pipeline: Any) -> None:
    assert count_truncated(pipeline, ["heart " * 200, "heart"]) == 1


def test_batches_keep_order_and_exact_ones_lie_in_fixed_blocks() -> None:
    assert plan_batches([0, 1, 5, 9, 10], 2, False) == [[0, 1], [5, 9], [10]]
    assert plan_batches([0, 1, 7, 9, 16], 2, True) == [[0, 1, 7], [9], [16]]
    assert plan_batches([], 2, False) == []
