"""The echo look: known numbers of known pictures, and what each number sees and does not."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from echodiff.images import read_gray_u8, resize_u8
from echodiff.metrics.appearance import (
    COLUMNS,
    SECTOR,
    SPECTRUM,
    compute_speckle_snr,
    describe_appearance,
    sha256,
)
from echodiff.metrics.appearance_scores import score_appearance
from echodiff.metrics.resampling import build_groups
from echodiff.metrics.score import write_scores
from echodiff.phantom.acquisition import Population, render, sample_acquisition

CAMUS = Path(__file__).parents[3] / "shared" / "data" / "camus" / "frames"
needs_camus = pytest.mark.skipif(
    not CAMUS.is_dir(), reason="needs the real files of ../shared/data, which are not shipped"
)
PLACE = {name: number for number, name in enumerate(COLUMNS)}
GROUPS = np.arange(48)


@pytest.fixture(scope="module")
def phantoms():
    """96 frames of 96 patients."""
    population = Population(styles=("aspen", "birch"), finding_rate=0.3)
    return [render(sample_acquisition(5, 2 * i, population), "echo", 96) for i in range(96)]


@pytest.fixture(scope="module")
def rows(phantoms):
    return describe(phantoms)


def describe(images):
    return np.stack([describe_appearance(np.ascontiguousarray(image)) for image in images])


def tint(image, gains=(1.0, 0.93, 0.8)):
    return (image[..., None] * np.array(gains)).astype(np.uint8)


def score(generated, reference, **options):
    groups = np.arange(len(generated)), np.arange(len(reference))
    return score_appearance(generated, reference, *groups, seed=0, **options)


def sector(size=128, half_angle_deg=40.0, apex=0.5):
    y, x = np.mgrid[:size, :size] + 0.5
    x, y = x - apex * size, y - 0.05 * size
    return (np.hypot(x, y) < 0.9 * size) & (np.abs(np.arctan2(x, y)) < np.radians(half_angle_deg))


# --- one frame -------------------------------------------------------------------------------


def test_speckle_snr_of_known_noise():
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal(120, 20, (256, 256)), 5, 250).astype(np.uint8)
    assert compute_speckle_snr(image) == pytest.approx(6.0, rel=0.03)


def test_a_slope_of_gain_is_no_speckle():
    rng = np.random.default_rng(0)
    slope = np.linspace(-3, 3, 16)[:, None]
    image = 120 + np.tile(slope, (16, 1)) + rng.normal(0, 10, (256, 256))
    assert compute_speckle_snr(image.clip(0, 255).astype(np.uint8)) == pytest.approx(12, rel=0.05)


def test_edges_black_and_white_are_left_out():
    rng = np.random.default_rng(0)
    image = rng.normal(100, 10, (128, 128))
    image[:, 60:] += 90  # an edge through one column of patches
    image[:, :20] = 0
    image[100:, :] = 255
    assert compute_speckle_snr(image.clip(0, 255).astype(np.uint8)) == pytest.approx(
        np.median([10.0] * 4 + [19.0] * 8), rel=0.08
    )


@pytest.mark.parametrize("level", [0, 3, 128, 255])
def test_flat_frames_have_no_speckle_and_no_sector(level):
    row = describe_appearance(np.full((64, 80), level, np.uint8))
    assert np.isnan(row[PLACE["speckle_snr"]])
    assert np.isnan(row[[PLACE[name] for name in SECTOR]]).all()
    assert np.isfinite(row[[PLACE[name] for name in SPECTRUM]]).all()


@pytest.mark.parametrize("ring", [2, 9, 16])
def test_a_wave_lies_in_its_ring(ring):
    cycles = (ring - 0.5) / 32
    wave = np.sin(2 * np.pi * cycles * np.arange(128))
    image = np.rint(128 + 100 * np.tile(wave[:, None], (1, 128))).astype(np.uint8)
    row = describe_appearance(image)
    assert int(np.argmax(row[[PLACE[name] for name in SPECTRUM]])) == ring - 1


def test_white_noise_has_a_flat_spectrum_of_its_variance():
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal(128, 16, (256, 256)), 0, 255).astype(np.uint8)
    power = describe_appearance(image)[[PLACE[name] for name in SPECTRUM]]
    # The Hann window lets (3/8)^2 of the power through; inner rings hold few bins.
    assert np.allclose(power[3:], np.log10(256 * (3 / 8) ** 2), atol=0.05)


@pytest.mark.parametrize("size", [112, 128, 512])
def test_geometry_of_a_known_sector(size):
    rng = np.random.default_rng(0)
    shape = sector(size)
    image = np.where(shape, rng.integers(30, 200, shape.shape), 0).astype(np.uint8)
    row = dict(zip(COLUMNS, describe_appearance(image), strict=True))
    assert row["sector_share"] == pytest.approx(shape.mean(), abs=0.03)
    assert row["sector_apex"] == pytest.approx(0.5, abs=0.02)
    assert row["sector_symmetry"] > 0.97
    assert row["sector_top"] == pytest.approx(0.05, abs=0.03)
    assert row["sector_bottom"] == pytest.approx(0.95, abs=0.02)
    reach = 0.9 * np.sin(np.radians(40))
    assert row["sector_left"] == pytest.approx(max(0.5 - reach, 0), abs=0.02)
    assert row["sector_right"] == pytest.approx(min(0.5 + reach, 1), abs=0.02)


def test_a_sector_that_fills_the_frame_is_whole():
    image = np.random.default_rng(0).integers(0, 256, (96, 96)).astype(np.uint8)
    row = dict(zip(COLUMNS, describe_appearance(image), strict=True))
    assert row["sector_share"] > 0.99
    assert (row["sector_left"], row["sector_right"]) == (0, 1)


def test_a_lopsided_sector_is_seen():
    rng = np.random.default_rng(0)
    shape = sector() & (np.arange(128)[None] < 80)
    image = np.where(shape, rng.integers(30, 200, shape.shape), 0).astype(np.uint8)
    row = dict(zip(COLUMNS, describe_appearance(image), strict=True))
    assert row["sector_symmetry"] < 0.85
    assert row["sector_right"] == pytest.approx(80 / 128, abs=0.02)


def test_colour_is_that_of_cielab():
    orange = np.full((32, 32, 3), (255, 165, 0), np.uint8)
    orange[:8] = 0  # black counts for nothing
    row = dict(zip(COLUMNS, describe_appearance(orange), strict=True))
    # CSS orange in CIELAB (D65): L 74.9, a 23.9, b 79.0.
    assert (row["colour_a"], row["colour_b"]) == pytest.approx((23.9, 79.0), abs=0.1)
    assert row["chroma"] == pytest.approx(np.hypot(23.9, 79.0), abs=0.2)


def test_grey_stored_as_colour_is_the_same_frame(phantoms):
    as_colour = np.repeat(phantoms[0][..., None], 3, axis=2)
    assert np.array_equal(describe_appearance(as_colour), describe_appearance(phantoms[0]))


def test_mirroring_turns_the_balance_and_nothing_else(phantoms, rows):
    mirrored = describe([image[:, ::-1] for image in phantoms[:20]])
    blind = [PLACE[name] for name in ("sector_share", "sector_symmetry", *SPECTRUM)]
    assert np.allclose(mirrored[:, blind], rows[:20, blind], atol=0.01)
    balance = PLACE["balance"]
    assert np.allclose(mirrored[:, balance], -rows[:20, balance], atol=0.04)
    assert np.abs(rows[:20, balance]).max() > 0.1


@settings(max_examples=30, deadline=None)
@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)), st.booleans()
)
def test_any_picture_has_its_row(image, is_colour):
    row = describe_appearance(tint(image) if is_colour else image)
    assert row.shape == (len(COLUMNS),)
    assert not np.isinf(row).any()


def test_is_fast(phantoms):
    larger = [resize_u8(image, (128, 128)) for image in phantoms[:24]]
    describe_appearance(larger[0])
    began = time.process_time()
    describe(larger)
    # 3 to 4 ms on one core; process time, since tests share the machine
    assert (time.process_time() - began) / len(larger) < 0.012


def test_hash_names_the_constants(monkeypatch):
    before = sha256()
    monkeypatch.setattr("echodiff.metrics.appearance.MAX_SLOPE_SHARE", 0.4)
    assert sha256() != before


# --- two sets --------------------------------------------------------------------------------


def test_two_halves_of_one_set_agree(rows):
    scores, _, alarms = score(rows[:48], rows[48:])
    assert alarms == []
    assert scores["spectrum_deviation"].low < 0 < scores["spectrum_deviation"].high
    for name in ("speckle_snr", "sector_share", "balance"):
        one = scores[name]
        assert one.low < one.value < one.high
        assert one.low < one.real_high
        assert one.real_low < one.high
    assert (one.n, one.n_reference) == (48, 48)
    for name in ("colour_drift", "sector_drift"):
        assert (scores[name].value, scores[name].low) == (0, 0)
        assert scores[name].real == pytest.approx(0, abs=0.03)
        assert scores[name].high == pytest.approx(0.0741, abs=1e-3)  # Wilson, 0 of 48
    json.dumps(write_scores(scores), allow_nan=False)


def test_one_orange_frame_in_96_is_an_alarm(phantoms, rows):
    generated = rows.copy()
    generated[17] = describe_appearance(tint(phantoms[17]))
    scores, _, alarms = score(generated, rows)
    assert len(alarms) == 1
    assert alarms[0].startswith("colour drift: 1 of 96 generated frames")
    assert scores["colour_drift"].frames == [17]
    assert scores["colour_drift"].value == pytest.approx(1 / 96)
    # One frame moves no mean for certain: only the count sees it.
    assert scores["chroma"].low < 0 < scores["chroma"].value


@pytest.mark.parametrize(
    ("gains", "is_seen"), [((1, 0.97, 0.9), True), ((0.96, 1, 1), True), ((1, 0.995, 0.99), False)]
)
def test_faint_tints(phantoms, rows, gains, is_seen):
    *_, alarms = score(describe([tint(phantoms[0], gains)]), rows)
    assert bool(alarms) == is_seen


def test_a_coloured_corner_is_seen(phantoms, rows):
    image = np.repeat(phantoms[0][..., None], 3, axis=2)
    image[:24, :24] = (0, 90, 200)
    *_, alarms = score(describe([image]), rows)
    assert alarms[0].startswith("colour drift: 1 of 1")


def test_a_tinted_reference_has_its_own_range(phantoms):
    rng = np.random.default_rng(0)
    blues = [(1 - a, 1 - a / 2, 1) for a in rng.uniform(0.02, 0.5, 96)]
    tinted = describe([tint(image, gains) for image, gains in zip(phantoms, blues, strict=True)])
    tinted = tinted[np.argsort(tinted[:, PLACE["chroma"]])]
    # A reference without the palest and the deepest: new frames just beyond it are no drift.
    reference = tinted[16:80]
    assert tinted[-1, PLACE["chroma"]] > reference[-1, PLACE["chroma"]] + 2.3
    assert score(tinted, reference)[0]["colour_drift"].value == 0
    assert score(describe([tint(phantoms[0])]), reference)[0]["colour_drift"].value == 1


def test_blur_lowers_the_high_rings(phantoms, rows):
    blurred = describe([ndimage.gaussian_filter(image, 0.6) for image in phantoms[:48]])
    scores, *_ = score(blurred, rows[48:])
    deviation = scores["spectrum_deviation"]
    assert deviation.value < -80
    assert deviation.high < -deviation.real < 0
    assert deviation.band == "spectrum_16"
    assert deviation.bands[0]["low"] < 1 < deviation.bands[0]["high"]
    assert deviation.bands[15]["ratio"] == pytest.approx(1 + deviation.value / 100)
    assert deviation.bands[15]["cycles_per_px"] == [15 / 32, 0.5]
    assert scores["speckle_snr"].low > scores["speckle_snr"].real


def test_a_mirrored_set_differs_in_the_balance_alone(phantoms, rows):
    mirrored = describe([image[:, ::-1] for image in phantoms])
    scores, _, alarms = score(mirrored, rows)
    assert alarms == []
    assert scores["balance"].value == pytest.approx(-scores["balance"].real, abs=0.005)
    assert scores["spectrum_deviation"].value == pytest.approx(0, abs=1e-6)
    assert scores["sector_share"].value == pytest.approx(scores["sector_share"].real, rel=0.01)


def test_frames_without_a_sector_are_an_alarm(rows):
    noise = np.random.default_rng(0).integers(0, 256, (10, 96, 96)).astype(np.uint8)
    scores, _, alarms = score(np.concatenate([rows[:40], describe(noise)]), rows[40:])
    assert alarms == ["sector: 10 of 50 generated frames have a sector unlike any of the reference"]
    assert scores["sector_drift"].frames == list(range(40, 50))


def test_black_frames_are_counted_and_not_averaged(rows):
    black = describe([np.zeros((96, 96), np.uint8)] * 2)
    scores, *_ = score(np.concatenate([rows[:46], black]), rows[48:])
    of_rows = np.isnan(rows[:46, PLACE["speckle_snr"]]).sum()
    assert scores["speckle_snr"].num_without == 2 + of_rows
    assert scores["sector_share"].value == pytest.approx(rows[:46, PLACE["sector_share"]].mean())
    assert scores["sector_drift"].frames == [46, 47]
    only, left_out, _ = score(black, rows)
    assert "speckle_snr" not in only
    assert left_out["speckle_snr"] == "no frame of one of the sets has it"


def test_frames_of_other_sizes_have_no_speckle_and_spectrum(phantoms, rows):
    scores, _, alarms = score(describe([resize_u8(x, (64, 64)) for x in phantoms[:8]]), rows)
    assert alarms[0].startswith("sizes: generated frames of 64 x 64, reference of 96 x 96 pixels")
    assert not {"speckle_snr", "spectrum_deviation"} & set(scores)
    assert scores["sector_share"].value == pytest.approx(scores["sector_share"].real, abs=0.03)


def test_intervals_go_by_patients(rows):
    """Frames copied eight times say no more than they did."""
    once, *_ = score_appearance(rows[:24], rows[48:], np.arange(24), GROUPS, seed=0)
    copied = np.repeat(rows[:24], 8, axis=0)
    often, *_ = score_appearance(copied, rows[48:], np.repeat(np.arange(24), 8), GROUPS, seed=0)
    for name in ("speckle_snr", "spectrum_deviation"):
        width, wide = (one[name].high - one[name].low for one in (once, often))
        assert wide == pytest.approx(width, rel=1e-6)


def test_few_patients_have_values_without_intervals(rows):
    scores, *_ = score_appearance(rows[:3], rows[3:6], np.arange(3), np.arange(3), seed=0)
    for name in ("speckle_snr", "spectrum_deviation", "sector_share"):
        assert scores[name].low is None
    assert scores["colour_drift"].high > 0.5
    json.dumps(write_scores(scores), allow_nan=False)
    assert score(rows[:0], rows) == ({}, {}, [])


@needs_camus
def test_real_frames_agree_with_themselves_and_not_with_phantoms(rows):
    paths = sorted(CAMUS.glob("*.png"))
    real = describe([resize_u8(read_gray_u8(path), (96, 96)) for path in paths])
    groups = build_groups([path.name.split("_")[0] for path in paths])
    first = groups % 2 == 0
    halves = [np.unique(groups[is_in], return_inverse=True)[1] for is_in in (first, ~first)]
    scores, _, alarms = score_appearance(real[first], real[~first], *halves, seed=0)
    assert alarms == []
    assert abs(scores["spectrum_deviation"].value) < 30
    assert scores["sector_drift"].value < 0.03
    assert 5 < scores["speckle_snr"].value < 12
    away, *_ = score_appearance(rows, real, np.arange(96), groups, seed=0)
    assert away["sector_share"].low > away["sector_share"].real_high
