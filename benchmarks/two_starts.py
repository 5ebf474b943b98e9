"""Two processes that start on one `--out` at the same moment: one works, the other is refused.

    python benchmarks/two_starts.py     # 10 times: prepare, phantom, train, generate, translate

Both processes are forked from one that has imported everything, and wait for each other, so that
they reach the folder together. The second must exit with status 2 and print one line that names
this host and the process id of the first. The folder must be what the first process alone writes:
the same files, and the same bytes in all but those that hold times or the name of a run.
Exit status 1 if anything else happens.
"""

import argparse
import hashlib
import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from echodiff.__main__ import main as run_echodiff

_IMPORTED = [
    "torch", "diffusers", "diffusers.pipelines.stable_diffusion", "peft", "accelerate",
    "echodiff.evaluate", "echodiff.diffusion.sampling.drawing", "echodiff.diffusion.lora_trainer",
    "echodiff.gan.translate",
]  # fmt: skip
_REFUSED = re.compile(r"error: .*: process (\d+) on (\S+) is writing there")
_OF_ITS_TIME = re.compile(
    r"\.jsonl$|\.log$|\.html$|run\.json$|generate\.json$|translate\.json$|prepare\.json$|metrics\.json$"
    r"|checkpoint|tfevents|config\.yaml$"
)
"""Files that hold times, or the name of the folder they lie in: only their names are compared."""


class End(NamedTuple):
    """How a process ended."""

    status: int | None
    pid: int | None
    errors: str
    """What it printed."""


def write_inputs(place: Path) -> None:
    """Two folders of 24 small images, a prompt file, and a phantom folder."""
    rng = np.random.default_rng(0)
    for name in ("source", "target"):
        (place / name).mkdir()
        for i in range(24):
            image = rng.integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(image).save(place / name / f"p{i:02}_a.png")
    (place / "asd.txt").write_text("ASD, four chamber view\n")


def list_commands(place: Path) -> dict[str, list[str]]:
    """Name -> arguments of `echodiff`, without `--out`."""
    return {
        "prepare": ["prepare", "folder", str(place / "source"), "--patient-regex", r"(p\d+)_"],
        "phantom": ["phantom", "--num", "6", "--size", "64"],
        "train-lora": [
            "train-lora", "--phantom-frames", "8", "--max-steps", "1", "--batch-size", "1",
            "--threads", "1", "--sample-every", "0", "--rank", "2"],
        "generate": [
            "generate", "--prompt-file", str(place / "asd.txt"), "--weights", "none", "--steps",
            "1", "--features", "texture", "--num-images", "4"],
        "translate": ["translate", str(place / "gan"), str(place / "domain")],
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


def start(argv: Sequence[str], errors: Path, together: Barrier) -> None:
    """Wait for the other process, run `echodiff`, and exit with its status."""
    with errors.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    together.wait(timeout=300)
    sys.exit(run_echodiff(argv))


def run_together(argv: Sequence[str], place: Path, num: int) -> list[End]:
    """How each of `num` processes ended that were let go at one moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", *_IMPORTED])
    together = context.Barrier(num)
    paths = [place / f"errors-{number}" for number in range(num)]
    processes = [context.Process(target=start, args=(argv, path, together)) for path in paths]
    for process in processes:
        process.start()
    ends = []
    for process, path in zip(processes, paths, strict=True):
        process.join(300)
        ends.append(End(process.exitcode, process.pid, path.read_text()))
    return ends


def is_refused(end: End, first: End) -> bool:
    """Whether a process printed one line, which names this host and the first process."""
    found = _REFUSED.search(end.errors)
    return bool(
        end.status == 2
        and len(end.errors.strip().splitlines()) == 1
        and found
        and found.groups() == (str(first.pid), socket.gethostname())
    )


def read_folder(folder: Path) -> dict[str, str]:
    """File -> hash of its bytes, "" for a file that holds times."""
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
        for name, words in commands.items():
            out = place / "out"
            argv = [*words, "--out", str(out)]
            (alone,) = run_together(argv, place, 1)
            if alone.status != 0:
                raise SystemExit(f"{name} alone: status {alone.status}\n{alone.errors}")
            expected, good = read_folder(out), 0
            for _ in range(times):
                shutil.rmtree(out)
                first, second = sorted(
                    run_together(argv, place, 2), key=lambda end: end.status or 0
                )
                written = read_folder(out)
                if first.status == 0 and is_refused(second, first) and written == expected:
                    good += 1
                else:
                    changed = sorted({path for path, _ in written.items() ^ expected.items()})
                    print(f"{name}: {first}\n{second}\nother than alone: {changed}")
            shutil.rmtree(out)
            print(f"{name:10} {good} of {times}", flush=True)
            clean += good
    print(f"{clean} of {times * len(commands)} pairs of starts: one worked, one was refused")
    return int(clean < times * len(commands))


if __name__ == "__main__":
    sys.exit(main())
