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
        ("1: 2\n", "1: YAML reads the value as 2; a label is a name, one of BACKGROUND, LV,"),
        ("1: LV\n3: no\n", "3: YAML reads the value as False; a label is a name"),
        ("1: LV\n2: [LA]\n", "2: YAML reads the value as ['LA']"),
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
    with pytest.raises(InputError, match="--labels with some of these leaves others out"):
        read_mask(path, None, known=known)
    kept = read_mask(path, None, asked=known, known=known)
    assert np.array_equal(kept, np.where(np.isin(values, known), values, 0))
    check_masks(find_masks(path), table=None, asked=known, known=known, side=16)
    with pytest.raises(InputError, match="--labels LA: none of the masks has it"):
        check_masks(find_masks(path), table=None, asked=[Label.LA], known=list(Label), side=16)
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


def test_the_splits_of_a_frames_folder_choose_its_masks(
    tmp_path: Path, masked_frames: ModuleType
) -> None:
    folder = masked_frames.write_masked_frames(tmp_path / "frames", num=12)
    chosen = find_masks(folder, "val,test")
    assert [mask.name[6:10] for mask in chosen] == ["0003", "0005", "0009", "0011"]
    assert find_masks(folder / "masks", "val,test")[0].frame == chosen[0].frame
    with pytest.raises(InputError, match="--mask-split held: 'held' is not one of train, val"):
        find_masks(folder, "held")
    assert find_masks(folder / "masks" / "0001.png", "train")[0].text.endswith("child 1")
    with pytest.raises(InputError, match=r"0001.png is of that split .there are: train"):
        find_masks(folder / "masks" / "0001.png", "val")


def test_masks_of_other_programs_are_read_as_stored(tmp_path: Path) -> None:
    """16 bits, one bit, a palette of any colours, an image that is stored lying on its side."""
    mask = np.zeros((12, 20), np.uint8)
    mask[2:6, 3:9] = 1
    expected = read_mask(save(tmp_path / "grey.png", Image.fromarray(mask)), None)
    palette = Image.fromarray(mask)
    palette.putpalette([9, 9, 9, 255, 0, 255])
    turned = Image.fromarray(np.rot90(mask))
    exif = turned.getexif()
    exif[274] = 6
    for name, image, options in (
        ("deep.png", Image.fromarray(mask.astype(np.uint16)), {}),
        ("bits.png", Image.fromarray(mask > 0), {}),
        ("palette.png", palette, {}),
        ("turned.tif", turned, {"exif": exif}),
    ):
        image.save(tmp_path / name, **options)
        assert np.array_equal(read_mask(tmp_path / name, None), expected), name
    white = Image.fromarray(mask * 255)
    with pytest.raises(InputError, match="--mask-labels 255=NAME adds it"):
        read_mask(save(tmp_path / "white.png", white), None)
    table = parse_table("255=LV")
    assert np.array_equal(read_mask(tmp_path / "white.png", None, table=table), expected)


def save(path: Path, image: Image.Image) -> Path:
    image.save(path)
    return path


def test_a_drawn_mask_with_smooth_edges_is_refused_with_the_reason(tmp_path: Path) -> None:
    """Between red and black lie colours, between 3 and 0 the numbers of other labels."""
    y, x = np.mgrid[:64, :64]
    share = np.clip(20.5 - np.hypot(y - 32, x - 32), 0, 1)
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = np.rint(255 * share)
    path = save(tmp_path / "red.png", Image.fromarray(red))
    with pytest.raises(InputError, match=r"\d+ colours without a meaning, such as #\w{6}, in"):
        read_mask(path, None, table=parse_table("#ff0000=LV"))
    path = save(tmp_path / "white.png", Image.fromarray(red[..., 0]))
    with pytest.raises(InputError, match="edges that were smoothed or blurred"):
        read_mask(path, None, table=parse_table("255=LV"))


def test_volumes_are_refused_with_the_command_that_slices_them(tmp_path: Path) -> None:
    (tmp_path / "heart.nii.gz").write_bytes(b"x")
    with pytest.raises(InputError, match="no image, but volumes such as heart"):
        find_masks(tmp_path)
    with pytest.raises(InputError, match="a volume, not an image: `echodiff prepare camus`"):
        find_masks(tmp_path / "heart.nii.gz")


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
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lv, wall = np.zeros((16, 16), bool), np.zeros((16, 16), bool)
    lv[4:8, 4:8], wall[8:12, 4:8] = True, True
    path = write_seg(tmp_path / "a.dcm", {"LV": lv, "lv myocardium": wall})
    expected = (lv * 1 + wall * 2).astype(np.uint8)
    assert np.array_equal(read_mask(path, None), expected)
    write_mask(tmp_path / "b.png", expected)
    (tmp_path / "c.pgm").write_bytes(b"x")
    assert [mask.path.name for mask in find_masks(tmp_path)] == ["a.dcm", "b.png"]
    assert "skipped, as not data or of an unsupported kind: .pgm 1" in caplog.text
    other = write_seg(tmp_path / "b.dcm", {"Endo": lv, "Epi": wall})
    with pytest.raises(InputError, match="segment 1 is named 'Endo'; --mask-labels 1=NAME"):
        read_mask(other, None)
    table = parse_table("1=LV,2=LV_MYOCARDIUM")
    assert np.array_equal(read_mask(other, None, table=table), expected)
    (tmp_path / "c.dcm").write_bytes(b"no DICOM")
    with pytest.raises(InputError, match="not a readable DICOM segmentation"):
        read_mask(tmp_path / "c.dcm", None)
