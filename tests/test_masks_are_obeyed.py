"""The bars of docs/controlnet.md: weights trained on phantoms obey the masks of other patients."""

import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
KIND = "controlnet"
BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "controlnet.py"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmark's folder after a third of its steps, for one kind."""
    work = tmp_path_factory.mktemp("masks")
    words = ["--kinds", KIND, "--steps", 1000, "--images", 48, "--guidance", 5]
    command = [sys.executable, BENCHMARK, work, *words, "--only", "train,draw,score"]
    subprocess.run([*map(str, command)], check=True)
    return work


def test_masks_are_obeyed_as_they_are_moved_and_without_a_label(
    work: Path, load_benchmark: Callable[[str], ModuleType]
) -> None:
    args = Namespace(work=work, kinds=[KIND], guidance=[5.0])
    lines = load_benchmark("controlnet").list_bars(args)
    assert len(lines) == 8
    assert not [line for line in lines if not line.startswith("reached")]


def test_100_labelled_frames_are_drawn_in_90_seconds(work: Path, tmp_path: Path) -> None:
    words = ["generate", "--masks", work / "frames", "--num-images", 100, "--fast", "--weights",
             work / "runs" / KIND, "--out", tmp_path / "drawn"]  # fmt: skip
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "echodiff", *map(str, words)], check=True)
    assert time.monotonic() - started < 90
    assert len(list((tmp_path / "drawn" / "masks").iterdir())) == 100
