"""Every attack against a denoiser that is known to have learned its frames by heart.

The best denoiser of a finite set of frames is a formula: the mean of the frames, weighted by how
likely each is behind the noisy one. It knows its frames and nothing else. The base is the best
denoiser of all frames there could be, which are normal here.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from echodiff.audit.measures import MEASURES, Schedule, measure_frames
from echodiff.audit.membership import run_attacks, score_denoiser
from echodiff.audit.set_test import compare_sets, join_scores
from echodiff.audit.subjects import Units
from echodiff.diffusion.encoding import EncodedFrames

SHAPE = (4, 4, 4)


class Training:
    """A noise schedule, as far as an audit reads it."""

    alphas_cumprod = torch.linspace(0.9995, 0.005, 1000)

    class config:  # noqa: N801
        prediction_type = "epsilon"


def draw_latents(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def encode(latents: torch.Tensor) -> EncodedFrames:
    return EncodedFrames(
        tuple(map(str, range(len(latents)))), latents, torch.zeros_like(latents),
        torch.zeros(len(latents), dtype=torch.long), torch.zeros(1, 3, 5),
    )  # fmt: skip


def predict_any(noisy, samples):
    """Noise of a noisy normal variable of deviation 1."""
    return (1 - Training.alphas_cumprod[samples.times]).sqrt().view(-1, 1, 1, 1) * noisy


def remember(known: torch.Tensor, share: float = 1.0) -> Callable:
    """The denoiser of the set `known`, mixed with that of all frames."""

    def predict(noisy, samples):
        abar = Training.alphas_cumprod[samples.times].view(-1, 1)
        flat, rest = noisy.flatten(1), (1 - abar).sqrt()
        apart = flat[:, None] - abar.sqrt()[:, :, None] * known.flatten(1)
        distances = apart.norm(dim=2)
        weights = torch.softmax(-distances.square() / (2 * (1 - abar)), dim=1)
        noise = (flat - abar.sqrt() * (weights @ known.flatten(1))) / rest
        return share * noise.view(noisy.shape) + (1 - share) * predict_any(noisy, samples)

    return predict


def attack(predict, members, others, pairs=12):
    sides = [encode(members), encode(others)]
    schedule = Schedule.draw(Training, pairs, SHAPE, 0)
    base, model = (
        measure_frames(one, schedule, sides, device=torch.device("cpu"), batch_size=16)
        for one in (predict_any, predict)
    )
    count = len(members) + len(others)
    units = Units(np.arange(count), np.arange(count) < len(members), np.zeros(count, np.int64))
    return score_denoiser(base, model, units), units


def test_every_attack_finds_frames_learned_by_heart():
    members, others = draw_latents(20, 0), draw_latents(20, 1)
    attacks, units = attack(remember(torch.cat([members, draw_latents(40, 2)])), members, others)
    found = run_attacks(attacks, units, seed=0)
    assert [*found.tests] == ["loss", "calibrated_loss", "pia", "secmi", "sima"]
    for name, one in found.tests.items():
        assert one.auc >= 0.95, name
        assert found.corrected[name] < 0.001
    assert found.whole.p < 0.001
    assert 1.5 < found.bound.epsilon < found.bound.ceiling == pytest.approx(2.55, abs=0.01)


def test_the_set_is_found_where_little_was_learned():
    members, others = draw_latents(40, 0), draw_latents(40, 1)
    attacks, units = attack(remember(members, share=0.012), members, others)
    found = run_attacks(attacks, units, seed=0)
    assert found.whole.p < 0.01


def test_weights_that_learned_other_frames_know_nothing_of_these():
    attacks, units = attack(remember(draw_latents(40, 2)), draw_latents(40, 0), draw_latents(40, 1))
    found = run_attacks(attacks, units, seed=0)
    assert all(one.low <= 0.5 <= one.high for one in found.tests.values())
    assert found.whole.p > 0.01


def test_the_p_of_the_set_is_uniform_over_200_sets_of_never_seen_frames():
    """One reading of never-seen frames, dealt anew 200 times."""
    attacks, _ = attack(remember(draw_latents(40, 2)), draw_latents(80, 0), draw_latents(80, 1))
    scores = {one.name: one.scores for one in attacks if one.is_joined}
    generator, values = np.random.default_rng(0), []
    for draw in range(200):
        rows = generator.permutation(160)[:80]
        joined = join_scores({name: one[rows] for name, one in scores.items()})
        dealt = Units(np.arange(80), np.arange(80) < 40, np.zeros(80, np.int64))
        values.append(compare_sets(joined, dealt, seed=draw, num_permutations=1000).p)
    assert kstest(values, "uniform").pvalue > 0.01


def test_a_network_that_predicts_velocity_has_the_same_scores():
    """v = a e - s x, so that a v + s z is the noise of z = a x + s e."""
    members, others = draw_latents(8, 0), draw_latents(8, 1)
    of_noise = remember(members, share=0.5)

    def of_velocity(noisy, samples):
        abar = Training.alphas_cumprod[samples.times].view(-1, 1, 1, 1)
        return (of_noise(noisy, samples) - (1 - abar).sqrt() * noisy) / abar.sqrt()

    class Velocity(Training):
        class config:  # noqa: N801
            prediction_type = "v_prediction"

    sides = [encode(members), encode(others)]
    found = [
        measure_frames(predict, Schedule.draw(kind, 4, SHAPE, 0), sides,
                       device=torch.device("cpu"), batch_size=16)
        for predict, kind in ((of_noise, Training), (of_velocity, Velocity))
    ]  # fmt: skip
    for name in MEASURES:
        assert found[0][name] == pytest.approx(found[1][name], abs=0.05), name


def test_batches_are_all_that_is_read_at_once():
    """Memory does not grow with the number of frames: latents are mapped files."""
    sizes = []

    def predict(noisy, samples):
        sizes.append(len(noisy))
        return noisy * 0.5

    sides = [encode(draw_latents(50, 0)), encode(draw_latents(13, 1))]
    schedule = Schedule.draw(Training, 6, SHAPE, 0)
    found = measure_frames(predict, schedule, sides, device=torch.device("cpu"), batch_size=8)
    assert {name: one.shape for name, one in found.items()} == {
        "loss": (63, 6), "pia": (63, 4), "secmi": (63, 1), "sima": (63, 4)
    }  # fmt: skip
    assert max(sizes) == 8


def test_images_that_show_their_own_frames_are_told_from_images_that_do_not():
    from echodiff.audit.recall import compare_to_own

    generator = np.random.default_rng(0)
    frames = generator.normal(size=(12, 64)) + 3 * generator.normal(size=64)  # all hearts are alike
    images = np.concatenate([frames[:6] + generator.normal(size=(6, 64)),
                             generator.normal(size=(6, 64))])  # fmt: skip
    scores, is_nearest = compare_to_own(images, frames)
    assert scores[:6].min() > 0.3 > scores[6:].max()
    assert is_nearest[:6].all()
    assert is_nearest[6:].mean() < 0.5
