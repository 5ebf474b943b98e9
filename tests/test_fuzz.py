"""Commands on made-up folders of strangers, a few of the benchmark's ten thousand."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks/fuzz.py"
    spec = importlib.util.spec_from_file_location("fuzz", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_folder_of_a_stranger_ends_in_a_traceback(fuzz: ModuleType) -> None:
    assert fuzz.run(60, 0).statuses.total() >= 50


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_none_of_ten_thousand_does(fuzz: ModuleType) -> None:
    assert fuzz.run(10_000, 0).statuses.total() > 9_000
