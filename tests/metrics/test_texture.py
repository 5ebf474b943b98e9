"""Texture features: fixed, fast, blind to nothing that tells scanners apart."""

import time

import numpy as np
import pytest
from scipy import ndimage

from echodiff.metrics import texture
from echodiff.metrics.texture import compute_texture_features, group_slices


def sector(rng, side=128, grain=1.5, blood=25.0):
    """A speckled sector with two dark cavities."""
    y, x = np.mgrid[:side, :side] / side
    speckle = ndimage.gaussian_filter(rng.standard_normal((side, side)), (grain, 1.5 * grain))
    level = np.where(np.hypot(x - 0.4, y - 0.5) < 0.15, blood, 90.0)
    level = np.where(np.hypot(x - 0.62, y - 0.5) < 0.13, blood, level)
    image = level * np.clip(1 + 0.4 * speckle / speckle.std(), 0, None)
    image[np.abs(x - 0.5) > 0.08 + 0.45 * y] = 0
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    return [sector(rng) for _ in range(24)]


def test_shape_and_groups(frames):
    features = compute_texture_features(frames)
    assert features.shape == (24, 64)
    assert features.dtype == np.float64
    assert {name: len(range(*s.indices(64))) for name, s in group_slices().items()} == {
        "spectrum": 16, "histogram": 16, "cooccurrence": 20, "gradients": 12,
    }  # fmt: skip


def test_a_frame_has_the_same_features_in_any_company(frames):
    together = compute_texture_features(frames)
    assert np.array_equal(compute_texture_features(frames[5:6])[0], together[5])


def test_sizes_may_differ(frames):
    rng = np.random.default_rng(1)
    large = [sector(rng, side=256, grain=3.0) for _ in range(24)]
    features, other = compute_texture_features(large), compute_texture_features(frames)
    coarse = compute_texture_features([sector(rng, grain=3.0) for _ in range(24)])
    assert compute_texture_features([np.zeros((40, 70), np.uint8)]).shape == (1, 64)
    near = np.linalg.norm(features.mean(0) - other.mean(0))
    assert near < 0.8 * np.linalg.norm(coarse.mean(0) - other.mean(0))


CHANGES = {
    "blur": ("spectrum", lambda x: ndimage.gaussian_filter(x.astype(float), 1.0)),
    "gamma": ("histogram", lambda x: 255 * (x / 255) ** 0.7),
    "lateral blur": (
        "cooccurrence",
        lambda x: ndimage.gaussian_filter1d(x.astype(float), 2.0, axis=1),
    ),
    "sharpening": ("gradients", lambda x: 2.0 * x - ndimage.gaussian_filter(x.astype(float), 2.0)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_tells_what_a_scanner_changes(frames, name):
    group, change = CHANGES[name]
    before = compute_texture_features(frames)
    after = compute_texture_features([np.clip(change(x), 0, 255).astype(np.uint8) for x in frames])
    moved = np.abs(after.mean(0) - before.mean(0)) / (before.std(0) + 0.1)
    assert moved[group_slices()[group]].max() > 3


def test_is_blind_to_mirroring(frames):
    mirrored = compute_texture_features([np.ascontiguousarray(x[:, ::-1]) for x in frames])
    assert np.allclose(mirrored, compute_texture_features(frames), atol=0.2)


@pytest.mark.parametrize("level", [0, 3, 128, 255])
def test_flat_frames_have_finite_features(level):
    features = compute_texture_features([np.full((128, 128), level, np.uint8)])
    assert np.isfinite(features).all()
    assert np.abs(features).max() <= texture.CLIP * np.sqrt(20 / 12)


def test_hash_names_the_constants(monkeypatch):
    before = texture.sha256()
    assert len(before) == 64
    monkeypatch.setattr(texture, "NUM_LEVELS", 16)
    assert texture.sha256() != before


@pytest.mark.parametrize("image", [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.float32)])
def test_refuses_other_images(image):
    with pytest.raises(ValueError, match="grey uint8"):
        compute_texture_features([image])


def test_no_frames_have_no_features():
    assert compute_texture_features([]).shape == (0, 64)


def test_is_fast(frames):
    compute_texture_features(frames[:2])
    began = time.process_time()
    compute_texture_features(frames)
    # 200 to 250 a second on one core; process time, since tests share the machine
    assert len(frames) / (time.process_time() - began) > 60
