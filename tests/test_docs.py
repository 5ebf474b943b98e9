"""What the pages say is there is there."""

import dataclasses
import re
from pathlib import Path

import pytest
from pydicom import examples

from echodiff.__main__ import COMMANDS, PREPARE, main
from echodiff.anatomy import Label
from echodiff.config import parse, preset_names
from echodiff.data.clip import ClipConfig
from echodiff.data.folder import FolderConfig
from echodiff.diffusion.generate_config import GenerateConfig
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.evaluate import EvaluateConfig
from echodiff.frames import Frame, load_frames

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
            assert words[1] != "prepare" or words[2] in PREPARE, f"{page.name}: {line}"


@pytest.mark.parametrize(("name", "config"), [("folder", FolderConfig), ("dicom", ClipConfig)])
def test_the_flags_of_prepare_on_the_page_are_real(name, config):
    lines = text_of("frames.md").replace("\\\n", " ").splitlines()
    (line,) = [li for li in lines if li.startswith(f"echodiff prepare {name}") and "$(" not in li]
    words = [word.strip('"') for word in line.split()[3:]]
    assert parse(config, words, prog="docs")


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


def test_the_clip_on_the_page_becomes_frames(tmp_path):
    out = str(tmp_path / "clip")
    clip = str(examples.get_path("ybr_color"))
    assert main(["prepare", "dicom", clip, "--out", out, "--view", "A4C"]) == 0
    assert len(load_frames(tmp_path / "clip")) == 30
