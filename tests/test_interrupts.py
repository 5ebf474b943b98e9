"""Ctrl-C: one line, status 130, and silence from the processes that did the work."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.skipif(os.name == "nt", reason="sends a signal to a group of processes")
@pytest.mark.parametrize("after_s", [0.0, 0.4])  # while workers start, and while they work
def test_an_interrupt_of_all_processes_is_one_line(tmp_path: Path, after_s: float) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "echodiff", "phantom", "--num", "4000", "--size", "512"]
    with subprocess.Popen(
        [*command, "--workers", "2", "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A suite that runs in the background of a shell ignores the signal, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        while not (out / "metadata.partial.jsonl").exists():
            time.sleep(0.02)
            assert process.poll() is None
        time.sleep(after_s)
        os.killpg(process.pid, signal.SIGINT)
        _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = [line for line in printed.replace("\r", "\n").splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("phantom:  ") or "error" in line]
    assert told == ["echodiff phantom: error: interrupted"], printed
