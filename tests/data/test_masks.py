"""Masks that images are drawn for: label maps as files, and what is found where."""

import logging
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from echodiff.anatomy import Label
from echodiff.data.labels import CAMUS, parse_table
from echodiff.data.masks import check_masks, find_labels, find_masks, read_mask
from echodiff.errors import InputError
from echodiff.images import colour_mask, write_mask


def test_a_label_map_is_a_name_a_list_or_a_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text("1: LV\n2: lv_myocardium\n3: LA\n")
    assert parse_table(str(path)) == parse_table("1=LV,2=LV_MYOCARDIUM,3=LA") == CAMUS
    path.write_text('"#ff0000": LV\n')
    assert parse_table(str(path)) == {(0, 0, 0): Label.BACKGROUND, (255, 0, 0): Label.LV}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1: HEART\n", "'1=HEART' is neither one of"),
        ("", "holds no label"),
        ("- LV\n", "expected `key: value` lines"),
        ("left: LV\n", "neither a number, nor a colour"),
        ("1: LV\nAORTA: LA\n", "do not go together"),
        ("1: 2\n", "'1=2' is neither"),
    ],
)
def test_a_label_map_that_means_nothing_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "map.yml"
    path.write_text(text)
    with pytest.raises(InputError, match="--mask-labels") as refused:
        parse_table(str(path))
    assert reason in str(refused.value)
    with pytest.raises(InputError, match="No such file"):
        parse_table(str(tmp_path / "nowhere.yaml"))


def test_labels_that_weights_do_not_know_can_be_renamed(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    values = np.zeros((16, 16), np.uint8)
    values[:4], values[4:8], values[8:12] = Label.LV, Label.AORTA, Label.RA
    write_mask(path, values)
    known = (Label.LV, Label.RA)
    with pytest.raises(InputError, match="--mask-labels AORTA=BACKGROUND leaves it out"):
        read_mask(path, None, known=known)
    renamed = read_mask(path, None, table=parse_table("aorta=BACKGROUND,RA=LV"), known=known)
    assert np.array_equal(renamed, np.where(np.isin(values, known), Label.LV, 0))


def test_masks_are_found_with_the_rows_of_their_frames(
    tmp_path: Path, masked_frames: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    folder = masked_frames.write_masked_frames(tmp_path / "frames", num=4)
    from_rows, from_folder = find_masks(folder), find_masks(folder / "masks")
    assert [mask.name for mask in from_rows] == [f"masks/{index:04d}.png" for index in range(4)]
    assert [mask.frame for mask in from_folder] == [mask.frame for mask in from_rows]
    assert from_folder[1].text == "four chamber view , ASD , child 1"
    rows = (folder / "metadata.jsonl").read_text().splitlines()
    rows[0] = rows[0].replace('"mask_file_name": "masks/0000.png", ', "")
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    assert len(find_masks(folder)) == 3
    assert "1 of 4 frames have no mask and are left out" in caplog.text


def test_a_mask_is_padded_and_resized_as_its_image_without_inventing_a_label(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mask = np.zeros((20, 40), np.uint8)
    mask[:, 20:] = 3
    mask[0, 0] = 1
    write_mask(tmp_path / "a.png", mask)
    found = read_mask(tmp_path / "a.png", 20)
    assert found.shape == (20, 20)
    assert set(np.unique(found)) <= {0, 1, 3}
    assert (found[5:15, 10:] == 3).all()
    assert not found[:5].any()
    assert find_labels([tmp_path / "a.png"], None) == (Label.BACKGROUND, Label.LV, Label.LA)
    with caplog.at_level(logging.WARNING):
        check_masks(find_masks(tmp_path / "a.png"), table=None, known=list(Label), side=10)
    assert "lose a small label when they are resized to 10 pixels" in caplog.text
    # In the colours of the palette it is no index mask, unless they are named.
    Image.fromarray(colour_mask(mask)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match="this one is in colour"):
        read_mask(tmp_path / "b.png", 20)
    table = parse_table("#d64541=LV,#9467bd=LA")
    assert np.array_equal(read_mask(tmp_path / "b.png", 20, table=table), found)


def write_seg(path: Path, segments: dict[str, np.ndarray]) -> Path:
    """A DICOM segmentation with one frame for each segment."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, generate_uid()
    data.Modality, data.SegmentationType = "SEG", "BINARY"
    stack = np.stack(list(segments.values())).astype(np.uint8)
    data.NumberOfFrames, data.Rows, data.Columns = stack.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 1
    data.HighBit = data.PixelRepresentation = 0
    data.SegmentSequence, data.PerFrameFunctionalGroupsSequence = [], []
    for number, name in enumerate(segments, start=1):
        segment, group, which = Dataset(), Dataset(), Dataset()
        segment.SegmentNumber, segment.SegmentLabel = number, name
        which.ReferencedSegmentNumber = number
        group.SegmentIdentificationSequence = [which]
        data.SegmentSequence.append(segment)
        data.PerFrameFunctionalGroupsSequence.append(group)
    data.PixelData = np.packbits(stack.ravel(), bitorder="little").tobytes()
    pydicom.dcmwrite(path, data)
    return path


def test_a_dicom_segmentation_is_a_mask_by_the_names_or_numbers_of_its_segments(
    tmp_path: Path,
) -> None:
    lv, wall = np.zeros((16, 16), bool), np.zeros((16, 16), bool)
    lv[4:8, 4:8], wall[8:12, 4:8] = True, True
    path = write_seg(tmp_path / "a.dcm", {"LV": lv, "lv myocardium": wall})
    expected = (lv * 1 + wall * 2).astype(np.uint8)
    assert np.array_equal(read_mask(path, None), expected)
    assert [mask.path for mask in find_masks(tmp_path)] == [path]
    other = write_seg(tmp_path / "b.dcm", {"Endo": lv, "Epi": wall})
    with pytest.raises(InputError, match="segment 1 is named 'Endo'; --mask-labels 1=NAME"):
        read_mask(other, None)
    table = parse_table("1=LV,2=LV_MYOCARDIUM")
    assert np.array_equal(read_mask(other, None, table=table), expected)
    (tmp_path / "c.dcm").write_bytes(b"no DICOM")
    with pytest.raises(InputError, match="not a readable DICOM segmentation"):
        read_mask(tmp_path / "c.dcm", None)
