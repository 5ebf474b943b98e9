import importlib
import importlib.util
import subprocess
import sys
import time

import pytest

from echodiff import __version__
from echodiff.__main__ import COMMANDS, GROUPS, main


def test_help_lists_every_command_with_one_line(capsys):
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, (_, text) in COMMANDS.items():
        assert [line.split() for line in lines].count([name, *text.split()]) == 1


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_lists_its_own(group, capsys):
    assert main([group, "--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in GROUPS[group])


def test_no_command_is_bad_input(capsys):
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: echodiff")


@pytest.mark.parametrize("argv", [["fantom"], ["prepare", "foldr"], ["study", "analyse"]])
def test_an_unknown_command_is_one_line(argv, capsys):
    assert main(argv) == 2
    captured = capsys.readouterr().err
    assert "did you mean" in captured
    assert captured.count("\n") == 1


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"echodiff {__version__}\n"


def test_help_starts_at_once_and_loads_nothing():
    code = (
        "import sys; from echodiff.__main__ import main; main(['--help']);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'yaml', 'diffusers')))"
    )
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        best = min(best, time.perf_counter() - start)
    assert best < 0.5


@pytest.mark.parametrize(
    "command", [*COMMANDS, *(f"{g} {name}" for g, names in GROUPS.items() for name in names)]
)
def test_every_command_has_help_and_refuses_unknown_flags(command, capsys):
    words = command.split()
    module = GROUPS[words[0]][words[1]][0] if words[1:] else COMMANDS[words[0]][0]
    if not module:
        pytest.skip("a group of commands")
    if not module.endswith(".py"):
        assert hasattr(
            importlib.import_module(module), "SOURCE" if words[0] == "prepare" else "main"
        )
    assert main([*words, "--help"]) == 0
    assert f"usage: echodiff {command}" in capsys.readouterr().out
    assert main([*words, "--of-nobody", "1"]) == 2
    error = capsys.readouterr().err
    assert "--of-nobody is unknown" in error
    assert error.count("\n") == 1
