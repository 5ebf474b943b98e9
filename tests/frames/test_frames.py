import errno
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echodiff.errors import InputError
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.images import read_image_u8, read_mask_u8, write_image

GRAY = np.arange(64, dtype=np.uint8).reshape(8, 8)


def write_folder(out, num=3, **options):
    with FramesWriter(out, **options) as writer:
        for index in range(num):
            frame = Frame(file_name=f"{index}.png", text="a heart", patient_id=f"p{index}")
            writer.add(frame, GRAY + np.uint8(index), GRAY % 3)


def rewrite(folder, change):
    path = folder / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in change(rows)))


def set_key(key, value):
    return lambda rows: [rows[0] | {key: value}, *rows[1:]]


def drop_key(key):
    return lambda rows: [{k: v for k, v in rows[0].items() if k != key}, *rows[1:]]


def names_in(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_folder_holds_exactly_pictures_masks_and_rows(tmp_path):
    write_folder(tmp_path / "out", 2)
    assert names_in(tmp_path / "out") == [
        "images/0.png",
        "images/1.png",
        "masks/0.png",
        "masks/1.png",
        "metadata.jsonl",
    ]
    frames = load_frames(tmp_path / "out", require_mask=True)
    assert [frame.file_name for frame in frames] == ["images/0.png", "images/1.png"]
    np.testing.assert_array_equal(read_image_u8(tmp_path / "out/images/1.png"), GRAY + 1)
    np.testing.assert_array_equal(read_mask_u8(tmp_path / "out/masks/1.png"), GRAY % 3)


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
text_columns = ["patient_id", "view", "phase", "vendor", "split", "record", "prompt", "weights"]
rows = st.builds(
    Frame,
    file_name=st.from_regex(r"images/[a-z0-9]{1,8}\.png", fullmatch=True),
    text=words,
    findings=st.none() | st.lists(words, max_size=3),
    seed=st.none() | st.integers(0, 2**63),
    spacing_mm=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    extra=st.dictionaries(words.filter(lambda key: key not in Frame.__annotations__), words),
    **{name: st.none() | words for name in text_columns},
)


@given(st.lists(rows, min_size=1, max_size=4, unique_by=lambda frame: frame.file_name))
def test_rows_are_read_back_as_they_were_written(tmp_path_factory, frames):
    out = tmp_path_factory.mktemp("frames") / "out"
    with FramesWriter(out) as writer:
        for frame in frames:
            writer.add(frame, GRAY)
    assert load_frames(out) == sorted(frames, key=lambda frame: frame.file_name)


def test_none_is_not_written(tmp_path):
    with FramesWriter(tmp_path / "out") as writer:
        writer.add(Frame(file_name="a.png", text=""), GRAY)
    row = json.loads((tmp_path / "out/metadata.jsonl").read_text())
    assert row == {"file_name": "images/a.png", "text": ""}


def test_datasets_opens_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import load_dataset

    write_folder(tmp_path / "out", 3)
    write_image(tmp_path / "out/contact_sheet.png", GRAY)
    table = load_dataset(
        "imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache")
    )["train"]
    assert table.num_rows == 3
    assert table["text"][0] == "a heart"
    np.testing.assert_array_equal(np.asarray(table[2]["image"]), GRAY + 2)


def test_datasets_opens_masks_as_images_and_keeps_types_and_splits(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import Image, List, Value, load_dataset

    with FramesWriter(tmp_path / "out") as writer:
        for index, split in enumerate(("train", "test", "train")):
            frame = Frame(file_name=f"{index}.png", text="", split=split, spacing_mm=0.5,
                          seed=2**40, findings=["asd"])  # fmt: skip
            writer.add(frame, GRAY, np.full_like(GRAY, 3) if index else None)
    place = {"data_dir": str(tmp_path / "out"), "cache_dir": str(tmp_path / "cache")}
    table = load_dataset("imagefolder", split="train", **place)
    kinds = table.features
    assert isinstance(kinds["image"], Image)
    assert isinstance(kinds["mask"], Image)
    assert kinds["findings"] == List(Value("string"))
    assert [kinds[name] for name in ("text", "split", "spacing_mm", "seed")] == [
        Value("string"), Value("string"), Value("float64"), Value("int64"),
    ]  # fmt: skip
    assert table[0]["mask"] is None
    np.testing.assert_array_equal(np.asarray(table[1]["mask"]), np.full_like(GRAY, 3))
    only = load_dataset("imagefolder", split="train", filters=[("split", "==", "test")], **place)
    assert [row["split"] for row in only] == ["test"]


def test_datasets_streams_the_folder_row_by_row(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import load_dataset

    write_folder(tmp_path / "out", 3)
    (tmp_path / "out/images/2.png").write_bytes(b"")  # not reached, so not opened
    rows = load_dataset(
        "imagefolder", data_dir=str(tmp_path / "out"), split="train", streaming=True
    )
    first, second = rows.take(2)
    assert [first["text"], second["text"]] == ["a heart", "a heart"]
    np.testing.assert_array_equal(np.asarray(second["image"]), GRAY + 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop_key("text"), r'line 1: key "text" is missing \(the empty prompt is ""\)'),
        (drop_key("file_name"), r'line 1: key "file_name" is missing'),
        (set_key("text", 5), r'line 1: "text" must be str, got 5'),
        (set_key("spacing_mm", "wide"), r'"spacing_mm" must be float'),
        (set_key("spacing_mm", float("nan")), r"spacing_mm: nan is not a finite number"),
        (set_key("seed", True), r'"seed" must be int'),
        (set_key("findings", [1]), r'"findings" must be a list of words'),
        (set_key("file_name", "../x.png"), r"must be a path inside the folder"),
        (set_key("file_name", "/etc/x.png"), r"must be a path inside the folder"),
        (set_key("mask_file_name", "..\\x.png"), r"must be a path inside the folder"),
        (set_key("file_name", "images/1.png"), r"line 2: images/1.png is also in line 1"),
        (set_key("file_name", "images/9.png"), r"images/9.png: has a row but no image"),
        (set_key("mask_file_name", "masks/9.png"), r"masks/9.png: is named by a row but missing"),
        (lambda rows: rows[1:], r"images/0.png: image without a row"),
        (lambda rows: [], r"no frames"),
        (lambda rows: [[1], *rows], r"line 1: expected a JSON object"),
    ],
)
def test_a_bad_row_is_an_input_error_that_names_file_and_line(tmp_path, change, words):
    write_folder(tmp_path / "out")
    rewrite(tmp_path / "out", change)
    with pytest.raises(InputError, match=words) as caught:
        load_frames(tmp_path / "out")
    assert str(tmp_path / "out") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_an_empty_and_a_broken_folder_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_frames(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no metadata\.jsonl"):
        load_frames(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": ')
    with pytest.raises(InputError, match=r"metadata\.jsonl, line 1"):
        load_frames(tmp_path)
    (tmp_path / "metadata.jsonl").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        load_frames(tmp_path)


def test_a_mask_can_be_asked_for(tmp_path):
    with FramesWriter(tmp_path / "out") as writer:
        writer.add(Frame(file_name="a.png", text=""), GRAY)
    with pytest.raises(InputError, match=r"images/a\.png: has no mask"):
        load_frames(tmp_path / "out", require_mask=True)


def test_a_flat_folder_of_another_tool_is_read(tmp_path):
    write_image(tmp_path / "a.png", GRAY)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "", "score": 3}\n\n')
    (frame,) = load_frames(tmp_path)
    assert frame.extra == {"score": 3}
    write_image(tmp_path / "b.png", GRAY)
    with pytest.raises(InputError, match=r"b\.png: image without a row"):
        load_frames(tmp_path)


def interrupted(out, num, **options):
    with pytest.raises(KeyboardInterrupt), FramesWriter(out, **options) as writer:
        for index in range(num):
            writer.add(Frame(file_name=f"{index}.png", text="a heart"), GRAY)
        raise KeyboardInterrupt


def test_an_interrupted_folder_is_gone_on_with_and_ends_as_if_it_had_not_been(tmp_path):
    interrupted(tmp_path / "a", 2)
    with pytest.raises(InputError, match="unfinished"):
        load_frames(tmp_path / "a")
    for out in (tmp_path / "a", tmp_path / "b"):
        with FramesWriter(out) as writer:
            assert writer.done == ({"images/0.png", "images/1.png"} if out.name == "a" else set())
            for index in (4, 3, 1, 0, 2):
                if f"{index}.png" not in writer:
                    writer.add(Frame(file_name=f"{index}.png", text="a heart"), GRAY)
    assert names_in(tmp_path / "a") == names_in(tmp_path / "b")
    for name in names_in(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_half_a_line_and_a_picture_without_its_row_are_made_anew(tmp_path):
    out = tmp_path / "out"
    interrupted(out, 2)
    write_image(out / "images/7.png", GRAY)
    with (out / "metadata.partial.jsonl").open("a") as file:
        file.write('{"file_name": "images/7.p')
    with FramesWriter(out) as writer:
        assert writer.done == {"images/0.png", "images/1.png"}
    assert names_in(out) == ["images/0.png", "images/1.png", "metadata.jsonl"]


def test_an_unfinished_folder_of_other_settings_is_refused(tmp_path):
    interrupted(tmp_path / "out", 1, fingerprint="seed 0")
    with (
        pytest.raises(InputError, match="begun with other settings or files; --overwrite"),
        FramesWriter(tmp_path / "out", fingerprint="seed 1"),
    ):
        pass
    with FramesWriter(tmp_path / "out", fingerprint="seed 1", overwrite=True) as writer:
        assert writer.done == set()


def test_a_finished_folder_is_refused_and_overwritten_when_told(tmp_path):
    out = tmp_path / "out"
    write_folder(out, 3)
    with pytest.raises(InputError, match="is a finished frames folder; --overwrite"):
        write_folder(out, 1)
    assert len(load_frames(out)) == 3
    write_folder(out, 1, overwrite=True)
    assert names_in(out) == ["images/0.png", "masks/0.png", "metadata.jsonl"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_foreign_folder_is_never_touched(tmp_path, overwrite):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/holiday.png").write_bytes(b"x")
    with pytest.raises(InputError, match="is not empty and is not a frames folder"):
        write_folder(tmp_path, overwrite=overwrite)
    assert names_in(tmp_path) == ["images/holiday.png"]


def test_a_file_in_the_way_is_an_input_error(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(InputError, match="is a file, not a folder"):
        write_folder(tmp_path / "out")


def test_a_failure_before_the_first_frame_leaves_nothing(tmp_path):
    interrupted(tmp_path / "out", 0)
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_leaves_whole_frames_only(tmp_path, monkeypatch):
    out = tmp_path / "out"
    replace = os.replace

    def full_at_2(source, target):
        if str(target).endswith("2.png"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full_at_2)
    with pytest.raises(OSError, match=r"No space left on device: .*2\.png"):
        write_folder(out)
    assert [name for name in names_in(out) if "2" in name or "partial-" in name] == []
    monkeypatch.undo()
    write_rest = FramesWriter(out)
    with write_rest as writer:
        assert writer.done == {"images/0.png", "images/1.png"}
    assert len(load_frames(out)) == 2


def test_processes_share_a_folder_by_shards(tmp_path):
    out = tmp_path / "out"
    with FramesWriter(out) as first:
        with FramesWriter(out, shard=1) as second:
            for index in range(5):
                writer = (first, second)[index % 2]
                writer.add(Frame(file_name=f"{index}.png", text=""), GRAY)
        assert not (out / "metadata.jsonl").exists()
    frames = load_frames(out)
    assert [frame.file_name for frame in frames] == [f"images/{i}.png" for i in range(5)]
    assert not list(out.glob("metadata.partial*"))


def test_a_name_is_taken_once_and_stays_inside(tmp_path):
    with FramesWriter(tmp_path / "out") as writer:
        frame = Frame(file_name="a.png", text="")
        writer.add(frame, GRAY)
        with pytest.raises(ValueError, match=r"images/a\.png is already in"):
            writer.add(frame, GRAY)
        with pytest.raises(InputError, match="inside the folder"):
            writer.add(Frame(file_name="../b.png", text=""), GRAY)
        with pytest.raises(ValueError, match=r"mask \(4, 4\), image \(8, 8\)"):
            writer.add(Frame(file_name="c.png", text=""), GRAY, GRAY[:4, :4])
