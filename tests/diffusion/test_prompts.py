"""Prompt files as a user writes them."""

from pathlib import Path

import pytest

from echodiff.config import InputError
from echodiff.diffusion.prompts import Prompt, cycle_prompts, load_prompts, parse_prompt


def test_comments_blank_lines_and_options_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(
        "\ufeff# first a comment\n\n  ASD,   secundum type  \n"
        'LVH | guidance=4.5 weight=2 negative="dilated LV"\n',
        encoding="utf-8",
    )
    assert load_prompts(path) == [
        Prompt(text="ASD, secundum type"),
        Prompt(text="LVH", guidance=4.5, weight=2, negative="dilated LV"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("LVH | guidance=0.5", "guidance=0.5"),
        ("LVH | guidance=nan", "guidance=nan"),
        ("LVH | weight=1.5", "weight=1.5"),
        ("LVH | weight=0", "weight=0"),
        ("LVH | steps=3", "steps=3"),
        ("LVH | weight=2 weight=3", "twice"),
        ("LVH | thick", "key=value"),
        ('LVH | negative="open', "quotation"),
        (" | weight=2", "no prompt"),
    ],
)
def test_malformed_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(f"ASD\n{line}\n")
    with pytest.raises(InputError, match=rf"mine\.txt, line 2: .*{reason}"):
        load_prompts(path)


@pytest.mark.parametrize("text", ["", "# only a comment\n\n"])
def test_file_without_prompt_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "empty.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=r"empty\.txt: holds no prompt"):
        load_prompts(path)


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_prompts(tmp_path / "missing.txt")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        load_prompts(tmp_path / "image.png")


def test_weights_go_round_by_round() -> None:
    prompts = [parse_prompt("a"), parse_prompt("b | weight=3"), parse_prompt("c | weight=2")]
    assert [prompt.text for prompt in cycle_prompts(prompts)] == ["a", "b", "c", "b", "c", "b"]
