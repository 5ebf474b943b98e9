"""`echodiff prepare dataset`: data sets of Hugging Face `datasets` become frames folders."""

import io
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from echodiff.__main__ import main
from echodiff.frames.reader import load_frames
from echodiff.images import read_image_u8, read_mask_u8

SHAPE = (12, 16)


def gray(index: int) -> np.ndarray:
    return np.full(SHAPE, 12 * index, np.uint8)


def png(values: np.ndarray) -> dict[str, object]:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "png")
    return {"bytes": buffer.getvalue(), "path": None}


def columns(num: int, **more: list) -> dict[str, list]:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:10, 7:10], mask[10:12, 7:9] = 1, 3
    return {
        "image": [png(gray(index)) for index in range(num)],
        "text": [f"heart {index}" if index % 2 else None for index in range(num)],
        "patient_id": [index // 2 for index in range(num)],
        "view": ["A4C"] * num,
        "mask": [png(mask)] * num,
    } | more


def table(values: dict[str, list], **features: object) -> datasets.Dataset:
    built = datasets.Dataset.from_dict(values)
    kinds = {"image": datasets.Image(), "mask": datasets.Image()} | features
    for name, kind in kinds.items():
        if name in built.column_names:
            built = built.cast_column(name, kind)
    return built


@pytest.fixture
def prepare(tmp_path, capsys):
    """`prepare(data set or SRC, *flags)` -> exit status, out, stdout, stderr."""

    def run(src, *flags, workers="1"):
        if not isinstance(src, str | Path):
            src.save_to_disk(tmp_path / "src")
            src = tmp_path / "src"
        out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        argv = ["prepare", "dataset", str(src), "--out", str(out), "--workers", workers, *flags]
        capsys.readouterr()
        status = main(argv)
        return status, out, *capsys.readouterr()

    return run


def test_a_saved_data_set_becomes_a_frames_folder(prepare):
    status, out, _, _ = prepare(table(columns(20)), "--mask", "mask", "--source", "toy")
    assert status == 0
    frames = load_frames(out, require_mask=True)
    assert len(frames) == 20
    assert [frame.text for frame in frames[:4]] == ["", "heart 1", "", "heart 3"]
    assert [frame.patient_id for frame in frames[:4]] == ["0", "0", "1", "1"]
    assert {(frame.view, frame.source, frame.modality) for frame in frames} == {
        ("A4C", "toy", "echo")
    }
    homes: dict[str, set] = {}
    for frame in frames:
        homes.setdefault(frame.patient_id, set()).add(frame.split)
    assert all(len(splits) == 1 for splits in homes.values())
    for index in (0, 7):
        image = read_image_u8(out / frames[index].file_name)
        np.testing.assert_array_equal(image, gray(index))
        mask = read_mask_u8(out / frames[index].mask_file_name)
        assert (mask == 1).sum() == 24
        assert (mask == 3).sum() == 4


def test_two_processes_write_the_same(prepare):
    _, one, _, _ = prepare(table(columns(20)))
    status, two, _, _ = prepare(one.parent / "src", workers="2")
    assert status == 0
    assert (one / "metadata.jsonl").read_bytes() == (two / "metadata.jsonl").read_bytes()


def test_splits_of_the_data_set_are_official(prepare):
    parts = {"train": 6, "validation": 2, "test": 4}
    whole = table(columns(12))
    start, found = 0, {}
    for name, num in parts.items():
        found[name] = whole.select(range(start, start + num))
        start += num
    status, out, _, _ = prepare(datasets.DatasetDict(found), "--split", "official")
    assert status == 0
    assert [frame.split for frame in load_frames(out)] == (
        ["train"] * 6 + ["val"] * 2 + ["test"] * 4
    )


def test_other_columns_are_named(prepare):
    values = columns(4)
    values = {"frame": values["image"], "label": [0, 1, 0, 1], "person": ["a", "a", "b", "b"]}
    kinds = {"frame": datasets.Image(), "label": datasets.ClassLabel(names=["normal", "ASD"])}
    flags = ("--image", "frame", "--caption", "label", "--patient", "person")
    status, out, _, _ = prepare(table(values, **kinds), *flags)
    assert status == 0
    assert [frame.text for frame in load_frames(out)] == ["normal", "ASD", "normal", "ASD"]


def test_none_takes_no_caption(prepare):
    _, out, _, _ = prepare(table(columns(4)), "--captions", "none")
    assert {frame.text for frame in load_frames(out)} == {""}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--image", "picture"), "--image: train has no column picture; it has image, text, "),
        (("--image", "text"), "--image: text is no column of images in train"),
        (("--mask", "masks"), "--mask: train has no column masks"),
        (("--caption", "report"), "--caption: train has no column report"),
        (("--patient", "person"), "--patient: train has no column person"),
        (("--max-value", "0"), "--max-value must be at least 1"),
        (("--name", "english"), "is a saved data set and has no configurations"),
    ],
)
def test_a_bad_flag_is_one_line_and_nothing_is_written(prepare, flags, words):
    status, out, _, err = prepare(table(columns(4)), *flags)
    assert status == 2
    assert words in err
    assert err.count("error: ") == 1
    assert not out.exists()


@pytest.mark.parametrize("name", ["text", "patient_id"])
def test_a_column_of_lists_is_no_text(prepare, name):
    status, out, _, err = prepare(table(columns(4, **{name: [["a", "b"]] * 4})))
    assert status == 2
    assert f"{name}: holds List(" in err
    assert not out.exists()


def test_what_is_no_data_set_is_one_line(prepare, tmp_path):
    (tmp_path / "pictures").mkdir()
    for src, words in (
        (tmp_path / "pictures", "holds no data set that save_to_disk wrote; `echodiff prepare"),
        (tmp_path / "none", "no such folder; a data set of a hub is written hub:USER/NAME"),
        ("hub:hearts", "missing user name; expected USER/NAME"),
    ):
        status, out, _, err = prepare(src)
        assert status == 2
        assert words in err
        assert not out.exists()


@pytest.mark.filterwarnings("ignore:no column:UserWarning")
def test_deep_pixels_need_their_white(prepare):
    deep = {"image": [png(np.full(SHAPE, 900, np.uint16))] * 3}
    status, out, _, err = prepare(table(deep))
    assert status == 2
    assert "row-000000: has more than 8 bits; --max-value says what is white" in err
    status, out, _, _ = prepare(out.parent / "src", "--max-value", "1023")
    assert status == 0
    assert read_image_u8(out / load_frames(out)[0].file_name).max() == round(900 * 255 / 1023)


def test_a_white_level_of_8_bit_images_is_refused(prepare):
    status, _, _, err = prepare(table(columns(4)), "--max-value", "1023")
    assert status == 2
    assert "row-000000: has 8 bits, where --max-value has no meaning" in err


def test_a_file_that_a_table_names_on_this_machine_is_not_read(prepare, tmp_path):
    secret = tmp_path / "secret.png"
    Image.fromarray(gray(3)).save(secret)
    status, out, _, err = prepare(save_unread(table(columns(20)), tmp_path / "planted"))
    assert status == 0
    assert "names the file" in err
    assert len(load_frames(out)) == 19


def save_unread(built: datasets.Dataset, folder: Path) -> Path:
    """`save_to_disk` would copy files in that a table names: write it as a stranger's table."""
    import pyarrow as pa

    built.save_to_disk(folder)
    (file,) = folder.glob("*.arrow")
    with pa.OSFile(str(file)) as source:
        read = pa.ipc.open_stream(source).read_all()
    rows = read.column("image").to_pylist()
    rows[4] = {"bytes": None, "path": str(folder.parent / "secret.png")}
    kind = read.schema.field("image").type
    read = read.set_column(
        read.schema.get_field_index("image"), read.schema.field("image"), pa.array(rows, kind)
    )
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, read.schema) as writer:
        writer.write_table(read)
    return folder
