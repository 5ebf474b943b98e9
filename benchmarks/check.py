"""How fast `echodiff check` is, against another state of this repository, in turn.

    git worktree add /tmp/before COMMIT
    python benchmarks/check.py --frames FRAMES_FOLDER --before /tmp/before

Start of Python is part of a command: a folder of one frame is timed as well and taken off.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from echodiff.frames.layout import METADATA


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=Path, required=True, help="frames folder to check")
    parser.add_argument("--before", type=Path, help="a checkout of what is compared with")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    states = {"now": Path(__file__).parents[1]} | ({"before": args.before} if args.before else {})
    rows = (args.frames / METADATA).read_text(encoding="utf-8").splitlines(keepends=True)
    rates: dict[str, list[float]] = {state: [] for state in states}
    with tempfile.TemporaryDirectory() as place:
        single = Path(place) / "one"
        (single / "images").mkdir(parents=True)
        (single / "images").rmdir()
        (single / "images").symlink_to((args.frames / "images").resolve())
        (single / METADATA).write_text(rows[0], encoding="utf-8")
        for number in range(args.rounds):
            for state, root in states.items():
                start = run_check(root, single)
                whole = run_check(root, args.frames)
                rates[state].append((len(rows) - 1) / (whole - start))
                print(f"round {number + 1}, {state}: {rates[state][-1]:.1f} frames a CPU second")
    if args.before:
        ratios = np.array(rates["now"]) / rates["before"]
        print(f"{np.median(ratios):.2f} times as fast ({ratios.min():.2f} to {ratios.max():.2f})")


def run_check(root: Path, folder: Path) -> float:
    """CPU seconds of one command in one process."""
    env = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    command = [sys.executable, "-m", "echodiff", "check", str(folder), "--workers", "1"]
    done = subprocess.run(command, env=env, cwd=root, capture_output=True, check=False)
    if done.returncode not in {0, 1}:
        raise SystemExit(done.stderr.decode())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"  {folder.name}: {time.perf_counter() - start:.1f} s, {spent:.1f} CPU s")
    return spent


if __name__ == "__main__":
    main()
