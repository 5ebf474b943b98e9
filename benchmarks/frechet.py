"""Seconds for one Frechet distance, against clean-fid's, turn by turn in one run.

    python benchmarks/frechet.py --num 800 --dim 2048

The features are drawn: two sets with a power-law spectrum of exponent 1 and total variance 120, as
Inception's about have. clean-fid is given features as well, so its means and covariances count.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cleanfid.fid import fid_from_feats
from numpy.typing import NDArray

from echodiff.metrics.frechet import compute_frechet_distance

Array = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=800, help="rows of each set")
    parser.add_argument("--dim", type=int, default=2048, help="features")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    # scipy 1.18 took away the argument that clean-fid calls sqrtm with.
    warnings.filterwarnings("ignore", "The `disp` argument", DeprecationWarning)
    first, second = draw_features(args.num, args.dim)
    seconds: dict[str, list[float]] = {"echodiff": [], "clean-fid": []}
    values = {}
    ways: dict[str, Callable[[Array, Array], float]] = {
        "echodiff": compute_frechet_distance,
        "clean-fid": fid_from_feats,
    }
    ways["echodiff"](first[:50], second[:50])  # the first call of a library starts its threads
    for _ in range(args.rounds):
        for name, compute in ways.items():
            start = time.perf_counter()
            values[name] = float(compute(first, second))
            seconds[name].append(time.perf_counter() - start)
    ratios = np.divide(seconds["clean-fid"], seconds["echodiff"])
    result = {
        "num": args.num,
        "dim": args.dim,
        "rounds": args.rounds,
        "seconds": {name: float(np.median(taken)) for name, taken in seconds.items()},
        "times as fast": float(np.median(ratios)),
        "times as fast, least and most": [float(ratios.min()), float(ratios.max())],
        "value": values,
        "relative difference": abs(values["echodiff"] / values["clean-fid"] - 1),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


def draw_features(num: int, dim: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    variances = 1.0 / np.arange(1, dim + 1)
    spread = np.sqrt(120.0 * variances / variances.sum())
    first, second = (spread * rng.standard_normal((num, dim)) for _ in range(2))
    return first, 1.1 * second + 0.03


if __name__ == "__main__":
    main()
