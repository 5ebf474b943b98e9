"""Frames behind the encoders, and draws that depend on (seed, step) alone."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from echodiff.diffusion.base import load_base
from echodiff.diffusion.batch import (
    Draw,
    SampleOrder,
    count_steps,
    encode_captions,
    encode_frames,
    read_image_pm1,
    sample_step,
)
from echodiff.frames import load_frames
from echodiff.images import find_max_value


@pytest.fixture(scope="module")
def encoders(tiny_random_base: Path) -> Any:
    return load_base(str(tiny_random_base), torch.float32, unet=None)


def draw(step: int, order: SampleOrder, **options: float) -> Draw:
    settings = {"caption_dropout": 0.0, "noise_offset": 0.0, **options}
    return sample_step(
        order,
        step=step,
        count=4,
        latent_shape=(4, 8, 8),
        timestep_weights=torch.ones(1000),
        **settings,
    )


def test_every_epoch_shows_every_frame_in_another_order() -> None:
    order = SampleOrder([True] * 5 + [False] * 3, repeats=2, seed=1)
    assert len(order) == 13
    epochs = [order.take(13 * epoch, 13).tolist() for epoch in range(2)]
    expected = sorted([0, 1, 2, 3, 4] * 2 + [5, 6, 7])
    assert sorted(epochs[0]) == sorted(epochs[1]) == expected
    assert epochs[0] != epochs[1]


def test_order_depends_on_seed_and_position_not_on_history() -> None:
    walked = SampleOrder([True] * 7, repeats=1, seed=1)
    for start in range(0, 40, 4):
        walked.take(start, 4)
    fresh = SampleOrder([True] * 7, repeats=1, seed=1)
    assert torch.equal(walked.take(5, 6), fresh.take(5, 6))
    other = SampleOrder([True] * 7, repeats=1, seed=2)
    assert not torch.equal(fresh.take(0, 14), other.take(0, 14))


def test_a_step_is_drawn_from_seed_and_step_alone() -> None:
    order = SampleOrder([True] * 5, repeats=1, seed=3)
    torch.manual_seed(11)
    first = draw(6, order)
    torch.manual_seed(12)
    draw(2, order)
    again = draw(6, SampleOrder([True] * 5, repeats=1, seed=3))
    for name in ("indices", "posterior", "noise", "timesteps", "is_caption_dropped"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.noise, draw(7, order).noise)


@given(st.integers(0, 10**6), st.integers(0, 10**4), st.integers(1, 64))
def test_every_step_sees_the_whole_range_of_noise(seed: int, step: int, count: int) -> None:
    drawn = sample_step(
        SampleOrder([True], repeats=1, seed=seed), step=step, count=count, latent_shape=(1, 1, 1),
        timestep_weights=torch.ones(1000), caption_dropout=0.0, noise_offset=0.0,
    )  # fmt: skip
    for part, timestep in enumerate(sorted(drawn.timesteps.tolist())):
        assert part * 1000 // count <= timestep < (part + 1) * 1000 / count


def test_each_sample_alone_sees_it_evenly() -> None:
    order = SampleOrder([True] * 5, repeats=1, seed=3)
    first = torch.stack([draw(step, order).timesteps[0] for step in range(1200)])
    counts = torch.bincount(first // 100, minlength=10)
    assert len(counts) == 10
    assert counts.min() > 80
    assert counts.max() < 160


def test_options_change_only_what_they_say() -> None:
    order = SampleOrder([True] * 5, repeats=1, seed=3)
    plain, offset = draw(0, order), draw(0, order, noise_offset=0.5)
    added = offset.noise - plain.noise
    assert torch.allclose(added, added[..., :1, :1].expand_as(added), atol=1e-6)
    assert added.abs().min() > 0
    assert torch.equal(plain.timesteps, offset.timesteps)
    drops = [draw(step, order, caption_dropout=0.25).is_caption_dropped for step in range(250)]
    assert torch.cat(drops).float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert not draw(0, order).is_caption_dropped.any()


def test_the_papers_recipe_is_880_steps() -> None:
    assert count_steps(440, epochs=4, step_size=2, max_steps=None) == 880
    assert count_steps(5, epochs=1, step_size=2, max_steps=None) == 3
    assert count_steps(440, epochs=4, step_size=2, max_steps=7) == 7


def test_latents_and_captions_stay_with_their_frame(encoders: Any, toy_frames: Path) -> None:
    frames = load_frames(toy_frames)
    together = encode_frames(encoders, toy_frames, frames, resolution=32)
    assert together.file_names == tuple(frame.file_name for frame in frames)
    for row in (0, 3, 9):
        alone = encode_frames(encoders, toy_frames, [frames[row]], resolution=32)
        torch.testing.assert_close(together.latent_mean[row], alone.latent_mean[0])
        torch.testing.assert_close(together.latent_std[row], alone.latent_std[0])
        caption = together.embeddings[together.caption_index[row]]
        torch.testing.assert_close(caption, alone.embeddings[alone.caption_index[0]])
    assert together.caption_index.tolist()[6:] == [0] * 6
    assert len(together.embeddings) == 7  # six captions and the null text, each encoded once


def test_latents_are_the_posterior_scaled_for_the_unet(encoders: Any, toy_frames: Path) -> None:
    frames = load_frames(toy_frames)[:1]
    encoded = encode_frames(encoders, toy_frames, frames, resolution=32)
    image = torch.from_numpy(read_image_pm1(toy_frames / frames[0].file_name, 32))[None]
    with torch.no_grad():
        posterior = encoders.vae.encode(image).latent_dist
    scale = encoders.vae.config.scaling_factor
    torch.testing.assert_close(encoded.latent_mean, posterior.mean * scale)
    torch.testing.assert_close(encoded.latent_std, posterior.std * scale)
    assert encoded.latent_std.min() > 0


def test_captions_are_embedded_as_the_pipeline_does(encoders: Any) -> None:
    ours = encode_captions(encoders, ["four chamber view , ASD"])
    theirs, _ = encoders.encode_prompt("four chamber view , ASD", "cpu", 1, False)
    torch.testing.assert_close(ours, theirs)


def test_long_captions_are_cut_with_one_warning_that_counts(
    encoders: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        embeddings = encode_captions(encoders, ["", "ASD", "septum " * 500, "heart " * 80])
    assert embeddings.shape == (4, 77, 32)
    assert [record.message for record in caplog.records] == [
        "2 of 3 captions are longer than the 77 tokens the text encoder reads: they are cut"
    ]


def test_grey_becomes_three_equal_channels_and_keeps_its_shape(tmp_path: Path) -> None:
    wide = np.full((20, 40), 255, np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    image = read_image_pm1(tmp_path / "wide.png", 40)
    assert image.shape == (3, 40, 40)
    assert (image[0] == image[1]).all()
    assert (image[0] == image[2]).all()
    assert (image[0, 10:30] == 1.0).all()  # padded, not stretched
    assert (image[0, :10] == -1.0).all()
    assert (image[0, 30:] == -1.0).all()


def test_16_bit_frames_are_read_by_their_range_one_for_all(tmp_path: Path) -> None:
    for name, value in (("bright", 4000), ("dark", 1000)):
        array = np.full((32, 32), value, np.uint16)
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    paths = [tmp_path / "bright.png", tmp_path / "dark.png"]
    max_value = find_max_value(paths)
    assert max_value == 4095
    bright, dark = (read_image_pm1(path, 32, max_value).mean() for path in paths)
    assert bright == pytest.approx(2 * 4000 / 4095 - 1, abs=0.01)
    assert dark == pytest.approx(2 * 1000 / 4095 - 1, abs=0.01)


def test_nothing_is_ever_mirrored(encoders: Any, make_frames: Callable[..., Path]) -> None:
    """Encoding reads the frame as it is; there is no augmentation to switch on."""
    folder = make_frames("one", captioned=1, null=0)
    image = np.zeros((32, 32), np.uint8)
    image[:, :8] = 255
    Image.fromarray(image).save(folder / "images/0000.png")
    read = read_image_pm1(folder / "images/0000.png", 32)
    assert read[0, 0, 0] == 1.0
    assert read[0, 0, -1] == -1.0


def test_time_steps_are_drawn_as_often_as_they_weigh() -> None:
    order = SampleOrder([True], repeats=1, seed=5)
    weights = torch.tensor([0.0, 3.0, 1.0, 0.0, 4.0])
    counts = torch.zeros(5)
    for step in range(50):
        drawn = sample_step(
            order, step=step, count=16, latent_shape=(1, 1, 1), timestep_weights=weights,
            caption_dropout=0.0, noise_offset=0.0,
        )  # fmt: skip
        counts += torch.bincount(drawn.timesteps, minlength=5)
    assert counts.tolist() == [0, 300, 100, 0, 400]
