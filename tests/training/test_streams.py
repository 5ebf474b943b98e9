"""No two draws share their numbers: seeds, streams and counters count with all of their bits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from echodiff.diffusion.samples import SampleOrder, sample_step
from echodiff.diffusion.sampling.sampler import draw_noise
from echodiff.gan.gan_config import TrainGanConfig
from echodiff.gan.methods.build import build_networks
from echodiff.training.streams import Stream, build_stream, sample_normal


def test_images_that_shared_their_noise_do_not() -> None:
    """Of seed 0 and torch's CPU generator, which takes 32 bits of a seed, the first such pair."""
    assert not torch.equal(draw_noise(0, 61_752, (4, 8, 8)), draw_noise(0, 69_764, (4, 8, 8)))


def test_20_000_images_start_with_different_noise() -> None:
    starts = {draw_noise(7, index, (2,)).numpy().tobytes() for index in range(20_000)}
    assert len(starts) == 20_000


@pytest.mark.parametrize("seed", [2**32, 2**33, 2**63, 2**64 - 2**32])
def test_seeds_that_differ_in_high_bits_alone_draw_differently(seed: int) -> None:
    assert not torch.equal(draw_noise(seed, 3, (16,)), draw_noise(0, 3, (16,)))
    steps = [
        sample_step(
            SampleOrder([True] * 64, repeats=1, seed=one), step=5, count=8, latent_shape=(1, 2, 2),
            draw_times=lambda shares: shares, caption_dropout=0.5, noise_offset=0.0,
        )
        for one in (0, seed)
    ]  # fmt: skip
    assert not torch.equal(steps[0].noise, steps[1].noise)
    assert not torch.equal(steps[0].indices, steps[1].indices)


def test_a_draw_depends_on_nothing_else() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    first = draw_noise(2**40, 12, (4, 8, 8))
    draw_noise(5, 1, (3,))
    again = draw_noise(2**40, 12, (4, 8, 8))
    assert torch.equal(first, again)
    assert first.dtype == torch.float32
    assert torch.equal(draw_noise(2**40, 12, (2, 8, 8)), first[:2])


def test_streams_do_not_meet() -> None:
    """Neighbouring seeds, streams and counters, each of a million numbers: none lies in another."""
    keys = [(0, Stream.ORDER, 0), (1, Stream.ORDER, 0), (0, Stream.NOISE, 0), (0, Stream.ORDER, 1)]
    drawn = [build_stream(*key).integers(2**63, size=100_000) for key in keys]
    assert len(np.unique(np.concatenate(drawn))) == 4 * 100_000


def test_numbers_are_normal_and_the_same_ever_after() -> None:
    drawn = sample_normal(build_stream(0, Stream.IMAGE, 0), (100_000,))
    assert abs(float(drawn.mean())) < 0.01
    assert abs(float(drawn.std()) - 1) < 0.01
    first = build_stream(3, Stream.IMAGE, 5).integers(2**32, size=3)
    assert first.tolist() == [1819317446, 1881744262, 356365856]


def test_runs_with_seeds_far_apart_share_no_network(tmp_path: Path) -> None:
    """The seed of a network was 2^20 times the run's, of which torch took 32 bits: 0 was 4096."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    nets = [
        build_networks(
            TrainGanConfig(
                source=tmp_path / "a", target=tmp_path / "b", seed=seed, width=2,
                generator="resnet_6", resolution=32, load_size=36,
            )
        )
        for seed in (0, 4096, 2**64 - 1)
    ]  # fmt: skip
    weights = [net["G_A"].model[1].weight for net in nets]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
