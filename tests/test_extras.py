"""What the README installs runs what the README shows; a missing extra is one line."""

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from echodiff.extras import EXTRA_OF
from echodiff.settings.command_line import run_main

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

NEEDING = {
    "prepare dicom": "pydicom",
    "prepare camus": "nibabel",
    "prepare acdc": "nibabel",
    "prepare mnms": "nibabel",
    "prepare mesh": "nibabel",
    "prepare echonet-dynamic": "av",
    "prepare echonet-pediatric": "av",
    "study serve": "alembic",
    "study invite": "alembic",
    "study password": "alembic",
    "study export": "sqlalchemy",
}
"""Commands that cannot start without an optional package."""

CHILD = f"""
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
for module in {sorted(EXTRA_OF)!r}:
    sys.modules[module] = None  # as if it were not installed
from echodiff.__main__ import COMMANDS, GROUPS, main
told = {{}}
for command in [*COMMANDS, *(f"{{g}} {{name}}" for g, names in GROUPS.items() for name in names)]:
    with redirect_stderr(io.StringIO()) as error, redirect_stdout(io.StringIO()):
        status = main([*command.split(), "--help"])
    told[command] = status, error.getvalue()
print(json.dumps(told))
"""


def test_without_the_extras_every_command_starts_or_names_the_one_it_needs():
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    for command, (status, error) in told.items():
        if module := NEEDING.get(command):
            line = f"needs the package {module}: pip install 'echodiff[{EXTRA_OF[module]}]'"
            assert (status, error) == (2, f"echodiff {command}: error: {line}\n")
        else:
            assert (status, error) == (0, ""), command
    assert told.keys() >= NEEDING.keys()


@pytest.mark.parametrize("module", EXTRA_OF)
def test_every_optional_package_is_named_with_its_extra(module, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    assert run_main(lambda: __import__(module), "echodiff") == 2
    command = f"pip install 'echodiff[{EXTRA_OF[module]}]'"
    assert capsys.readouterr().err == f"echodiff: error: needs the package {module}: {command}\n"


def test_any_other_failed_import_is_our_own_mistake():
    with pytest.raises(ModuleNotFoundError):
        run_main(lambda: __import__("a_module_of_nobody"), "echodiff")


DISTRIBUTION = {
    "PIL": "pillow", "cleanfid": "clean-fid", "detect_secrets": "detect-secrets",
    "phonenumbers": "phonenumberslite", "skimage": "scikit-image", "yaml": "pyyaml",
    "vtkmodules": "pyvista", "python_multipart": "python-multipart",
}  # fmt: skip


def names(requirements):
    return {line.split("[")[0].split(">")[0].split("=")[0].strip() for line in requirements}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_every_import_is_declared_and_every_extra_brings_what_it_promises():
    sources = [*(ROOT / "echodiff").rglob("*.py"), ROOT / "train_lora.py", ROOT / "generate.py"]
    modules = {name for path in sources for name in imported(path)}
    others = modules - set(sys.stdlib_module_names) - {"echodiff", "__future__"} - EXTRA_OF.keys()
    core = names(PROJECT["dependencies"])
    assert {DISTRIBUTION.get(name, name) for name in others} <= core
    for module, extra in EXTRA_OF.items():
        distribution = DISTRIBUTION.get(module, module)
        assert distribution in names(EXTRAS[extra])
        assert distribution not in core
