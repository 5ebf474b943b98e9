import errno
import os

import numpy as np
import pytest
from PIL import Image

from echodiff.__main__ import main
from echodiff.data.splits import check_patients_apart
from echodiff.frames.reader import load_frames
from echodiff.images import read_image_u8, read_mask_u8, write_image

REGEX = r"(?P<patient>patient\d+)_(?P<view>\dCH)_(?P<phase>E[DS])"


@pytest.fixture
def src(tmp_path):
    """Pictures of 10 patients, 2 of each, 12x16, with masks, named as CAMUS names them."""
    for patient in range(10):
        for phase in ("ED", "ES"):
            name = f"patient{patient:04d}_4CH_{phase}.png"
            write_image(tmp_path / "src" / name, np.full((12, 16), 20 * patient, np.uint8))
            mask = np.zeros((12, 16), np.uint8)
            mask[2:10, 7:10], mask[10:12, 7:9] = 1, 3
            write_image(tmp_path / "masks" / name, mask)
    return tmp_path / "src"


def prepare(src, *flags):
    out = src.parent / "out"
    command = ["prepare", "folder", str(src), "--out", str(out), "--workers", "1", *flags]
    return main(command), out


def fill_disk_at(monkeypatch, word):
    """Files whose name holds `word` find no space."""
    replace = os.replace

    def full(source, target):
        if word in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)


def failure(src, capsys, *flags):
    status, out = prepare(src, *flags)
    assert status == 2
    assert not out.exists()
    error = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(error) == 1
    return error[0]


def test_pictures_masks_and_names_become_a_frames_folder(src, capsys):
    masks = str(src.parent / "masks")
    status, out = prepare(
        src, "--masks", masks, "--patient-regex", REGEX, "--captions", "plain", "--source", "toy"
    )
    assert status == 0
    frames = load_frames(out, require_mask=True)
    assert len(frames) == 20
    check_patients_apart(frames)
    first = frames[0]
    assert (first.patient_id, first.view, first.phase) == ("patient0000", "A4C", "ED")
    assert first.source == "toy"
    assert first.text == (
        "apical 4-chamber view, end of diastole, left ventricle and left atrium visible, elongated "
        "left ventricle, left atrium smaller than the left ventricle, echocardiogram"
    )
    np.testing.assert_array_equal(read_image_u8(out / frames[-1].file_name), 180)
    assert set(np.unique(read_mask_u8(out / str(first.mask_file_name)))) == {0, 1, 3}
    summary = capsys.readouterr().out
    assert "20 frames of 10 patients (train 14, val 4, test 2; 20 captioned)" in summary
    assert str(out) in summary


def test_frames_are_padded_to_a_square_never_stretched(src):
    _, out = prepare(src, "--patient-regex", REGEX, "--size", "32", "--spacing-mm", "0.5")
    frame = load_frames(out)[-1]
    image = read_image_u8(out / frame.file_name)
    assert image.shape == (32, 32)
    assert not image[:3].any()
    assert not image[-3:].any()
    assert (image[6:26] > 170).all()
    assert frame.spacing_mm == 0.25


def test_as_many_captions_as_asked_are_kept_in_the_train_split(src):
    _, out = prepare(src, "--patient-regex", REGEX, "--captions", "plain", "--annotated", "4")
    frames = load_frames(out)
    train = [frame for frame in frames if frame.split == "train"]
    assert sum(bool(frame.text) for frame in train) == 4
    assert len(train) == 14
    assert all(frame.text for frame in frames if frame.split != "train")


def test_the_draw_of_p1_leaves_the_other_train_frames_out(src):
    flags = ("--captions", "plain", "--annotated", "4", "--regularization", "6")
    _, out = prepare(src, "--patient-regex", REGEX, *flags)
    train = [frame for frame in load_frames(out) if frame.split == "train"]
    assert sorted(bool(frame.text) for frame in train) == [False] * 6 + [True] * 4
    assert len(load_frames(out)) == 16


def test_captions_come_from_a_table(src, tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text(
        'file_name,text,vendor\npatient0003_4CH_ED.png,"ASD, child",Philips\n', encoding="utf-8"
    )
    _, out = prepare(src, "--patient-regex", REGEX, "--captions", str(table))
    by_name = {frame.file_name: frame for frame in load_frames(out)}
    assert by_name["images/patient0003_4CH_ED.png"].text == "ASD, child"
    assert by_name["images/patient0003_4CH_ED.png"].vendor == "Philips"
    assert by_name["images/patient0004_4CH_ED.png"].text == ""


def test_a_table_in_cyrillic_letters_is_warned_about_once(src, tmp_path):
    table = tmp_path / "captions.csv"
    rows = "patient0003_4CH_ED.png,ДМПП\npatient0004_4CH_ED.png,ГЛЖ\npatient0005_4CH_ED.png,ASD\n"
    table.write_text(f"file_name,text\n{rows}", encoding="utf-8")
    with pytest.warns(UserWarning, match="Cyrillic letters in 2 of 3 captions") as caught:
        prepare(src, "--patient-regex", REGEX, "--captions", str(table))
    assert len(caught) == 1


def test_only_matching_pictures_are_taken(src):
    _, out = prepare(src, "--match", "*_ES.png", "--patient-regex", REGEX)
    assert len(load_frames(out)) == 10


def test_without_patients_it_says_so(src):
    with pytest.warns(UserWarning, match="every image counts as a patient of its own"):
        status, out = prepare(src)
    assert status == 0
    assert load_frames(out)[0].patient_id is None


def test_16_bit_pictures_share_one_scale(tmp_path):
    (tmp_path / "src").mkdir()
    for name, top in (("a_1", 4000), ("b_1", 200)):
        values = np.linspace(0, top, 64).astype(np.uint16).reshape(8, 8)
        Image.fromarray(values).save(tmp_path / "src" / f"{name}.png")
    _, out = prepare(tmp_path / "src", "--patient-regex", "([ab])")
    tops = [read_image_u8(out / frame.file_name).max() for frame in load_frames(out)]
    assert tops == [round(4000 / 4095 * 255), round(200 / 4095 * 255)]


def test_a_name_that_says_test_does_not_hide_the_other_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import load_dataset

    for name in ("test_1.png", "b_2.png", "train/c_3.jpg"):
        write_image(tmp_path / "src" / name, np.zeros((8, 8), np.uint8))
    _, out = prepare(tmp_path / "src", "--patient-regex", r"_(\d)")
    table = load_dataset("imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "cache"))
    assert table["train"].num_rows == 3


def test_the_same_command_gives_the_same_folder_and_refuses_the_finished_one(src, capsys):
    _, out = prepare(src, "--patient-regex", REGEX)
    before = (out / "metadata.jsonl").read_bytes()
    status, _ = prepare(src, "--patient-regex", REGEX)
    assert status == 2
    assert "--overwrite starts again" in capsys.readouterr().err
    status, _ = prepare(src, "--patient-regex", REGEX, "--overwrite", "--workers", "2")
    assert status == 0
    assert (out / "metadata.jsonl").read_bytes() == before


def test_a_disk_that_fills_up_is_one_line_and_the_command_goes_on_later(src, capsys, monkeypatch):
    fill_disk_at(monkeypatch, "patient0007")
    status, out = prepare(src, "--patient-regex", REGEX)
    assert status == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(error) == 1
    assert "patient0007_4CH_ED.png: No space left on device" in error[0]
    assert not (out / "metadata.jsonl").exists()
    assert len(list((out / "images").iterdir())) == 14
    monkeypatch.undo()
    status, _ = prepare(src, "--patient-regex", REGEX)
    assert status == 0
    assert len(load_frames(out)) == 20


def test_sources_that_changed_in_between_are_not_mixed_in(src, capsys, monkeypatch):
    table, mask = src.parent / "captions.csv", src.parent / "masks" / "patient0000_4CH_ED.png"
    table.write_text("file_name,text\npatient0003_4CH_ED.png,ASD\n")
    flags = ("--patient-regex", REGEX, "--captions", str(table), "--masks", str(mask.parent))
    fill_disk_at(monkeypatch, "patient0007")
    prepare(src, *flags)
    monkeypatch.undo()
    capsys.readouterr()
    as_it_was = {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in (table, mask, src / mask.name)
    }
    table.write_text("file_name,text\npatient0003_4CH_ED.png,VSD\n")
    write_image(mask, np.ones((12, 16), np.uint8))
    write_image(src / mask.name, np.full((12, 16), 7, np.uint8))
    for path, (content, time_ns) in as_it_was.items():  # each of them alone is enough
        status, out = prepare(src, *flags)
        assert status == 2, path
        assert "out: was begun with other" in capsys.readouterr().err
        path.write_bytes(content)
        os.utime(path, ns=(time_ns, time_ns))
    assert prepare(src, *flags)[0] == 0
    by_name = {frame.file_name: frame for frame in load_frames(out)}
    assert by_name["images/patient0003_4CH_ED.png"].text == "ASD"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--size", "8"], "--size must lie in 16..4096, got 8"),
        (["--split", "1/2"], "--split: expected three shares"),
        (["--seed", "-1"], "--seed must not be negative"),
        (["--annotated", "-1"], "--annotated must be at least 0"),
        (["--regularization", "4"], "--regularization requires --annotated"),
        (["--captions", "{nobody}"], "--captions: {nobody} is not known"),
        (["--captions", "words"], "--captions: got 'words', expected"),
        (["--mask-labels", "1=HEART"], "--mask-labels: '1=HEART' is neither"),
        (["--spacing-mm", "0"], "--spacing-mm must be above 0"),
        (["--max-value", "0"], "--max-value must be at least 1"),
        (["--patient-regex", "("], "--patient-regex: "),
        (["--patient-regex", "patient"], "needs a group"),
        (["--patient-regex", "(nobody)"], "patient0000_4CH_ED.png: does not match --patient-regex"),
        (["--match", "*.gif"], "no images match --match *.gif"),
        (["--masks", "nowhere"], "--masks: nowhere: no such folder"),
        (["--captions", "nowhere.csv"], "--captions: nowhere.csv: No such file or directory"),
    ],
)
def test_a_bad_flag_is_one_line_and_nothing_is_written(src, capsys, flags, words):
    regex = [] if "--patient-regex" in flags else ["--patient-regex", REGEX]
    assert words in failure(src, capsys, *flags, *regex)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,text\na,b\n", "captions.csv: has no column file_name"),
        ("file_name,text\nnobody.png,x\n", "nobody.png names no image in"),
        ("file_name,text\n{p},x\n{p},y\n", "line 3: patient0000_4CH_ED.png is repeated"),
        ('file_name,text\n"a.png,x\n', "captions.csv: "),
    ],
)
def test_a_bad_table_is_one_line(src, capsys, tmp_path, text, words):
    (tmp_path / "captions.csv").write_text(text.replace("{p}", "patient0000_4CH_ED.png"))
    flags = ("--patient-regex", REGEX, "--captions", str(tmp_path / "captions.csv"))
    assert words in failure(src, capsys, *flags)


def test_one_bad_picture_of_twenty_is_named_and_skipped(src, capsys):
    bad = src / "patient0009_4CH_ES.png"
    bad.write_bytes(bad.read_bytes()[:40])
    status, out = prepare(src, "--patient-regex", REGEX)
    assert status == 0
    assert len(load_frames(out)) == 19
    told = capsys.readouterr()
    assert told.err.count("skipped: ") == 1
    assert "patient0009_4CH_ES.png: damaged" in told.err
    assert "1 of 20 files were bad and skipped" in told.out
    assert "| files skipped as bad | 1 | |" in (out / "README.md").read_text()


def test_more_than_a_twentieth_of_bad_pictures_stops_it(src, capsys):
    masks = src.parent / "masks"
    bad = src / "patient0009_4CH_ES.png"
    bad.write_bytes(bad.read_bytes()[:40])
    write_image(masks / "patient0008_4CH_ES.png", np.zeros((4, 4), np.uint8))
    (masks / "patient0008_4CH_ED.png").unlink()
    flags = ("--patient-regex", REGEX, "--masks", str(masks))
    status, out = prepare(src, *flags)
    assert status == 2
    assert not (out / "metadata.jsonl").exists()  # what was written stays, and can be gone on with
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert "2 of 20 files are bad, more than 5%; --allow-bad skips them" in error
    status, out = prepare(src, *flags, "--allow-bad")
    assert status == 0
    assert len(load_frames(out)) == 17
    told = capsys.readouterr().err
    assert "patient0009_4CH_ES.png: damaged" in told
    assert "patient0008_4CH_ES.png: is (4, 4), its image (12, 16)" in told
    assert "patient0008_4CH_ED.png: has no mask in" in told


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((12, 16), 2.0, np.float32), "a floating-point image must lie in 0..1"),
        (np.full((12, 16), -5, np.int32), "negative values"),
    ],
)
def test_a_picture_out_of_range_leaves_nothing_behind(src, capsys, values, words):
    Image.fromarray(values).save(src / "patient0010_4CH_ED.tif")
    error = failure(src, capsys, "--patient-regex", REGEX, "--match", "*ient001*")
    assert f"patient0010_4CH_ED.tif: {words}" in error


@pytest.mark.parametrize("value", [4, 11])
def test_a_number_that_is_no_label_is_named(src, capsys, value):
    masks = src.parent / "masks"
    write_image(masks / "patient0000_4CH_ED.png", np.full((12, 16), value, np.uint8))
    flags = ("--patient-regex", REGEX, "--match", "*0_4CH_ED*", "--masks", str(masks))
    assert f"patient0000_4CH_ED.png: label {value} in the mask" in failure(
        src, capsys, *flags, "--mask-labels", "camus"
    )


def test_colours_of_a_mask_are_labels(src):
    masks = src.parent / "masks"
    for path in masks.iterdir():
        colours = np.zeros((12, 16, 3), np.uint8)
        colours[:6], colours[6:, :8] = (255, 0, 0), (255, 0, 255)
        Image.fromarray(colours).save(path)
    flags = ("--patient-regex", REGEX, "--masks", str(masks), "--mask-labels", "hvsmr")
    _, out = prepare(src, *flags)
    frame = load_frames(out)[0]
    mask = read_mask_u8(out / str(frame.mask_file_name))
    assert (mask[:6] == 1).all()
    assert (mask[6:, :8] == 12).all()
    assert not mask[6:, 8:].any()


def test_an_empty_and_a_missing_folder_are_one_line(tmp_path, capsys):
    assert "src: no such folder" in failure(tmp_path / "src", capsys)
    (tmp_path / "src").mkdir()
    assert "no images match" in failure(tmp_path / "src", capsys)


def test_two_pictures_of_one_name_are_refused(src, capsys):
    write_image(src / "patient0000_4CH_ED.bmp", np.zeros((12, 16), np.uint8))
    assert "has the same name apart from its suffix" in failure(
        src, capsys, "--patient-regex", REGEX
    )


# --- What lies beside pictures, and how tables are written -------------------------------------


def grey(folder, names):
    """Pictures of one grey level each, 10, 20, ..., by which they are known again."""
    for number, name in enumerate(names, start=1):
        write_image(folder / name, np.full((8, 8), 10 * number, np.uint8))
    return folder


def texts_by_grey(out):
    return {
        int(read_image_u8(out / f.file_name)[0, 0]): (f.text, f.patient_id)
        for f in load_frames(out)
    }


def test_folders_that_hold_no_data_are_left_out_and_counted(tmp_path):
    src = grey(tmp_path / "src", ["p0_a.png", "p1_a.png", "sub/p2_a.png"])
    for strange in (
        ".ipynb_checkpoints/p0_a-checkpoint.png", "@eaDir/p0_a.png/SYNOPHOTO_THUMB_S.jpg",
        "__MACOSX/sub/p2_a.png", "sub/.thumbnails/p2_a.png", "Thumbnails/p1_a.png",
    ):  # fmt: skip
        (src / strange).parent.mkdir(parents=True)
        (src / strange).write_bytes((src / "p0_a.png").read_bytes())
    for name in ("._p0_a.png", "Thumbs.db", "desktop.ini"):
        (src / name).write_bytes(b"\0\5\26\7")
    (src / "p3_a.heic").write_bytes(b"ftypheic")
    with pytest.warns(UserWarning, match=r"skipped, as not data .*\.heic 1, .*@eaDir 1"):
        status, out = prepare(src, "--patient-regex", r"(p\d)")
    assert status == 0
    assert [f.file_name for f in load_frames(out)] == [
        "images/p0_a.png", "images/p1_a.png", "images/sub__p2_a.png",
    ]  # fmt: skip
    # Nor do they make a finished folder a faulty one.
    (out / "images" / "@eaDir").mkdir()
    (out / "images" / "@eaDir" / "a.png").write_bytes((src / "p0_a.png").read_bytes())
    assert len(load_frames(out)) == 3


def test_masks_inside_the_source_are_no_pictures(tmp_path):
    src = grey(tmp_path / "src", ["p0_a.png", "p1_a.png"])
    for name in ("p0_a.png", "p1_a.png"):
        write_image(src / "labels" / name, np.ones((8, 8), np.uint8))
    status, out = prepare(src, "--masks", str(src / "labels"), "--patient-regex", r"(p\d)")
    assert status == 0
    assert len(load_frames(out, require_mask=True)) == 2


def test_two_masks_of_one_name_are_refused(tmp_path, capsys):
    src = grey(tmp_path / "src", ["p0_a.png"])
    write_image(tmp_path / "m" / "p0_a.png", np.ones((8, 8), np.uint8))
    write_image(tmp_path / "m" / "p0_a.tif", np.ones((8, 8), np.uint8))
    flags = ["--masks", str(tmp_path / "m"), "--patient-regex", r"(p\d)"]
    assert "has the same name apart from its suffix" in failure(src, capsys, *flags)


@pytest.mark.parametrize(
    "names",
    [
        ["a-test.png", "frame-000000.png", "frame-000001.png", "frame-000002.png"],
        ["b_val/a.png", "frame-000000.png", "frame-000003.png"],
        ["x" * 200 + "/" + "y" * 100 + ".png", "frame-000001.png", "frame-000000.png"],
        ["a\\b.png", "frame-000000.png"],
        ["a\nb.png", "frame-000000.png"],
        [os.fsdecode(b"caf\xe9.png"), "frame-000000.png"],
    ],
)
def test_a_caption_belongs_to_the_file_its_table_names_whatever_the_frame_is_called(
    tmp_path, names
):
    src = grey(tmp_path / "src", names)
    captions = tmp_path / "captions.csv"
    # The first picture is left out: no other's words may fall to it.
    named = {10 * n: name for n, name in enumerate(names, start=1) if n > 1}
    lines = [f"{name},grey {value},pat{value}" for value, name in named.items()]
    captions.write_text("\n".join(["file_name,text,patient_id", *lines]))
    status, out = prepare(src, "--captions", str(captions))
    assert status == 0
    assert texts_by_grey(out) == {10: ("", None)} | {
        value: (f"grey {value}", f"pat{value}") for value in named
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_are_read_as_spreadsheets_save_them(tmp_path, separator, encoding):
    src = grey(tmp_path / "src", ["a.png", "b.png"])
    rows = [
        ["patient_id", "file_name", " text "],
        ["Müller", "a.png", '"ÄSD, secundum; wide\u2028left\x85\x0bto right"'],
        ["", "", ""],
        ["P2", "b.png", "nan"],
    ]
    text = "\r\n".join(separator.join(row) for row in rows) + "\r\n\r\n"
    (tmp_path / "c.csv").write_bytes(text.encode(encoding))
    with pytest.warns(UserWarning, match="1 cells such as nan or none are read as empty"):
        status, out = prepare(src, "--captions", str(tmp_path / "c.csv"))
    assert status == 0
    assert texts_by_grey(out) == {
        10: ("ÄSD, secundum; wide\u2028left\x85\x0bto right", "Müller"),
        20: ("", "P2"),
    }


def test_rows_that_name_nothing_are_counted(tmp_path):
    src = grey(tmp_path / "src", ["a.png", "b.png"])
    (tmp_path / "c.csv").write_text("file_name,text,patient_id\na,one,p\nx.png,two,p\ny.png,,\n")
    with pytest.warns(UserWarning, match=r"c\.csv: 2 of 3 rows name nothing .* such as x\.png"):
        status, out = prepare(src, "--captions", str(tmp_path / "c.csv"))
    assert status == 0
    assert texts_by_grey(out) == {10: ("one", "p"), 20: ("", None)}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("file_name;text\na.png;ДМПП\n".encode("cp1251"), "is not UTF-8 text"),
        (b"file_name|text\na.png|one\n", "has no column file_name; columns are separated by"),
        (b"file_name,text\na.png,one\n,two\n", "line 3: has no file_name"),
        (b"file_name,text\na.png,one\na.png,two\n", "a.png is repeated"),
        (b"file_name,text,text\na.png,one,two\n", "two columns text"),
        (b"file_name,text\n", "holds no rows"),
    ],
)
def test_a_table_that_cannot_be_trusted_is_refused(tmp_path, capsys, data, words):
    src = grey(tmp_path / "src", ["a.png"])
    (tmp_path / "c.csv").write_bytes(data)
    assert words in failure(src, capsys, "--captions", str(tmp_path / "c.csv"))
