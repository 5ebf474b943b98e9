"""Prompt files as a user writes them."""

from pathlib import Path

import pytest

from echodiff.diffusion.sampling.prompts import (
    Prompt,
    cycle_prompts,
    load_prompts,
    parse_prompt,
)
from echodiff.errors import InputError


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


def test_prompts_in_cyrillic_letters_are_counted_in_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("ДМПП, полости не расширены\nASD\nГЛЖ\n", encoding="utf-8")
    assert len(load_prompts(path)) == 3
    (record,) = caplog.records
    assert "Cyrillic letters in 2 of 3 captions" in record.message


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
    with pytest.raises(InputError, match=r"empty\.txt: contains no prompt"):
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


def load(tmp_path: Path, text: str | bytes) -> list[Prompt]:
    path = tmp_path / "mine.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_prompts(path)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("(ASD:1.3), (wide (left:1.1) atrium:0.8)", "ASD, wide left atrium"),
        ("[blurry] ASD, ((small)) heart, (((LV)))", "blurry ASD, small heart, LV"),
        ("<lora:echo_v2:0.8>, ASD <hypernet:a:1>, child", "ASD, child"),
        ("ASD \\(secundum\\), child", "ASD (secundum), child"),
    ],
)
def test_markup_of_web_uis_is_not_drawn_as_words(
    tmp_path: Path, line: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = load(tmp_path, f"{line}\n{line}\n{line} | weight=2\n")
    assert [prompt.text for prompt in prompts] == [text] * 3
    assert prompts[2].weight == 2
    assert len(caplog.messages) == 1  # once, whatever the number of lines
    assert "mine.txt, line 1: " in caplog.messages[0]


def test_words_in_parentheses_stay_as_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["ASD (secundum), E/A (ratio: 1.2)", "view (4-chamber (apical)), 3 < 4 > 2"]
    assert [prompt.text for prompt in load(tmp_path, "\n".join(lines))] == lines
    assert not caplog.messages


def test_a_web_uis_negative_prompt_and_settings_belong_to_the_prompt_above(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = load(
        tmp_path,
        "ASD\nNegative prompt: (blurry:1.2), text\nSteps: 20, Sampler: Euler a, CFG scale: 7\n"
        "LVH | weight=2\nVSD Negative prompt: dilated Steps: 30, Seed: 1\n",
    )
    assert prompts == [
        Prompt(text="ASD", negative="blurry, text"),
        Prompt(text="LVH", weight=2),
        Prompt(text="VSD", negative="dilated"),
    ]
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Negative prompt: text\nASD", "line 1: a negative prompt before any prompt"),
        ('ASD | negative="a"\nNegative prompt: b', "line 2: .* two negative prompts"),
        ("[ASD:VSD:0.5] heart", r"line 1: \[ASD:VSD:0.5\] changes during sampling"),
        ("[ASD|VSD] heart", "line 1: .* changes during sampling"),
        ("<lora:echo:1>", "line 1: no prompt"),
        ("ASD\rVSD\r", "carriage returns"),
        ("ASD\nVSD".encode("utf-16-le"), "not UTF-8"),
        ("ДМПП".encode("cp1251"), "not UTF-8"),
    ],
)
def test_what_cannot_be_understood_is_refused(
    tmp_path: Path, text: str | bytes, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        load(tmp_path, text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_line_ends_at_a_line_feed_and_nowhere_else(tmp_path: Path, encoding: str) -> None:
    text = "ASD,\u2028secundum\x0btype,\x85child\x1cof 4\r\nДМПП | weight=2\r\n"
    assert load(tmp_path, text.encode(encoding)) == [
        Prompt(text="ASD, secundum type, child of 4"),
        Prompt(text="ДМПП", weight=2),
    ]
