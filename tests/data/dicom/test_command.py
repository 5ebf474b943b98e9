import errno
import io
import json
import os
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom import examples
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MRImageStorage,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)
from scipy import ndimage

from echodiff.__main__ import main
from echodiff.frames.reader import load_frames
from echodiff.images import read_image_u8

REAL = Path(examples.get_path("ybr_color"))
"""A real apical four-chamber cine; its pixels were halved, its region tags were not."""
SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs the real files of ../shared/data, which are not shipped"
)


def region_tags(x0, y0, x1, y1, *, delta_cm=0.05, down_cm=None, spatial_format=1):
    tags = Dataset()
    tags.RegionSpatialFormat = spatial_format
    tags.RegionLocationMinX0, tags.RegionLocationMinY0 = x0, y0
    tags.RegionLocationMaxX1, tags.RegionLocationMaxY1 = x1, y1
    tags.PhysicalUnitsXDirection = tags.PhysicalUnitsYDirection = 3
    tags.PhysicalDeltaX, tags.PhysicalDeltaY = delta_cm, down_cm or delta_cm
    return tags


def make_dicom(pixels, *regions, **tags):
    """(T, H, W) or (T, H, W, 3) as an ultrasound dataset."""
    dataset = Dataset()
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.Modality = "US"
    dataset.PatientID, dataset.PatientName = "SECRET-77", "Doe^Jane"
    dataset.StudyDate = "20240229"
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
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def write_dicom(path, pixels, *regions, **tags):
    path.parent.mkdir(parents=True, exist_ok=True)
    make_dicom(pixels, *regions, **tags).save_as(path, enforce_file_format=True)
    return path


def write_mr(folder, num=6, *, shift=0, side=32, **tags):
    """A cine of one slice, a file a frame; frame i is i everywhere but for a ramp in its first row,
    and names say nothing of the order."""
    series = generate_uid()
    for index in range(num):
        values = np.full((1, side, side), 100 * index + shift, np.uint16)
        values[0, 0] = np.linspace(0, 4095, side)
        write_dicom(
            folder / f"{(index * 5) % 7}.dcm",
            values,
            SOPClassUID=MRImageStorage,
            Modality="MR",
            SeriesInstanceUID=series,
            NumberOfFrames=None,
            BitsStored=12,
            HighBit=11,
            TriggerTime=40.0 * index,
            InstanceNumber=index + 1,
            PixelSpacing=[1.5, 1.5],
            WindowCenter=1000 + index,
            WindowWidth=2000,
            **tags,
        )


def draw_speckle(shape, low, high):
    noise = np.random.default_rng(0).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, (0, 1.5, 1.5))
    ranks = (smooth - smooth.min()) / np.ptp(smooth)
    return np.rint(low + (high - low) * ranks).astype(np.uint8)


def moving_disc(size=64, num=6, dtype=np.uint8):
    """Speckle that flickers inside a disc, and a still label in the corner."""
    y, x = np.mgrid[:size, :size]
    disc = (x - size / 2) ** 2 + (y - size / 2) ** 2 < (size / 4) ** 2
    clip = draw_speckle((num, size, size), 20, 250) * disc
    clip[:, 2:6, 2:12] = 255
    return clip.astype(dtype)


def scan_with_text(place, *, num=10, size=128):
    """Speckle in a wide disc, and a name at `place` in every frame."""
    y, x = np.mgrid[:size, :size]
    disc = (x - size / 2) ** 2 + (y - size * 0.6) ** 2 < (size * 0.38) ** 2
    clip = draw_speckle((num, size, size), 5, 90) * disc
    label = Image.new("L", (size, size))
    font = ImageFont.load_default(14)
    ImageDraw.Draw(label).text(place, "DOE 1961", fill=255, font=font)
    ink = np.asarray(label)
    return np.maximum(clip, ink).astype(np.uint8), ink > 128


def prepare(src, out, *flags):
    return main(["prepare", "dicom", str(src), "--out", str(out), "--workers", "1", *flags])


def read(src, out, *flags):
    """Rows and pictures of what comes out."""
    assert prepare(src, out, *flags) == 0
    frames = load_frames(out)
    return frames, [read_image_u8(out / frame.file_name) for frame in frames]


def failure(src, out, capsys, *flags):
    assert prepare(src, out, *flags) == 2
    assert not out.exists()
    error = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(error) == 1
    return error[0]


# --- the sector and its scale ----------------------------------------------------------------


def test_the_real_clip_is_cropped_to_its_sector_at_its_true_scale_and_time(tmp_path):
    frames, images = read(REAL, tmp_path / "out", "--every", "10", "--view", "A4C")
    assert [frame.phase for frame in frames] == ["0", "10", "20"]
    assert frames[0].spacing_mm == pytest.approx(1.021, abs=1e-3)
    assert {(frame.vendor, frame.view, frame.modality) for frame in frames} == {
        ("SonoSite, Inc.", "A4C", "echo")
    }
    assert [frame.extra["time_ms"] for frame in frames] == [0, 333.33, 666.66]
    assert {frame.extra["frame_time_ms"] for frame in frames} == {33.333}
    # The box is x 42-297, y 15-207; the sector within it is smaller, and nearly fills its height.
    height, width = images[0].shape
    assert 165 < height <= 193
    assert 110 < width <= 256
    # Depth scale and frame number on the right are not tissue; the upper corners are black.
    for image in images:
        assert not image[:20, :20].any()
        assert not image[-12:, -6:].any()


def test_region_tags_that_fit_are_taken_as_they_are(tmp_path):
    clip = moving_disc()
    clip[:, :, 60:] = np.random.default_rng(2).integers(0, 255, (6, 64, 4))
    path = write_dicom(
        tmp_path / "a.dcm",
        clip,
        region_tags(0, 0, 5, 5),
        region_tags(12, 12, 51, 51, delta_cm=0.02),
        region_tags(0, 0, 63, 63, spatial_format=5),
    )
    frames, images = read(path, tmp_path / "out", "--burned-text", "keep")
    assert frames[0].spacing_mm == pytest.approx(0.2)
    assert 30 <= images[0].shape[0] <= 33
    # The disc is upright and whole: pixel by pixel what was written.
    left = 32 - images[0].shape[1] // 2
    np.testing.assert_array_equal(images[2][15], clip[2, 32, left : left + images[0].shape[1]])


def test_a_region_a_pixel_too_wide_is_cut_not_halved(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", moving_disc(), region_tags(0, 0, 64, 64))
    frames, images = read(path, tmp_path / "out")
    assert frames[0].spacing_mm == pytest.approx(0.5)
    assert images[0].shape[0] == pytest.approx(32, abs=2)


def test_the_sector_is_what_moves(tmp_path):
    _, images = read(write_dicom(tmp_path / "a.dcm", moving_disc()), tmp_path / "out")
    assert images[0].shape == (pytest.approx(32, abs=1), pytest.approx(32, abs=1))
    lit = np.max(images, axis=0) > 0
    assert 700 < lit.sum() < 900  # pi x 16^2 = 804


def test_a_single_frame_is_cropped_to_what_is_not_the_screen(tmp_path):
    y, x = np.mgrid[:256, :256]
    image = np.full((1, 256, 256), 40, np.uint8)
    image[0][(x - 128) ** 2 + (y - 128) ** 2 < 72**2] = 120
    image[0, 80:176, 80:176] = 8
    _, images = read(write_dicom(tmp_path / "a.dcm", image), tmp_path / "out")
    assert images[0].shape == (pytest.approx(144, abs=2), pytest.approx(144, abs=2))
    assert images[0][0, 0] == 0
    assert images[0][72, 72] == 8


def test_a_black_clip_stays_whole(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.zeros((3, 24, 32), np.uint8))
    _, images = read(path, tmp_path / "out")
    assert images[0].shape == (24, 32)


def test_pixels_that_are_not_square_are_made_square(tmp_path):
    tags = region_tags(0, 0, 63, 63, delta_cm=0.05, down_cm=0.1)
    frames, images = read(write_dicom(tmp_path / "a.dcm", moving_disc(), tags), tmp_path / "a")
    height, width = images[0].shape
    assert height == pytest.approx(2 * width, abs=2)
    assert frames[0].spacing_mm == pytest.approx(0.5)
    path = write_dicom(tmp_path / "b.dcm", moving_disc(), PixelAspectRatio=["4", "2"])
    frames, images = read(path, tmp_path / "b", "--size", "32")
    assert images[0].shape == (32, 32)
    assert not images[0][:, :7].any()
    assert frames[0].spacing_mm is None


def test_frames_of_unequal_length_have_their_own_times(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", moving_disc(num=4), FrameTimeVector=[0, 10, 30, 20])
    frames, _ = read(path, tmp_path / "out")
    assert [frame.extra["time_ms"] for frame in frames] == [0, 10, 40, 60]
    assert frames[0].extra["frame_time_ms"] == 20


# --- how pixels are stored -------------------------------------------------------------------


def as_rgb(clip):
    return np.repeat(clip[..., None], 3, axis=-1)


def planar(path):
    pixels = as_rgb(moving_disc())
    return write_dicom(
        path, np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(pixels.shape),
        PlanarConfiguration=1,
    )  # fmt: skip


def palette(path):
    """Stored numbers run backwards; the colour table puts them right."""
    table = np.arange(255, -1, -1).astype(np.uint16) * 257
    tags = {}
    for colour in ("Red", "Green", "Blue"):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"{colour}PaletteColorLookupTableData"] = table.tobytes()
    return write_dicom(path, 255 - moving_disc(), PhotometricInterpretation="PALETTE COLOR", **tags)


def run_length(path):
    dataset = make_dicom(moving_disc())
    dataset.compress(RLELossless)
    dataset.save_as(path, enforce_file_format=True)
    return path


def run_length_rgb(path):
    dataset = make_dicom(as_rgb(moving_disc()))
    dataset.compress(RLELossless)
    dataset.save_as(path, enforce_file_format=True)
    return path


def jpeg_2000(path):
    dataset = make_dicom(moving_disc())
    dataset.compress(JPEG2000Lossless)
    dataset.save_as(path, enforce_file_format=True)
    return path


def jpeg(path, clip=None, interpretation="YBR_FULL_422"):
    """Pillow's JPEG is YCbCr with halved colour, as scanners write it."""
    clip = as_rgb(moving_disc()) if clip is None else clip
    dataset = make_dicom(clip, PhotometricInterpretation=interpretation)
    streams = []
    for image in clip:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=95)
        streams.append(buffer.getvalue())
    dataset.PixelData = encapsulate(streams)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("write", [planar, palette, run_length, run_length_rgb, jpeg_2000])
def test_all_ways_to_store_pixels_give_the_same_frames(tmp_path, write):
    _, plain = read(write_dicom(tmp_path / "plain.dcm", moving_disc()), tmp_path / "plain")
    _, images = read(write(tmp_path / "other.dcm"), tmp_path / "other")
    np.testing.assert_array_equal(images, plain)


def test_jpeg_gives_nearly_the_same(tmp_path):
    y, x = np.mgrid[:64, :64]
    smooth = np.stack([(x + 2 * y + 20 * t) % 200 // 2 + 30 for t in range(4)]).astype(np.uint8)
    _, plain = read(write_dicom(tmp_path / "plain.dcm", smooth), tmp_path / "plain")
    _, images = read(jpeg(tmp_path / "other.dcm", as_rgb(smooth)), tmp_path / "other")
    assert images[0].shape == plain[0].shape
    assert np.abs(np.array(images, int) - np.array(plain, int)).mean() < 4


def test_12_bits_and_inverted_pictures_are_read_by_their_own_range(tmp_path):
    clip = moving_disc()
    deep = write_dicom(tmp_path / "a.dcm", clip.astype(np.uint16) * 16, BitsStored=12, HighBit=11)
    inverted = write_dicom(tmp_path / "b.dcm", 255 - clip, PhotometricInterpretation="MONOCHROME1")
    _, plain = read(write_dicom(tmp_path / "c.dcm", clip), tmp_path / "c")
    np.testing.assert_allclose(read(deep, tmp_path / "a")[1], plain, atol=1)
    np.testing.assert_array_equal(read(inverted, tmp_path / "b")[1], plain)


def test_steady_small_colour_is_graphics_and_becomes_black(tmp_path):
    colour = as_rgb(moving_disc())
    colour[:, 30:33, 30:33] = (0, 255, 0)
    _, images = read(write_dicom(tmp_path / "a.dcm", colour), tmp_path / "out")
    assert (np.array(images) == 0).all(axis=0)[8:-8, 8:-8].sum() >= 9


def strip_markers(stream):
    """A JPEG stream without the segments that tell its colours; components are 1, 2 and 3."""
    kept, place = [b"\xff\xd8"], 2
    while stream[place + 1] != 0xDA:
        marker, size = stream[place + 1], 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
        if not 0xE0 <= marker <= 0xEF:
            kept.append(stream[place : place + size])
        place += size
    size = 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    scan = bytearray(stream[place : place + size])
    frame = next(number for number, part in enumerate(kept) if part[1] in (0xC0, 0xC1))
    header = bytearray(kept[frame])
    for number in range(3):
        header[10 + 3 * number] = scan[5 + 2 * number] = number + 1
    kept[frame] = bytes(header)
    return b"".join([*kept, bytes(scan), stream[place + size :]])


@pytest.mark.parametrize("interpretation", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("is_rgb", [True, False])
def test_colours_of_a_jpeg_are_right_whatever_its_tag_says(tmp_path, is_rgb, interpretation):
    clip = as_rgb(moving_disc())
    clip[:, 20:40, 20:28] = (200, 40, 0)
    clip[:, 20:40, 36:44] = (0, 60, 220)
    streams = []
    for image in clip:
        buffer = io.BytesIO()
        Image.fromarray(image).save(
            buffer, format="JPEG", quality=98, keep_rgb=is_rgb, subsampling=0
        )
        streams.append(strip_markers(buffer.getvalue()))
    dataset = make_dicom(clip, PhotometricInterpretation=interpretation)
    dataset.PixelData = encapsulate(streams)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    flags = ("--keep-doppler", "--burned-text", "keep")
    _, plain = read(write_dicom(tmp_path / "b.dcm", clip), tmp_path / "b", *flags)
    _, images = read(tmp_path / "a.dcm", tmp_path / "a", *flags)
    assert images[0].shape == plain[0].shape
    assert np.abs(np.array(images, int) - np.array(plain, int)).mean() < 2


@pytest.mark.parametrize("interpretation", ["RGB", "YBR_FULL"])
def test_plain_colours_are_right_whatever_their_tag_says(tmp_path, interpretation):
    clip = as_rgb(moving_disc())
    ybr = np.stack([convert_color_space(image, "RGB", "YBR_FULL") for image in clip])
    _, plain = read(write_dicom(tmp_path / "b.dcm", clip), tmp_path / "b")
    path = write_dicom(tmp_path / "a.dcm", ybr, PhotometricInterpretation=interpretation)
    np.testing.assert_allclose(read(path, tmp_path / "a")[1], plain, atol=1)


@pytest.mark.parametrize("write", [write_dicom, run_length, run_length_rgb, jpeg_2000, jpeg])
@pytest.mark.parametrize("number", [None, ""])
def test_frames_are_counted_where_the_file_does_not_say(tmp_path, write, number):
    path = tmp_path / "a.dcm"
    write(path, moving_disc()) if write is write_dicom else write(path)
    _, plain = read(path, tmp_path / "plain")
    dataset = pydicom.dcmread(path)
    if number is None:
        del dataset.NumberOfFrames
    else:
        dataset.NumberOfFrames = number
    dataset.save_as(path)
    _, images = read(path, tmp_path / "out")
    assert len(images) == 6
    np.testing.assert_array_equal(images, plain)


@pytest.mark.parametrize("write", [write_dicom, run_length])
def test_a_file_with_more_frames_than_it_says_is_refused(tmp_path, capsys, write):
    path = tmp_path / "a.dcm"
    write(path, moving_disc()) if write is write_dicom else write(path)
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames = 4
    dataset.save_as(path)
    assert "a.dcm: declares 4 frames and holds 6" in failure(path, tmp_path / "out", capsys)


def test_signed_values_are_read_by_their_own_range(tmp_path):
    clip = moving_disc()
    signed = (clip.astype(np.int16) - 128).astype(np.int8)
    path = write_dicom(tmp_path / "a.dcm", signed, PixelRepresentation=1)
    _, plain = read(write_dicom(tmp_path / "b.dcm", clip), tmp_path / "b")
    np.testing.assert_array_equal(read(path, tmp_path / "a")[1], plain)


def test_pixel_spacing_is_taken_where_there_is_no_region(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", moving_disc(), PixelSpacing=[0.4, 0.2])
    frames, images = read(path, tmp_path / "out")
    assert frames[0].spacing_mm == pytest.approx(0.2)
    assert images[0].shape[0] == pytest.approx(2 * images[0].shape[1], abs=2)


# --- Doppler ---------------------------------------------------------------------------------


def with_type(region, data_type):
    region.RegionDataType = data_type
    return region


DOPPLER = {
    "flow region": {"regions": [with_type(region_tags(0, 0, 63, 63), 2)]},
    "flow over tissue": {
        "regions": [
            with_type(region_tags(0, 0, 63, 63), 1), with_type(region_tags(20, 20, 40, 40), 2),
        ]
    },
    "spectrum": {"regions": [with_type(region_tags(0, 0, 63, 63, spatial_format=3), 3)]},
    "spectrum below": {
        "regions": [region_tags(0, 0, 63, 31), region_tags(0, 32, 63, 63, spatial_format=3)]
    },
    "colour data present": {"UltrasoundColorDataPresent": 1},
    "colour mode": {"ImageType": ["ORIGINAL", "PRIMARY", "CARDIOLOGY", "0011"]},
    "power mode": {"ImageType": ["ORIGINAL", "PRIMARY", "CARDIOLOGY", "0101"]},
    "spectral mode": {"ImageType": ["ORIGINAL", "PRIMARY", "CARDIOLOGY", "0008"]},
}  # fmt: skip


@pytest.mark.parametrize("kind", DOPPLER)
def test_doppler_is_left_out_and_counted_unless_asked_for(tmp_path, capsys, kind):
    tags = dict(DOPPLER[kind])
    regions = tags.pop("regions", [])
    write_dicom(tmp_path / "src/a.dcm", moving_disc(), InstanceNumber=1)
    write_dicom(tmp_path / "src/b.dcm", moving_disc(), *regions, InstanceNumber=2, **tags)
    frames, _ = read(tmp_path / "src", tmp_path / "a")
    assert {frame.file_name.split("_")[0] for frame in frames} == {"images/clip-0001"}
    name = "spectral" if "spectr" in kind else "colour"
    said = capsys.readouterr().out
    assert f"skipped: 1 {name} Doppler; --keep-doppler includes Doppler" in said
    frames, _ = read(tmp_path / "src", tmp_path / "b", "--keep-doppler")
    assert len({frame.file_name.split("_")[0] for frame in frames}) == 2


def test_a_folder_of_doppler_alone_says_what_takes_it(tmp_path, capsys):
    path = write_dicom(tmp_path / "a.dcm", moving_disc(), UltrasoundColorDataPresent=1)
    error = failure(path, tmp_path / "out", capsys)
    assert "(1 colour Doppler; --keep-doppler includes Doppler)" in error


def test_the_picture_beside_colour_flow_is_taken(tmp_path):
    clip = np.concatenate([moving_disc(), 255 - moving_disc()], axis=2)
    path = write_dicom(
        tmp_path / "a.dcm", clip,
        with_type(region_tags(0, 0, 63, 63), 1), with_type(region_tags(64, 0, 127, 63), 2),
    )  # fmt: skip
    _, plain = read(write_dicom(tmp_path / "b.dcm", moving_disc()), tmp_path / "b")
    np.testing.assert_array_equal(read(path, tmp_path / "a")[1], plain)


def test_flow_is_seen_where_the_tags_say_nothing(tmp_path, capsys):
    colour = as_rgb(moving_disc())
    colour[2:, 24:36, 24:36] = (220, 30, 0)
    path = write_dicom(tmp_path / "a.dcm", colour)
    assert "1 colour Doppler" in failure(path, tmp_path / "out", capsys)


def test_tinted_pictures_and_coloured_letters_are_no_flow(tmp_path):
    tinted = (as_rgb(moving_disc()) * [1.0, 0.75, 0.4]).astype(np.uint8)
    assert len(read(write_dicom(tmp_path / "a.dcm", tinted), tmp_path / "a")[0]) == 6
    lines = as_rgb(moving_disc())
    lines[:, 40:42, :] = (0, 250, 0)
    lines[:, 10:50:8, 20:23] = (250, 220, 0)
    assert len(read(write_dicom(tmp_path / "b.dcm", lines), tmp_path / "b")[0]) == 6


def test_a_real_picture_whose_tags_contradict_each_other_goes_by_its_pixels(tmp_path, capsys):
    """It says that colour data are present, and that its region is tissue; colour is in bars. Its
    lower rows were cut off, and so is the region, which reaches the right border."""
    path = Path(get_testdata_file("examples_palette.dcm", download=False))
    frames, images = read(path, tmp_path / "a", "--burned-text", "mask-inside")
    assert frames[0].spacing_mm == pytest.approx(0.26229, abs=1e-5)
    assert images[0].shape[1] > 100
    for name in ("examples_rgb_color.dcm", "ExplVR_BigEnd.dcm"):
        flow = Path(get_testdata_file(name, download=False))
        assert "1 colour Doppler" in failure(flow, tmp_path / name, capsys)


# --- MR series -------------------------------------------------------------------------------


def test_a_series_is_put_in_order_and_its_values_stay_true_to_the_window(tmp_path):
    write_mr(tmp_path / "src")
    frames, images = read(tmp_path / "src", tmp_path / "out", "--window", "0,4095")
    assert [frame.file_name for frame in frames] == [
        f"images/series-0001_frame-{i:04d}.png" for i in range(6)
    ]
    assert [int(image[9, 9]) for image in images] == [round(i * 100 * 255 / 4095) for i in range(6)]
    np.testing.assert_array_equal(
        images[0][0], np.rint(np.linspace(0, 4095, 32).astype(int) / 4095 * 255)
    )
    assert [frame.extra["time_ms"] for frame in frames] == [0, 40, 80, 120, 160, 200]
    assert {frame.spacing_mm for frame in frames} == {1.5}
    assert {frame.modality for frame in frames} == {"mr"}


def test_without_trigger_times_the_instance_number_orders(tmp_path):
    write_mr(tmp_path / "src")
    for path in (tmp_path / "src").iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.TriggerTime
        dataset.save_as(path)
    frames, images = read(tmp_path / "src", tmp_path / "out", "--window", "0,510")
    assert [int(image[9, 9]) for image in images] == [0, 50, 100, 150, 200, 250]
    assert "time_ms" not in frames[0].extra


@pytest.mark.parametrize(
    ("window", "low", "high"),
    [
        ("tags", 1002.5 - 0.5 - 999.5, 1002.5 - 0.5 + 999.5),
        ("500,1500", 500, 1500),
    ],
)
def test_the_window_is_what_was_asked_for_after_rescaling(tmp_path, window, low, high):
    write_mr(tmp_path / "src", RescaleSlope=2, RescaleIntercept=300)
    _, images = read(tmp_path / "src", tmp_path / "out", "--window", window)
    wanted = [round(np.clip((300 + 200 * i - low) / (high - low), 0, 1) * 255) for i in range(6)]
    assert [int(image[9, 9]) for image in images] == wanted


def test_percentiles_of_the_whole_series_are_the_default(tmp_path):
    write_mr(tmp_path / "src")
    _, images = read(tmp_path / "src", tmp_path / "out")
    values = np.full((6, 32, 32), 0.0) + 100 * np.arange(6)[:, None, None]
    values[:, 0] = np.linspace(0, 4095, 32).astype(int)
    low, high = np.percentile(values, [0.5, 99.5])
    wanted = [round(np.clip((100 * i - low) / (high - low), 0, 1) * 255) for i in range(6)]
    assert [int(image[9, 9]) for image in images] == wanted


def test_slices_of_one_series_are_cases_of_their_own(tmp_path):
    axes = [1, 0, 0, 0, 1, 0]
    series = generate_uid()
    for shift, place in ((0, 20.0), (7, -10.0)):
        write_mr(
            tmp_path / f"src/{shift}", 3, shift=shift,
            ImagePositionPatient=[0, 0, place], ImageOrientationPatient=axes,
        )  # fmt: skip
    for path in (tmp_path / "src").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID = series
        dataset.save_as(path)
    frames, images = read(tmp_path / "src", tmp_path / "out", "--window", "0,255")
    assert [frame.file_name.split("_")[0] for frame in frames[::3]] == [
        "images/series-0001-slice-01",
        "images/series-0001-slice-02",
    ]
    assert [int(image[9, 9]) for image in images] == [7, 107, 207, 0, 100, 200]


# --- patients and identifiers ----------------------------------------------------------------


def test_identifiers_stay_behind_and_patients_stay_together(tmp_path, capsys):
    src, out = tmp_path / "src", tmp_path / "out"
    for name, patient in (("a", "SECRET-77"), ("b", "SECRET-78"), ("c", "SECRET-77")):
        path = write_dicom(
            src / f"{name}-Doe.dcm", moving_disc(), PatientID=patient, PatientAge="044Y",
            OperatorsName="Roe^R", InstitutionName="", Manufacturer="Maker",
        )  # fmt: skip
    dataset = pydicom.dcmread(path)
    request = Dataset()
    request.RequestedProcedureDescription = "SECRET request"
    dataset.RequestAttributesSequence = [request]
    dataset.private_block(0x0009, "SECRET MAKER", create=True).add_new(1, "LO", "SECRET value")
    dataset.save_as(path)
    (src / "notes.txt").write_text("no DICOM file")
    frames, images = read(src, out, "--every", "3", "--size", "32")
    assert [f.patient_id for f in frames[::2]] == ["patient-0001", "patient-0002", "patient-0001"]
    assert {f.phase for f in frames} == {"0", "3"}
    assert images[0].shape == (32, 32)
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    for secret in (b"SECRET", b"Doe", b"Roe", b"20240229", b"044Y", b"1.2.826"):
        assert secret not in written
    report = json.loads((out / "identifiers.json").read_text())
    assert report["kept"] == {"Modality": "modality", "Manufacturer": "vendor"}
    held = {
        "OperatorsName", "PatientAge", "PatientID", "PatientName", "SOPInstanceUID", "StudyDate",
    }  # fmt: skip
    assert report["left_behind"] == dict.fromkeys(sorted(held), 3) | {
        "RequestAttributesSequence": 1,
        "RequestedProcedureDescription": 1,
        "private": 1,
    }
    more = ["RequestAttributesSequence", "RequestedProcedureDescription", "private"]
    assert report["by_cases"] == [
        {"cases": ["clip-0001", "clip-0002"], "held": sorted(held)},
        {"cases": ["clip-0003"], "held": sorted([*held, *more])},
    ]
    said = capsys.readouterr().out
    assert "PatientName 3" in said
    assert "SECRET" not in said


def test_characteristics_are_kept_when_asked_for(tmp_path):
    path = write_dicom(
        tmp_path / "a.dcm", moving_disc(),
        PatientAge="093Y", PatientSex="F", PatientSize=1.62, PatientWeight=58,
    )  # fmt: skip
    frames, _ = read(path, tmp_path / "out", "--patient-characteristics")
    facts = {key: frames[0].extra[key] for key in ("age_years", "sex", "height_cm", "weight_kg")}
    assert facts == {"age_years": 90, "sex": "F", "height_cm": 162, "weight_kg": 58}
    assert "woman" in frames[0].text
    report = json.loads((tmp_path / "out/identifiers.json").read_text())
    assert report["kept"]["PatientAge"] == "age_years"
    assert "PatientAge" not in report["left_behind"]


def test_files_without_any_identifier_stand_alone(tmp_path):
    for name in ("a", "b"):
        write_dicom(tmp_path / f"src/{name}.dcm", moving_disc(), PatientID="")
    frames, _ = read(tmp_path / "src", tmp_path / "out")
    assert len({frame.patient_id for frame in frames}) == 2


# --- text in the picture ---------------------------------------------------------------------


def test_text_beside_the_scan_is_gone(tmp_path):
    clip, _ = scan_with_text((2, 2))
    path = write_dicom(tmp_path / "a.dcm", np.stack([clip, clip, clip], axis=-1))
    _, images = read(path, tmp_path / "out")
    assert len(images) == 10
    assert max(image.max() for image in images) < 100  # the ink is 255


def test_text_in_the_scan_is_refused_unless_told_otherwise(tmp_path, capsys):
    clip, _ = scan_with_text((34, 70))
    path = write_dicom(tmp_path / "a.dcm", clip)
    error = failure(path, tmp_path / "a", capsys)
    assert "a.dcm: has text burned into the sector, near (" in error
    assert failure(path, tmp_path / "b", capsys, "--burned-text", "refuse")
    _, masked = read(path, tmp_path / "c", "--burned-text", "mask-inside")
    assert max(image.max() for image in masked) < 100
    _, kept = read(path, tmp_path / "d", "--burned-text", "keep")
    assert min(image.max() for image in kept) == 255


def test_text_in_an_mr_series_is_masked_beside_the_body(tmp_path):
    side = 160
    y, x = np.mgrid[:side, :side]
    body = (x - 80) ** 2 + (y - 100) ** 2 < 45**2
    _, ink = scan_with_text((4, 4), size=side)
    for index in range(3):
        values = body * (1000 + 100 * index) + ink * 4000
        write_dicom(
            tmp_path / f"src/{index}.dcm", values[None].astype(np.uint16), Modality="MR",
            NumberOfFrames=None, BitsStored=12, HighBit=11, InstanceNumber=index,
            SeriesInstanceUID="1.2.3", PixelRepresentation=0,
        )  # fmt: skip
    _, images = read(tmp_path / "src", tmp_path / "out", "--window", "0,4095")
    for image in images:
        assert not image[ink].any()
        assert image[100, 80] > 50


@pytest.mark.parametrize("region", [(), (region_tags(0, 20, 127, 127),)])
def test_the_summary_says_that_text_is_gone(tmp_path, capsys, region):
    """Masked beside the scan, or cut off with what lies beside the region."""
    clip, _ = scan_with_text((2, 2))
    write_dicom(tmp_path / "src/a.dcm", clip, *region, InstanceNumber=1)
    write_dicom(tmp_path / "src/b.dcm", draw_speckle((4, 64, 64), 5, 90), InstanceNumber=2)
    read(tmp_path / "src", tmp_path / "out")
    assert "burned-in text or graphics removed in 1 of 2 clips\n" in capsys.readouterr().out
    read(tmp_path / "src/b.dcm", tmp_path / "b")
    assert "burned-in text" not in capsys.readouterr().out
    read(REAL, tmp_path / "c", "--every", "10")
    assert "burned-in text or graphics removed in 1 of 1 clips\n" in capsys.readouterr().out


# --- what lies in a folder -------------------------------------------------------------------


def test_other_files_are_left_aside_and_named(tmp_path, capsys):
    src = tmp_path / "src"
    write_dicom(src / "a", moving_disc())  # hospitals leave the suffix out
    write_dicom(src / "m-mode", moving_disc(), region_tags(0, 0, 9, 9, spatial_format=2))
    write_dicom(src / "report", moving_disc(), Modality="SR")
    (src / "readme.txt").write_text("hello")
    (src / "empty").write_bytes(b"")
    Image.new("L", (8, 8)).save(src / "still.png")
    frames, _ = read(src, tmp_path / "out")
    assert len(frames) == 6
    said = capsys.readouterr().out
    assert "skipped: 1 ultrasound other than B-mode, 1 modality SR" in said


def test_ultrasound_and_mr_are_told_apart(tmp_path, capsys):
    write_dicom(tmp_path / "src/a.dcm", moving_disc())
    write_mr(tmp_path / "src/mr", 2)
    error = failure(tmp_path / "src", tmp_path / "out", capsys)
    assert "1 ultrasound and 2 MR files; choose one with --modality echo" in error
    frames, _ = read(tmp_path / "src", tmp_path / "a", "--modality", "echo")
    assert len(frames) == 6
    frames, _ = read(tmp_path / "src", tmp_path / "b", "--modality", "mr")
    assert len(frames) == 2


def test_a_loop_of_links_ends_and_no_file_comes_twice(tmp_path):
    src = tmp_path / "src"
    write_dicom(src / "a.dcm", moving_disc())
    (src / "again").symlink_to(src, target_is_directory=True)
    (src / "self").symlink_to(src / "self")
    (src / "b.dcm").symlink_to(src / "a.dcm")
    frames, _ = read(src, tmp_path / "out")
    assert len(frames) == 6


@pytest.mark.parametrize(
    "name", ["Пациент 01/клип с пробелом.dcm", os.fsdecode("Клип".encode("cp1251")) + ".dcm"]
)
def test_names_of_any_letters(tmp_path, name):
    path = write_dicom(tmp_path / "папка с пробелом" / name, moving_disc())
    frames, _ = read(tmp_path / "папка с пробелом", tmp_path / "вы ход")
    assert len(frames) == 6
    assert path.stem not in (tmp_path / "вы ход/metadata.jsonl").read_text()


# --- damaged and hostile files ---------------------------------------------------------------


def test_no_files_is_one_line(tmp_path, capsys):
    assert "nowhere: no such file" in failure(tmp_path / "nowhere", tmp_path / "out", capsys)
    (tmp_path / "src").mkdir()
    assert "src: no DICOM files" in failure(tmp_path / "src", tmp_path / "out", capsys)
    write_dicom(tmp_path / "src/a.dcm", moving_disc(), Modality="CT")
    error = failure(tmp_path / "src", tmp_path / "out", capsys)
    assert "no ultrasound or MR images (1 modality CT)" in error


def test_damaged_files_are_one_line(tmp_path, capsys):
    path, out = tmp_path / "src/a.dcm", tmp_path / "out"
    path.parent.mkdir()
    path.write_bytes(b"")
    assert "a.dcm: is empty" in failure(path.parent, out, capsys)
    path.write_bytes(b"x" * 300)
    assert "a.dcm: not a DICOM file" in failure(path.parent, out, capsys)
    dataset = pydicom.dcmread(REAL)
    del dataset.PixelData
    dataset.save_as(path)
    assert "a.dcm: holds no image" in failure(path, out, capsys)
    dataset = make_dicom(moving_disc())
    del dataset.BitsAllocated
    dataset.save_as(path, enforce_file_format=True)
    assert "a.dcm: holds no image (BitsAllocated is None)" in failure(path, out, capsys)


@pytest.mark.parametrize("write", [write_dicom, run_length, jpeg_2000, jpeg])
def test_cut_files_are_one_line_wherever_they_are_cut(tmp_path, capsys, write):
    path = tmp_path / "a.dcm"
    write(path, moving_disc()) if write is write_dicom else write(path)
    whole = path.read_bytes()
    for share in (0.01, 0.3, 0.6, 0.9, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert f"{path}: " in failure(path, tmp_path / "out", capsys)


@pytest.mark.parametrize("write", [write_dicom, run_length, jpeg])
def test_a_file_that_promises_100_000_frames_is_refused_by_its_tags(
    tmp_path, capsys, monkeypatch, write
):
    path = tmp_path / "a.dcm"
    write(path, moving_disc()) if write is write_dicom else write(path)
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames = 100_000
    dataset.save_as(path)
    monkeypatch.setattr("echodiff.data.dicom.reader.iter_frames", None)  # nothing is decoded
    error = failure(path, tmp_path / "out", capsys)
    assert "100000 frames of 64 x 64 take 409600000 bytes, and 24576 are there" in error or (
        "declares 100000 frames but holds 6" in error
    )
    dataset.Rows = dataset.Columns = 60_000
    dataset.save_as(path)
    error = failure(path, tmp_path / "out", capsys)
    assert "need more than 2 GiB of memory; --every keeps fewer" in error


def test_a_frame_that_unpacks_to_more_than_its_tags_say_is_refused(tmp_path, capsys):
    path = jpeg(tmp_path / "a.dcm")
    stream = path.read_bytes()
    place = stream.index(b"\xff\xc0") + 5
    path.write_bytes(stream[:place] + struct.pack(">HH", 65000, 65000) + stream[place + 4 :])
    error = failure(path, tmp_path / "out", capsys)
    assert "a frame unpacks to 65000 x 65000, but its tags say 64 x 64" in error


def test_random_damage_never_escapes(tmp_path, capsys):
    """Bytes of headers and streams are changed at random: every outcome is frames or one line."""
    rng = np.random.default_rng(0)
    for write in (run_length, jpeg_2000, jpeg):
        whole = np.frombuffer(write(tmp_path / "a.dcm").read_bytes(), np.uint8)
        for number in range(6):
            broken = whole.copy()
            places = rng.integers(132, len(whole) if number % 2 else 1200, 8)
            broken[places] = rng.integers(0, 256, 8)
            (tmp_path / "a.dcm").write_bytes(broken.tobytes())
            out = tmp_path / f"out-{write.__name__}-{number}"
            assert prepare(tmp_path / "a.dcm", out, "--burned-text", "keep") in {0, 2}
    capsys.readouterr()


def test_one_bad_file_of_many_is_named_and_skipped(tmp_path, capsys):
    src = tmp_path / "src"
    for number in range(21):
        write_dicom(src / f"{number:02d}.dcm", moving_disc(32, 2), PatientID=str(number))
    (src / "07.dcm").write_bytes((src / "07.dcm").read_bytes()[:-400])
    frames, _ = read(src, tmp_path / "out")
    assert len(frames) == 40
    captured = capsys.readouterr()
    assert "07.dcm: cut short" in captured.err
    assert "1 of 21 files were bad" in captured.out


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
    error = failure(path, tmp_path / "out", capsys)
    assert f"{path}: " in error
    assert words in error


def test_pixels_of_no_shape_name_the_file(tmp_path, capsys):
    path = write_dicom(tmp_path / "a.dcm", moving_disc(), PixelAspectRatio=["1", "0"])
    error = failure(path, tmp_path / "out", capsys)
    assert "a.dcm: PixelAspectRatio [1, 0] is not" in error


def test_a_series_without_window_tags_says_what_to_do(tmp_path, capsys):
    write_mr(tmp_path / "src", 2)
    for path in (tmp_path / "src").iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.WindowWidth
        dataset.save_as(path)
    error = failure(tmp_path / "src", tmp_path / "out", capsys, "--window", "tags")
    assert "src: has no WindowCenter and WindowWidth; use --window percentile" in error


def test_clips_that_changed_in_between_are_not_mixed_in(tmp_path, capsys, monkeypatch):
    src, out = tmp_path / "src", tmp_path / "out"
    for name in ("b", "c"):
        write_dicom(src / f"{name}.dcm", moving_disc(), PatientID=name)
    replace = os.replace

    def full_at_the_second_clip(source, target):
        if "clip-0002" in str(target):
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
        (["--modality", "ct"], "--modality: expected echo or mr"),
        (["--burned-text", "no"], "--burned-text: expected one of mask, mask-inside, refuse"),
        (["--window", "5,2"], "--window: 5,2: the first number must be below"),
        (["--window", "bright"], "--window: expected tags, percentile or LOW,HIGH"),
    ],
)
def test_a_bad_flag_is_one_line(tmp_path, capsys, flags, words):
    assert words in failure(REAL, tmp_path / "out", capsys, *flags)


# --- real files ------------------------------------------------------------------------------


@needs_shared
@pytest.mark.parametrize(("name", "rr_ms"), [("4ch", 876), ("sax", 814)])
def test_a_real_mr_series_is_one_heart_beat_in_order(tmp_path, name, rr_ms):
    frames, images = read(SHARED / "cmr" / name, tmp_path / "out")
    assert len(frames) == 25
    times = [frame.extra["time_ms"] for frame in frames]
    assert times == sorted(times)
    assert times[-1] + frames[0].extra["frame_time_ms"] == pytest.approx(rr_ms, rel=0.02)
    assert {frame.spacing_mm for frame in frames} == {1.40625}
    assert images[0].shape == (208, 256)
    assert 240 < np.percentile(images, 99.6) <= 255
    assert not any((tmp_path / "out").glob("*patient1*"))


@needs_shared
def test_a_real_frame_with_burned_in_text_loses_it(tmp_path, capsys):
    path = SHARED / "us_dicom/philips_adult_echo_burned_in_text.dcm"
    frames, images = read(path, tmp_path / "out")
    assert frames[0].spacing_mm == pytest.approx(0.2548, abs=1e-4)
    assert 480 < images[0].shape[0] < 510
    assert 750 < images[0].shape[1] < 790
    assert "has text" in failure(path, tmp_path / "b", capsys, "--burned-text", "refuse")


@needs_shared
def test_a_real_planar_colour_frame_is_cropped_to_its_sector(tmp_path):
    path = SHARED / "us_dicom/tee_colour_planar.dcm"
    _, images = read(path, tmp_path / "out", "--keep-doppler")
    # The scan runs into the top, the right and the bottom of the picture, whose pixels are 4:3.
    assert images[0].shape == (160, pytest.approx(229, abs=2))
    assert images[0][0, 0] == 0


def test_training_takes_it(tmp_path, assert_accepted):
    for name in "abc":
        write_dicom(tmp_path / "src" / f"{name}.dcm", moving_disc(), PatientID=name)
    assert prepare(tmp_path / "src", tmp_path / "out") == 0
    assert_accepted(tmp_path / "out")
