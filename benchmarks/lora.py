"""LoRA training of Stable Diffusion 1.5, ours against diffusers' published script, in turn.

    python benchmarks/lora.py --diffusers-script .../text_to_image/train_text_to_image_lora.py

Both are the commands that a person types, on the same random weights in the sizes of SD 1.5 (or
on --base), the same captioned phantom frames, at the same batch and steps. The script adapts
self-attention too, with no flag against it, and encodes frames and captions at every step. Nothing
of it is part of this project: its path is given.

Steps are timed by their progress bars: `samples/s` is the slope behind the first third, `ready`
where that line meets step 0, counted from the start of the command. A run of --whole steps is
measured when that many are asked for, else put together from these. Memory is what torch reserved
on the GPU, or the peak resident size of the process. --cpu-seconds takes the CPU time of the
command in place of the clock, for a machine that others use as well. Markdown.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from random_sd15 import save_random_sd15

from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.phantom.acquisition import Population, render, sample_acquisition
from echodiff.runs import versions

TRAIN_LORA = Path(__file__).parents[1] / "train_lora.py"
LEARNING_RATE = "1e-4"

# Run by Python itself before either command: at the end it writes what the GPU was asked for.
PEAK_RECORDER = """
import atexit, os, sys

def write_peak():
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        with open(os.environ["PEAK_FILE"], "w") as file:
            file.write(str(torch.cuda.max_memory_reserved()))

atexit.register(write_peak)
"""


class Measured(NamedTuple):
    """One command, run once."""

    rate: float
    """Samples a second, of the steps behind the first third."""
    ready_s: float
    """From the start of the command to step 0 of steady stepping."""
    rest_s: float
    """From the last step to the end of the process: weights are saved."""
    peak_gib: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--diffusers-script", type=Path, help="its path; none: ours alone")
    parser.add_argument("--steps", type=int, default=120, help="optimizer steps of a run")
    parser.add_argument("--whole", type=int, default=880, help="steps of the run in the table")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--num-frames", type=int, default=40, help="captioned phantom frames")
    parser.add_argument("--mixed-precision", choices=("no", "fp16", "bf16"), default="bf16")
    parser.add_argument("--base", help="a base in place of random weights")
    parser.add_argument("--cpu-seconds", action="store_true", help="CPU time, not the clock's")
    parser.add_argument("--flags", default="", help="more of train_lora.py's, in one string")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "sitecustomize.py").write_text(PEAK_RECORDER)
        base = args.base or str(place / "sd15")
        if not args.base:
            save_random_sd15(Path(base))
        frames = write_frames(place / "frames", args.num_frames, args.resolution)
        commands = {}
        if args.diffusers_script:
            commands["diffusers' script"] = published(args, base, frames, place / "theirs")
        commands["train_lora.py"] = ours(args, base, frames, place / "ours")
        runs: dict[str, list[Measured]] = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                runs[name].append(measure(command, args, place))
                print(f"{name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    print(describe(args))
    print(table(runs, args))


def write_frames(folder: Path, num: int, side: int) -> Path:
    """Captioned phantom frames, all of them to be trained on."""
    population = Population(styles=("cedar",), finding_rate=0.5)
    with FramesWriter(folder) as writer:
        for i in range(num):
            one = sample_acquisition(0, i, population)
            row = Frame(file_name=f"{i:04d}.png", text=one.text, patient_id=f"{i}", split="train")
            writer.add(row, render(one, "echo", side))
    return folder


def published(args: argparse.Namespace, base: str, frames: Path, out: Path) -> list[str]:
    """The script as its documentation calls it, without its mirroring."""
    return [
        sys.executable, str(args.diffusers_script), f"--pretrained_model_name_or_path={base}",
        f"--train_data_dir={frames}", "--caption_column=text", f"--output_dir={out}", "--rank=8",
        f"--resolution={args.resolution}", f"--train_batch_size={args.batch_size}", "--seed=0",
        f"--max_train_steps={args.steps}", f"--learning_rate={LEARNING_RATE}",
        "--lr_warmup_steps=0", f"--mixed_precision={args.mixed_precision}",
    ]  # fmt: skip


def ours(args: argparse.Namespace, base: str, frames: Path, out: Path) -> list[str]:
    epochs = -(-args.steps * args.batch_size // args.num_frames)
    return [
        sys.executable, str(TRAIN_LORA), f"--base={base}", f"--data={frames}", f"--out={out}",
        f"--resolution={args.resolution}", f"--batch-size={args.batch_size}", "--rank=8",
        f"--epochs={epochs}", f"--max-steps={args.steps}", f"--learning-rate={LEARNING_RATE}",
        f"--mixed-precision={args.mixed_precision}", "--overwrite", *args.flags.split(),
    ]  # fmt: skip


def measure(command: list[str], args: argparse.Namespace, place: Path) -> Measured:
    """Run `command`, and time its steps by its progress bar."""
    peak_file = place / "peak"
    peak_file.unlink(missing_ok=True)
    paths = [str(place), str(TRAIN_LORA.parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "TQDM_MININTERVAL": "0",
        "PEAK_FILE": str(peak_file), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(place / "datasets"),
    }  # fmt: skip
    start = time.perf_counter()

    def elapsed() -> float:
        return time.perf_counter() - start

    with subprocess.Popen(
        command, env=environment, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        spent = psutil.Process(process.pid).cpu_times
        clock = (lambda: sum(spent()[:2])) if args.cpu_seconds else elapsed
        seen, said = follow(process, args.steps, clock)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    end = usage.ru_utime + usage.ru_stime if args.cpu_seconds else elapsed()
    if process.returncode or args.steps not in seen:
        raise SystemExit(f"{' '.join(command)}\n{said[-4000:]}")
    first, last = max(1, args.steps // 3), args.steps
    step_s = (seen[last] - seen[first]) / (last - first)
    peak = int(peak_file.read_text()) if peak_file.exists() else usage.ru_maxrss * 1024
    return Measured(
        rate=args.batch_size / step_s,
        ready_s=seen[first] - first * step_s,
        rest_s=end - seen[last],
        peak_gib=peak / 2**30,
    )


def follow(
    process: "subprocess.Popen[bytes]", num_steps: int, clock: Callable[[], float]
) -> tuple[dict[int, float], str]:
    """When each step was first on the bar, by `clock`; and what the process said at the end."""
    assert process.stderr is not None
    bar = re.compile(rb"(?:Steps|training): .* (\d+)/%d " % num_steps)
    seen: dict[int, float] = {}
    said = b""
    while chunk := os.read(process.stderr.fileno(), 65536):
        said = (said + chunk)[-20000:]
        for found in bar.finditer(said[-len(chunk) - 200 :].replace(b"\r", b"\n")):
            seen.setdefault(int(found[1]), clock())
    return seen, said.decode(errors="replace")


def describe(args: argparse.Namespace) -> str:
    """What was measured where, on a line."""
    has_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if has_gpu else f"{os.cpu_count()} CPU cores, no GPU"
    found = versions()
    packages = ", ".join(f"{name} {found[name]}" for name in ("torch", "diffusers", "accelerate"))
    return (
        f"{device}; {platform.system()}, {packages}; batch {args.batch_size} at "
        f"{args.resolution}, {args.mixed_precision}, {args.steps} steps, {args.rounds} rounds\n"
    )


def table(runs: dict[str, list[Measured]], args: argparse.Namespace) -> str:
    """Medians of both sides, and the median of the rounds' ratios with the least and the most."""
    unit = "CPU s" if args.cpu_seconds else "s"
    whole = f"{args.whole} steps, {unit}" + " (extrapolated)" * (args.steps != args.whole)

    def figures(run: Measured) -> list[float]:
        whole_s = run.ready_s + args.whole * args.batch_size / run.rate + run.rest_s
        return [run.rate, run.ready_s, whole_s, run.peak_gib]

    sides = [np.array([figures(run) for run in each]) for each in runs.values()]
    rows = [f"| | samples/{unit} | ready, {unit} | {whole} | peak, GiB |", "|---|---|---|---|---|"]
    for name, each in zip(runs, sides, strict=True):
        rate, ready, total, peak = np.median(each, axis=0)
        rows.append(f"| {name} | {rate:.3g} | {ready:.1f} | {total:.0f} | {peak:.2f} |")
    if len(sides) == 1:
        return "\n".join(rows)
    ratios = sides[1] / sides[0]
    ratios[:, 1:3] = 1 / ratios[:, 1:3]  # times as fast; memory stays ours over theirs
    cells = [
        f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})" for ratio in ratios.T
    ]
    rows.append(f"| times as fast; memory, ours to theirs | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
