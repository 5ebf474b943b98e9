"""Run commands on a few of the ten thousand made-up folders of benchmarks/fuzz.py."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        yield importlib.import_module("fuzz")


def test_no_folder_of_a_stranger_ends_in_a_traceback(fuzz: ModuleType) -> None:
    assert fuzz.run(60, 0).statuses.total() >= 50


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_none_of_ten_thousand_does(fuzz: ModuleType) -> None:
    assert fuzz.run(10_000, 0).statuses.total() > 9_000
