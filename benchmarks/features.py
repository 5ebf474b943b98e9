"""Pictures a second from files to features, without the network, against clean-fid's loader.

    echodiff phantom --num 800 --size 112 --seed 0 --out phantom
    python benchmarks/features.py --frames phantom/images

Turn by turn in one run: clean-fid's `get_folder_features` without and with worker processes, and
ours, reading, padding and embedding as `echodiff evaluate` does. The network returns one pixel, so
that what is measured is the way there. Then the same from the feature cache, and the difference of
the pictures that reach the network.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cleanfid import fid
from cleanfid.utils import ResizeDataset

from echodiff.images import IMAGE_SUFFIXES, pad_square, read_gray_u8
from echodiff.metrics.extractor import RESIZE, embed_with_extractor, resize_for_extractor
from echodiff.metrics.features import FeatureNetwork, with_cache

READ_AT_ONCE = 64
CLEAN_FID = ("clean-fid", "clean-fid, 2 workers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=Path, required=True, help="folder of square pictures")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    # torch warns where workers outnumber cores; one of clean-fid's arms is for those who have them.
    warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
    paths = sorted(p for p in args.frames.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    network = FeatureNetwork(
        name="pixel", sha256="pixel", num_features=3, resize=RESIZE,
        embed=lambda images_u8: embed_with_extractor(take_pixel, images_u8),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        cached = with_cache(network, Path(folder))
        ways: dict[str, Callable[[], Any]] = {
            "echodiff": lambda: embed_files(paths, network),
            CLEAN_FID[0]: lambda: embed_as_cleanfid(args.frames, num_workers=0),
            CLEAN_FID[1]: lambda: embed_as_cleanfid(args.frames, num_workers=2),
            "echodiff, from the cache": lambda: embed_files(paths, cached),
        }
        rates = measure(ways, len(paths), args.rounds)
    ratios = rates["echodiff"] / np.maximum(rates[CLEAN_FID[0]], rates[CLEAN_FID[1]])
    result = {
        "pictures": len(paths),
        "rounds": args.rounds,
        "threads": torch.get_num_threads(),
        "pictures a second": {name: float(np.median(rate)) for name, rate in rates.items()},
        "times clean-fid's better": float(np.median(ratios)),
        "times clean-fid's better, least and most": [float(ratios.min()), float(ratios.max())],
        "difference in grey levels": compare_pictures(paths[:64]),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


def measure(
    ways: dict[str, Callable[[], Any]], num: int, rounds: int
) -> dict[str, np.ndarray[Any, Any]]:
    """Pictures a second of every way in every round; a first round warms up and does not count."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            rates[name].append(num / (time.perf_counter() - start))
    return {name: np.array(rate[1:]) for name, rate in rates.items()}


def take_pixel(batch: torch.Tensor) -> torch.Tensor:
    return batch[:, :, 150, 150]


def embed_files(paths: list[Path], network: FeatureNetwork) -> np.ndarray[Any, Any]:
    parts = []
    for start in range(0, len(paths), READ_AT_ONCE):
        chosen = paths[start : start + READ_AT_ONCE]
        parts.append(network([pad_square(read_gray_u8(path)) for path in chosen]))
    return np.concatenate(parts)


def embed_as_cleanfid(folder: Path, *, num_workers: int) -> Any:
    return fid.get_folder_features(
        str(folder), take_pixel, num_workers=num_workers, batch_size=32, mode="clean",
        device=torch.device("cpu"), verbose=False,
    )  # fmt: skip


def compare_pictures(paths: list[Path]) -> dict[str, float]:
    ours = resize_for_extractor([read_gray_u8(path) for path in paths])
    theirs = torch.stack(list(ResizeDataset(paths, mode="clean")))
    difference = (ours[:, None] - theirs).abs()
    return {"mean": float(difference.mean()), "most": float(difference.max())}


if __name__ == "__main__":
    main()
