import errno
import os

import pytest

from echodiff.files import (
    append_line,
    shipped,
    write_json_atomic,
    write_text_atomic,
    written_beside,
)


def full_disk(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_file_appears_when_the_block_ends_well(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with written_beside(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
        assert partial.suffix == path.suffix
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()])
def test_a_failure_keeps_the_old_file_and_leaves_no_other(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)), written_beside(path) as partial:
        partial.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file_that_was_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left") as caught:
        write_text_atomic(tmp_path / "a.txt", "text")
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_json_does_not_know_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json_atomic(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_lines_are_appended(tmp_path):
    append_line(tmp_path / "a.jsonl", "1")
    append_line(tmp_path / "a.jsonl", "é")
    assert (tmp_path / "a.jsonl").read_text("utf-8") == "1\né\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device that is always full")
def test_a_line_that_does_not_fit_names_its_file(tmp_path):
    (tmp_path / "a.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        append_line(tmp_path / "a.jsonl", "1")
    assert caught.value.filename == str(tmp_path / "a.jsonl")


def test_shipped_files_are_found():
    assert shipped("presets").is_dir()
    with pytest.raises(FileNotFoundError, match="not shipped"):
        shipped("prompts/of-nobody.txt")
