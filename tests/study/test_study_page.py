"""The commands and the compose file of docs/study.md are real."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

from echodiff.__main__ import STUDY
from echodiff.settings.command_line import parse
from echodiff.study.export import ExportConfig
from echodiff.study.invite import InviteConfig
from echodiff.study.password import PasswordConfig
from echodiff.study.serve import ServeConfig
from echodiff.study.web.site import ASSETS, PLACE

PAGE = (Path(__file__).parents[2] / "docs" / "study.md").read_text("utf-8")
CONFIGS = {
    "serve": ServeConfig, "invite": InviteConfig, "password": PasswordConfig,
    "export": ExportConfig,
}  # fmt: skip


def test_the_commands_of_the_page_are_real():
    blocks = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
    lines = [line for line in "".join(blocks).splitlines() if line.startswith("echodiff study ")]
    assert len(lines) >= 7
    for line in lines:
        _, _, name, *words = shlex.split(line)
        assert parse(CONFIGS[name], words, prog="docs")
    for name in CONFIGS:
        assert hasattr(importlib.import_module(STUDY[name][0]), "main")


def test_the_compose_file_starts_the_server_with_flags_it_knows():
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    compose = yaml.safe_load(text)
    assert set(compose["services"]) == {"db", "app", "proxy"}
    command = compose["services"]["app"]["command"]
    words = shlex.split(shlex.split(command)[2].split("echodiff study serve ")[1])
    config = parse(ServeConfig, words, prog="docs")
    assert config.proxy == compose["services"]["proxy"]["networks"]["web"]["ipv4_address"]
    for service in compose["services"].values():
        assert set(service.get("secrets", [])) <= set(compose["secrets"])


@pytest.mark.parametrize("name", CONFIGS)
def test_help_names_every_flag(name, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(CONFIGS[name], ["--help"], prog=f"echodiff study {name}")
    assert stop.value.code == 0
    assert "--database" in capsys.readouterr().out


def test_what_the_pages_need_ships_with_the_package():
    assert all((PLACE / "static" / name).is_file() for name in ASSETS)
    assert (PLACE / "templates" / "rating.html").is_file()
