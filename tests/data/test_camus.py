"""Fabricated trees of both CAMUS releases, read back exactly."""

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from echodiff.__main__ import main
from echodiff.anatomy import Label
from echodiff.frames.reader import load_frames
from echodiff.images import read_image_u8, read_mask_u8

HEIGHT, WIDTH = 24, 20
INFO = {
    "ED": "1", "ES": "5", "NbFrame": "5", "Sex": "F", "Age": "56", "ImageQuality": "Medium",
    "EF": "45", "FrameRate": "51.6",
}  # fmt: skip


def picture(patient, view, time):
    """(H, W) with another value in every pixel of a row or column, and in every picture."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    first = 10 * patient + 5 * (view == "4CH") + time
    return (first + 6 * rows + columns).astype(np.uint8)


def mask(time):
    """A tall LV left of the middle in its wall, and LA below; the LV shrinks by a row a frame."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[2 + time : 17, 3:10] = 2
    labels[4 + time : 16, 5:8] = 1
    labels[18:21, 4:9] = 3
    return labels


def write_nifti(path, frames, spacing_mm):
    """(T, H, W) or (H, W) as the release stores it: width first, time last."""
    image = nib.Nifti1Image(np.asarray(frames).T, np.diag([*spacing_mm[::-1], 1, 1]))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def write_mhd(path, frames, spacing_mm, *, packed=False):
    values = np.atleast_3d(np.asarray(frames).T)
    raw = values.tobytes(order="F")
    height_mm, width_mm = spacing_mm
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryDataByteOrderMSB = False",
        f"CompressedData = {packed}",
        f"ElementSpacing = {width_mm} {height_mm} 1",
        f"DimSize = {' '.join(map(str, values.shape))}",
        "ElementType = MET_UCHAR",
        f"ElementDataFile = {path.with_suffix('.raw').name}",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    path.with_suffix(".raw").write_bytes(zlib.compress(raw) if packed else raw)


def write_patient(folder, number, *, write, sequence, suffix, spacing_mm=(0.3, 0.3), info=INFO):
    name = folder.name
    for view in ("2CH", "4CH"):
        stem = folder / f"{name}_{view}"
        times = {"ED": int(info["ED"]) - 1, "ES": int(info["ES"]) - 1}
        # Time in the file runs from ES to ED where ED has the greater number.
        order = list(range(5)) if times["ED"] < times["ES"] else [4, 3, 2, 1, 0]
        for phase, time in (("ED", 0), ("ES", 4)):
            write(Path(f"{stem}_{phase}{suffix}"), picture(number, view, time), spacing_mm)
            write(Path(f"{stem}_{phase}_gt{suffix}"), mask(time), spacing_mm)
        frames = [picture(number, view, time) for time in order]
        write(Path(f"{stem}_{sequence}{suffix}"), frames, spacing_mm)
        write(Path(f"{stem}_{sequence}_gt{suffix}"), [mask(time) for time in order], spacing_mm)
        text = "".join(f"{key}: {value}\n" for key, value in info.items())
        (folder / f"Info_{view}.cfg").write_text(text)


@pytest.fixture
def new(tmp_path):
    """The new release: one patient a split."""
    root = tmp_path / "CAMUS_public"
    for number, part in enumerate(("training", "validation", "testing"), start=1):
        folder = root / "database_nifti" / f"patient{number:04d}"
        write_patient(folder, number, write=write_nifti, sequence="half_sequence", suffix=".nii.gz")
        path = root / "database_split" / f"subgroup_{part}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"patient{number:04d}\n")
    return tmp_path


@pytest.fixture
def old(tmp_path):
    """The old release: two patients to train on, one to test on whose masks are kept back."""
    for number, part in enumerate(("training", "training", "testing"), start=1):
        folder = tmp_path / part / f"patient{number:04d}"
        write_patient(folder, number, write=write_mhd, sequence="sequence", suffix=".mhd")
    for path in folder.glob("*_gt.*"):
        path.unlink()
    lists = {"training": "patient0002", "validation": "patient0001", "testing": ""}
    (tmp_path / "listSubGroups").mkdir()
    for part, name in lists.items():
        (tmp_path / "listSubGroups" / f"subGroup3_{part}.txt").write_text(f"{name}\n")
    return tmp_path


def out_of(src):
    return src.parent / f"{src.name}-out"


def prepare(src, *flags):
    out = out_of(src)
    status = main(["prepare", "camus", str(src), "--out", str(out), "--workers", "1", *flags])
    return status, {Path(f.file_name).name: f for f in load_frames(out)} if status == 0 else {}


def error_of(src, capsys, *flags):
    status, _ = prepare(src, *flags)
    assert status == 2
    assert not out_of(src).exists()
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("layout", ["new", "old"])
def test_pictures_masks_and_facts_come_back_exactly(layout, request):
    src = request.getfixturevalue(layout)
    _, rows = prepare(src, "--split", "official")
    assert sorted(rows) == [
        f"patient{number:04d}_{view}_{phase}.png"
        for number in (1, 2, 3)
        for view in ("2CH", "4CH")
        for phase in ("ED", "ES")
    ]
    for name, frame in rows.items():
        number, view, phase = int(name[7:11]), name[12:15], frame.phase
        time = {"ED": 0, "ES": 4}[phase]
        image = read_image_u8(out_of(src) / frame.file_name)
        np.testing.assert_array_equal(image, picture(number, view, time))
        if layout == "old" and number == 3:
            assert frame.mask_file_name is None
        else:
            labels = read_mask_u8(out_of(src) / frame.mask_file_name)
            np.testing.assert_array_equal(labels, mask(time))
        assert name == f"patient{number:04d}_{view}_{phase}.png"
        assert frame.view == {"2CH": "A2C", "4CH": "A4C"}[view]
        assert (frame.patient_id, frame.source) == (f"patient{number:04d}", "camus")
        assert (frame.modality, frame.vendor) == ("echo", "GE")
        assert frame.spacing_mm == pytest.approx(0.3)
        assert frame.extra == {"ef": 45, "quality": "Medium", "sex": "F", "age_years": 56}
    splits = {frame.patient_id[-1]: frame.split for frame in rows.values()}
    expected = ("train", "val", "test") if layout == "new" else ("train", "train", "test")
    assert splits == dict(zip("123", expected, strict=True))


def test_labels_mean_what_the_release_says(new):
    _, rows = prepare(new)
    labels = read_mask_u8(out_of(new) / rows["patient0001_4CH_ED.png"].mask_file_name)
    assert labels[10, 6] == Label.LV
    assert labels[10, 3] == Label.LV_MYOCARDIUM
    assert labels[19, 6] == Label.LA


def test_a_caption_says_what_is_known(new):
    _, rows = prepare(new)
    assert rows["patient0001_4CH_ED.png"].text == (
        "mildly reduced ejection fraction, elongated left ventricle, left atrium smaller than the "
        "left ventricle, medium image quality, apical 4-chamber view, end of diastole, "
        "echocardiogram of a woman, aged 50 to 59"
    )


def test_the_folder_of_nifti_files_alone_will_do(new):
    src = new / "CAMUS_public/database_nifti"
    out = out_of(new)
    flags = ["--split", "official", "--views", "A4C", "--phases", "ES"]
    status = main(["prepare", "camus", str(src), "--out", str(out), *flags])
    assert status == 0
    names = [Path(frame.file_name).name for frame in load_frames(out)]
    assert names == [f"patient{number:04d}_4CH_ES.png" for number in (1, 2, 3)]


def test_a_fold_of_the_old_layout_gives_the_splits(old):
    _, rows = prepare(old, "--split", "official", "--fold", "3")
    splits = {frame.patient_id[-1]: frame.split for frame in rows.values()}
    assert splits == {"1": "val", "2": "train", "3": "test"}


def test_a_fold_that_is_not_there_is_named(old, capsys):
    assert "no listSubGroups/subGroup9_*.txt" in error_of(old, capsys, "--fold", "9")


def test_a_fold_does_not_go_with_the_new_layout(new, capsys):
    assert "--fold requires the old layout" in error_of(new, capsys, "--fold", "1")


@pytest.mark.parametrize("layout", ["new", "old"])
def test_sequences_give_every_frame_in_time(layout, request):
    src = request.getfixturevalue(layout)
    _, rows = prepare(src, "--sequences", "--views", "A4C")
    assert len(rows) == 15
    for time, phase in enumerate(("ED", "1", "2", "3", "ES")):
        frame = rows[f"patient0001_4CH_frame-{time:04d}.png"]
        assert frame.phase == phase
        image = read_image_u8(out_of(src) / frame.file_name)
        np.testing.assert_array_equal(image, picture(1, "4CH", time))
        labels = read_mask_u8(out_of(src) / frame.mask_file_name)
        np.testing.assert_array_equal(labels, mask(time))
        assert ("end of" in frame.text) == (phase in {"ED", "ES"})


def test_a_sequence_that_ends_with_diastole_is_turned_round(tmp_path):
    folder = tmp_path / "database_nifti/patient0007"
    write_patient(
        folder, 7, write=write_nifti, sequence="half_sequence", suffix=".nii.gz",
        info=INFO | {"ED": "5", "ES": "1"},
    )  # fmt: skip
    _, rows = prepare(tmp_path, "--sequences", "--split", "1/0/0")
    for time, phase in enumerate(("ED", "1", "2", "3", "ES")):
        frame = rows[f"patient0007_2CH_frame-{time:04d}.png"]
        assert frame.phase == phase
        image = read_image_u8(out_of(tmp_path) / frame.file_name)
        np.testing.assert_array_equal(image, picture(7, "2CH", time))
        labels = read_mask_u8(out_of(tmp_path) / frame.mask_file_name)
        np.testing.assert_array_equal(labels, mask(time))


@pytest.mark.parametrize(("write", "suffix"), [(write_nifti, ".nii.gz"), (write_mhd, ".mhd")])
def test_pixels_twice_as_high_as_wide_become_square(write, suffix, tmp_path):
    root = tmp_path / ("database_nifti" if suffix == ".nii.gz" else "training")
    sequence = "half_sequence" if suffix == ".nii.gz" else "sequence"
    write_patient(
        root / "patient0001", 1, write=write, sequence=sequence, suffix=suffix,
        spacing_mm=(0.5, 0.25),
    )  # fmt: skip
    _, rows = prepare(tmp_path, "--split", "1/0/0")
    frame = rows["patient0001_2CH_ED.png"]
    assert frame.spacing_mm == pytest.approx(0.25)
    labels = read_mask_u8(out_of(tmp_path) / frame.mask_file_name)
    np.testing.assert_array_equal(labels, np.repeat(mask(0), 2, axis=0))
    assert read_image_u8(out_of(tmp_path) / frame.file_name).shape == (2 * HEIGHT, WIDTH)


def test_packed_values_of_an_mhd_are_the_same(old):
    for view in ("2CH", "4CH"):
        for phase, time in (("ED", 0), ("ES", 4)):
            path = old / f"training/patient0001/patient0001_{view}_{phase}.mhd"
            write_mhd(path, picture(1, view, time), (0.3, 0.3), packed=True)
    _, rows = prepare(old)
    image = read_image_u8(out_of(old) / rows["patient0001_2CH_ES.png"].file_name)
    np.testing.assert_array_equal(image, picture(1, "2CH", 4))


def test_a_mask_in_another_order_of_axes_lies_on_its_image(new):
    folder = new / "CAMUS_public/database_nifti/patient0002"
    for path in folder.glob("*_gt.nii.gz"):
        image = nib.load(path)
        stack = nib.Nifti1Image(np.asarray(image.dataobj).reshape(*image.shape, 1), image.affine)
        if len(image.shape) == 2:
            nib.save(stack.as_reoriented(np.array([[1, -1], [0, 1], [2, 1]])), path)
    status, rows = prepare(new, "--phases", "ED")
    assert status == 0
    for frame in rows.values():
        np.testing.assert_array_equal(read_mask_u8(out_of(new) / frame.mask_file_name), mask(0))


def test_directions_of_an_mhd_are_obeyed(old, capsys):
    stem = old / "training/patient0001/patient0001_4CH_ED"
    image, label = stem.with_suffix(".mhd"), Path(f"{stem}_gt.mhd")
    plain = image.read_text()
    image.write_text("TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\n" + plain)
    # Rows run upwards from the lower edge of the same picture.
    offset = f"Offset = 0 {(HEIGHT - 1) * 0.3} 0\n"
    upwards = "TransformMatrix = 1 0 0 0 -1 0 0 0 1\n" + offset + plain.replace("_ED", "_ED_gt")
    label.write_text(upwards)
    values = np.ascontiguousarray(mask(0)[::-1])
    label.with_suffix(".raw").write_bytes(values.tobytes())
    status, rows = prepare(old, "--phases", "ED")
    assert status == 0
    frame = rows["patient0001_4CH_ED.png"]
    np.testing.assert_array_equal(read_mask_u8(out_of(old) / frame.mask_file_name), mask(0))
    label.write_text(upwards.replace(offset, ""))
    assert prepare(old, "--phases", "ED", "--overwrite", "--allow-bad")[0] == 0
    assert "patient0001_4CH_ED_gt.mhd: its header places it 23 voxels" in capsys.readouterr().err


def test_pictures_that_were_turned_over_are_refused(tmp_path, capsys):
    """Saved again in canonical order, both axes of the release run backwards."""
    folder = tmp_path / "CAMUS_public/database_nifti/patient0001"
    write_patient(folder, 1, write=write_nifti, sequence="half_sequence", suffix=".nii.gz")
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    sector = (rows + 2 > 2 * abs(columns - WIDTH / 2)) * 90
    for path in folder.glob("*E[DS].nii.gz"):
        write_nifti(path, sector.astype(np.uint8), (0.3, 0.3))
    assert prepare(tmp_path)[0] == 0
    for path in folder.glob("*E[DS].nii.gz"):
        write_nifti(path, sector[::-1, ::-1].astype(np.uint8), (0.3, 0.3))
    capsys.readouterr()
    assert prepare(tmp_path, "--overwrite")[0] == 2
    assert "its sector does not point upwards" in capsys.readouterr().err


def set_info(key, value):
    def change(folder):
        info = {k: v for k, v in (INFO | {key: value}).items() if v is not None}
        text = "".join(f"{k}: {v}\n" for k, v in info.items())
        (folder / "Info_4CH.cfg").write_text(text)

    return change


def cut(name):
    def change(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-60])

    return change


def empty(name):
    return lambda folder: (folder / name).write_bytes(b"")


def remove(name):
    return lambda folder: (folder / name).unlink()


def write_label(number):
    def change(folder):
        labels = mask(0).astype(np.float32)
        labels[0, 0] = number
        write_nifti(folder / "patient0002_4CH_ED_gt.nii.gz", labels, (0.3, 0.3))

    return change


def narrow_mask(folder):
    write_nifti(folder / "patient0002_4CH_ED_gt.nii.gz", mask(0)[:, 1:], (0.3, 0.3))


def declare_a_huge_picture(folder):
    path = folder / "patient0002_4CH_ED.nii.gz"
    values = bytearray(gzip.decompress(path.read_bytes()))
    values[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    values[40:42] = np.array([3], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(values)))


NEW_DAMAGE = [
    (set_info("ED", None), "Info_4CH.cfg: has no ED"),
    (set_info("ES", "9"), "Info_4CH.cfg: ES is '9', not a frame from 1 to 5"),
    (set_info("ED", "0"), "Info_4CH.cfg: ED is '0', not a frame from 1 to 5"),
    (remove("Info_4CH.cfg"), "Info_4CH.cfg: no such file"),
    (cut("patient0002_4CH_ED.nii.gz"), "patient0002_4CH_ED.nii.gz: damaged or cut short"),
    (empty("patient0002_4CH_ES.nii.gz"), "patient0002_4CH_ES.nii.gz: empty file"),
    (remove("patient0002_4CH_ES_gt.nii.gz"), "patient0002_4CH_ES_gt.nii.gz: no such file"),
    (write_label(7), "patient0002_4CH_ED_gt.nii.gz: label 7 in the mask"),
    (write_label(2.5), "patient0002_4CH_ED_gt.nii.gz: a mask holds whole numbers"),
    (narrow_mask, "patient0002_4CH_ED_gt.nii.gz: is (19, 24), its image (20, 24)"),
    (declare_a_huge_picture, "patient0002_4CH_ED.nii.gz: cut short"),
]


@pytest.mark.parametrize(("damage", "words"), NEW_DAMAGE)
def test_a_bad_file_is_named_and_left_out(new, capsys, damage, words):
    damage(new / "CAMUS_public/database_nifti/patient0002")
    status, rows = prepare(new, "--allow-bad")
    captured = capsys.readouterr()
    assert status == 0
    assert words in captured.err
    assert captured.err.count("skipped: ") == 1
    assert "1 of 6 files were bad" in captured.out
    assert not any(name.startswith("patient0002_4CH") for name in rows)
    assert len(rows) == 10


def test_one_bad_file_of_six_is_too_many(new, capsys):
    empty("patient0002_4CH_ED.nii.gz")(new / "CAMUS_public/database_nifti/patient0002")
    assert prepare(new)[0] == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "patient0002_4CH_ED.nii.gz: empty file (1 of 6 files are bad" in line
    # What was written waits for the same command with --allow-bad.
    assert not (out_of(new) / "metadata.jsonl").exists()
    assert prepare(new, "--allow-bad")[0] == 0


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut("patient0002_4CH_ED.raw"), "patient0002_4CH_ED.raw: holds 420 bytes where 480"),
        (remove("patient0002_4CH_ED.raw"), "patient0002_4CH_ED.raw: No such file"),
        (remove("patient0002_4CH_ED_gt.mhd"), "patient0002_4CH_ED_gt.mhd: no such file"),
        (cut("patient0002_4CH_ED.mhd"), "not a MetaImage, or its header is truncated"),
    ],
)
def test_a_bad_mhd_is_named_and_left_out(old, capsys, damage, words):
    damage(old / "training/patient0002")
    status, rows = prepare(old, "--allow-bad")
    assert status == 0
    assert words in capsys.readouterr().err
    assert len(rows) == 10


def test_values_outside_the_folder_are_not_read(old, capsys):
    path = old / "training/patient0002/patient0002_4CH_ED.mhd"
    name = "patient0002_4CH_ED.raw"
    path.write_text(path.read_text().replace(name, f"../patient0001/{name}"))
    prepare(old, "--allow-bad")
    assert ".raw' is not a file next to it" in capsys.readouterr().err


def test_another_folder_is_refused(tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    assert "not CAMUS" in error_of(tmp_path, capsys)


def test_datasets_opens_it(new, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import load_dataset

    prepare(new)
    table = load_dataset("imagefolder", data_dir=str(out_of(new)), cache_dir=str(new / "cache"))[
        "train"
    ]
    assert table.num_rows == 12
    place = table["view"].index("A4C")
    assert table[place]["ef"] == 45


@pytest.mark.parametrize("release", ["new", "old"])
def test_training_takes_it(release, request, assert_accepted):
    src = request.getfixturevalue(release)
    assert prepare(src)[0] == 0
    assert_accepted(out_of(src))
