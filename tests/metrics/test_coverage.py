"""Precision, recall, density, coverage: as defined, and an alarm that fires when it should."""

import numpy as np
import pytest

from echodiff.metrics import feature_set
from echodiff.metrics.coverage import (
    MIN_FRAMES,
    compute_coverage,
    find_collapse,
    score_coverage,
)
from echodiff.metrics.feature_set import NUM_NEIGHBOURS, FeatureSet
from echodiff.metrics.score import SCORE_KEYS
from echodiff.metrics.score_name import COVERAGES


class Net:
    name, sha256, resize, frechet_name = "net", "f" * 64, "none", "fd_net"


def alone(features):
    return FeatureSet(features, np.arange(len(features)))


def by_definition(fake, real, k):
    """Kynkaanniemi 2019 and Naeem 2020, frame by frame."""

    def radius(points, i):
        return sorted(np.linalg.norm(points - points[i], axis=1))[k]

    real_radii = [radius(real, i) for i in range(len(real))]
    fake_radii = [radius(fake, j) for j in range(len(fake))]
    gap = [[np.linalg.norm(f - r) for r in real] for f in fake]
    inside = [[d < r for d, r in zip(row, real_radii, strict=True)] for row in gap]
    return [
        np.mean([any(row) for row in inside]),
        np.mean(
            [any(gap[j][i] < fake_radii[j] for j in range(len(fake))) for i in range(len(real))]
        ),
        np.sum(inside) / (k * len(fake)),
        np.mean(
            [min(gap[j][i] for j in range(len(fake))) < real_radii[i] for i in range(len(real))]
        ),
    ]


@pytest.mark.parametrize("block_rows", [4, 256])
def test_is_what_the_papers_define(block_rows, monkeypatch):
    monkeypatch.setattr(feature_set, "BLOCK_ROWS", block_rows)
    rng = np.random.default_rng(0)
    fake, real = 0.5 + 0.8 * rng.standard_normal((23, 3)), rng.standard_normal((31, 3))
    expected = by_definition(fake, real, NUM_NEIGHBOURS)
    assert 0 < expected[1] < 1
    assert compute_coverage(alone(fake), alone(real)) == pytest.approx(expected)


def test_frames_of_one_patient_are_no_neighbours():
    rng = np.random.default_rng(1)
    patients = rng.standard_normal((40, 4))
    clips = np.repeat(patients, 8, axis=0) + 1e-3 * rng.standard_normal((320, 4))
    generated = alone(rng.standard_normal((60, 4)))
    by_frame = compute_coverage(generated, alone(clips))
    by_patient = compute_coverage(generated, FeatureSet(clips, np.repeat(np.arange(40), 8)))
    assert by_frame[0] < 0.1
    assert by_patient[0] > 0.5


@pytest.mark.parametrize("dim", [8, 256])
def test_the_alarm_tells_collapse_from_an_honest_set(dim):
    rng = np.random.default_rng(2)
    fired = dict.fromkeys((0.5, 1.0), 0)
    for seed in range(20):
        for factor in fired:
            generated = alone(np.sqrt(factor) * rng.standard_normal((100, dim)))
            scores, _ = score_coverage(
                generated, alone(rng.standard_normal((100, dim))), Net(), seed=seed
            )
            alarm = find_collapse(scores, Net())
            fired[factor] += alarm is not None
            assert alarm is None or alarm.startswith("collapse: ")
    assert fired[0.5] >= 18
    assert fired[1.0] <= 1


def test_a_shifted_set_of_full_variety_is_no_collapse():
    rng = np.random.default_rng(3)
    for seed in range(10):
        sets = alone(0.4 + rng.standard_normal((100, 32))), alone(rng.standard_normal((150, 32)))
        assert find_collapse(score_coverage(*sets, Net(), seed=seed)[0], Net()) is None


def test_scores_have_the_usual_keys_and_a_floor():
    rng = np.random.default_rng(4)
    sets = alone(rng.standard_normal((60, 6))), alone(rng.standard_normal((150, 6)))
    scores, left_out = score_coverage(*sets, Net(), seed=0)
    assert left_out == {}
    assert list(scores) == [f"{name}_net" for name in COVERAGES]
    for score in scores.values():
        assert tuple(score.to_record()) == SCORE_KEYS
        assert 0 <= score.low <= score.value <= score.high
        assert (score.floor_n, score.floor_n_reference) == (60, 90)
        assert score.value_at_floor_n == pytest.approx(score.floor, abs=0.2)


def test_few_frames_are_left_out_with_the_reason():
    rng = np.random.default_rng(5)
    sets = alone(rng.standard_normal((MIN_FRAMES - 1, 6))), alone(rng.standard_normal((50, 6)))
    scores, left_out = score_coverage(*sets, Net(), seed=0)
    assert scores == {}
    assert (
        left_out["density_net"] == f"needs {MIN_FRAMES} frames a side, there are {MIN_FRAMES - 1}"
    )


@pytest.mark.parametrize("sizes", [[30], [28, 2], [36, 1, 1, 1, 1]])
def test_frames_without_neighbours_of_other_patients_are_left_out(sizes):
    rng = np.random.default_rng(9)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    few = FeatureSet(rng.standard_normal((len(groups), 4)), groups)
    other = alone(rng.standard_normal((30, 4)))
    for sets in ((few, other), (other, few)):
        scores, left_out = score_coverage(*sets, Net(), seed=0)
        assert scores == {}
        assert "5 frames of other patients" in left_out["density_net"]


def test_draws_without_neighbours_are_no_part_of_intervals_and_floors():
    rng = np.random.default_rng(10)
    groups = np.repeat(np.arange(6), [30, 2, 2, 2, 2, 2])
    reference = FeatureSet(rng.standard_normal((40, 4)), groups)
    generated = alone(rng.standard_normal((40, 4)))
    scores, _ = score_coverage(generated, reference, Net(), seed=0)
    for score in scores.values():
        assert score.floor is None or np.isfinite(score.floor)
    assert scores["density_net"].value < 5
