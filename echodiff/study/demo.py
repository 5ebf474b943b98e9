"""`echodiff study demo`: a whole reader study with embedded parts and three simulated readers.

Phantom frames stand for real ones; a LoRA and a GAN are trained on others for a minute, far too
short for good images. Everything else is what a study does: drawing, audit, the application behind
a real server, export and analysis. The ratings are made up, and mean nothing.
"""

import asyncio
import importlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from echodiff.errors import InputError
from echodiff.settings.checks import Seed, check_ranges
from echodiff.settings.command_line import parse, positional

if TYPE_CHECKING:
    from collections.abc import Iterator

    from echodiff.study.store import OpenStudy

PROG = "echodiff study demo"
MEAN_SCORES = {"real": 3.6, "lora": 3.0, "gan": 1.9}
"""What the simulated readers think of each source, on 1..5; nothing about the images."""
LANGUAGES = ("en", "ru", "kk")
SIZE = 128
LORA = ("--config", "demo", "--max-steps", "60", "--batch-size", "8", "--sample-every", "0",
        "--held-out-every", "0", "--lr-warmup", "5", "--threads", "1")  # fmt: skip
GAN = ("--config", "patch_cgan_lv_myo_la", "--steps", "250", "--batch-size", "4", "--width", "16",
       "--resolution", str(SIZE), "--load-size", str(SIZE), "--checkpoint-every", "0",
       "--learning-rate", "1e-3", "--learning-rate-d", "1e-3", "--held-out-share", "0.3",
       "--threads", "1")  # fmt: skip
STUDY = ("--pool", "12", "--images", "6", "--shared", "2", "--repeats", "1", "--readers", "3",
         "--steps", "12", "--lora-scale", "0.7")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StudyDemoConfig:
    """Run a whole reader study on simulated frames, from the drawing to the report, in minutes."""

    out: Path = positional(default=Path("echodiff-study-demo"))
    """Folder for frames, runs, study, export and report; must not exist, or be empty."""
    seed: Seed = 0
    """Random seed of frames, trainings, study and readers."""

    def __post_init__(self) -> None:
        """Check ranges; every message names its flag."""
        check_ranges(self)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stages one after the other, and say where the report is."""
    config = parse(StudyDemoConfig, argv, prog=PROG)
    out, seed, start = config.out, str(config.seed), time.monotonic()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: is not an empty folder; choose another")
    for module in ("sqlalchemy", "starlette", "uvicorn", "pingouin", "krippendorff"):
        importlib.import_module(module)  # a package that is missing is told before the trainings

    title(1, "simulate frames: 24 as real ones, 60 to train on")
    simulate = importlib.import_module("echodiff.phantom.dataset").main
    shared = ["--size", str(SIZE), "--styles", "aspen"]
    simulate(["--num", "24", "--out", str(out / "real"), "--seed", str(config.seed + 1), *shared])
    simulate(["--num", "60", "--out", str(out / "training"), "--seed", seed, *shared])

    title(2, "train a LoRA and a GAN, side by side")
    train_both(out, seed)

    title(3, "draw the study")
    sources = [f"real={out / 'real'}", f"lora=run:{out / 'lora'}", f"gan=run:{out / 'gan'}"]
    study, export = out / "study", out / "export"
    flags = [part for source in sources for part in ("--source", source)]
    flags += ["--gan-input", str(out / "training"), "--seed", seed, *STUDY]
    run("init", [str(study), *flags])

    title(4, "audit it: can the source be told without the content?")
    run("audit.command", [str(study), "--readers", "3"])

    title(5, "three simulated readers rate, through the application")
    read(study, config.seed)

    title(6, "export, analyse")
    run("export", [str(study), "--out", str(export), "--close"])
    run("analyze", [str(export), "--out", str(out / "report"), "--real", "real"])
    report = (out / "report" / "report.html").resolve()
    print(f"{time.monotonic() - start:.0f} s; made-up ratings; open {report}")


def title(number: int, text: str) -> None:
    """Print the title of a stage."""
    print(f"\n[{number}/6] {text}", flush=True)


def run(module: str, flags: Sequence[str]) -> None:
    """Run another action of `echodiff study` in this process, as it would be typed."""
    name = module.partition(".")[0]
    print(f"$ echodiff study {name} {' '.join(flags)}", flush=True)
    status = importlib.import_module(f"echodiff.study.{module}").main(list(flags))
    if status not in (None, 0, 1):
        raise InputError(f"echodiff study {name}: stopped with status {status}")


def train_both(out: Path, seed: str) -> None:
    """Train the LoRA and the GAN at the same time, each in a process with a log of its own."""
    frames = str(out / "training")
    commands = {
        "lora": ["train-lora", "--data", frames, *LORA],
        "gan": ["train-gan", "--source", frames, *GAN],
    }
    running = {}
    for name, words in commands.items():
        line = [*words, "--seed", seed, "--out", str(out / name)]
        print(f"$ echodiff {' '.join(line)}   (log: {out / name}.log)", flush=True)
        with (out / f"{name}.log").open("wb") as log:
            running[name] = subprocess.Popen(
                [sys.executable, "-m", "echodiff", *line], stdout=log, stderr=subprocess.STDOUT
            )
    try:
        for name, process in running.items():
            if process.wait():
                last = (out / f"{name}.log").read_text("utf-8", "replace").strip().splitlines()
                raise InputError(f"{out / name}.log: {last[-1] if last else 'stopped'}")
    finally:
        for process in running.values():
            if process.poll() is None:
                process.terminate()


def read(folder: Path, seed: int) -> None:
    """Invite three readers, serve the study on a free port, and let them rate it at once."""
    from echodiff.study.opening import opened
    from echodiff.study.readers import invite

    with opened(folder, None) as study, serving(study) as address:
        invitations = [token for _, token in invite(study, len(LANGUAGES))]
        counts = asyncio.run(read_all(study, address, invitations, seed))
    for language, count in zip(LANGUAGES, counts, strict=True):
        print(f"a reader in {language}: {count} images rated at {address}")


async def read_all(
    study: "OpenStudy", address: str, invitations: Sequence[str], seed: int
) -> list[int]:
    """Go through the study as every reader; returns the number of ratings of each."""
    import httpx2

    from echodiff.study.simulated import read_study

    async def read_one(number: int) -> int:
        draw = np.random.default_rng([seed, number])

        def score(task: str) -> int:
            mean = MEAN_SCORES[source_of(study, task)] + 0.3 * (number - 1)
            return int(np.clip(np.rint(draw.normal(mean, 1.1)), 1, 5))

        async with httpx2.AsyncClient(base_url=address, timeout=60) as client:
            language = LANGUAGES[number]
            return await read_study(client, invitations[number], score, language=language)

    return await asyncio.gather(*(read_one(number) for number in range(len(invitations))))


def source_of(study: "OpenStudy", task: str) -> str:
    """Source of the image of a task, which no page of the application tells."""
    from sqlalchemy import select

    from echodiff.study.models import Image, Task

    with study.database.read() as connection:
        found = select(Image.source).join(Task, Task.image_id == Image.id).where(Task.token == task)
        return str(connection.scalars(found).one())


@contextmanager
def serving(study: "OpenStudy") -> "Iterator[str]":
    """The application behind uvicorn on a free port of this machine; its address."""
    import uvicorn

    from echodiff.study.web.application import build_application

    options: dict[str, Any] = {"log_level": "warning", "lifespan": "off", "ws": "none"}
    server = uvicorn.Server(uvicorn.Config(build_application(study), **options))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.05)
            if not server.started:
                raise InputError("127.0.0.1: the server did not start")
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=30)
