"""Output folders: two processes at once, inputs in the way, files of others, what is left after."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from echodiff.__main__ import main
from echodiff.errors import InputError
from echodiff.files import written_beside
from echodiff.folders import LOCK, FolderLock
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.images import write_image
from echodiff.runs import Run, claim_free

GRAY = np.arange(4096, dtype=np.uint8).reshape(64, 64)
REGEX = ["--patient-regex", r"([a-z0-9-]+)"]
PHANTOM = ["phantom", "--num", "2", "--size", "64", "--workers", "1"]
HOLD = "import sys, pathlib; from echodiff.folders import FolderLock\n" \
       "lock = FolderLock(pathlib.Path(sys.argv[1]), beside=len(sys.argv) > 2).acquire()\n" \
       "print('held', flush=True); sys.stdin.read()"  # fmt: skip


def names_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def files_in(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names_in(folder)}


@contextmanager
def held(folder: Path, *beside: str) -> Iterator[int]:
    """Another process has the folder's lock; gives its id."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *beside],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process.pid
        finally:
            process.kill()  # not asked to give it back


def refused(capsys: pytest.CaptureFixture[str], *command: object) -> str:
    capsys.readouterr()
    assert main([str(word) for word in command]) == 2
    (line,) = [
        line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if "error" in line
    ]
    return line


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(8):
        write_image(tmp_path / "pictures" / f"p{number}_a.png", GRAY + np.uint8(number))
    return tmp_path / "pictures"


# --- two processes


def test_the_second_process_is_refused_with_the_firsts_id_and_a_dead_one_holds_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with held(out) as pid:
        before = files_in(out)
        line = refused(capsys, *PHANTOM, "--out", out)
        assert f"process {pid} on " in line
        assert "is writing there" in line
        assert files_in(out) == before
    assert main([*PHANTOM, "--out", str(out)]) == 0
    assert LOCK not in names_in(out)
    assert len(load_frames(out)) == 2


def test_evaluate_and_pushes_have_locks_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*PHANTOM, "--out", str(tmp_path / "a")]) == 0
    with held(tmp_path / "scores") as pid:
        flags = ["evaluate", tmp_path / "a", "--reference", tmp_path / "a", "--split", "train"]
        assert f"process {pid} on " in refused(capsys, *flags, "--out", tmp_path / "scores")
    with held(tmp_path / "pulled", "beside") as pid:
        line = refused(capsys, "pull", "jane/hearts", "--out", tmp_path / "pulled")
        assert f"process {pid} on " in line


def test_a_name_is_claimed_once(tmp_path: Path) -> None:
    with claim_free(tmp_path / "runs", "lora") as first, claim_free(tmp_path / "runs", "lora") as b:
        assert [first.folder.name, b.folder.name] == ["lora-1", "lora-2"]
    assert not (tmp_path / "runs").exists()  # nothing was begun in them


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from echodiff import folders

    lock_descriptor, calls = folders.lock_descriptor, []

    def remove_first(descriptor: int, *, blocking: bool) -> bool:
        if not calls:
            (tmp_path / "out" / LOCK).unlink()  # as its last holder does
        calls.append(descriptor)
        return lock_descriptor(descriptor, blocking=blocking)

    monkeypatch.setattr(folders, "lock_descriptor", remove_first)
    with FolderLock(tmp_path / "out"):
        assert len(calls) == 2
        with pytest.raises(InputError, match="is writing there"):
            FolderLock(tmp_path / "out").acquire()


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from echodiff import folders

    def none(descriptor: int, *, blocking: bool) -> bool:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(folders, "lock_descriptor", none)
    with FramesWriter(tmp_path / "out") as writer:
        writer.add(Frame(file_name="a.png", text=""), GRAY)
    assert "has no locks (No locks available)" in caplog.text


# --- what a command reads


def test_overwrite_never_removes_what_the_command_reads(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fr"
    assert main(["prepare", "folder", str(pictures), "--out", str(out), *REGEX]) == 0
    before = files_in(tmp_path)
    links = tmp_path / "links"
    links.mkdir()
    for path in (out / "images").iterdir():
        (links / path.name).symlink_to(path)
    (tmp_path / "other").symlink_to(out)
    for src, place in (
        (out / "images", out),
        (out, out),
        (links, out),
        (tmp_path / "other" / "images", out),
        (out / "images", tmp_path / "other"),
    ):
        line = refused(capsys, "prepare", "folder", src, "--out", place, "--overwrite", *REGEX)
        assert "which this command reads" in line
    shutil.rmtree(links)
    (tmp_path / "other").unlink()
    assert files_in(tmp_path) == before


def test_evaluate_does_not_write_into_what_it_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*PHANTOM, "--out", str(tmp_path / "a")]) == 0
    flags = ["evaluate", tmp_path / "a", "--reference", tmp_path / "a", "--overwrite"]
    assert "which this command reads" in refused(capsys, *flags, "--out", tmp_path / "a")


# --- files of others


@pytest.mark.parametrize("name", ["images/labels.csv", "notes.txt", "images/mine.png",
                                  "masks/x/old.png", "images/.hidden"])  # fmt: skip
def test_overwrite_of_frames_removes_what_the_rows_name_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / "out"
    assert main([*PHANTOM, "--out", str(out)]) == 0
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_bytes(b"mine")
    before = files_in(out)
    assert f"holds {name}," in refused(capsys, *PHANTOM, "--out", out, "--overwrite")
    assert files_in(out) == before
    (out / name).unlink()
    assert main([*PHANTOM, "--out", str(out), "--overwrite", "--seed", "1"]) == 0


def test_overwrite_does_not_follow_a_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*PHANTOM, "--out", str(out)]) == 0
    (out / "images").rename(tmp_path / "images")
    (out / "images").symlink_to(tmp_path / "images")
    assert "holds images," in refused(capsys, *PHANTOM, "--out", out, "--overwrite")
    assert len(list((tmp_path / "images").iterdir())) == 2


def test_a_run_json_of_another_tool_and_its_checkpoints_stay(tmp_path: Path) -> None:
    def begin(overwrite: bool) -> Run:
        return Run.create(tmp_path / "r", command="train_lora", config={}, overwrite=overwrite)

    (tmp_path / "r" / "checkpoints").mkdir(parents=True)
    (tmp_path / "r" / "checkpoints" / "best.ckpt").write_bytes(b"theirs")
    (tmp_path / "r" / "run.json").write_text('{"status": "finished", "id": "abc"}')
    before = files_in(tmp_path)
    for overwrite in (True, False):
        with pytest.raises(InputError, match=r"holds run\.json, which no run of echodiff wrote"):
            begin(overwrite)
    assert files_in(tmp_path) == before
    (tmp_path / "r" / "run.json").unlink()
    (tmp_path / "r" / "checkpoints" / "best.ckpt").rename(tmp_path / "best.ckpt")
    (tmp_path / "r" / "checkpoints").rmdir()
    begin(False).finish()
    for name in ("checkpoints/best.ckpt", "model.safetensors", "samples/mine.png"):
        (tmp_path / "r" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "r" / name).write_bytes(b"theirs")
        before = files_in(tmp_path)
        with pytest.raises(InputError, match=f"holds {name}, "):
            begin(True)
        assert files_in(tmp_path) == before
        (tmp_path / "r" / name).unlink()
    assert not begin(True).is_finished


# --- what was written stays


def test_more_bad_files_than_allowed_leave_what_was_written(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (3, 6):
        (pictures / f"p{number}_a.png").write_bytes(b"no picture")
    flags = [
        "prepare",
        "folder",
        str(pictures),
        "--out",
        str(tmp_path / "out"),
        "--workers",
        "1",
        *REGEX,
    ]
    assert "--allow-bad skips them" in refused(capsys, *flags)
    assert len(list((tmp_path / "out" / "images").iterdir())) == 3
    assert names_in(tmp_path / "out").count("metadata.partial.jsonl") == 1
    assert main([*flags, "--allow-bad"]) == 0
    assert "2 of 8 files were bad and skipped" in capsys.readouterr().out
    assert len(load_frames(tmp_path / "out")) == 6


def test_a_preparation_goes_on_where_names_had_to_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a:b.png", "c.png"):
        write_image(tmp_path / "src" / name, GRAY)
    flags = ["prepare", "folder", str(tmp_path / "src"), "--out", str(tmp_path / "out"), *REGEX]
    add = FramesWriter.add

    def stop_after_one(writer: FramesWriter, *given: object) -> Frame:
        if writer.done:
            raise KeyboardInterrupt
        return add(writer, *given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(FramesWriter, "add", stop_after_one)
        assert main([*flags, "--workers", "1"]) == 130
    assert main([*flags, "--workers", "1"]) == 0
    names = [frame.file_name for frame in load_frames(tmp_path / "out")]
    assert names == ["images/a-3ab.png", "images/c.png"]


def test_a_frame_whose_name_no_file_can_have_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    with FramesWriter(tmp_path / "out") as writer:
        writer.add(Frame(file_name="a.png", text=""), GRAY, GRAY % 3)
        for name in ("b" * 300 + ".png", "bad\udcff.png"):
            with pytest.raises(InputError):
                writer.add(Frame(file_name=name, text=""), GRAY, GRAY % 3)
        writer.add(Frame(file_name="c.png", text=""), GRAY)
    assert names_in(tmp_path / "out") == ["images/a.png", "images/c.png", "masks/a.png",
                                          "metadata.jsonl"]  # fmt: skip
    assert len(load_frames(tmp_path / "out")) == 2


def test_a_folder_in_which_nothing_was_written_is_gone_and_its_parents_too(tmp_path: Path) -> None:
    with pytest.raises(InputError), FramesWriter(tmp_path / "a" / "b"):
        raise InputError("no")
    assert not (tmp_path / "a").exists()


def test_a_torn_row_is_cut_off_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it is cut, the rows before it are all there: nothing is written anew."""
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), FramesWriter(out) as writer:
        for name in ("a.png", "b.png"):
            writer.add(Frame(file_name=name, text=""), GRAY)
        raise KeyboardInterrupt
    rows = (out / "metadata.partial.jsonl").read_bytes()
    place = (out / "metadata.partial.jsonl").stat().st_ino
    (out / "metadata.partial.jsonl").write_bytes(rows + b'{"file_name": "images/c.png", "te')
    write_image(out / "images" / "c.png", GRAY)
    monkeypatch.setattr(Path, "write_bytes", lambda *_: pytest.fail("rewritten"))
    with pytest.raises(KeyboardInterrupt), FramesWriter(out):
        assert (out / "metadata.partial.jsonl").read_bytes() == rows
        assert (out / "metadata.partial.jsonl").stat().st_ino == place
        raise KeyboardInterrupt
    assert names_in(out / "images") == ["a.png", "b.png"]


def test_a_picture_of_somebody_else_in_an_unfinished_folder_is_not_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), FramesWriter(out) as writer:
        writer.add(Frame(file_name="a.png", text=""), GRAY)
        raise KeyboardInterrupt
    write_image(out / "images" / "mine.png", GRAY)
    with pytest.raises(InputError, match=r"mine\.png: no row"), FramesWriter(out):
        pass
    assert (out / "images" / "mine.png").exists()


def test_settings_and_files_that_differ_are_named(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (3, 6):
        (pictures / f"p{number}_a.png").write_bytes(b"no picture")
    flags = ["prepare", "folder", pictures, "--out", tmp_path / "out", "--workers", "1", *REGEX]
    refused(capsys, *flags)
    line = refused(capsys, *flags, "--seed", "4", "--allow-bad")
    assert "begun with other settings or files; --overwrite starts again. It differs in" in line
    assert "--seed (0 there, 4 here)" in line
    write_image(pictures / "p9_a.png", GRAY)
    assert "p9_a.png (new)" in refused(capsys, *flags)


# --- temporary names


def test_temporary_names_are_new_files_that_no_link_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from echodiff import files

    (tmp_path / "theirs").write_text("theirs")
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "guessed")
    (tmp_path / ".partial-guessed.txt").symlink_to(tmp_path / "theirs")
    with pytest.raises(FileExistsError), written_beside(tmp_path / "a.txt"):
        pass
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_what_a_killed_write_left_is_cleaned_by_the_next_call(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), FramesWriter(out) as writer:
        writer.add(Frame(file_name="a.png", text=""), GRAY)
        raise KeyboardInterrupt
    (out / "images" / ".partial-0011.png").write_bytes(b"half")
    (out / ".partial-0022.jsonl").write_bytes(b"half")
    with FramesWriter(out):
        pass
    assert names_in(out) == ["images/a.png", "metadata.jsonl"]
    run = Run.create(tmp_path / "run", command="train_lora", config={})
    (run.run_dir / ".partial-0033.json").write_bytes(b"half")
    Run.create(tmp_path / "run", command="train_lora", config={})
    assert names_in(run.run_dir) == ["config.yaml", "run.json"]
    assert json.loads((run.run_dir / "run.json").read_text())["status"] == "running"
    assert os.stat(run.run_dir / "run.json").st_mode & 0o044  # others may read it


def test_a_folder_that_another_process_has_just_begun_names_that_process(tmp_path, capsys):
    out = tmp_path / "out"
    with FolderLock(out):
        (out / "images").mkdir()  # neither rows nor a record of the job yet
        status = main(["phantom", "--num", "1", "--size", "64", "--out", str(out)])
    assert status == 2
    assert f"process {os.getpid()} on" in capsys.readouterr().err
    assert (out / "images").is_dir()
