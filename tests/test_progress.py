"""Progress bars where nobody watches: one line, and no carriage return."""

import re
import sys
from pathlib import Path

import pytest

from echodiff.__main__ import main
from echodiff.progress import ProgressBar

PACKAGE = Path(__file__).parents[1] / "echodiff"


def test_elsewhere_than_on_a_terminal_a_bar_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(total=10, initial=2, desc="training", unit="step") as bar:
        for _ in range(8):
            bar.update()
            bar.set_postfix(loss="0.1")
    for number in ProgressBar(range(3), "encoding", unit="frame"):
        if number == 1:
            ProgressBar.write("skipped: a.png", file=sys.stderr)
    lines = capsys.readouterr().err
    assert "\r" not in lines
    assert [re.sub(r" in .*", "", line) for line in lines.splitlines()] == [
        "training: 10 of 10",
        "skipped: a.png",
        "encoding: 3 of 3",
    ]


def test_a_bar_that_an_interrupt_ends_leaves_the_line_to_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(KeyboardInterrupt), ProgressBar(total=880, desc="training") as bar:
        bar.update(40)
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


def test_a_bar_that_is_off_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(ProgressBar(range(3), "encoding", disable=True)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_on_a_terminal_it_is_the_bar_of_tqdm(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(ProgressBar(range(3), "encoding", ncols=60)) == [0, 1, 2]
    assert re.search(r"\rencoding: 100%.*3/3", capsys.readouterr().err)


def test_the_log_of_a_command_has_no_carriage_return(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["phantom", "--num", "4", "--size", "64", "--workers", "1"]
    assert main([*words, "--out", str(tmp_path / "frames")]) == 0
    lines = capsys.readouterr().err
    assert "\r" not in lines
    assert [line[:15] for line in lines.splitlines()] == ["phantom: 4 of 4"]


def test_no_module_takes_another_bar() -> None:
    takers = [
        path
        for path in PACKAGE.rglob("*.py")
        if re.search(r"(from|import) tqdm", path.read_text("utf-8"))
    ]
    assert [path.name for path in takers] == ["progress.py"]


def test_a_bar_that_an_interrupt_left_half_made_closes_in_silence(capsys):
    bar = ProgressBar.__new__(ProgressBar)
    bar.close()
    assert capsys.readouterr().err == ""
