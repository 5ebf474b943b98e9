"""800 generated against 10,000 real images, all scores but the network: seconds, memory.

    python benchmarks/large_sets.py [--num 800] [--num-reference 10000] [--num-features 2048]

Phantom frames of 112 px, a few hundred of them repeated under other names, are decoded, digested
and described; features are random numbers of Inception's size, in one network.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.metrics.features import FeatureNetwork
from echodiff.metrics.frame_features import NUM_READERS, Networks, measure_frames
from echodiff.phantom.acquisition import Population, render, sample_acquisition

SIDE = 112
NUM_RENDERED = 400


def write_sets(place, counts):
    population = Population(styles=("cedar",))
    images = [render(sample_acquisition(0, i, population), "echo", SIDE)
              for i in range(NUM_RENDERED)]  # fmt: skip
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        with FramesWriter(place / name) as writer:
            for i in range(count):
                image = images[i % NUM_RENDERED].copy()
                image[0, :8] = rng.integers(0, 4, 8)  # so that no two are the same file
                row = Frame(file_name=f"{i:05d}.png", text="", patient_id=f"{name}-{i // 2}")
                writer.add(row, image)


def count_cpu_seconds():
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=800, help="generated images")
    parser.add_argument("--num-reference", type=int, default=10_000, help="real images")
    parser.add_argument("--num-features", type=int, default=2048, help="as many as Inception has")
    args = parser.parse_args()
    # Not above: each process that reads starts this file again, as it does the light `echodiff`.
    from echodiff.metrics.evaluation import score_fully

    rng = np.random.default_rng(1)
    scales = np.arange(1, args.num_features + 1) ** -0.5
    network = FeatureNetwork(
        name="random", sha256="-", num_features=args.num_features, resize="none",
        embed=lambda images: rng.standard_normal((len(images), args.num_features)) * scales,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_sets(place, {"generated": args.num, "real": args.num_reference})
        start, cpu_start = time.perf_counter(), count_cpu_seconds()
        sets = [
            measure_frames(place / name, [network], num_readers=NUM_READERS)
            for name in ("generated", "real")
        ]
        read = time.perf_counter() - start
        score_fully(sets[0], sets[1], Networks((network,), ()), seed=0)
        total = time.perf_counter() - start
        cpu = count_cpu_seconds() - cpu_start
    # Of this process: those that read have ended long before the peak.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{args.num} against {args.num_reference} images, {args.num_features} features: read "
          f"{read:.1f} s, scores {total - read:.1f} s, {cpu:.1f} s of CPU time, peak memory "
          f"{peak:.2f} GiB")  # fmt: skip


if __name__ == "__main__":
    main()
