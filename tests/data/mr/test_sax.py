"""Fabricated trees of ACDC and M&Ms, read back exactly and compared."""

import csv
import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import inv_ornt_aff

from echodiff.__main__ import main
from echodiff.anatomy import Label
from echodiff.frames.reader import load_frames
from echodiff.images import read_image_u8, read_mask_u8

HEIGHT, WIDTH, SLICES = 26, 30, 9
SPACING_MM = (1.5, 1.5, 8.0)
ACDC_NUMBER = {Label.BACKGROUND: 0, Label.RV: 1, Label.LV_MYOCARDIUM: 2, Label.LV: 3}
MNMS_NUMBER = {Label.BACKGROUND: 0, Label.LV: 1, Label.LV_MYOCARDIUM: 2, Label.RV: 3}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MNMS_TABLE = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
COLUMNS = (
    "", "External code", "VendorName", "Vendor", "Centre", "ED", "ES", "Age", "Pathology", "Sex",
    "Height", "Weight",
)  # fmt: skip


def heart(phase):
    """(H, W, slices) of labels as a viewer shows them, from base to apex: RV at the left, and no
    LV in the first and last slice. The LV is smaller at ES."""
    labels = np.zeros((HEIGHT, WIDTH, SLICES), np.uint8)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for number in range(SLICES):
        shrink = 0.5 * number + (2 if phase == "ES" else 0)
        labels[(rows - 12) ** 2 + (columns - 9) ** 2 < (8 - shrink) ** 2, number] = Label.RV
        if 0 < number < SLICES - 1:
            radius2 = (rows - 12) ** 2 + (columns - 17) ** 2
            labels[radius2 < (9 - shrink) ** 2, number] = Label.LV_MYOCARDIUM
            labels[radius2 < (7 - shrink) ** 2, number] = Label.LV
    return labels


def grey(phase, patient=0):
    """(H, W, slices) of grey values, no two alike along a row, column or stack."""
    rows, columns, numbers = np.mgrid[:HEIGHT, :WIDTH, :SLICES]
    return (200 + 11 * rows + 5 * columns + 40 * numbers + 7 * (phase == "ES") + patient).astype(
        np.int16
    )


def shown(phase, patient=0):
    """What `grey` looks like in 8 bits: one window for both phases."""
    both = np.concatenate([grey(p, patient).ravel() for p in ("ED", "ES")])
    low, high = np.percentile(both, (0.5, 99.5))
    share = np.clip((grey(phase, patient).astype(float) - low) / (high - low), 0, 1)
    return np.rint(share * 255).astype(np.uint8)


def numbered(labels, numbers):
    lookup = np.zeros(256, np.uint8)
    for label, number in numbers.items():
        lookup[label] = number
    return lookup[labels]


def write_nifti(path, stack, *, affine=None, axes=((0, 1), (1, 1), (2, 1))):
    """Write (H, W, Z[, T]) stacks with the rows towards the back and the columns to the left.

    `axes` is another order on disk: (axis of (columns, rows, slices), sign) for X, Y and Z.
    """
    values = stack.swapaxes(0, 1)
    affine = (LPS if affine is None else affine) @ np.diag([*SPACING_MM, 1])
    turn = np.zeros((3, 2))
    for place, (axis, sign) in enumerate(axes):
        turn[axis] = place, sign
    turned = nib.apply_orientation(values, turn)
    image = nib.Nifti1Image(turned, affine @ inv_ornt_aff(turn, values.shape[:3]))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def write_acdc(root, part, name, patient=0, *, group="DCM", from_apex=False, **options):
    folder = root / "ACDC" / "database" / part / name
    for phase, number in (("ED", 1), ("ES", 12)):
        order = slice(None, None, -1 if from_apex else 1)
        stem = folder / f"{name}_frame{number:02d}"
        write_nifti(Path(f"{stem}.nii.gz"), grey(phase, patient)[..., order], **options)
        labels = numbered(heart(phase), ACDC_NUMBER)[..., order]
        write_nifti(Path(f"{stem}_gt.nii.gz"), labels, **options)
    (folder / "Info.cfg").write_text(
        f"ED: 1\nES: 12\nGroup: {group}\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"
    )
    return folder


def write_mnms(root, part, code, patient=0, *, ed=2, es=4, **options):
    """Six frames over time; masks are empty but for ED and ES."""
    folder = root / "OpenDataset" / part / code
    images = np.repeat((3 * grey("ED"))[..., None], 6, axis=-1)
    labels = np.zeros_like(images, np.uint8)
    for phase, time in (("ED", ed), ("ES", es)):
        images[..., time] = grey(phase, patient)
        labels[..., time] = numbered(heart(phase), MNMS_NUMBER)
    write_nifti(folder / f"{code}_sa.nii.gz", images, **options)
    write_nifti(folder / f"{code}_sa_gt.nii.gz", labels, **options)
    return folder


def write_table(root, rows, columns=COLUMNS):
    path = root / "OpenDataset" / MNMS_TABLE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(rows)


@pytest.fixture
def acdc(tmp_path):
    src = tmp_path / "серия МРТ"
    write_acdc(src, "training", "patient001", 1)
    write_acdc(src, "testing", "patient101", 2, group="NOR")
    return src


@pytest.fixture
def mnms(tmp_path):
    write_table(
        tmp_path,
        [
            ["0", "A0S9V9", "Siemens", "A", "1", "2", "4", "55", "HCM", "M", "170", "80.5"],
            ["1", "B1T2W3", "Philips", "B", "2", "2", "4", "16", "NOR", "F", "", ""],
            ["2", "C3X4Y5", "GE", "C", "4", "2", "4", "71", "LVNC", "F", "", "60"],
            ["3", "D5Z6A7", "Canon", "D", "5", "2", "4", "60", "Other", "M", "", ""],
            ["4", "E9H1U4", "Canon", "D", "5", "0", "1", "60", "NOR", "M", "", ""],
        ],
    )
    write_mnms(tmp_path, "Training/Labeled", "A0S9V9", 1)
    write_mnms(tmp_path, "Training/Unlabeled", "C3X4Y5", 2)
    write_mnms(tmp_path, "Validation", "B1T2W3", 3)
    write_mnms(tmp_path, "Testing", "D5Z6A7", 4)
    return tmp_path


def prepare(name, src, *flags):
    out = src.parent / f"{src.name}-out-{name}"
    status = main(["prepare", name, str(src), "--out", str(out), "--workers", "1", *flags])
    return status, {Path(f.file_name).name: f for f in load_frames(out)} if status == 0 else {}


def read(name, src, frame):
    out = src.parent / f"{src.name}-out-{name}"
    labels = read_mask_u8(out / frame.mask_file_name) if frame.mask_file_name else None
    return read_image_u8(out / frame.file_name), labels


def error_of(name, src, capsys, *flags):
    status, _ = prepare(name, src, *flags)
    assert status == 2
    assert not (src.parent / f"{src.name}-out-{name}").exists()
    return capsys.readouterr().err.strip().splitlines()[-1]


def check_slices(name, src, rows, case, patient):
    for phase, number in itertools.product(("ED", "ES"), range(SLICES)):
        frame = rows[f"{case}_{phase}-slice{number:02d}.png"]
        image, labels = read(name, src, frame)
        np.testing.assert_array_equal(image, shown(phase, patient)[..., number])
        np.testing.assert_array_equal(labels, heart(phase)[..., number])
        assert (frame.patient_id, frame.view, frame.phase) == (case, "SAX", phase)
        assert (frame.modality, frame.source) == ("mr", name)
        assert frame.spacing_mm == pytest.approx(1.5)


def test_acdc_comes_back_exactly(acdc):
    _, rows = prepare("acdc", acdc, "--split", "official")
    assert len(rows) == 2 * 2 * SLICES
    check_slices("acdc", acdc, rows, "patient001", 1)
    check_slices("acdc", acdc, rows, "patient101", 2)
    assert {frame.patient_id: frame.split for frame in rows.values()} == {
        "patient001": "train",
        "patient101": "test",
    }
    extra = rows["patient001_ED-slice04.png"].extra
    ed, es = ((heart(phase) == Label.LV).sum() * 0.018 for phase in ("ED", "ES"))
    assert extra == {
        "pathology": "dilated cardiomyopathy",
        "height_cm": 184,
        "weight_kg": 95,
        "edv_ml": pytest.approx(ed, abs=0.05),
        "esv_ml": pytest.approx(es, abs=0.05),
        "ef": pytest.approx(100 * (1 - es / ed), abs=0.05),
        "slice": "mid-ventricular",
    }
    assert rows["patient101_ED-slice04.png"].extra["pathology"] == "normal heart"


def test_mnms_comes_back_exactly(mnms):
    _, rows = prepare("mnms", mnms, "--split", "official")
    assert len(rows) == 3 * 2 * SLICES
    for case, patient in (("A0S9V9", 1), ("B1T2W3", 3), ("D5Z6A7", 4)):
        check_slices("mnms", mnms, rows, case, patient)
    of = {code: rows[f"{code}_ED-slice00.png"] for code in ("A0S9V9", "B1T2W3", "D5Z6A7")}
    assert [frame.split for frame in of.values()] == ["train", "val", "test"]
    assert [frame.vendor for frame in of.values()] == ["Siemens", "Philips", "Canon"]
    known = {k: v for k, v in of["A0S9V9"].extra.items() if k not in {"ef", "edv_ml", "esv_ml"}}
    assert known == {
        "pathology": "hypertrophic cardiomyopathy",
        "sex": "M",
        "age_years": 55,
        "height_cm": 170,
        "weight_kg": 80.5,
        "centre": "1",
    }


def test_both_sets_mean_the_same_by_a_label(tmp_path):
    """The same heart in either numbering comes out alike, with the LV inside its wall."""
    write_acdc(tmp_path, "training", "patient001")
    write_mnms(tmp_path, "Training/Labeled", "A0S9V9")
    row = ["0", "A0S9V9", "Siemens", "A", "1", "2", "4", "55", "DCM", "M", "", ""]
    write_table(tmp_path, [row])
    masks = {}
    for name, case in (("acdc", "patient001"), ("mnms", "A0S9V9")):
        _, rows = prepare(name, tmp_path, "--split", "1/0/0")
        _, masks[name] = read(name, tmp_path, rows[f"{case}_ED-slice04.png"])
        centre = {
            label: np.argwhere(masks[name] == label).mean(axis=0)
            for label in (Label.LV, Label.LV_MYOCARDIUM, Label.RV)
        }
        assert np.linalg.norm(centre[Label.LV] - centre[Label.LV_MYOCARDIUM]) < 1
        assert centre[Label.RV][1] < centre[Label.LV][1] - 3
    np.testing.assert_array_equal(masks["acdc"], masks["mnms"])


def test_captions_say_what_is_known(acdc, mnms):
    _, rows = prepare("acdc", acdc)
    assert rows["patient001_ED-slice01.png"].text == (
        "dilated cardiomyopathy, normal ejection fraction, left ventricle and right ventricle "
        "visible, short-axis view, basal slice, end of diastole, cine MR, Siemens scanner"
    )
    _, rows = prepare("mnms", mnms)
    assert rows["A0S9V9_ES-slice07.png"].text == (
        "hypertrophic cardiomyopathy, normal ejection fraction, left ventricle and right ventricle "
        "visible, short-axis view, apical slice, end of systole, cine MR of a man, aged 50 to 59, "
        "Siemens scanner"
    )


@pytest.mark.parametrize("from_apex", [False, True])
def test_places_go_by_thirds_from_the_base_whichever_end_it_is(tmp_path, from_apex):
    write_acdc(tmp_path, "training", "patient001", from_apex=from_apex)
    _, rows = prepare("acdc", tmp_path, "--split", "1/0/0")
    places = [rows[f"patient001_ED-slice{n:02d}.png"].extra.get("slice") for n in range(SLICES)]
    expected = [None, "basal", "basal", *["mid-ventricular"] * 3, "apical", "apical", None]
    assert places == (expected[::-1] if from_apex else expected)


IN_PLANE = [
    ((first, sign), (1 - first, other), (2, last))
    for first, sign, other, last in itertools.product((0, 1), (1, -1), (1, -1), (1, -1))
]


def turn_about(axis, degrees):
    """(4, 4) rotation about an axis in mm."""
    angle, (i, j) = np.radians(degrees), [k for k in range(3) if k != axis]
    matrix = np.eye(4)
    matrix[[i, i, j, j], [i, j, i, j]] = (
        np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    )  # fmt: skip
    return matrix


# Left, back and head of a real stack of each kind: straight as in ACDC, and oblique as a short
# axis lies in the body.
PLANES = {
    "straight": LPS,
    "oblique": turn_about(2, 40) @ turn_about(0, 35) @ LPS,
    "steep": turn_about(2, 30) @ turn_about(0, 60) @ LPS,
}


@pytest.mark.parametrize("plane", PLANES)
def test_the_order_on_disk_changes_nothing(tmp_path, plane):
    cases = [f"patient{number:03d}" for number in range(len(IN_PLANE))]
    for name, axes in zip(cases, IN_PLANE, strict=True):
        write_acdc(tmp_path, "training", name, affine=PLANES[plane], axes=axes)
    _, rows = prepare("acdc", tmp_path, "--split", "1/0/0", "--phases", "ED")
    for name, (*_, (_, last)) in zip(cases, IN_PLANE, strict=True):
        number = 2 if last == 1 else SLICES - 1 - 2
        image, labels = read("acdc", tmp_path, rows[f"{name}_ED-slice{number:02d}.png"])
        np.testing.assert_array_equal(image, shown("ED")[..., 2])
        np.testing.assert_array_equal(labels, heart("ED")[..., 2])


def test_pixels_keep_their_sides_when_the_axes_change(tmp_path):
    """Twice as high as wide on the screen, stored with the rows first."""
    folder = write_acdc(tmp_path, "training", "patient001", axes=IN_PLANE[8])
    for path in folder.glob("*.nii.gz"):
        image = nib.load(path)
        affine = image.affine @ np.diag([2.0, 1, 1, 1])
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)
    _, rows = prepare("acdc", tmp_path, "--split", "1/0/0")
    _, labels = read("acdc", tmp_path, rows["patient001_ED-slice02.png"])
    np.testing.assert_array_equal(labels, np.repeat(heart("ED")[..., 2], 2, axis=0))


def test_a_header_without_orientation_is_shown_as_stored(tmp_path):
    folder = write_acdc(tmp_path, "training", "patient001")
    for path in folder.glob("*.nii.gz"):
        image = nib.load(path)
        image.set_qform(None, 0)
        image.set_sform(None, 0)
        nib.save(image, path)
    _, rows = prepare("acdc", tmp_path, "--split", "1/0/0")
    image, _ = read("acdc", tmp_path, rows["patient001_ED-slice02.png"])
    np.testing.assert_array_equal(image, shown("ED")[..., 2])


def test_direction_cosines_that_are_not_square_are_read(tmp_path):
    skewed = LPS.copy()
    skewed[:3, 2] += 0.2
    skewed[0, 1] = 0.01
    write_mnms(tmp_path, "Testing", "A0S9V9", affine=skewed)
    row = ["0", "A0S9V9", "Siemens", "A", "1", "2", "4", "55", "DCM", "M", "", ""]
    write_table(tmp_path, [row])
    _, rows = prepare("mnms", tmp_path, "--split", "official")
    image, labels = read("mnms", tmp_path, rows["A0S9V9_ED-slice02.png"])
    np.testing.assert_array_equal(image, shown("ED")[..., 2])
    np.testing.assert_array_equal(labels, heart("ED")[..., 2])


def rewrite(folder, change, pattern="*_gt.nii.gz"):
    """Save files again as `change` makes them of an image; returns their paths."""
    paths = sorted(folder.glob(pattern))
    for path in paths:
        nib.save(change(nib.load(path)), path)
    return paths


def with_affine(affine, *, code=1):
    def change(image):
        made = nib.Nifti1Image(np.asarray(image.dataobj), affine)
        made.set_sform(affine, code)
        return made

    return change


ORDERS = {
    "canonical": nib.as_closest_canonical,
    "swapped": lambda image: image.as_reoriented(np.array([[1, 1], [0, 1], [2, 1]])),
    "slices first": lambda image: image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]])),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("plane", ["straight", "oblique"])
@pytest.mark.parametrize("pattern", ["*_gt.nii.gz", "*.nii.gz"])
def test_a_mask_lies_on_its_image_whatever_the_order_of_its_axes(tmp_path, order, plane, pattern):
    write_acdc(tmp_path, "training", "patient001", affine=PLANES[plane])
    rewrite(tmp_path / "ACDC/database/training/patient001", ORDERS[order], pattern)
    _, rows = prepare("acdc", tmp_path, "--split", "1/0/0")
    for phase in ("ED", "ES"):
        pairs = [
            read("acdc", tmp_path, rows[f"patient001_{phase}-slice{number:02d}.png"])
            for number in range(SLICES)
        ]
        # Saved again, the slices may count from the other end.
        order = 1 if (pairs[2][0] == shown(phase)[..., 2]).all() else -1
        for number, (image, labels) in enumerate(pairs[::order]):
            np.testing.assert_array_equal(image, shown(phase)[..., number])
            np.testing.assert_array_equal(labels, heart(phase)[..., number])


def test_masks_of_a_file_over_time_lie_on_their_images(mnms):
    rewrite(mnms / "OpenDataset/Training/Labeled/A0S9V9", ORDERS["slices first"])
    _, rows = prepare("mnms", mnms, "--split", "official")
    check_slices("mnms", mnms, rows, "A0S9V9", 1)


MOVED = LPS @ np.diag([*SPACING_MM, 1]) + np.outer([1, 0, 0, 0], [0, 0, 0, 40])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_affine(MOVED), "its header places it 26.7 voxels off its image"),
        (with_affine(np.eye(4)), "voxels off its image; save it with the affine of its image"),
        (with_affine(np.eye(4), code=0), "it has no orientation and its image has one"),
        (with_affine(LPS @ np.diag([1.6, 1.5, 8, 1])), "voxels off its image"),
    ],
)
def test_a_mask_beside_its_image_is_refused(acdc, capsys, change, words):
    rewrite(acdc / "ACDC/database/training/patient001", change)
    status, rows = prepare("acdc", acdc, "--allow-bad")
    assert status == 0
    assert words in capsys.readouterr().err
    assert {frame.patient_id for frame in rows.values()} == {"patient101"}


def test_headers_that_round_are_one_space(acdc):
    affine = LPS @ np.diag([*SPACING_MM, 1])
    noise = np.random.default_rng(0).normal(size=(4, 4)) * 1e-4
    noise[3] = 0
    rewrite(acdc / "ACDC/database/training/patient001", with_affine(affine + noise))
    _, rows = prepare("acdc", acdc, "--split", "official")
    check_slices("acdc", acdc, rows, "patient001", 1)


def test_two_orientations_in_one_header_must_agree(acdc, capsys):
    folder = acdc / "ACDC/database/training/patient001"

    def with_qform(affine):
        def change(image):
            image.set_sform(image.affine, 1)
            image.set_qform(affine, 1)
            return image

        return change

    rewrite(folder, with_qform(LPS @ np.diag([*SPACING_MM, 1])), "*.nii.gz")
    _, rows = prepare("acdc", acdc, "--split", "official")
    check_slices("acdc", acdc, rows, "patient001", 1)
    rewrite(folder, with_qform(np.diag([*SPACING_MM, 1])), "*.nii.gz")
    assert prepare("acdc", acdc, "--allow-bad", "--overwrite")[0] == 0
    error = capsys.readouterr().err
    assert "patient001_frame01.nii.gz: its qform and sform differ by 87" in error


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3), ("unknown", 1)])
def test_sizes_are_in_the_unit_of_the_header(acdc, unit, factor):
    def change(image):
        scale = np.diag([factor, factor, factor, 1])
        made = nib.Nifti1Image(np.asarray(image.dataobj), scale @ image.affine)
        made.header.set_xyzt_units(unit, "msec")
        return made

    _, plain = prepare("acdc", acdc, "--split", "official")
    rewrite(acdc / "ACDC/database/training/patient001", change, "*.nii.gz")
    _, rows = prepare("acdc", acdc, "--split", "official", "--overwrite")
    check_slices("acdc", acdc, rows, "patient001", 1)
    name = "patient001_ED-slice02.png"
    assert rows[name].extra["edv_ml"] == plain[name].extra["edv_ml"] > 1


def test_a_spacing_that_no_heart_has_is_refused(acdc, capsys):
    """Metres under a header that does not say so."""
    change = with_affine(LPS @ np.diag([1.5e-3, 1.5e-3, 8e-3, 1]))
    rewrite(acdc / "ACDC/database/training/patient001", change, "*.nii.gz")
    assert prepare("acdc", acdc, "--allow-bad")[0] == 0
    assert "gives a spacing of (0.0015" in capsys.readouterr().err
    rewrite(acdc / "ACDC/database/training/patient001", with_affine(np.eye(4)), "*.nii.gz")
    assert prepare("acdc", acdc, "--allow-bad", "--overwrite")[0] == 0
    assert "frame01.nii.gz: its affine is the identity" in capsys.readouterr().err


def test_labels_that_were_scaled_are_whole_numbers_again(acdc):
    def change(image):
        labels = np.asarray(image.dataobj).astype(np.float32)
        made = nib.Nifti1Image(labels, image.affine)
        made.set_data_dtype(np.int16)
        return made

    folder = acdc / "ACDC/database/training/patient001"
    [path, _] = rewrite(folder, change)
    values = np.asarray(nib.load(path).dataobj)
    assert 0 < np.abs(values - np.rint(values)).max() < 1e-3
    _, rows = prepare("acdc", acdc, "--split", "official")
    check_slices("acdc", acdc, rows, "patient001", 1)


def test_trailing_axes_of_one_and_unpacked_files_change_nothing(acdc, mnms):
    def change(image):
        return nib.Nifti1Image(np.asarray(image.dataobj)[..., None], image.affine)

    for path in rewrite(acdc / "ACDC/database/training/patient001", change, "*.nii.gz")[::3]:
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    _, rows = prepare("acdc", acdc, "--split", "official")
    check_slices("acdc", acdc, rows, "patient001", 1)
    rewrite(mnms / "OpenDataset/Training/Labeled/A0S9V9", change, "*_sa.nii.gz")
    _, rows = prepare("mnms", mnms, "--split", "official")
    check_slices("mnms", mnms, rows, "A0S9V9", 1)


def test_unlabeled_patients_come_without_masks_when_they_are_asked_for(mnms):
    _, rows = prepare("mnms", mnms, "--unlabeled", "--split", "official")
    frames = {name: frame for name, frame in rows.items() if name.startswith("C3X4Y5")}
    assert len(frames) == 2 * SLICES
    for frame in frames.values():
        assert (frame.mask_file_name, frame.split, frame.vendor) == (None, "train", "GE")
        assert not {"slice", "ef", "edv_ml"} & set(frame.extra)
    image, _ = read("mnms", mnms, frames["C3X4Y5_ES-slice03.png"])
    np.testing.assert_array_equal(image, shown("ES", 2)[..., 3])


def test_first_release_of_acdc_has_no_masks_to_test_on(acdc):
    for path in (acdc / "ACDC/database/testing/patient101").glob("*_gt.nii.gz"):
        path.unlink()
    _, rows = prepare("acdc", acdc, "--split", "official")
    assert rows["patient101_ED-slice02.png"].mask_file_name is None
    assert rows["patient001_ED-slice02.png"].mask_file_name is not None


def cut(name):
    def change(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-100])

    return change


def empty(name):
    return lambda folder: (folder / name).write_bytes(b"")


def remove(name):
    return lambda folder: (folder / name).unlink()


def set_info(old, new):
    def change(folder):
        path = folder / "Info.cfg"
        path.write_text(path.read_text().replace(old, new))

    return change


def unknown_label(folder):
    labels = numbered(heart("ED"), ACDC_NUMBER)
    labels[0, 0, 0] = 4
    write_nifti(folder / "patient001_frame01_gt.nii.gz", labels)


def another_size(folder):
    labels = numbered(heart("ED"), ACDC_NUMBER)
    write_nifti(folder / "patient001_frame01_gt.nii.gz", labels[:, 1:])


def one_slice_as_a_picture(folder):
    write_nifti(folder / "patient001_frame01.nii.gz", grey("ED")[..., None, :])
    path = folder / "patient001_frame01.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 4), np.int16), LPS), path)


def no_contrast(folder):
    for number in ("01", "12"):
        write_nifti(folder / f"patient001_frame{number}.nii.gz", 0 * grey("ED"))


def not_gzip(folder):
    path = folder / "patient001_frame01.nii.gz"
    path.write_bytes(gzip.decompress(path.read_bytes()))


def scrambled(folder):
    path = folder / "patient001_frame01.nii.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut("patient001_frame12.nii.gz"), "patient001_frame12.nii.gz: damaged or cut short"),
        (scrambled, "patient001_frame01.nii.gz: damaged or cut short"),
        (not_gzip, "patient001_frame01.nii.gz: damaged or cut short"),
        (empty("patient001_frame01_gt.nii.gz"), "patient001_frame01_gt.nii.gz: empty file"),
        (remove("patient001_frame01_gt.nii.gz"), "patient001_frame01_gt.nii.gz: no such file"),
        (remove("Info.cfg"), "Info.cfg: no such file"),
        (set_info("ES: 12\n", ""), "Info.cfg: has no ES"),
        (set_info("ES: 12", "ES: 31"), "Info.cfg: ES is '31', not a frame from 1 to 30"),
        (set_info("ES: 12", "ES: 13"), "patient001_frame13.nii.gz: no such file"),
        (unknown_label, "patient001_frame01_gt.nii.gz: label 4 in the mask"),
        (another_size, "patient001_frame01_gt.nii.gz: is (29, 26, 9), its image (30, 26, 9)"),
        (one_slice_as_a_picture, "patient001_frame01.nii.gz: expected a stack of slices"),
        (no_contrast, "patient001: all grey values are the same"),
    ],
)
def test_a_bad_patient_is_named_and_left_out(acdc, capsys, damage, words):
    damage(acdc / "ACDC/database/training/patient001")
    status, rows = prepare("acdc", acdc, "--allow-bad")
    assert status == 0
    captured = capsys.readouterr()
    assert words in captured.err
    assert "1 of 2 files were bad" in captured.out
    assert {frame.patient_id for frame in rows.values()} == {"patient101"}


def test_one_bad_patient_of_two_is_too_many(acdc, capsys):
    empty("patient001_frame01.nii.gz")(acdc / "ACDC/database/training/patient001")
    assert "patient001_frame01.nii.gz: empty file (1 of 2" in error_of("acdc", acdc, capsys)


@pytest.mark.parametrize("column", COLUMNS[1:3] + COLUMNS[4:])
def test_a_column_that_the_table_lacks_is_named(mnms, capsys, column):
    write_table(mnms, [], columns=[name for name in COLUMNS if name != column])
    assert f"{MNMS_TABLE}: has no column {column}" in error_of("mnms", mnms, capsys)


def test_frames_counted_from_one_would_show(mnms, capsys):
    """Where ED and ES miss the labelled frames, or the file, the patient is refused."""
    row = ["0", "A0S9V9", "Siemens", "A", "1", "3", "4", "55", "HCM", "M", "", ""]
    write_table(mnms, [row, ["1", "B1T2W3", *row[2:5], "2", "6", *row[7:]]])
    status, _ = prepare("mnms", mnms, "--allow-bad")
    assert status == 2
    error = capsys.readouterr().err
    assert "A0S9V9_sa_gt.nii.gz: nothing is labelled in frame 3" in error
    assert "B1T2W3_sa.nii.gz: has frames 0 to 5, not frame 6" in error
    assert f"D5Z6A7: has no row in {MNMS_TABLE}" in error


def test_a_table_that_is_not_there_is_named(mnms, capsys):
    (mnms / "OpenDataset" / MNMS_TABLE).unlink()
    assert "expected one *M&Ms*.csv, found 0" in error_of("mnms", mnms, capsys)


@pytest.mark.parametrize("name", ["acdc", "mnms"])
def test_another_folder_is_refused(tmp_path, capsys, name):
    (tmp_path / "pictures").mkdir()
    assert "is not " in error_of(name, tmp_path, capsys)


@pytest.mark.parametrize("name", ["acdc", "mnms"])
def test_datasets_opens_it(name, request, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import load_dataset

    src = request.getfixturevalue(name)
    _, rows = prepare(name, src)
    table = load_dataset(
        "imagefolder",
        data_dir=str(src.parent / f"{src.name}-out-{name}"),
        cache_dir=str(tmp_path / "cache"),
    )["train"]
    assert table.num_rows == len(rows)
    assert set(table["view"]) == {"SAX"}


@pytest.mark.parametrize("name", ["acdc", "mnms"])
def test_training_takes_it(name, request, assert_accepted):
    src = request.getfixturevalue(name)
    assert prepare(name, src)[0] == 0
    assert_accepted(src.parent / f"{src.name}-out-{name}")
