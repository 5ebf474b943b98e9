"""MR and CT show what such images show around and inside of the heart."""

import numpy as np
import pytest

from echodiff.__main__ import main
from echodiff.anatomy import Label
from echodiff.frames.reader import load_frames
from echodiff.images import read_gray_u8, read_mask_u8
from echodiff.phantom.acquisition import Acquisition
from echodiff.phantom.slices import image_grid, slice_image
from echodiff.phantom.thorax import Organ, compute_thorax

SIZE = 128
MODALITIES = ("mr", "ct", "ct-contrast")


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Images (128, 128) by modality, mask, distance from the heart and depth in mm of 8 frames."""
    out = tmp_path_factory.mktemp("pairs")
    flags = ["--modality", ",".join(MODALITIES), "--num", "8", "--size", str(SIZE), "--seed", "4"]
    main(["phantom", *flags, "--child-rate", "0.5", "--workers", "1", "--out", str(out)])
    rows = [load_frames(out / modality) for modality in MODALITIES]
    found = []
    for several in zip(*rows, strict=True):
        drawn = Acquisition.from_json(several[0].record)
        anatomy, _ = slice_image(drawn.heart, drawn.pose, SIZE)
        images = {
            modality: read_gray_u8(out / modality / row.file_name).astype(float)
            for modality, row in zip(MODALITIES, several, strict=True)
        }
        mask = read_mask_u8(out / "mr" / several[0].mask_file_name)
        organs = compute_thorax(drawn.pose, anatomy.hull_mm, drawn.heart.ripple_seed)
        depth = image_grid(drawn.pose, SIZE)[1] / drawn.pose.depth_mm
        found.append((images, mask, np.where(anatomy.hull_mm > 2.5, organs, 255), depth))
    return found


def test_lung_is_dark_in_mr_but_for_thin_vessels(frames):
    for images, _, organs, _ in frames:
        lung = np.isin(organs, (Organ.LUNG, Organ.LUNG_VESSEL))
        assert lung.mean() > 0.15
        assert (images["mr"][lung] > 100).mean() < 0.05  # partial volume at its borders
        assert 0 < (organs == Organ.LUNG_VESSEL).sum() < 0.06 * lung.sum()


def test_bone_is_white_in_ct_and_lies_in_chest_wall_and_spine(frames):
    for images, _, organs, depth in frames:
        for modality in ("ct", "ct-contrast"):
            white = images[modality] >= 250
            assert (organs[white] != Organ.LUNG).all()
            assert (white & (depth < 0.35)).sum() > 60, "ribs and breastbone"
            assert (white & (depth > 0.85)).sum() > 15, "spine"


def test_contrast_tells_blood_from_muscle_and_left_from_right(frames):
    for images, mask, _, _ in frames:
        for modality, least, most in (("ct", -25, 10), ("ct-contrast", 60, 120)):
            grey = {
                label: np.median(images[modality][mask == label])
                for label in (Label.LV, Label.LV_MYOCARDIUM, Label.RV)
            }
            assert least < grey[Label.LV] - grey[Label.LV_MYOCARDIUM] < most, modality
            if modality == "ct-contrast":
                assert grey[Label.LV] - grey[Label.RV] > 30


def test_a_patient_has_one_chest_in_both_frames(frames):
    for first, second in zip(frames[::2], frames[1::2], strict=True):
        bone = [
            np.isin(f[2], (Organ.CORTEX, Organ.MARROW)) & (f[3] < 0.35) for f in (first, second)
        ]
        assert np.array_equal(*bone)
