"""What a training step costs before the network sees it, by the number of captioned frames.

    python benchmarks/many_frames.py [--frames 40 1000 10000] [--resolution 512] [--batch-size 2]

Fabricated latents and embeddings in the sizes of Stable Diffusion 1.5, every frame with a caption
of its own up to --captions. Drawing and gathering a step, by CPU time, the fastest of ten rounds
over the numbers in turn; what a step sends to the network; what the main memory holds. Markdown.
"""

import argparse
import time
from types import SimpleNamespace
from typing import Any

import torch

from echodiff.diffusion.batch import EncodedFrames
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.loss import build_noise_schedule
from echodiff.diffusion.step import StepSamples

ROUNDS, STEPS = 10, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[40, 1000, 10_000])
    parser.add_argument("--captions", type=int, default=1000, help="different ones at most")
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=2)
    args = parser.parse_args()
    encoded = {num: fabricate(num, args) for num in args.frames}
    config = TrainLoraConfig(batch_size=args.batch_size, epochs=1000)
    schedule = build_noise_schedule({"num_train_timesteps": 1000})
    process: Any = SimpleNamespace(process_index=0, num_processes=1)
    samples = {num: StepSamples(config, one, schedule, process) for num, one in encoded.items()}
    best = dict.fromkeys(args.frames, float("inf"))
    for turn in range(ROUNDS):
        for num, one in samples.items():
            start = time.process_time()
            for step in range(turn * STEPS, (turn + 1) * STEPS):
                one.draw(step)
            best[num] = min(best[num], (time.process_time() - start) / STEPS)
    print("| captioned frames | a step drawn, ms | sent to the network, MB | held in memory, MB |")
    print("|---|---|---|---|")
    for num, one in encoded.items():
        sent = sum(tensor.nbytes for tensor in samples[num].draw(0)[0])
        held = sum(t.nbytes for t in (one.latent_mean, one.latent_std, one.embeddings))
        print(f"| {num:,} | {best[num] * 1e3:.2f} | {sent / 1e6:.2f} | {held / 1e6:,.0f} |")


def fabricate(num: int, args: argparse.Namespace) -> EncodedFrames:
    """`num` frames; written to, so that the memory is really there."""
    side, captions = args.resolution // 8, min(num, args.captions)
    return EncodedFrames(
        file_names=tuple(f"{index}.png" for index in range(num)),
        latent_mean=torch.full((num, 4, side, side), 0.1),
        latent_std=torch.full((num, 4, side, side), 0.2),
        caption_index=1 + torch.arange(num) % captions,
        embeddings=torch.full((captions + 1, 77, 768), 0.3),
    )


if __name__ == "__main__":
    main()
