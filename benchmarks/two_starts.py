"""Two processes that start on one `--out` at the same moment: one works, the other is refused.

    python benchmarks/two_starts.py     # 10 times: prepare, phantom, train, generate, translate

Both processes import everything and wait for each other, so that they reach the folder together.
The second must exit with status 2 and one line that names host and process of the first, and the
folder must be what the first process alone writes: every file but those that hold times or
places of work.
Exit status 1 where anything else happens.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from echodiff.files import shipped

_START = """
import importlib.util, sys, time
from pathlib import Path
script, ready, go, *argv = sys.argv[1:]
import torch, diffusers, echodiff.evaluate, echodiff.diffusion.sampling.job
if script:
    spec = importlib.util.spec_from_file_location("command", script)
    command = importlib.util.module_from_spec(spec)
    sys.modules["command"] = command
    spec.loader.exec_module(command)
    from echodiff.settings.command_line import run_main
    run = lambda: run_main(lambda: command.main(argv), script)
else:
    from echodiff.__main__ import main
    run = lambda: main(argv)
Path(ready).touch()
while not Path(go).exists():
    time.sleep(0.001)
sys.exit(run())
"""
"""Import what takes long, say so, wait for the other process, and run a command."""
_REFUSED = re.compile(r"error: .*: process (\d+) on \S+ is writing there; wait for it")
_OF_ITS_TIME = re.compile(
    r"\.jsonl$|\.log$|\.html$|run\.json$|generate\.json$|translate\.json$|prepare\.json$|metrics\.json$"
    r"|checkpoint|tfevents|config\.yaml$"
)
"""Files that hold times, or the name of the folder they lie in: their names are compared alone."""


def write_inputs(place: Path) -> None:
    """Two folders of 24 small images, a prompt file, and a phantom folder."""
    rng = np.random.default_rng(0)
    for name in ("source", "target"):
        (place / name).mkdir()
        for i in range(24):
            image = rng.integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(image).save(place / name / f"p{i:02}_a.png")
    (place / "asd.txt").write_text("ASD, four chamber view\n")


def list_commands(place: Path) -> dict[str, tuple[str, list[str]]]:
    """Name -> script (none: `echodiff`) and arguments, without `--out`."""
    return {
        "prepare": ("", ["prepare", "folder", str(place / "source"), "--resolution", "32"]),
        "phantom": ("", ["phantom", "--num", "6", "--size", "48"]),
        "train_lora": (str(shipped("train_lora.py")), [
            "--phantom-frames", "8", "--max-steps", "1", "--batch-size", "1", "--threads", "1",
            "--sample-every", "0", "--rank", "2"]),
        "generate": (str(shipped("generate.py")), [
            "--prompt-file", str(place / "asd.txt"), "--weights", "none", "--steps", "1",
            "--features", "texture", "--num-images", "4"]),
        "translate": ("", ["translate", str(place / "gan"), str(place / "domain")]),
    }  # fmt: skip


def prepare_translation(place: Path) -> None:
    """A toy generator at `gan`, and the frames at `domain` that it translates."""
    for argv in (
        ["prepare", "folder", str(place / "source"), "--out", str(place / "domain")],
        ["prepare", "folder", str(place / "target"), "--out", str(place / "other")],
        ["train-gan", "--source", str(place / "domain"), "--target", str(place / "other"),
         "--out", str(place / "gan"), "--width", "2", "--resolution", "32", "--load-size", "36",
         "--generator", "resnet_6", "--steps", "1"],
    ):  # fmt: skip
        subprocess.run([sys.executable, "-m", "echodiff", *argv], check=True, cwd=place,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def start(script: str, argv: Sequence[str], place: Path, name: str) -> subprocess.Popen[str]:
    """A process that has imported everything and waits for `place / "go"`."""
    words = [script, str(place / name), str(place / "go"), *argv]
    return subprocess.Popen([sys.executable, "-c", _START, *words], cwd=place, text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip


def run_together(script: str, argv: Sequence[str], place: Path, num: int) -> list[tuple[int, str]]:
    """Exit status and last line of each of `num` processes that are let go at one moment."""
    names = [f"ready-{number}" for number in range(num)]
    for name in ("go", *names):
        (place / name).unlink(missing_ok=True)
    processes = [start(script, argv, place, name) for name in names]
    while not all((place / name).exists() for name in names):
        if any(process.poll() is not None for process in processes):
            break
        time.sleep(0.005)
    (place / "go").touch()
    ends = []
    for process in processes:
        _, errors = process.communicate(timeout=300)
        lines = [line for line in errors.splitlines() if "error: " in line]
        ends.append((process.returncode, "\n".join(lines)))
    return ends


def read_folder(folder: Path) -> dict[str, str]:
    """File -> hash of its bytes; of files that hold times, nothing but that they are there."""
    return {
        path.relative_to(folder).as_posix(): (
            "" if _OF_ITS_TIME.search(path.name) or "checkpoints" in path.parts
            else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


def main() -> int:
    """Print how many pairs of starts ended as they must."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10, help="pairs of starts of each command")
    times = parser.parse_args().times
    clean = 0
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        write_inputs(place)
        prepare_translation(place)
        commands = list_commands(place)
        for name, (script, words) in commands.items():
            out = place / "out"
            argv = [*words, "--out", str(out)]
            alone = run_together(script, argv, place, 1)
            assert alone[0][0] == 0, alone
            expected, good = read_folder(out), 0
            for _ in range(times):
                shutil.rmtree(out)
                ends = sorted(run_together(script, argv, place, 2))
                refusal = ends[1][1]
                is_clean = [status for status, _ in ends] == [0, 2] and bool(
                    _REFUSED.search(refusal) and "\n" not in refusal
                )
                if is_clean and read_folder(out) == expected:
                    good += 1
                else:
                    print(f"{name}: {ends}; {sorted(set(read_folder(out)) ^ set(expected))}")
            shutil.rmtree(out)
            print(f"{name:10} {good} of {times}", flush=True)
            clean += good
    print(f"{clean} of {times * len(commands)} pairs of starts: one worked, one was refused")
    return int(clean < times * len(commands))


if __name__ == "__main__":
    sys.exit(main())
