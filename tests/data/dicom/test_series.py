"""MR files: which frames belong together, and multi-frame ones. A frame's grey says whose it is."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    MRSpectroscopyStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from echodiff.__main__ import main
from echodiff.frames.reader import load_frames
from echodiff.images import read_image_u8

SIDE = 16
AXES = [1, 0, 0, 0, 1, 0]


def group(**tags):
    """A sequence of one item."""
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return Sequence([item])


def write(path, values, **tags):
    """One MR file of plain frames; a tag of None is left out."""
    pixels = np.repeat(np.array(values, np.uint16), SIDE * SIDE)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    given = {
        "SOPClassUID": MRImageStorage, "SOPInstanceUID": generate_uid(), "Modality": "MR",
        "PatientID": "P1", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1",
        "ImagePositionPatient": [0, 0, 12.0], "ImageOrientationPatient": AXES,
        "PixelSpacing": [1.5, 1.5], "Rows": SIDE, "Columns": SIDE, "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 12,
        "HighBit": 11, "PixelRepresentation": 0, "PixelData": pixels.tobytes(),
    }  # fmt: skip
    for name, value in (given | tags).items():
        if value is not None:
            setattr(dataset, name, value)
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_cine(folder, first=0, name="{}", num=6, **tags):
    """Grey rises by 100 a frame from `first`; times by 40 ms."""
    for index in range(num):
        own = {key: value(index) if callable(value) else value for key, value in tags.items()}
        moment = {"TriggerTime": 40.0 * index, "InstanceNumber": index + 1}
        write(folder / f"{name.format(index)}.dcm", [first + 100 * index], **(moment | own))


def prepare(src, out, *flags):
    return main(["prepare", "dicom", str(src), "--out", str(out), "--workers", "1", *flags])


def read(tmp_path, *flags):
    """{case: stored values of its frames}, and the rows."""
    out = tmp_path / "out"
    assert prepare(tmp_path / "src", out, "--window", "0,4095", *flags) == 0
    rows = load_frames(out)
    cases = defaultdict(list)
    for row in rows:
        grey = int(read_image_u8(out / row.file_name)[4, 4])
        cases[Path(row.file_name).name.rpartition("_")[0]].append(round(grey * 4095 / 2550) * 10)
    return dict(cases), rows


def cine(first=0, num=6):
    return [pytest.approx(first + 100 * index, abs=10) for index in range(num)]


# --- what belongs together -------------------------------------------------------------------


def test_two_patients_in_a_folder_without_series_are_two_cines(tmp_path):
    none = dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID"))
    write_cine(tmp_path / "src", name="x{}", **none)
    write_cine(tmp_path / "src", 2000, name="y{}", PatientID="P2", **none)
    cases, rows = read(tmp_path)
    assert cases == {"series-0001": cine(), "series-0002": cine(2000)}
    assert [row.patient_id for row in rows] == ["patient-0001"] * 6 + ["patient-0002"] * 6
    assert [row.extra["time_ms"] for row in rows] == [0, 40, 80, 120, 160, 200] * 2


@pytest.mark.parametrize(
    "other",
    [
        {"PatientID": "P2"},
        {"PatientName": "Doe^Jane"},
        {"StudyInstanceUID": "1.2.4"},
        {"SeriesInstanceUID": "1.2.3.2"},
        {"SeriesInstanceUID": None, "SeriesNumber": 2},
        {"AcquisitionNumber": 2},
        {"ImageType": ["ORIGINAL", "PRIMARY", "P", "RETRO"]},
        {"EchoNumbers": 2},
        {"EchoTime": 3.4},
        {"Rows": 8, "Columns": 32},
        {"ImageOrientationPatient": [1, 0, 0, 0, 0.96, 0.28]},
    ],
)
def test_frames_of_another_kind_are_a_cine_of_their_own(tmp_path, other):
    write_cine(tmp_path / "src", name="IM{}a", AcquisitionNumber=1)
    write_cine(tmp_path / "src", 2000, name="IM{}b", **({"AcquisitionNumber": 1} | other))
    cases, _ = read(tmp_path)
    assert list(cases.values()) == [cine(), cine(2000)]


def test_polarity_is_that_of_each_cine(tmp_path):
    write_cine(tmp_path / "src", name="a{}")
    for index in range(6):
        write(
            tmp_path / f"src/b{index}.dcm", [4095 - 2000 - 100 * index],
            TriggerTime=40.0 * index, PhotometricInterpretation="MONOCHROME1",
        )  # fmt: skip
    cases, _ = read(tmp_path)
    assert list(cases.values()) == [cine(), cine(2000)]


@pytest.mark.parametrize(
    ("where", "num_cases"),
    [
        (lambda index: [0, 0, 12.04 + 0.02 * (index % 2)], 1),
        (lambda index: [0, 0, 12.05 + 1e-4 * index], 1),
        (lambda index: [0, 0, 12.0 + 2 * (index % 2)], 2),
        (lambda index: [30.0 * (index % 2), 0, 12.0], 2),
    ],
)
def test_a_slice_is_one_within_a_tolerance(tmp_path, where, num_cases):
    write_cine(tmp_path / "src", ImagePositionPatient=where)
    cases, _ = read(tmp_path)
    assert len(cases) == num_cases


def test_thin_slices_stay_apart(tmp_path):
    write_cine(tmp_path / "src", SliceThickness=0.8, ImagePositionPatient=[0, 0, 12.0])
    write_cine(
        tmp_path / "src", 2000, name="b{}", SliceThickness=0.8, ImagePositionPatient=[0, 0, 12.4]
    )
    cases, _ = read(tmp_path)
    assert cases == {"series-0001-slice-01": cine(), "series-0001-slice-02": cine(2000)}


def test_numbers_of_acquisition_may_count_frames(tmp_path):
    write_cine(tmp_path / "src", AcquisitionNumber=lambda index: index + 1)
    cases, _ = read(tmp_path)
    assert cases == {"series-0001": cine()}


@pytest.mark.parametrize("numbers", [lambda index: index + 1, None])
def test_a_beat_taken_twice_is_two_cines(tmp_path, numbers):
    write_cine(tmp_path / "src", AcquisitionNumber=numbers)
    write_cine(
        tmp_path / "src", 2000, "b{}", AcquisitionNumber=numbers,
        InstanceNumber=lambda index: index + 7,
    )  # fmt: skip
    cases, _ = read(tmp_path)
    assert list(cases.values()) == [cine(), cine(2000)]


def test_names_count_where_nothing_else_orders(tmp_path):
    write_cine(tmp_path / "src", name="IM{}", num=12, TriggerTime=None, InstanceNumber=None)
    cases, rows = read(tmp_path)
    assert cases == {"series-0001": cine(num=12)}
    assert "time_ms" not in rows[0].extra


def test_clips_are_numbered_as_their_names_count(tmp_path):
    for number in (1, 2, 10):
        tags = {"Modality": "US", "InstanceNumber": number, "PatientID": str(number)}
        write(tmp_path / f"src/IM{number}.dcm", [400 * number], **tags)
    cases, _ = read(tmp_path)
    assert cases == {
        f"clip-000{place}": [pytest.approx(400 * number, abs=10)]
        for place, number in enumerate((1, 2, 10), start=1)
    }


def test_one_time_for_all_frames_is_no_time(tmp_path):
    write_cine(tmp_path / "src", TriggerTime=120.0)
    cases, rows = read(tmp_path)
    assert cases == {"series-0001": cine()}
    assert "time_ms" not in rows[0].extra


# --- files with many frames ------------------------------------------------------------------

MOMENTS = [(2, 24.0), (0, 12.0), (1, 24.0), (0, 24.0), (2, 12.0), (1, 12.0)]
"""Number in time and place of the frames of a multi-frame file, as they come."""


def write_enhanced(path, **tags):
    """Two slices at three times; the slope differs from frame to frame."""
    own, values = [], []
    for number, (moment, depth) in enumerate(MOMENTS, start=1):
        item = Dataset()
        item.CardiacSynchronizationSequence = group(NominalCardiacTriggerDelayTime=30.0 * moment)
        item.PlanePositionSequence = group(ImagePositionPatient=[0, 0, depth])
        item.PixelValueTransformationSequence = group(
            RescaleSlope=float(number), RescaleIntercept=100.0, RescaleType="US"
        )
        item.FrameContentSequence = group(FrameAcquisitionNumber=1, TemporalPositionIndex=moment)
        item.FrameVOILUTSequence = group(WindowCenter=2048.0, WindowWidth=4096.0)
        own.append(item)
        values.append(round((1000 * (depth == 24) + 300 * moment + 200) / number))
    shared = Dataset()
    shared.PixelMeasuresSequence = group(PixelSpacing=[1.5, 1.5], SliceThickness=8.0)
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=AXES)
    write(
        path, values, SOPClassUID=EnhancedMRImageStorage, NumberOfFrames=len(values),
        SharedFunctionalGroupsSequence=Sequence([shared]), ImagePositionPatient=None,
        ImageOrientationPatient=None, PixelSpacing=None, InstanceNumber=1,
        **({"PerFrameFunctionalGroupsSequence": Sequence(own)} | tags),
    )  # fmt: skip


@pytest.mark.parametrize("flags", [(), ("--window", "tags")])
def test_a_multi_frame_file_is_read_by_slice_and_time(tmp_path, flags):
    write_enhanced(tmp_path / "src/a.dcm")
    cases, rows = read(tmp_path, *flags)
    assert cases == {
        f"series-0001-slice-0{number}": [
            pytest.approx(first + 300 * moment + 300, abs=15) for moment in range(3)
        ]
        for number, first in ((1, 0), (2, 1000))
    }
    assert [row.extra["time_ms"] for row in rows] == [0, 30, 60] * 2
    assert {(row.spacing_mm, row.modality) for row in rows} == {(1.5, "mr")}


def test_groups_of_some_frames_alone_are_refused(tmp_path, capsys):
    write_enhanced(
        tmp_path / "src/a.dcm", PerFrameFunctionalGroupsSequence=Sequence([Dataset()] * 4)
    )
    assert prepare(tmp_path / "src", tmp_path / "out") == 2
    assert "a.dcm: holds 6 frames but describes 4" in capsys.readouterr().err


def test_a_legacy_converted_file_is_read_by_time(tmp_path):
    own = []
    for number, moment in enumerate((2, 0, 1), start=1):
        item = Dataset()
        item.UnassignedPerFrameConvertedAttributesSequence = group(
            TriggerTime=25.0 * moment, InstanceNumber=number
        )
        item.PlanePositionSequence = group(ImagePositionPatient=[0, 0, 12.0])
        own.append(item)
    shared = Dataset()
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=AXES)
    shared.PixelMeasuresSequence = group(PixelSpacing=[2.0, 2.0])
    write(
        tmp_path / "src/a.dcm", [2200, 200, 1200], NumberOfFrames=3, PixelSpacing=None,
        SOPClassUID=LegacyConvertedEnhancedMRImageStorage,
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(own),
    )  # fmt: skip
    cases, rows = read(tmp_path)
    assert cases == {"series-0001": [pytest.approx(v, abs=10) for v in (200, 1200, 2200)]}
    assert [row.extra["time_ms"] for row in rows] == [0, 25, 50]
    assert {row.spacing_mm for row in rows} == {2.0}


def test_a_multi_frame_file_without_groups_is_a_cine_in_its_order(tmp_path):
    values = [100 * index for index in range(6)]
    write(tmp_path / "src/a.dcm", values, NumberOfFrames=6, FrameTime=33.0)
    cases, rows = read(tmp_path, "--every", "2")
    assert cases == {"series-0001": cine()[::2]}
    assert [row.extra["time_ms"] for row in rows] == [0, 66, 132]


def test_slices_of_a_file_without_groups_are_told_by_their_locations(tmp_path):
    write(
        tmp_path / "src/a.dcm", [100, 2000, 200, 2100], NumberOfFrames=4,
        ImagePositionPatient=None, SliceLocationVector=[5.0, 15.0, 5.0, 15.0],
    )  # fmt: skip
    cases, _ = read(tmp_path)
    assert [[round(v, -2) for v in own] for own in cases.values()] == [[100, 200], [2000, 2100]]


# --- what is counted and left out ------------------------------------------------------------


def test_what_is_no_cine_is_left_out_and_counted(tmp_path, capsys):
    src = tmp_path / "src"
    write_cine(src)
    (src / "again").mkdir()
    (src / "again/2.dcm").write_bytes((src / "2.dcm").read_bytes())
    write(src / "scout.dcm", [0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write(src / "table.dcm", [0], SOPClassUID=SecondaryCaptureImageStorage)
    write(src / "spectrum.dcm", [0], SOPClassUID=MRSpectroscopyStorage, PixelData=None)
    write(src / "report.dcm", [0], Modality="SR", PixelData=None, Rows=None)
    write(src / "labels.dcm", [0], Modality="SEG", BitsAllocated=1)
    cases, _ = read(tmp_path)
    assert cases == {"series-0001": cine()}
    said = capsys.readouterr().out
    for reason in (
        "1 MR localisers", "1 MR screen shots", "1 MR spectra", "1 modality SR", "1 modality SEG",
        "1 copies of another file",
    ):  # fmt: skip
        assert reason in said


# --- values ----------------------------------------------------------------------------------


def test_padding_is_black_and_not_in_the_window(tmp_path):
    """A body of 1000 and 2000 in a round picture whose corners are padded with -2000."""
    y, x = np.mgrid[:SIDE, :SIDE]
    values = np.where(x < SIDE / 2, 1000, 2000)
    values[(x - 7.5) ** 2 + (y - 7.5) ** 2 > 60] = -2000
    for index in range(2):
        write(
            tmp_path / f"src/{index}.dcm", [0], PixelRepresentation=1, BitsStored=16, HighBit=15,
            PixelPaddingValue=-2000, PixelData=values.astype(np.int16).tobytes(),
            InstanceNumber=index,
        )  # fmt: skip
    assert prepare(tmp_path / "src", tmp_path / "out") == 0
    image = read_image_u8(tmp_path / "out" / load_frames(tmp_path / "out")[0].file_name)
    assert (image[0, 0], image[8, 4], image[8, 12]) == (0, 0, 255)


def test_every_way_to_store_a_real_file_gives_the_same_picture(tmp_path):
    images = []
    for number, way in enumerate(
        ("", "_RLE", "_bigendian", "_implicit", "_jp2klossless", "_jpeg_ls_lossless", "_padded")
    ):
        path = get_testdata_file(f"MR_small{way}.dcm", download=False)
        out = tmp_path / f"{number}"
        assert prepare(path, out) == 0
        images.append(read_image_u8(out / load_frames(out)[0].file_name))
        np.testing.assert_array_equal(images[-1], images[0])
    stored = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False)).pixel_array
    assert np.corrcoef(images[0].ravel(), stored.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("way", ["", "_implicit", "_bigendian"])
@pytest.mark.parametrize("has_meta", [True, False])
def test_a_file_without_a_preamble_is_read(tmp_path, way, has_meta):
    """It begins with its file meta group, or with its first tag of the patient's."""
    path = Path(get_testdata_file(f"MR_small{way}.dcm", download=False))
    whole = path.read_bytes()
    length = int.from_bytes(whole[140:144], "little")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/IM1").write_bytes(whole[132 if has_meta else 144 + length :])
    (tmp_path / "src/notes").write_text("no DICOM file, but longer than a preamble" * 9)
    if way == "_bigendian" and not has_meta:
        assert prepare(tmp_path / "src", tmp_path / "out") == 2
        return
    assert prepare(tmp_path / "src", tmp_path / "out") == 0
    assert prepare(path, tmp_path / "plain") == 0
    [row], [plain] = load_frames(tmp_path / "out"), load_frames(tmp_path / "plain")
    np.testing.assert_array_equal(
        read_image_u8(tmp_path / "out" / row.file_name),
        read_image_u8(tmp_path / "plain" / plain.file_name),
    )


def test_a_folder_with_its_directory_is_read(tmp_path, capsys):
    """The tree of a real DICOMDIR: its directory and the CT series are left out."""
    src = Path(get_testdata_file("DICOMDIR", download=False)).parent
    assert prepare(src, tmp_path / "out") == 0
    rows = load_frames(tmp_path / "out")
    assert len({row.patient_id for row in rows}) == 1
    said = capsys.readouterr().out
    assert "modality CT" in said
    assert "MR localisers" in said
