import numpy as np
import pytest

from echodiff.__main__ import main
from echodiff.frames.reader import load_frames
from echodiff.images import read_image_u8, write_image


@pytest.fixture
def src(tmp_path):
    """CT-to-MRI as it is on disk: ct*.png and mri*.png, of other numbers."""
    for folder, word, num in (("trainA", "ct", 5), ("testA", "ct", 2), ("trainB", "mri", 4)):
        for number in range(num):
            image = np.full((8, 8), 10 * number + len(word), np.uint8)
            write_image(tmp_path / "src" / folder / f"{word}{number}.png", image)
    return tmp_path / "src"


def prepare(src, *flags):
    out = src.parent / "out"
    return main(["prepare", "unpaired", str(src), "--out", str(out), *flags]), out


def test_two_domains_become_two_frames_folders_with_their_own_split(src):
    status, out = prepare(src)
    assert status == 0
    ct, mr = load_frames(out / "a"), load_frames(out / "b")
    assert [frame.split for frame in ct] == ["test"] * 2 + ["train"] * 5
    assert [frame.split for frame in mr] == ["train"] * 4
    assert {frame.modality for frame in ct} == {"ct"}
    assert {frame.modality for frame in mr} == {"mr"}
    assert read_image_u8(out / "a" / ct[3].file_name)[0, 0] == 12


def test_a_brain_is_called_a_brain(src):
    _, out = prepare(src)
    assert {frame.text for frame in load_frames(out / "a")} == {"CT of the brain"}
    assert {frame.text for frame in load_frames(out / "b")} == {"MR of the brain"}
    for domain in ("a", "b"):
        assert "not hearts" in (out / domain / "README.md").read_text("utf-8")


def test_shares_may_be_drawn_instead(src):
    _, out = prepare(src, "--split", "60/20/20")
    splits = sorted(str(frame.split) for frame in load_frames(out / "a"))
    assert splits == ["test"] + ["train"] * 4 + ["val"] * 2


def test_a_missing_domain_is_one_line_and_nothing_is_written(src, capsys):
    for path in (src / "trainB").iterdir():
        path.unlink()
    (src / "trainB").rmdir()
    status, out = prepare(src)
    assert status == 2
    assert "trainB: no such folder" in capsys.readouterr().err
    assert not out.exists()


def test_training_takes_either_domain(src, assert_accepted):
    _, out = prepare(src)
    assert_accepted(out / "a")
