"""Frechet distance: closed forms, agreement of its two forms, and with torchmetrics."""

import numpy as np
import pytest
import scipy.linalg
import torch

from echodiff.metrics import frechet
from echodiff.metrics.frechet import compute_frechet_distance, compute_frechet_draws


def gaussian(rng, num, dim, *, mean=0.0, scale=1.0):
    return mean + scale * rng.standard_normal((num, dim))


def with_moments(rng, num, mean, covariance):
    """Samples whose sample mean and covariance are exactly the given ones."""
    x = rng.standard_normal((num, len(mean)))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return mean + x @ np.linalg.cholesky(covariance).T


@pytest.mark.parametrize("form", ["gram", "eigh"])
def test_is_the_closed_form_of_two_gaussians(form):
    rng = np.random.default_rng(0)
    first = with_moments(rng, 50, np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    second = with_moments(rng, 60, np.array([1.0, 2.0, 0.0]), np.diag([4.0, 4.0, 1.0]))
    # |shift|^2 + sum (s1 - s2)^2 for covariances with common axes
    expected = 5.0 + (1 - 2) ** 2 + 0.0 + (3 - 1) ** 2
    assert compute_frechet_distance(first, second, form=form) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize(
    ("num_second", "dim", "share"),
    [(60, 200, 0.4), (300, 200, 0.4), (300, 200, 0.9), (300, 8, 0.4)],
)
def test_draws_are_the_distances_of_the_rows_chosen(num_second, dim, share, is_shared, monkeypatch):
    monkeypatch.setattr(frechet, "SHARED_MAX_SIZE", 10**6 if is_shared else 0)
    rng = np.random.default_rng(7)
    first = gaussian(rng, 50, dim, mean=30.0)
    second = gaussian(rng, num_second, dim, mean=30.5, scale=1.2)
    of_first = (rng.random((4, 50)) < 0.6).astype(float)
    of_second = (rng.random((4, num_second)) < share).astype(float)
    expected = [
        compute_frechet_distance(first[a > 0], second[b > 0])
        for a, b in zip(of_first, of_second, strict=True)
    ]
    drawn = compute_frechet_draws(first, second, of_first, of_second)
    assert drawn == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("num_first", "num_second", "dim"), [(40, 40, 512), (30, 90, 64), (200, 150, 8)]
)
def test_both_forms_agree(num_first, num_second, dim):
    rng = np.random.default_rng(1)
    first = gaussian(rng, num_first, dim)
    second = gaussian(rng, num_second, dim, mean=0.3, scale=1.2)
    gram = compute_frechet_distance(first, second, form="gram")
    eigh = compute_frechet_distance(first, second, form="eigh")
    assert gram == pytest.approx(eigh, rel=1e-6)
    assert compute_frechet_distance(second, first) == pytest.approx(gram, rel=1e-6)


def test_agrees_with_torchmetrics_on_the_same_features():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Pass(torch.nn.Module):
        num_features = 16

        def forward(self, x):
            return x.double()

    rng = np.random.default_rng(2)
    first, second = gaussian(rng, 80, 16), gaussian(rng, 60, 16, mean=0.5, scale=0.7)
    metric = FrechetInceptionDistance(feature=Pass(), normalize=True)
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(second), real=True)
    metric.update(torch.from_numpy(first), real=False)
    assert compute_frechet_distance(first, second) == pytest.approx(
        metric.compute().item(), rel=1e-5
    )


def test_agrees_with_clean_fid_on_the_same_features(monkeypatch):
    from cleanfid.fid import frechet_distance

    root = scipy.linalg.sqrtm
    # scipy 1.18 has no `disp` any more, with which clean-fid calls it and takes two values.
    monkeypatch.setattr(scipy.linalg, "sqrtm", lambda matrix, disp=True: (root(matrix), 0.0))

    rng = np.random.default_rng(3)
    first, second = gaussian(rng, 300, 32), gaussian(rng, 200, 32, mean=0.2, scale=1.5)
    theirs = frechet_distance(
        first.mean(0), np.cov(first, rowvar=False), second.mean(0), np.cov(second, rowvar=False)
    )
    assert compute_frechet_distance(first, second) == pytest.approx(theirs, rel=1e-4)


def test_is_zero_for_a_set_against_itself_and_never_negative():
    x = gaussian(np.random.default_rng(4), 40, 100)
    assert 0.0 <= compute_frechet_distance(x, x) < 1e-9


def test_grows_with_fewer_samples_of_one_distribution():
    rng = np.random.default_rng(5)
    few, many = (
        compute_frechet_distance(gaussian(rng, n, 64), gaussian(rng, n, 64)) for n in (20, 200)
    )
    assert few > 3 * many > 0


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.zeros((1, 3)), np.zeros((5, 3)), "at least 2"),
        (np.zeros((5, 3)), np.zeros((5, 4)), "different networks"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "NaN"),
    ],
)
def test_refuses_what_has_no_distance(first, second, message):
    with pytest.raises(ValueError, match=message):
        compute_frechet_distance(first, second)
