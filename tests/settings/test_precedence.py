"""Where two settings meet: the one that was given wins, and one line says so."""

import re

import pytest

from echodiff.__main__ import COMMANDS, GROUPS, PREPARE, main
from echodiff.diffusion.controlnet_config import TrainControlNetConfig
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.gan.gan_config import TrainGanConfig
from echodiff.settings.command_line import parse


def parse_lora(*words: str) -> TrainLoraConfig:
    return parse(TrainLoraConfig, words, prog="train_lora.py")


def parse_gan(*words: str) -> TrainGanConfig:
    words = ("--source", "a", "--target", "b", *words)
    return parse(TrainGanConfig, words, prog="echodiff train-gan")


def test_epochs_take_the_place_of_the_steps_of_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    config = parse_lora("--config", "demo", "--epochs", "2")
    assert (config.epochs, config.max_steps) == (2, None)
    assert capsys.readouterr().err == (
        "note: --epochs decides the length of the training, not max_steps of demo\n"
    )


def test_of_two_flags_the_steps_win_and_a_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    config = parse_lora("--max-steps", "10", "--epochs", "2")
    assert (config.epochs, config.max_steps) == (2, 10)
    assert capsys.readouterr().err == (
        "note: --max-steps decides the length of the training, not --epochs\n"
    )
    assert parse_lora("--config", "cmc2024", "--max-steps", "10").max_steps == 10
    assert parse_lora("--config", "demo").max_steps == 660
    assert capsys.readouterr().err == ""


def test_epochs_of_a_gan_take_the_place_of_the_steps_of_a_file(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"{tmp_path}/own.yaml"
    with open(path, "w") as file:
        file.write("steps: 1000\n")
    assert parse_gan("--config", path, "--epochs", "3").steps is None
    assert capsys.readouterr().err.startswith("note: --epochs decides the length")
    assert parse_gan("--config", path, "--decay-epochs", "3").steps == 1000  # its share of them
    assert parse_gan("--config", path).steps == 1000
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--nce-weight", "2"], "--nce-weight has no effect with --method cyclegan"),
        (["--method", "regression", "--pool-size", "9"],
         "--pool-size has no effect with --method regression"),
        (["--cycle-weight", "2", "--pool-size", "9"], None),
    ],
)  # fmt: skip
def test_a_flag_of_another_method_is_told(
    words: list[str], line: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    parse_gan(*words)
    assert capsys.readouterr().err == ("" if line is None else f"note: {line}\n")


def test_flags_without_what_they_need_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    parse_lora("--data", "frames", "--phantom-frames", "9", "--evaluate-images", "9")
    assert capsys.readouterr().err.splitlines() == [
        "note: --phantom-frames has no effect with --data: phantom frames are made without it only",
        "note: --evaluate-images has no effect without --evaluate-every",
    ]
    parse_lora("--phantom-frames", "9", "--evaluate-images", "9", "--evaluate-every", "5")
    assert capsys.readouterr().err == ""
    parse_lora("--sample-steps", "9", "--num-samples", "2", "--held-out-every", "5")
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == [
        "--sample-steps",
        "--num-samples",
    ]
    parse_lora("--sample-steps", "9", "--num-samples", "2", "--sample-every", "5")
    assert capsys.readouterr().err == ""


DIALECT = ("a picture", "whatever", "judge", "the maker", "comma between", "one a core")
SHORT = 12


@pytest.mark.parametrize(
    "command",
    [
        *(name for name in COMMANDS if name != "prepare" and name not in GROUPS),
        *(f"prepare {name}" for name in PREPARE),
        *(f"{group} {name}" for group, names in GROUPS.items() for name in names),
    ],
)
def test_every_flag_has_a_sentence_in_plain_words(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    flags = re.findall(r"^  (--\S+).*\n((?:      .*\n?)+)", text, re.MULTILINE)
    assert len(flags) == len(re.findall(r"^  --", text, re.MULTILINE)) > 1
    for flag, block in flags:
        sentence = re.sub(r"\(([^()]*)\)$", "", " ".join(block.split())).strip()
        assert len(sentence) > SHORT, f"{flag}: {block}"
        assert sentence.endswith("."), f"{flag}: {block}"
    words = " ".join(text.lower().split())
    assert [word for word in DIALECT if word in words] == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--kind", "controlnet", "--rank", "4"], "--rank has no effect with --kind controlnet"),
        (["--kind", "concat", "--rank", "4"], None),
        (["--sample-steps", "9"], None),  # of the images whose masks are read
        (["--obedience-images", "0", "--obedience-every", "9"],
         "--obedience-every has no effect with --obedience-images 0"),
        (["--obedience-images", "0", "--sample-steps", "9"],
         "--sample-steps has no effect without --sample-every or --evaluate-every"),
    ],
)  # fmt: skip
def test_a_flag_of_another_kind_of_weights_is_told(
    words: list[str], line: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    parse(TrainControlNetConfig, words, prog="echodiff train-controlnet")
    assert capsys.readouterr().err == ("" if line is None else f"note: {line}\n")
