"""MS-SSIM within a set: collapse is seen, intervals hold, pictures are read as they are needed."""

import json
from math import sqrt

import numpy as np
import pytest
from scipy import ndimage

from echodiff.metrics.diversity import (
    average_pairs,
    compute_ms_ssim,
    count_scales,
    sample_pairs,
    score_diversity,
)
from echodiff.metrics.score import write_scores

ALONE = np.arange(60)


def heart(seed, size=112):
    """A speckled sector with two cavities at random places."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    image = 120 * (1 + 0.3 * ndimage.gaussian_filter(rng.standard_normal((size, size)), 1.0))
    for _ in range(2):
        image[np.hypot(x - rng.uniform(0.3, 0.7), y - rng.uniform(0.3, 0.8)) < 0.17] = 20
    image[np.abs(x - 0.5) > 0.05 + 0.5 * y] = 0
    return image.clip(0, 255).astype(np.uint8)


def test_two_sets_of_one_kind_agree():
    scores, left_out = score_diversity(lambda i: heart(i), lambda i: heart(900 + i), ALONE,
                                       ALONE, seed=0)  # fmt: skip
    assert left_out == {}
    score = scores["ms_ssim"]
    assert score.low < score.value < score.high
    assert score.low < score.real < score.high
    assert (score.n, score.n_reference, score.num_pairs) == (60, 60, 200)
    assert (score.num_scales, len(score.betas)) == (4, 4)
    assert sum(score.betas) == pytest.approx(1.0)
    assert score.betas[1] / score.betas[0] == pytest.approx(0.2856 / 0.0448)
    json.dumps(write_scores(scores), allow_nan=False)


def test_a_generator_of_four_hearts_is_less_diverse():
    def collapsed(i):
        grain = np.random.default_rng(i).normal(0, 5, (112, 112))
        return np.clip(heart(i % 4) + grain, 0, 255).astype(np.uint8)

    scores, _ = score_diversity(collapsed, lambda i: heart(900 + i), ALONE, ALONE, seed=0)
    assert scores["ms_ssim"].low > scores["ms_ssim"].real_high


def test_the_same_seed_gives_the_same_score():
    few = np.arange(8)
    runs = [score_diversity(heart, heart, few, few, seed=seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_only_the_pictures_of_the_pairs_are_read_and_each_once():
    read = []

    def reader(i):
        read.append(i)
        return np.zeros((12, 12), np.uint8)

    score_diversity(reader, lambda i: np.zeros((12, 12), np.uint8), np.arange(10_000),
                    np.arange(5_000), seed=0)  # fmt: skip
    assert len(read) == len(set(read)) == 400


def test_frames_of_one_patient_are_no_pair():
    """Frames of a patient are copies: pairs within one would raise the mean."""
    groups = np.repeat(np.arange(5), 12)
    score = score_diversity(lambda i: heart(groups[i]), heart, groups, ALONE, seed=0)[0]["ms_ssim"]
    assert score.num_pairs == 10
    assert score.value < 0.8


def test_sizes_are_brought_together():
    score = score_diversity(
        lambda i: np.repeat(heart(i, 300)[..., None], 3, axis=2),
        lambda i: heart(i, 96)[:, 8:-8],
        np.arange(6), np.arange(6), seed=0,
    )[0]["ms_ssim"]  # fmt: skip
    assert score.resize.startswith("96 ")
    assert score.num_scales == 3
    large = score_diversity(lambda i: heart(i, 300), lambda i: heart(i, 280), np.arange(6),
                            np.arange(6), seed=0)[0]["ms_ssim"]  # fmt: skip
    assert large.resize.startswith("256 ")
    assert large.num_scales == 5


@pytest.mark.parametrize(
    ("side", "scales"),
    [(10, 0), (11, 1), (21, 1), (22, 2), (44, 3), (98, 3), (99, 4), (175, 4), (176, 5), (512, 5)],
)
def test_scales_that_fit(side, scales):
    assert count_scales(side) == scales
    if scales:
        betas = (1 / scales,) * scales
        image = heart(0, side)
        assert compute_ms_ssim(image, image, betas) == pytest.approx(1.0, abs=1e-5)
    if 0 < scales < 5:  # one scale more is refused by torchmetrics, or does not fit the window
        assert side // 2**scales < 11 or side // scales**2 < 11


def test_one_scale_is_ssim():
    """At one scale MS-SSIM is SSIM: torchmetrics' grey scale and window are those of skimage."""
    from skimage.metrics import structural_similarity

    first, second = heart(0), heart(1)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim_map = structural_similarity(first, second, data_range=255, full=True, **options)[1]
    assert compute_ms_ssim(first, second, (1.0,)) == pytest.approx(ssim_map.mean(), abs=2e-3)


@pytest.mark.parametrize("num_groups", [4, 5, 12, 33, 100, 400, 801])
def test_pairs_are_of_different_groups_and_none_comes_twice(num_groups):
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(num_groups), 3))
    drawn = groups[sample_pairs(groups, 200, rng)]
    assert (drawn[:, 0] != drawn[:, 1]).all()
    assert len({frozenset(pair) for pair in drawn.tolist()}) == len(drawn)
    assert len(drawn) == min(200, num_groups * ((num_groups - 1) // 2))
    if num_groups >= 400:
        assert np.bincount(drawn.ravel()).max() == 1


def test_pairs_that_share_no_group_have_the_plain_standard_error():
    values = np.random.default_rng(0).standard_normal(200)
    mean, low, high = average_pairs(values, np.arange(400).reshape(200, 2))
    assert mean == pytest.approx(values.mean())
    assert high - mean == pytest.approx(1.97196 * values.std(ddof=1) / sqrt(200), rel=1e-4)
    assert mean - low == pytest.approx(high - mean)


def test_intervals_cover_where_pairs_share_patients():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 2)
    covered = 0
    for _ in range(600):
        place = rng.standard_normal(40)[groups]
        pairs = sample_pairs(groups, 200, rng)
        # A sum is the worst case: a patient moves all its pairs one way. Its mean is 0.
        _, low, high = average_pairs(place[pairs].sum(axis=1), groups[pairs])
        covered += low <= 0 <= high
    assert 0.91 <= covered / 600 <= 0.98


def test_too_few_patients_or_pixels_are_left_out_with_the_reason():
    few, enough = np.array([0, 0, 1, 2]), np.arange(4)
    assert score_diversity(heart, heart, few, enough, seed=0) == (
        {}, {"ms_ssim": "needs 4 patients a side, there are 3"},
    )  # fmt: skip
    small = score_diversity(lambda i: heart(i, 10), heart, enough, enough, seed=0)
    assert small == ({}, {"ms_ssim": "a picture has 10 pixels a side, the window 11"})
