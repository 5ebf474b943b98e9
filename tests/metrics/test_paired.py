"""Paired scores: exact numbers on known pictures, pairs found, intervals by patients."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from echodiff.errors import InputError
from echodiff.metrics.paired import NAMES, compute_pair, find_pairs, score_pairs
from echodiff.metrics.score import write_scores

FLAT = np.full((32, 32), 100, np.uint8)


def noise(seed, shape=(32, 40)):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write_frames(folder, rows, images=None, mode="L"):
    """A frames folder of {file name: other columns of its row}."""
    lines = []
    for number, (name, row) in enumerate(rows.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = noise(number) if images is None else images[number]
        Image.fromarray(image).save(path)
        if "mask_file_name" in row:
            mask = folder / row["mask_file_name"]
            mask.parent.mkdir(exist_ok=True)
            Image.fromarray((image > 127).astype(np.uint8)).save(mask)
        lines.append(json.dumps({"file_name": name, "text": ""} | row) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def test_exact_numbers_of_a_shift_of_ten_grey_levels():
    found = compute_pair(FLAT + np.uint8(10), FLAT)
    assert (found["mae"], found["mse"]) == (10.0, 100.0)
    assert found["psnr"] == pytest.approx(20 * np.log10(25.5))
    # Flat pictures have no contrast term: SSIM is (2 ab + C1) / (a^2 + b^2 + C1), L = 255.
    c1 = (0.01 * 255) ** 2
    assert found["ssim"] == pytest.approx((2 * 110 * 100 + c1) / (110**2 + 100**2 + c1))


def test_the_mixed_psnr_reads_as_papers_that_report_it():
    found = compute_pair(FLAT + np.uint8(10), FLAT)
    assert found["psnr_mixed"] == pytest.approx(10 * np.log10(255**2 / (10 / 255) ** 2))
    assert found["psnr_mixed"] - found["psnr"] == pytest.approx(48.13, abs=0.005)
    # 52.344 dB is that reading of a normalised MSE of 0.37901.
    assert 10 * np.log10(255**2 / 0.37901) == pytest.approx(52.344, abs=0.001)


def test_ssim_is_that_of_the_first_paper():
    """Equation 13 of Wang et al. 2004, written out at one pixel."""
    x, y = noise(1).astype(float), noise(2).astype(float)
    y = 0.5 * x + 0.5 * y
    y_u8 = y.round().astype(np.uint8)
    y = y_u8.astype(float)
    ramp = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(ramp, ramp) / ramp.sum() ** 2
    row, column = 12, 17
    a, b = (one[row - 5 : row + 6, column - 5 : column + 6] for one in (x, y))
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a, var_b = (window * a**2).sum() - mean_a**2, (window * b**2).sum() - mean_b**2
    covariance = (window * a * b).sum() - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    expected /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    only = np.zeros(x.shape, bool)
    only[row, column] = True
    assert compute_pair(x.astype(np.uint8), y_u8, only)["ssim"] == pytest.approx(expected)


def test_only_pixels_in_the_mask_count():
    target = noise(0)
    image = target.copy()
    image[:, 20:] = 255 - image[:, 20:]
    left = np.zeros(target.shape, np.uint8)
    left[:, :15] = 3  # a label, not a truth value; SSIM's windows reach 5 pixels further
    assert compute_pair(image, target, left)["mse"] == 0.0
    assert compute_pair(image, target, left)["ssim"] == pytest.approx(1.0)
    assert compute_pair(image, target, 1 - left // 3)["mse"] > compute_pair(image, target)["mse"]


def test_a_mask_of_everything_changes_nothing():
    assert compute_pair(noise(0), noise(1), np.ones((32, 40))) == compute_pair(noise(0), noise(1))


def test_a_tint_is_an_error_against_a_grey_target():
    tinted = np.stack([FLAT + np.uint8(30), FLAT, FLAT - np.uint8(30)], axis=2)
    assert compute_pair(tinted, FLAT)["mae"] == 20.0
    assert compute_pair(np.repeat(FLAT[..., None], 3, 2), FLAT)["mse"] == 0.0


@settings(max_examples=25, deadline=None)
@given(arrays(np.uint8, (2, 12, 13)), st.booleans())
def test_both_orders_give_the_same_bounded_numbers(pair, mirror):
    image, target = (one[:, ::-1] if mirror else one for one in pair)
    found = compute_pair(image, target)
    assert found == pytest.approx(compute_pair(target, image))
    assert -1 - 1e-9 <= found["ssim"] <= 1 + 1e-9
    assert found["mae"] ** 2 <= found["mse"] + 1e-9  # Jensen


def test_pairs_by_pair_id_where_both_have_it(tmp_path):
    ours = write_frames(
        tmp_path / "a",
        {"images/x.png": {"pair_id": "1"}, "images/y.png": {"pair_id": "2"},
         "images/x2.png": {"pair_id": "1"}, "images/lost.png": {"pair_id": "8"}},
    )  # fmt: skip
    theirs = write_frames(
        tmp_path / "b",
        {"images/y.png": {"pair_id": "1", "patient_id": "p", "mask_file_name": "masks/y.png"},
         "images/x.png": {"pair_id": "2", "patient_id": "p", "mask_file_name": "masks/x.png"},
         "images/z.png": {"pair_id": "9", "patient_id": "q", "mask_file_name": "masks/z.png"}},
    )  # fmt: skip
    found = find_pairs(ours, theirs)
    names = [(ours.name, theirs.name) for ours, theirs in found.pairs]
    assert names == [("x.png", "y.png"), ("y.png", "x.png"), ("x2.png", "y.png")]
    assert found.groups.tolist() == [0, 0, 0]
    assert [mask.name for mask in found.masks] == ["y.png", "x.png", "y.png"]
    assert found.unpaired == [str(ours / "images/lost.png"), str(theirs / "images/z.png")]


def test_pairs_by_file_name_where_one_has_no_pair_id(tmp_path):
    ours = write_frames(tmp_path / "a", {"images/s/1.png": {"pair_id": "7"}, "images/2.png": {}})
    theirs = write_frames(tmp_path / "b", {"images/2.bmp": {}, "images/s/1.png": {}})
    found = find_pairs(ours, theirs)
    assert [target.name for _, target in found.pairs] == ["1.png", "2.bmp"]
    assert found.groups.tolist() == [0, 1]
    assert (found.masks, found.unpaired) == (None, [])


def test_folders_that_do_not_pair_are_refused(tmp_path):
    ours = write_frames(tmp_path / "a", {"images/1.png": {"pair_id": "7"}})
    other = write_frames(tmp_path / "b", {"images/1.png": {"pair_id": "8"}})
    twice = write_frames(
        tmp_path / "c", {"images/1.png": {"pair_id": "7"}, "images/2.png": {"pair_id": "7"}}
    )
    with pytest.raises(InputError, match="no frame has the pair_id of one in"):
        find_pairs(ours, other)
    with pytest.raises(InputError, match=r"1\.png and images/2\.png are both 7"):
        find_pairs(ours, twice)


@pytest.fixture
def folders(tmp_path):
    """Twelve pairs of six patients; the error of pair i is i + 1 grey levels."""
    names = {f"images/{i:02d}.png": {"patient_id": f"p{i // 2}"} for i in range(12)}
    base = [np.clip(noise(i), 0, 200).astype(np.uint8) for i in range(12)]
    ours = [image + np.uint8(i + 1) for i, image in enumerate(base)]
    return (
        write_frames(tmp_path / "ours", names, ours),
        write_frames(tmp_path / "theirs", names, base),
    )


def test_scores_of_a_set(folders):
    found = find_pairs(*folders)
    scores, left_out = score_pairs(found.pairs, found.groups, seed=0)
    assert left_out == {}
    assert tuple(scores) == NAMES
    mae = scores["mae"]
    assert mae.values == [float(i + 1) for i in range(12)]
    assert (mae.value, mae.n, mae.n_reference) == (6.5, 12, 12)
    # Six patients' means 1.5, 3.5 ... 11.5: three of six drawn, so the spread is s / sqrt(6).
    spread = (mae.high - mae.low) / (2 * 1.96)
    assert spread == pytest.approx(np.std(np.arange(1.5, 12, 2), ddof=1) / np.sqrt(6), rel=0.12)
    for score in scores.values():
        assert score.low < score.value < score.high
        assert (score.data_range, score.is_masked, score.num_identical) == (255, False, 0)
    json.dumps(write_scores(scores), allow_nan=False)
    assert score_pairs(found.pairs, found.groups, seed=0)[0] == scores


def test_three_patients_have_no_interval(folders):
    found = find_pairs(*folders)
    scores, _ = score_pairs(found.pairs[:6], found.groups[:6], seed=0)
    assert (scores["mae"].value, scores["mae"].low, scores["mae"].high) == (
        3.5,
        None,
        None,
    )


def test_patients_of_many_pairs_and_of_few_weigh_by_their_pairs(folders):
    """One error everywhere has no spread, whichever patients a half takes."""
    found = find_pairs(*folders)
    groups = np.array([0, 1, 2, 3, 3, 3, 3, 3])
    scores, _ = score_pairs(found.pairs[4:5] * 8, groups, seed=0)
    assert (scores["mae"].low, scores["mae"].high) == pytest.approx((5.0, 5.0))


def test_one_identical_pair_leaves_the_psnr_out_and_says_so(folders):
    ours, theirs = folders
    (ours / "images/03.png").write_bytes((theirs / "images/03.png").read_bytes())
    found = find_pairs(ours, theirs)
    scores, left_out = score_pairs(found.pairs, found.groups, seed=0)
    assert list(scores) == ["ssim", "mae", "mse"]
    assert scores["mse"].num_identical == 1
    assert left_out == dict.fromkeys(
        ("psnr", "psnr_mixed"), "infinite: 1 of 12 pairs are identical"
    )


def test_masks_are_read_beside_their_pair(folders, tmp_path):
    found = find_pairs(*folders)
    mask = np.zeros((32, 40), np.uint8)
    mask[10:20, 10:20] = 2
    Image.fromarray(mask).save(tmp_path / "mask.png")
    masks = [tmp_path / "mask.png"] * 12
    scores, _ = score_pairs(found.pairs, found.groups, masks=masks, seed=0)
    assert scores["ssim"].is_masked
    whole, _ = score_pairs(found.pairs, found.groups, seed=0)
    assert scores["ssim"].value != whole["ssim"].value


@pytest.mark.parametrize(
    ("size", "message"),
    [((32, 41), "sizes differ, 41 x 32 and 40 x 32"), ((8, 8), "SSIM needs 11 x 11 pixels")],
)
def test_pictures_that_do_not_fit_are_named(folders, size, message):
    ours, theirs = folders
    for folder in (ours, theirs) if size == (8, 8) else (ours,):
        Image.fromarray(noise(0, size)).save(folder / "images/05.png")
    found = find_pairs(ours, theirs)
    with pytest.raises(InputError, match=f"05.png and .*05.png: .*{message}"):
        score_pairs(found.pairs, found.groups, seed=0)


@pytest.mark.parametrize("size", [(32, 40), (30, 40)])
def test_masks_that_do_not_fit_are_named(folders, tmp_path, size):
    Image.fromarray(np.zeros(size, np.uint8)).save(tmp_path / "mask.png")
    found = find_pairs(*folders)
    message = "leaves no pixel" if size == (32, 40) else "the mask is 40 x 30"
    with pytest.raises(InputError, match=f"mask.png: the mask.*|{message}"):
        score_pairs(found.pairs, found.groups, masks=[tmp_path / "mask.png"] * 12, seed=0)


def test_deep_pictures_share_one_white_level(tmp_path):
    deep = [(noise(i).astype(np.uint16) * 16 // (1 + 7 * i)).astype(np.uint16) for i in range(2)]
    flat = [(image / 4095 * 255).round().astype(np.uint8) for image in deep]
    names = {"images/0.png": {}, "images/1.png": {}}
    found = find_pairs(
        write_frames(tmp_path / "deep", names, deep), write_frames(tmp_path / "flat", names, flat)
    )
    scores, left_out = score_pairs(found.pairs, found.groups, seed=0)
    assert scores["mse"].values == [0.0, 0.0]
    assert "2 of 2 pairs" in left_out["psnr"]


def test_no_pairs_have_no_scores():
    scores, left_out = score_pairs([], np.zeros(0, np.int64), seed=0)
    assert scores == {}
    assert set(left_out) == set(NAMES)
