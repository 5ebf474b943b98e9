"""The one call that measures on a GPU: it keeps to its time, and says what it did not reach."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "on_gpu.py"


@pytest.fixture(scope="module")
def on_gpu():
    spec = importlib.util.spec_from_file_location("on_gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["on_gpu"] = module  # its dataclass looks for itself there
    spec.loader.exec_module(module)
    return module


def measure(*flags):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, flags)], capture_output=True, text=True
    )
    return done, json.loads(done.stdout.splitlines()[-1])


def test_rows_that_are_not_reached_are_marked(tmp_path):
    done, report = measure("--seconds", 1, "--out", tmp_path / "out.json")
    assert done.returncode == 1
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == report
    names = [row["name"] for row in report["rows"]]
    assert names == [
        "pytest -m gpu", "random weights of SD 1.5", "LoRA, batch 2 at 512, 120 steps",
        "LoRA, batch 16 at 512, 60 steps", "LoRA, batch 2 at 512, 880 steps (the recipe's run)",
        "images of 256 px", "step of cyclegan", "step of cut",
    ]  # fmt: skip
    assert {row["status"] for row in report["rows"]} == {"not reached"}
    assert done.stdout.count("| not reached |") == len(names)


def test_a_row_is_cut_off_with_what_it_started_and_the_rest_goes_on(on_gpu):
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    say = [sys.executable, "-c", "print('| a | b |\\n|---|---|\\n| x | 2.5 |')"]
    rows = [on_gpu.Row("long", 4, sleep), on_gpu.Row("short", 4, say)]
    start = time.monotonic()
    for row, seconds in on_gpu.share_out(rows, start + 6.5):
        on_gpu.run_row(row, min(seconds, 1), {})
    assert time.monotonic() - start < 6.5
    assert [row.status for row in rows] == ["cut off after 1 s", "passed"]
    assert rows[1].tables == [{"a": "x", "b": "2.5"}]


@pytest.mark.slow
def test_every_row_runs_at_toy_size(tmp_path):
    flags = ("--device", "cpu", "--toy", "--out", tmp_path / "out.json")
    done, report = measure(*flags)
    status = {row["name"]: row["status"] for row in report["rows"]}
    assert set(status.values()) <= {"passed"}, done.stdout
    assert all(row["tables"] for row in report["rows"][1:])
