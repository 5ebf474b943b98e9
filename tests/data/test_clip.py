import errno
import os

import numpy as np
import pydicom
import pytest
from pydicom import examples
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage

from echodiff.__main__ import main
from echodiff.data.clip import find_region, find_sector, load_clip, number_patients
from echodiff.frames import load_frames
from echodiff.images import read_image_u8

REAL = examples.get_path("ybr_color")
"""A real apical four-chamber cine; its pixels were halved, its region tags were not."""


def region_tags(x0, y0, x1, y1, *, delta_cm=0.05, down_cm=None, spatial_format=1):
    tags = Dataset()
    tags.RegionSpatialFormat = spatial_format
    tags.RegionLocationMinX0, tags.RegionLocationMinY0 = x0, y0
    tags.RegionLocationMaxX1, tags.RegionLocationMaxY1 = x1, y1
    tags.PhysicalUnitsXDirection = tags.PhysicalUnitsYDirection = 3
    tags.PhysicalDeltaX, tags.PhysicalDeltaY = delta_cm, down_cm or delta_cm
    return tags


def write_dicom(path, pixels, *regions, **tags):
    dataset = Dataset()
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.SOPInstanceUID = "1.2.3"
    dataset.PatientID, dataset.PatientName = "SECRET-77", "Doe^Jane"
    dataset.Rows, dataset.Columns = pixels.shape[1:3]
    dataset.NumberOfFrames = len(pixels)
    dataset.SamplesPerPixel = 3 if pixels.ndim == 4 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 4 else "MONOCHROME2"
    if pixels.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    if regions:
        dataset.SequenceOfUltrasoundRegions = list(regions)
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def moving_disc(size=64, num=6, dtype=np.uint8):
    """A bright field that flickers inside a disc, and a still label in the corner."""
    y, x = np.mgrid[:size, :size]
    disc = (x - size / 2) ** 2 + (y - size / 2) ** 2 < (size / 4) ** 2
    clip = np.random.default_rng(0).integers(20, 250, (num, size, size)) * disc
    clip[:, 2:6, 2:12] = 255
    return clip.astype(dtype)


def prepare(src, out, *flags):
    return main(["prepare", "dicom", str(src), "--out", str(out), *flags])


def test_the_real_clip_is_cropped_to_its_sector_at_its_true_scale():
    clip = load_clip(REAL)
    assert clip.images_u8.shape[0] == 30
    assert clip.images_u8.dtype == np.uint8
    assert clip.spacing_mm == pytest.approx(1.021, abs=1e-3)
    assert clip.vendor == "SonoSite, Inc."
    # The box is x 42-297, y 15-207; the sector within it is smaller, and nearly fills its height.
    height, width = clip.images_u8.shape[1:]
    assert 165 < height <= 193
    assert 110 < width <= 256
    # Depth scale and frame number on the right are not tissue; the upper corners are black.
    assert not clip.images_u8[:, :20, :20].any()
    assert not clip.images_u8[:, -12:, -6:].any()


def test_region_tags_of_the_unshrunk_picture_are_divided():
    region = find_region(pydicom.dcmread(REAL), (240, 320))
    assert region[:4] == (42, 15, 298, 208)
    assert region.spacing_mm == pytest.approx(1.021, abs=1e-3)


def test_region_tags_that_fit_are_taken_as_they_are():
    dataset = Dataset()
    dataset.SequenceOfUltrasoundRegions = [
        region_tags(0, 0, 5, 5),
        region_tags(10, 4, 49, 39),
        region_tags(0, 0, 63, 63, spatial_format=3),
    ]
    region = find_region(dataset, (64, 64))
    assert region == (10, 4, 50, 40, 0.5, 1.0)


def test_without_regions_the_whole_picture_and_no_spacing():
    assert find_region(Dataset(), (40, 50)) == (0, 0, 50, 40, None, 1.0)


def test_the_sector_is_what_moves():
    clip = moving_disc()
    sector = find_sector(clip)
    assert sector[32, 32]
    assert not sector[2:6, 2:12].any()
    assert 700 < sector.sum() < 900  # pi x 16^2 = 804


def test_a_black_clip_is_all_sector():
    assert find_sector(np.zeros((3, 8, 8), np.uint8)).all()


def test_pixels_that_are_not_square_are_made_square(tmp_path):
    tags = region_tags(0, 0, 63, 63, delta_cm=0.05, down_cm=0.1)
    clip = load_clip(write_dicom(tmp_path / "a.dcm", moving_disc(), tags))
    height, width = clip.images_u8.shape[1:]
    assert height == pytest.approx(2 * width, abs=2)
    assert clip.spacing_mm == pytest.approx(0.5)


def test_12_bit_and_inverted_pictures_are_read_by_their_own_range(tmp_path):
    values = (moving_disc(dtype=np.uint16) * 16).astype(np.uint16)
    plain = load_clip(write_dicom(tmp_path / "a.dcm", values, BitsStored=12, HighBit=11))
    assert plain.images_u8.max() > 230
    inverted = load_clip(
        write_dicom(
            tmp_path / "b.dcm", 255 - moving_disc(), PhotometricInterpretation="MONOCHROME1"
        )
    )
    np.testing.assert_allclose(inverted.images_u8.max(), plain.images_u8.max(), atol=2)


def test_steady_small_colour_is_graphics_and_becomes_black(tmp_path):
    gray = moving_disc()
    colour = np.repeat(gray[..., None], 3, axis=-1)
    colour[:, 30:33, 30:33] = (0, 255, 0)
    clip = load_clip(write_dicom(tmp_path / "a.dcm", colour))
    assert (clip.images_u8 == 0).all(axis=0)[8:-8, 8:-8].sum() >= 9


def test_identifiers_stay_behind_and_patients_stay_together(tmp_path, capsys):
    src = tmp_path / "src"
    src.mkdir()
    for name, patient in (("a", "SECRET-77"), ("b", "SECRET-78"), ("c", "SECRET-77")):
        write_dicom(src / f"{name}-Doe.dcm", moving_disc(), PatientID=patient)
    (src / "notes.txt").write_text("no DICOM file")
    out = tmp_path / "out"
    assert prepare(src, out, "--every", "3", "--size", "32", "--view", "A4C") == 0
    frames = load_frames(out)
    assert len(frames) == 6
    assert [f.patient_id for f in frames[::2]] == ["patient-0001", "patient-0002", "patient-0001"]
    assert {f.phase for f in frames} == {"0", "3"}
    assert read_image_u8(out / frames[0].file_name).shape == (32, 32)
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    for secret in (b"SECRET", b"Doe", b"1.2.3"):
        assert secret not in written
    assert "6 frames of 3 clips, 2 patients" in capsys.readouterr().out


def test_files_without_any_identifier_stand_alone(tmp_path):
    paths = [
        write_dicom(tmp_path / f"{name}.dcm", moving_disc(), PatientID="") for name in ("a", "b")
    ]
    assert len(set(number_patients(paths).values())) == 2


def test_the_real_clip_becomes_a_frames_folder(tmp_path):
    assert prepare(REAL, tmp_path / "out", "--caption", "apical view", "--every", "10") == 0
    frames = load_frames(tmp_path / "out")
    assert len(frames) == 3
    assert {frame.text for frame in frames} == {"apical view"}
    assert frames[0].spacing_mm == pytest.approx(0.7, abs=0.05)


def failure(src, tmp_path, capsys, *flags):
    assert prepare(src, tmp_path / "out", *flags) == 2
    assert not (tmp_path / "out").exists()
    error = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(error) == 1
    return error[0]


def test_bad_files_are_one_line(tmp_path, capsys):
    assert "nowhere: no such file" in failure(tmp_path / "nowhere", tmp_path, capsys)
    (tmp_path / "src").mkdir()
    assert "src: no DICOM files" in failure(tmp_path / "src", tmp_path, capsys)
    (tmp_path / "src/a.dcm").write_bytes(b"x" * 300)
    assert "a.dcm: not a DICOM file" in failure(tmp_path / "src/a.dcm", tmp_path, capsys)
    whole = REAL.read_bytes()
    (tmp_path / "src/a.dcm").write_bytes(whole[: len(whole) // 2])
    assert "a.dcm: " in failure(tmp_path / "src/a.dcm", tmp_path, capsys)
    dataset = pydicom.dcmread(REAL)
    del dataset.PixelData
    dataset.save_as(tmp_path / "src/a.dcm")
    assert "a.dcm: holds no picture" in failure(tmp_path / "src/a.dcm", tmp_path, capsys)


def test_a_bad_clip_after_good_ones_leaves_nothing_behind(tmp_path, capsys):
    (tmp_path / "src").mkdir()
    write_dicom(tmp_path / "src/a.dcm", moving_disc())
    cut = write_dicom(tmp_path / "src/b.dcm", moving_disc())
    cut.write_bytes(cut.read_bytes()[:-4000])
    assert "b.dcm: " in failure(tmp_path / "src", tmp_path, capsys)


def without(tags, name):
    delattr(tags, name)
    return tags


@pytest.mark.parametrize(
    ("region", "words"),
    [
        (region_tags(9, 9, 3, 3), "the ultrasound region (9, 9)-(3, 3) is empty"),
        (without(region_tags(0, 0, 9, 9), "RegionLocationMaxX1"), "has no RegionLocationMaxX1"),
        (without(region_tags(0, 0, 9, 9), "PhysicalDeltaY"), "has no PhysicalDeltaY"),
        (region_tags(0, 0, 9, 9, delta_cm=0.0), "pixels measure 0.0 x 0.0 cm"),
    ],
)
def test_a_region_that_makes_no_sense_names_the_file(tmp_path, capsys, region, words):
    path = write_dicom(tmp_path / "a.dcm", moving_disc(), region)
    error = failure(path, tmp_path, capsys)
    assert f"{path}: " in error
    assert words in error


def test_pixels_of_no_shape_name_the_file(tmp_path, capsys):
    path = write_dicom(tmp_path / "a.dcm", moving_disc(), PixelAspectRatio=["1", "0"])
    assert "a.dcm: PixelAspectRatio [1, 0] is not" in failure(path, tmp_path, capsys)


def test_clips_that_changed_in_between_are_not_mixed_in(tmp_path, capsys, monkeypatch):
    src, out = tmp_path / "src", tmp_path / "out"
    src.mkdir()
    for name in ("b", "c"):
        write_dicom(src / f"{name}.dcm", moving_disc(), PatientID=name)
    replace = os.replace

    def full_at_the_second_clip(source, target):
        if "clip-0001" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full_at_the_second_clip)
    assert prepare(src, out) == 2
    monkeypatch.undo()
    # A new first clip would take the number, and the patient, of the one that is written.
    added = write_dicom(src / "a.dcm", moving_disc(), PatientID="a")
    capsys.readouterr()
    assert prepare(src, out) == 2
    assert "out: was begun with other" in capsys.readouterr().err
    added.unlink()
    assert prepare(src, out) == 0
    assert len(load_frames(out)) == 12


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--every", "0"], "--every must be at least 1"),
        (["--size", "1"], "--size must lie in 16..4096"),
        (["--seed", "-1"], "--seed must not be negative"),
        (["--split", "x"], "--split: expected numbers"),
    ],
)
def test_a_bad_flag_is_one_line(tmp_path, capsys, flags, words):
    assert words in failure(REAL, tmp_path, capsys, *flags)
