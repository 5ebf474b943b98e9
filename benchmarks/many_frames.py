"""What a training step costs before the network sees it, by the number of captioned frames.

    python benchmarks/many_frames.py [--frames 40 1000 10000] [--resolution 512] [--batch-size 2]

Fabricated latents and embeddings in the sizes of Stable Diffusion 1.5, in files as a run has them,
every frame with a caption of its own. Drawing and gathering a step, by CPU time, the fastest of ten
rounds over the numbers in turn; what a step sends to the network; by how much the process's own
memory (Linux: RssAnon, without the pages of mapped files, which may go any time) grew from before
the files were opened to after the rounds; and the files. One process for each number. Markdown.
"""

import argparse
import multiprocessing
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.objective import build_noise_schedule, epsilon
from echodiff.diffusion.trainer import StepSamples
from echodiff.training.row_file import RowFile

ROUNDS, STEPS = 10, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[40, 1000, 10_000])
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=2)
    args = parser.parse_args()
    print(
        "| captioned frames | a step drawn, ms | sent to the network, MB | memory, MB | files, MB |"
    )
    print("|---|---|---|---|---|")
    with ExitStack() as stack:
        processes = []
        for num in args.frames:
            ours, theirs = multiprocessing.get_context("spawn").Pipe()
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            given = (theirs, num, Path(folder), args.resolution, args.batch_size)
            multiprocessing.get_context("spawn").Process(target=measure, args=given).start()
            processes.append(ours)
        for _ in range(ROUNDS):
            for process in processes:
                process.send(True)
                process.recv()
        for num, process in zip(args.frames, processes, strict=True):
            process.send(False)
            milliseconds, sent, grown, on_disk = process.recv()
            print(f"| {num:,} | {milliseconds:.2f} | {sent:.2f} | {grown:.1f} | {on_disk:,.0f} |")


def measure(pipe: Any, num: int, folder: Path, resolution: int, batch_size: int) -> None:
    """Draw STEPS steps at every True that `pipe` brings; at False say what they took."""
    latents, captions = fabricate(num, folder, resolution)
    config = TrainLoraConfig(batch_size=batch_size, epochs=1000)
    objective = epsilon(build_noise_schedule({"num_train_timesteps": 1000}))
    process: Any = SimpleNamespace(process_index=0, num_processes=1)
    before = own_memory_mb()
    mean, std = latents.read().unbind(dim=1)
    encoded = EncodedFrames(
        file_names=tuple(f"{index}.png" for index in range(num)),
        latent_mean=mean,
        latent_std=std,
        caption_index=1 + torch.arange(num),
        embeddings=captions.read(),
    )
    samples = StepSamples(config, encoded, objective, process)
    best, turn = float("inf"), 0
    while pipe.recv():
        start = time.process_time()
        for step in range(turn * STEPS, (turn + 1) * STEPS):
            samples.draw(step)
        best, turn = min(best, (time.process_time() - start) / STEPS), turn + 1
        pipe.send(None)
    sent = sum(tensor.nbytes for tensor in samples.draw(0)[0].tensors())
    on_disk = sum(file.path.stat().st_size for file in (latents, captions))
    pipe.send((best * 1e3, sent / 1e6, own_memory_mb() - before, on_disk / 1e6))


def fabricate(num: int, folder: Path, resolution: int) -> tuple[RowFile, RowFile]:
    """Latents and captions of `num` frames; written, so that the files are really there."""
    side = resolution // 8
    files = (
        RowFile(folder / "latents.npy", num, (2, 4, side, side)),
        RowFile(folder / "captions.npy", num + 1, (77, 768)),
    )
    for file in files:
        file.create()
        for row in range(file.shape[0]):
            file.write(row, torch.full(file.shape[1:], 0.1))
    return files


def own_memory_mb() -> float:
    """The process's anonymous memory that is resident."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) / 1000


if __name__ == "__main__":
    main()
