"""Everything that needs a GPU, in one call of at most nine minutes: tests, then speed.

    python benchmarks/on_gpu.py --published-diffusers .../train_text_to_image_lora.py \\
        --published-cyclegan .../pytorch-CycleGAN-and-pix2pix --packages DIR

Runs `pytest -m gpu`, then `lora.py`, `generate.py` and `gan.py` of this folder: LoRA steps at batch
2 and 16, the 880 steps of the paper's recipe, images of 256 pixels, steps of CycleGAN and CUT, each
against the published code where its path is given. Every row has a share of the time; what it
leaves over goes to the rows after it, and a row that takes longer is cut off. No network is asked
for; `--packages` names a folder with what is not installed. Prints one table, and one JSON, which
is also written after every row. `--toy` takes seconds a row, to try the machinery itself.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LEAST_S = 3.0
"""A row that would get less is not begun."""


@dataclass
class Row:
    """One command, and what came of it."""

    name: str
    share: float
    """Of the time, relative to the other rows."""
    command: list[str]
    status: str = "not reached"
    """passed, failed, cut off, or not reached."""
    seconds: float = 0.0
    tables: list[dict[str, str]] = field(default_factory=list)
    """Rows of the tables that it printed: heading to cell."""
    tail: str = ""
    """The last lines of its output."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published-diffusers", type=Path, help="train_text_to_image_lora.py")
    parser.add_argument("--published-cyclegan", type=Path, help="checkout of CycleGAN's code")
    parser.add_argument("--published-cut", type=Path, help="checkout of CUT's code")
    parser.add_argument("--packages", type=Path, help="folder of packages to import from")
    parser.add_argument("--seconds", type=float, default=540.0, help="for everything together")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--toy", action="store_true", help="seconds a row, embedded base")
    parser.add_argument("--out", type=Path, default=Path("on_gpu.json"), help="the JSON")
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    environment = build_environment(args)
    with tempfile.TemporaryDirectory() as folder:
        rows = list(list_rows(args, Path(folder)))
        for row, seconds in share_out(rows, end):
            run_row(row, seconds, environment)
            print(f"{row.name}: {row.status}, {row.seconds:.0f} s", file=sys.stderr, flush=True)
            write(args, rows)
    report = write(args, rows)
    print(format_table(rows))
    print(json.dumps(report))
    return 0 if all(row.status == "passed" for row in rows) else 1


def build_environment(args: argparse.Namespace) -> dict[str, str]:
    paths = [str(HERE.parent), str(args.packages.resolve()) if args.packages else "",
             os.environ.get("PYTHONPATH", "")]  # fmt: skip
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
    }  # fmt: skip
    if args.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment


def list_rows(args: argparse.Namespace, place: Path) -> Iterator[Row]:
    """The rows in the order of what they settle."""
    python, is_toy = sys.executable, args.toy
    base = "tiny" if is_toy else str(place / "sd15")
    tests = ["tests/gan/test_gan_gpu.py"] if is_toy else []
    yield Row("pytest -m gpu", 110, [python, "-m", "pytest", "-q", "-m", "gpu", *tests])
    if not is_toy:
        yield Row("random weights of SD 1.5", 30, [python, str(HERE / "random_sd15.py"), base])
    theirs = ["--diffusers-script", str(args.published_diffusers)] * bool(args.published_diffusers)
    lora = [python, str(HERE / "lora.py"), "--base", base, "--rounds", "1", *theirs]
    side = "128" if is_toy else "512"
    if args.device == "cpu":
        lora += ["--mixed-precision", "no"]
    trained = [(2, 40, 120), (16, 40, 60), (2, 440, 880)]  # batch, frames, steps
    for size, num, steps in [(2, 4, 3), (4, 4, 3), (2, 4, 4)] if is_toy else trained:
        is_recipe = (size, num, steps) == trained[-1]
        name = f"LoRA, batch {size} at {side}, {steps} steps"
        flags = {"resolution": side, "batch-size": size, "num-frames": num, "steps": steps}
        flags["whole"] = 880 if not is_toy else steps
        command = [*lora, *(f"--{flag}={value}" for flag, value in flags.items())]
        yield Row(name + " (the recipe's run)" * is_recipe, 130 if is_recipe else 65, command)
    flags = {"images": 256, "steps": 50, "batch": 64, "plain-batches": 32, "resolution": 256}
    if is_toy:
        flags = {"images": 2, "steps": 2, "batch": 2, "plain-batches": 2, "resolution": 128}
    drawn = [f"--{flag}={value}" for flag, value in flags.items()]
    draw = [python, str(HERE / "generate.py"), "--base", base, "--rounds", "1", *drawn]
    yield Row(f"images of {flags['resolution']} px", 80, draw)
    for method, published in (("cyclegan", args.published_cyclegan), ("cut", args.published_cut)):
        path = ["--published", str(published)] if published else []
        size = ["--generator", "resnet_6", "--resolution", "32", "--width", "4", "--steps", "1",
                "--rounds", "1"] if is_toy else ["--steps", "50", "--rounds", "3"]  # fmt: skip
        yield Row(f"step of {method}", 40,
                  [python, str(HERE / "gan.py"), "--method", method, "--device", args.device,
                   *path, *size])  # fmt: skip


def share_out(rows: list[Row], end: float) -> Iterator[tuple[Row, float]]:
    """Each row with its seconds: its share of what is left; a row that gets too few is left out."""
    for number, row in enumerate(rows):
        left = end - time.monotonic()
        seconds = left * row.share / sum(later.share for later in rows[number:])
        if seconds >= LEAST_S:
            yield row, seconds


def run_row(row: Row, seconds: float, environment: dict[str, str]) -> None:
    """Run the command for at most so many seconds; fill in what came of it."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(
            row.command, cwd=HERE.parent, env=environment, stdout=output, stderr=subprocess.STDOUT
        ) as process:
            try:
                row.status = "passed" if process.wait(seconds) == 0 else "failed"
            except subprocess.TimeoutExpired:
                end_tree(process.pid)
                row.status = f"cut off after {seconds:.0f} s"
        row.seconds = round(time.monotonic() - start, 1)
        output.seek(0)
        said = output.read().decode(errors="replace")
    row.tables = parse_tables(said)
    row.tail = "\n".join(said.splitlines()[-12:])


def end_tree(pid: int) -> None:
    """End a process and those it has started."""
    import psutil

    parent = psutil.Process(pid)
    for process in [*parent.children(recursive=True), parent]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def parse_tables(text: str) -> list[dict[str, str]]:
    """Rows of the Markdown tables in `text`, as heading to cell."""
    rows: list[dict[str, str]] = []
    heading: list[str] | None = None
    for line in text.splitlines():
        if not line.startswith("|"):
            heading = None
            continue
        cells = [cell.strip(" *") for cell in line.strip().strip("|").split("|")]
        if heading is None:
            heading = cells
        elif not set("".join(cells)) <= set("-:"):
            rows.append(dict(zip(heading, cells, strict=False)))
    return rows


def write(args: argparse.Namespace, rows: list[Row]) -> dict[str, Any]:
    report = {"device": args.device, "is_toy": args.toy, "seconds": args.seconds,
              "rows": [asdict(row) for row in rows]}  # fmt: skip
    args.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8", newline="\n")
    return report


def format_table(rows: list[Row]) -> str:
    lines = ["| what | outcome | s | measured |", "|---|---|---|---|"]
    for row in rows:
        measured = "; ".join(
            ", ".join(f"{name or 'of'} {cell}" for name, cell in one.items() if cell)
            for one in row.tables
        )
        last = row.tail.splitlines()[-1] if row.tail and not measured else ""
        cells = [row.name, row.status, f"{row.seconds:.0f}", measured or last.replace("|", "/")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
