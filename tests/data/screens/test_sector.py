"""The sector of a frame against scipy's morphology and Qhull's convex hull, pixel by pixel."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import ConvexHull

from echodiff.data.screens.sector import (
    ACTIVE_RANGE,
    CLOSED_PX,
    fill_convex,
    find_sector,
)

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def draw_blobs(shape, seed, blur):
    """(H, W) uint8: noise, or what is left of it after a blur, over black."""
    image = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), blur)
    image = (image - image.min()) / (np.ptp(image) + 1e-9)
    return (255 * np.clip(image - 0.4, 0, 1)).astype(np.uint8)


def fill_by_qhull(mask):
    corners = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, -0.5], [0.0, 0.5]])
    hull = ConvexHull((np.argwhere(mask)[:, None] + corners).reshape(-1, 2))
    centres = np.argwhere(np.ones_like(mask)) @ hull.equations[:, :2].T + hull.equations[:, 2]
    return (centres <= 1e-9).all(axis=1).reshape(mask.shape)


@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.001, 0.02, 0.3]))
@settings(max_examples=60, deadline=None)
def test_the_hull_is_that_of_qhull(shape, seed, share):
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < share
    mask[rng.integers(shape[0]), rng.integers(shape[1])] = True
    assert np.array_equal(fill_convex(mask), fill_by_qhull(mask))


@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1), blur=st.sampled_from([0.0, 0.7, 1.5, 4.0]))
@settings(max_examples=60, deadline=None)
def test_the_sector_is_the_largest_part_after_opening_and_closing(shape, seed, blur):
    image = draw_blobs(shape, seed, blur)
    image[[0, -1]] = 0  # a black screen, as find_screen takes it
    active = ndimage.binary_opening(image > ACTIVE_RANGE)
    closed = ndimage.binary_closing(np.pad(active, CLOSED_PX), iterations=CLOSED_PX)
    parts, num_parts = ndimage.label(closed[CLOSED_PX:-CLOSED_PX, CLOSED_PX:-CLOSED_PX])
    found = find_sector(image, image, is_clip=False)
    if not num_parts:
        assert found.all()
        return
    largest = parts == np.bincount(parts[parts > 0]).argmax()
    assert np.array_equal(found, fill_by_qhull(largest))
