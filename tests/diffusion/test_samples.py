"""Draws of encoded frames that depend on (seed, step) alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from echodiff.diffusion.samples import (
    Draw,
    SampleOrder,
    count_steps,
    sample_step,
)


def every_step(shares: torch.Tensor) -> torch.Tensor:
    """Of 1000 time steps, each as often as any other."""
    return (shares * 1000).long()


def draw(step: int, order: SampleOrder, **options: float) -> Draw:
    settings = {"caption_dropout": 0.0, "noise_offset": 0.0, **options}
    return sample_step(
        order,
        step=step,
        count=4,
        latent_shape=(4, 8, 8),
        draw_times=every_step,
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
    for name in ("indices", "posterior", "noise", "times", "is_caption_dropped"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.noise, draw(7, order).noise)


@given(st.integers(0, 10**6), st.integers(0, 10**4), st.integers(1, 64))
def test_every_step_sees_the_whole_range_of_noise(seed: int, step: int, count: int) -> None:
    drawn = sample_step(
        SampleOrder([True], repeats=1, seed=seed), step=step, count=count, latent_shape=(1, 1, 1),
        draw_times=every_step, caption_dropout=0.0, noise_offset=0.0,
    )  # fmt: skip
    for part, timestep in enumerate(sorted(drawn.times.tolist())):
        assert part * 1000 // count <= timestep < (part + 1) * 1000 / count


def test_each_sample_alone_sees_it_evenly() -> None:
    order = SampleOrder([True] * 5, repeats=1, seed=3)
    first = torch.stack([draw(step, order).times[0] for step in range(1200)])
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
    assert torch.equal(plain.times, offset.times)
    drops = [draw(step, order, caption_dropout=0.25).is_caption_dropped for step in range(250)]
    assert torch.cat(drops).float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert not draw(0, order).is_caption_dropped.any()


def test_the_papers_recipe_is_880_steps() -> None:
    assert count_steps(440, epochs=4, step_size=2, max_steps=None) == 880
    assert count_steps(5, epochs=1, step_size=2, max_steps=None) == 3
    assert count_steps(440, epochs=4, step_size=2, max_steps=7) == 7
    assert count_steps(440, epochs=1, step_size=2, max_steps=900) == 900
