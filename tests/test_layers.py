"""The rules of the house that a reader of the source would check by hand."""

import ast
import graphlib
import shutil
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "echodiff").rglob("*.py"))
SCRIPTS = [ROOT / "train_lora.py", ROOT / "generate.py"]
LOOPS = {"train"}
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc", "core", "manager"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_at_import(path):
    """What importing a module imports: not in functions, not for type checkers alone."""
    queue = list(ast.parse(path.read_text("utf-8")).body)
    while queue:
        node = queue.pop()
        if isinstance(node, ast.FunctionDef) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ):
            continue
        queue.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def longest_module(name, modules):
    """The one of `modules` that `a.b.c` is, or is a name in."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def relative(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.skipif(shutil.which("lint-imports") is None, reason="import-linter is in extra dev")
def test_imports_run_downward():
    result = subprocess.run(["lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_importing_the_package_imports_nothing():
    code = "import sys; before = set(sys.modules); import echodiff; print(*set(sys.modules)-before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["echodiff"]


@pytest.mark.parametrize("package", ["data", "phantom", "study"])
def test_what_handles_data_never_names_torch(package):
    for path in (ROOT / "echodiff" / package).rglob("*.py"):
        heavy = {name.split(".")[0] for name in imported(path)} & {"torch", "diffusers", "peft"}
        assert not heavy, f"{relative(path)} imports {heavy}"


def test_only_config_knows_the_command_line_library():
    for path in [*SOURCES, *SCRIPTS]:
        if relative(path) != "echodiff/settings/command_line.py":
            names = {name.split(".")[0] for name in imported(path)}
            assert not names & {"jsonargparse", "argparse"}, relative(path)


def test_modules_are_short_and_are_called_what_they_are():
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    for path, length in lengths.items():
        assert path.stem not in FORBIDDEN_NAMES, relative(path)
        assert length <= 400, relative(path)
    assert statistics.median(lengths.values()) <= 150
    for path in SCRIPTS:
        assert len(path.read_text("utf-8").splitlines()) <= 100, relative(path)


def test_functions_are_short_but_the_training_loops():
    for path in [*SOURCES, *SCRIPTS]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name not in LOOPS:
                length = node.end_lineno - node.lineno + 1
                assert length <= 90, f"{relative(path)}: {node.name} has {length} lines"


def test_no_module_imports_itself_by_way_of_others():
    names = {name_of(path) for path in SOURCES}
    graph = {
        name_of(path): {longest_module(name, names) for name in imported_at_import(path)} - {None}
        for path in SOURCES
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"import cycle: {' <- '.join(error.args[1])}")


def test_nothing_is_pickled():
    for path in [*SOURCES, *SCRIPTS]:
        assert not set(imported(path)) & {"pickle", "cloudpickle", "joblib", "dill"}, relative(path)


def test_every_module_and_public_class_says_what_it_is():
    for path in SOURCES:
        tree = ast.parse(path.read_text("utf-8"))
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        for node in [tree, *(c for c in classes if not c.name.startswith("_"))]:
            assert ast.get_docstring(node), f"{relative(path)}: {getattr(node, 'name', 'module')}"


def test_the_wheel_is_told_of_every_shipped_folder():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    for source in build["targets"]["wheel"]["force-include"]:
        assert (ROOT / source).exists(), source
