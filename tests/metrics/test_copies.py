"""Copies of training frames are seen, honest sets are left alone."""

import numpy as np
import pytest

from echodiff.metrics.copies import find_copies, measure_nearest, score_copies
from echodiff.metrics.feature_set import FeatureSet


class Net:
    name, sha256, resize, frechet_name = "net", "f" * 64, "none", "fd_net"


def draw(rng, num):
    return FeatureSet(rng.standard_normal((num, 16)), np.arange(num))


def test_nearest_is_nearest():
    rng = np.random.default_rng(0)
    one, train = draw(rng, 7), draw(rng, 9)
    distances, rows = measure_nearest(one, train)
    apart = np.linalg.norm(one.features[:, None] - train.features, axis=-1)
    assert distances == pytest.approx(apart.min(axis=1))
    assert rows.tolist() == apart.argmin(axis=1).tolist()


@pytest.mark.parametrize("num_copies", [0, 20])
def test_a_fifth_of_near_copies_raises_the_alarm(num_copies):
    rng = np.random.default_rng(1)
    generated, reference, train = draw(rng, 100), draw(rng, 80), draw(rng, 300)
    near = train.features[:num_copies] + 0.05 * rng.standard_normal((num_copies, 16))
    generated.features[:num_copies] = near
    scores, _ = score_copies(generated, reference, train, Net())
    score = scores["copies_net"]
    assert score.real == pytest.approx(0.05)
    assert score.n_train == 300
    alarm = find_copies(scores, Net())
    assert (alarm is not None) == (num_copies > 0)
    assert score.value == pytest.approx(num_copies / 100, abs=0.1)


def test_a_small_reference_says_so():
    rng = np.random.default_rng(2)
    _, left_out = score_copies(draw(rng, 9), draw(rng, 9), draw(rng, 9), Net())
    assert left_out == {"copies_net": "needs 20 reference frames, there are 9"}


def test_a_reference_on_the_training_frames_is_an_alarm_and_no_limit_of_zero():
    rng = np.random.default_rng(3)
    generated, reference, train = draw(rng, 30), draw(rng, 40), draw(rng, 50)
    reference.features[:5] = train.features[:5] * (1 + 1e-9)
    generated.features[:] = train.features[:30]
    scores, left_out = score_copies(generated, reference, train, Net())
    assert scores == {}
    assert left_out["copies_net"].startswith("5 reference frames lie on training frames")
    alarm = find_copies(scores, Net(), left_out)
    assert alarm.startswith("copies_net is left out: 5 reference frames")
    assert find_copies({}, Net(), {"copies_net": "needs 20 reference frames"}) is None
