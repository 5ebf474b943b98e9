"""The script as a person starts it: accelerate launch, torchrun, one process and two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent.parent / "train_lora.py"
WEIGHTS = "pytorch_lora_weights.safetensors"
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]
TWO = {
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"],
    # Without a GPU accelerate's launcher starts two when it is told that there are some.
    "accelerate": [*LAUNCH, "--multi_gpu", "--num_processes", "2"],
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Without a coloured or piped launcher's leftovers, and on one thread a process."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def flags(base: Path, frames: Path, out: Path, *more: object) -> list[str]:
    return [
        str(SCRIPT),
        *("--base", str(base), "--data", str(frames), "--out", str(out)),
        *("--threads", "1", "--log-every", "1", *map(str, more)),
    ]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_launched_in_16_bit_the_adapter_stays_float32(
    tiny_random_base: Path,
    toy_frames: Path,
    tmp_path: Path,
    environment: dict[str, str],
    precision: str,
) -> None:
    more = ["--max-steps", 2, "--checkpoint-every", 2]
    command = [*LAUNCH, "--mixed_precision", precision]
    run([*command, *flags(tiny_random_base, toy_frames, tmp_path / "run", *more)], environment)
    state = tmp_path / "run" / "checkpoints" / "step-000002" / "tensors.safetensors"
    for path in (tmp_path / "run" / WEIGHTS, state):
        assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float32}


@pytest.mark.parametrize("launcher", sorted(TWO))
def test_two_processes_do_what_one_does(
    tiny_random_base: Path,
    toy_frames: Path,
    tmp_path: Path,
    environment: dict[str, str],
    launcher: str,
) -> None:
    more = ["--max-steps", 5, "--batch-size", 3, "--gradient-accumulation", 2]
    one, two = tmp_path / "one", tmp_path / "two"
    run([sys.executable, *flags(tiny_random_base, toy_frames, one, *more)], environment)
    said = run([*TWO[launcher], *flags(tiny_random_base, toy_frames, two, *more)], environment)
    assert said.count("LoRA in ") == 1

    def rows(out: Path) -> list[dict[str, float]]:
        return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]

    assert len(rows(one)) == len(rows(two)) == 7
    for single, shared in zip(rows(one), rows(two), strict=True):
        assert shared == pytest.approx(single, rel=1e-4)
    expected, found = load_file(one / WEIGHTS), load_file(two / WEIGHTS)
    # Adam turns the last bit of a gradient near zero into a step: most entries agree, not all.
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=2e-3)
    assert sorted(p.name for p in two.iterdir()) == sorted(p.name for p in one.iterdir())


def test_one_process_where_two_were_asked_for_is_said(
    tiny_random_base: Path, toy_frames: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    command = [*LAUNCH, "--cpu", "--num_processes", "2"]
    more = ["--max-steps", 1]
    said = run(
        [*command, *flags(tiny_random_base, toy_frames, tmp_path / "run", *more)], environment
    )
    assert "accelerate launch starts one process on a CPU" in said
    assert "torchrun --nproc-per-node N starts N" in said


SLOW_LOOK = """
import datetime, runpy, sys, time
from torch.distributed import distributed_c10d
from echodiff.diffusion import grids

distributed_c10d.default_pg_timeout = datetime.timedelta(seconds=3)
grids.SampleGrids.__call__ = lambda self, unet, step: time.sleep(7) or {}
runpy.run_path(sys.argv[1])["main"](sys.argv[2:])
"""


def test_no_timeout_ends_a_run_whose_first_process_looks_for_long(
    tiny_random_base: Path, toy_frames: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    script = tmp_path / "slow_look.py"
    script.write_text(SLOW_LOOK)
    more = ["--max-steps", 2, "--sample-every", 1]
    command = [*TWO["torchrun"], str(script)]
    run([*command, *flags(tiny_random_base, toy_frames, tmp_path / "run", *more)], environment)
    assert (tmp_path / "run" / WEIGHTS).is_file()
    assert not (tmp_path / "run" / ".echodiff.lock").exists()


def test_the_command_without_a_clone_is_launched_alike(
    tiny_random_base: Path, toy_frames: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    words = flags(tiny_random_base, toy_frames, tmp_path / "run", "--max-steps", 2)[1:]
    run([*TWO["accelerate"], "-m", "echodiff", "train-lora", *words], environment)
    assert (tmp_path / "run" / WEIGHTS).is_file()
