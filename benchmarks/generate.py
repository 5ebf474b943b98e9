"""Images a second from prompts to PNG files, against the plain diffusers pipeline.

    python benchmarks/generate.py --base tiny
    python benchmarks/generate.py --base sd15 --resolution 256 --images 800 --steps 50 --batch 64

Turn by turn in one run, on whatever device there is: `StableDiffusionPipeline` as its page shows
it, at the batch sizes of --plain-batches, and ours as `generate.py` draws. Same weights, number
format, scheduler, steps, prompts and guidance; a round is a whole job, so ours pays for its graph
or compilation in each. Peak memory is that of the way alone, of the device where it is CUDA and
else of the process. `sd15` is the architecture with random weights.
"""

import argparse
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_sd15 import save_random_sd15

from echodiff.diffusion.base import load_base, num_unet_parameters
from echodiff.diffusion.sampling.drawing import file_name, written_meanwhile
from echodiff.diffusion.sampling.prompts import load_prompts
from echodiff.diffusion.sampling.sampler import Sampler, plan_batches
from echodiff.diffusion.sampling.schedulers import SCHEDULERS, build_scheduler
from echodiff.files import shipped
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.training.precision import choose_precision

GUIDANCE = 5.0
Job = Callable[[Path], None]


def main() -> None:
    args = parse_arguments()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads or torch.get_num_threads())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as scratch:
        base = args.base
        if base == "sd15":
            base = f"{scratch}/sd15"
            save_random_sd15(Path(base))
        precision = choose_precision(
            "auto", num_parameters=num_unet_parameters(base), device=device
        )
        pipeline = load_base(base, precision.weight_dtype).to(device)
        prompts = [prompt.text for prompt in load_prompts(shipped("prompts/asd.txt"))]
        sampler = Sampler(
            pipeline, prompts, seed=0, steps=args.steps, guidance=GUIDANCE,
            scheduler=args.scheduler, resolution=args.resolution,
        )  # fmt: skip
        pipeline.scheduler = build_scheduler(args.scheduler, pipeline)
        ways: dict[str, Job] = {
            f"diffusers, batch {size}": plain_job(pipeline, sampler, args, size)
            for size in sorted({1, *args.plain_batches})
        }
        ours = f"echodiff, batch {args.batch}"
        ways[ours] = our_job(sampler, args)
        seconds, peaks = measure(ways, pipeline, args, Path(scratch))
    print_table(seconds, peaks, ours, args)
    seconds_are = "seconds of the CPU" if args.cpu_seconds else "seconds of the clock"
    print(
        f"\n{args.images} images of {sampler.resolution} px, {args.steps} steps of "
        f"{args.scheduler}, {precision.weight_dtype}, {args.rounds} rounds in turn, {seconds_are}; "
        f"{name_device(device)}; torch {torch.__version__}, diffusers {version('diffusers')}"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="tiny", help="tiny, sd15 (random weights), or a base")
    parser.add_argument("--images", type=int, default=16, help="of one job")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--scheduler", choices=SCHEDULERS, default="dpmpp")
    parser.add_argument(
        "--resolution", type=int, help="side in pixels; the base's own unless given"
    )
    parser.add_argument("--batch", type=int, default=8, help="ours")
    parser.add_argument("--plain-batches", type=int, nargs="+", default=[2, 4, 8], help="beside 1")
    parser.add_argument("--compile", choices=["auto", "none", "regional", "full"], default="auto")
    parser.add_argument("--threads", type=int, help="of the CPU; torch's choice unless given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu-seconds", action="store_true", help="for a machine others use too")
    return parser.parse_args()


def plain_job(pipeline: Any, sampler: Sampler, args: argparse.Namespace, size: int) -> Job:
    def draw(out: Path) -> None:
        out.mkdir()
        for batch in plan_batches(range(args.images), size, exact=False):
            images = pipeline(
                [sampler.prompt_of(index).text for index in batch],
                num_inference_steps=args.steps,
                guidance_scale=GUIDANCE,
                height=sampler.resolution,
                width=sampler.resolution,
                generator=[torch.Generator("cpu").manual_seed(index) for index in batch],
            ).images
            for index, image in zip(batch, images, strict=True):
                image.save(out / file_name(index))

    return draw


def our_job(sampler: Sampler, args: argparse.Namespace) -> Job:
    def draw(out: Path) -> None:
        batches = plan_batches(range(args.images), args.batch, exact=False)
        with (
            FramesWriter(out) as writer,
            written_meanwhile(writer) as add,
            sampler.accelerated(args.compile, batches),
        ):
            for batch in batches:
                for index, image_u8 in sampler.sample(batch):
                    text = sampler.prompt_of(index).text
                    add(Frame(file_name=file_name(index), text=text), image_u8)

    return draw


def measure(
    ways: dict[str, Job], pipeline: Any, args: argparse.Namespace, scratch: Path
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of every way in every round, and its peak memory in GiB.

    A first round of one batch warms up: libraries load their kernels in it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    peaks = dict.fromkeys(ways, 0.0)
    num_images = args.images
    clock = time.process_time if args.cpu_seconds else time.perf_counter
    for number in range(args.rounds + 1):
        args.images = num_images if number else min(num_images, args.batch)
        for way, job in ways.items():
            is_ours = way.startswith("echodiff")
            layout = torch.channels_last if is_ours else torch.contiguous_format
            for network in (pipeline.unet, pipeline.vae):
                network.to(memory_format=layout)
            reset_peak()
            start = clock()
            job(scratch / f"{way}-{number}")
            if number:
                seconds[way].append(clock() - start)
                peaks[way] = max(peaks[way], read_peak_gib())
    return seconds, peaks


def reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the resident set's high-water mark


def read_peak_gib() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def print_table(
    seconds: dict[str, list[float]], peaks: dict[str, float], ours: str, args: argparse.Namespace
) -> None:
    plain = [way for way in seconds if way != ours]
    best = min(plain, key=lambda way: np.median(seconds[way]))
    print("| way | images/s | ours over it | peak memory, GiB |\n|---|---|---|---|")
    for way, taken in seconds.items():
        rates = args.images / np.array(taken)
        ratios = np.array(taken) / np.array(seconds[ours])
        name = f"**{way}**" if way == ours else way + (" (its best)" if way == best else "")
        ratio = "" if way == ours else f"{np.median(ratios):.2f} ({spread(ratios)})"
        print(f"| {name} | {np.median(rates):.3g} ({spread(rates)}) | {ratio} | {peaks[way]:.2f} |")


def spread(values: Sequence[float] | Iterable[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}"


def name_device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
