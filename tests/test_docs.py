"""What the pages say is there is there."""

import dataclasses
import importlib
import re
import shlex
from pathlib import Path

import pytest
from pydicom import examples

from echodiff.__main__ import COMMANDS, GROUPS, PREPARE, main
from echodiff.anatomy import Label
from echodiff.data.cards import read_head
from echodiff.data.check.faults import KINDS
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.sampling.settings import GenerateConfig
from echodiff.evaluate import EvaluateConfig
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.settings.command_line import parse
from echodiff.settings.fields import preset_names

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def text_of(name):
    return (ROOT / "docs" / name).read_text("utf-8")


def test_every_column_is_documented_and_no_other():
    table = re.findall(r"^\| `(\w+)` \|", text_of("frames.md"), re.MULTILINE)
    columns = [field.name for field in dataclasses.fields(Frame) if field.name != "extra"]
    assert sorted(table) == sorted(columns)


def test_every_label_is_documented_in_its_order():
    names = re.search(r"^\| (background .*) \|$", text_of("frames.md"), re.MULTILINE).group(1)
    labels = [label.name.lower().replace("_", " ") for label in Label]
    assert [name.strip().lower() for name in names.split("|")] == labels


def test_every_preset_is_documented_and_no_other():
    section = text_of("configuration.md").split("## Presets")[1].split("## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == preset_names()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_the_pages_exist(page):
    blocks = re.findall(r"```(?:\w*)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "echodiff" and not words[1].startswith("-"):
            assert words[1] in COMMANDS, f"{page.name}: {line}"
            assert words[1] not in GROUPS or words[2] in GROUPS[words[1]], f"{page.name}: {line}"


def prepare_lines():
    lines = text_of("data.md").replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("echodiff prepare") and "$(" not in line]


@pytest.mark.parametrize("name", PREPARE)
def test_every_source_is_on_the_page_and_its_flags_are_real(name):
    config = importlib.import_module(PREPARE[name][0]).SOURCE.config
    lines = [shlex.split(line) for line in prepare_lines()]
    found = [words[3:] for words in lines if words[2] == name]
    assert found
    for words in found:
        assert parse(config, words, prog="docs")


def test_every_kind_of_fault_is_on_the_page_and_no_other():
    kinds = re.findall(r"^\| (`[^|]+`) \|", text_of("check.md"), re.MULTILINE)
    listed = {kind for cell in kinds for kind in re.findall(r"`([\w-]+)`", cell)}
    assert listed == set(KINDS)


@pytest.mark.parametrize(
    "card", sorted((ROOT / "data_cards").iterdir()), ids=lambda card: card.name
)
def test_every_card_says_what_may_be_shared(card):
    head = read_head(card)
    assert head["license"]
    assert str(head["echodiff_weights_may_be_shared"]) in {"yes", "no", "ask"}


@pytest.mark.parametrize(
    ("start", "config"),
    [
        ("accelerate launch train_lora.py ", TrainLoraConfig),
        ("python generate.py ", GenerateConfig),
        ("echodiff evaluate ", EvaluateConfig),
    ],
)
def test_the_flags_of_the_configuration_page_are_real(start, config):
    lines = text_of("configuration.md").splitlines()
    (line,) = [line for line in lines if line.startswith(start)]
    assert parse(config, line.removeprefix(start).split(), prog="docs")


def test_the_evaluations_of_the_readme_are_real():
    text = (ROOT / "README.md").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("echodiff evaluate ")]
    single, several = (parse(EvaluateConfig, line.split()[2:], prog="docs") for line in lines)
    assert single.train is not None
    assert several.compare
    assert len(several.generated) == 2


def test_the_python_of_the_evaluation_page_runs(make_frames, tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", text_of("evaluation.md"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for name, count in (("generated/asd-1", 8), ("frames/held-out", 12)):
        make_frames(name, captioned=count)
    exec(code, {})
    assert re.search(r"MMD² -?\d\.\d{3} \[", capsys.readouterr().out)


def test_the_clip_on_the_page_becomes_frames(tmp_path):
    out = str(tmp_path / "clip")
    clip = str(examples.get_path("ybr_color"))
    assert main(["prepare", "dicom", clip, "--out", out, "--view", "A4C"]) == 0
    assert len(load_frames(tmp_path / "clip")) == 30
