"""What synthetic frames are good for: the tables of docs/utility.md, by the real commands.

    python benchmarks/utility.py --out FOLDER --real FRAMES --synthetic SET [SET ...] [--test DIR]
    python benchmarks/utility.py --out FOLDER --real FRAMES --run RUN [--images 448]
    python benchmarks/utility.py --out FOLDER --phantom [--num 400]

With --run the synthetic frames are drawn first, by weights of `echodiff train-controlnet` for the
masks of the training patients. With --phantom the real frames are phantoms of the style cedar
(train and test by patient), and the synthetic ones phantoms of the style birch: what a good
simulator of another scanner is worth. The command goes on where it was stopped, and prints the time
of each stage. Flags after `--` go to `echodiff utility`.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from echodiff.__main__ import main as echodiff

AIM_ALONE = 0.85
"""Dice of synthetic frames alone over that of all real ones, which is aimed at."""


def run(words, done):
    """Run a command of echodiff, unless what it leaves is there."""
    if done.exists():
        return
    started = time.monotonic()
    if status := echodiff([str(word) for word in words]):
        sys.exit(status)
    print(f"stage {words[0]}: {time.monotonic() - started:.0f} s", flush=True)


def make_phantoms(out, num):
    """Real and synthetic frames, both simulated."""
    folders = {}
    for name, style, seed in (("real", "cedar", 7), ("birch", "birch", 1007)):
        folders[name] = out / name
        flags = ["--num", num, "--seed", seed, "--styles", style, "--size", 128]
        flags += ["--split", "50/0/50" if name == "real" else "100/0/0"]
        run(["phantom", "--out", folders[name], *flags], folders[name] / "metadata.jsonl")
    return folders["real"], [folders["birch"]]


def draw(out, real, run_dir, count):
    """Synthetic frames for the masks of the training patients, as many as there are by default."""
    words = ["generate", "--masks", real, "--mask-split", "train", "--weights", run_dir, "--fast"]
    words += ["--reference", real, "--split", "test", "--features", "texture", "--out", out]
    run([*words, *(["--num-images", count] if count else [])], out / "metrics.json")
    return [out]


def write_mean(mean, digits=3):
    if mean["low"] is None:
        return f"{mean['value']:.{digits}f}"
    return f"{mean['value']:.{digits}f} [{mean['low']:.{digits}f}, {mean['high']:.{digits}f}]"


def write_arms(result):
    """Markdown: a row per arm with its frames, Dice of every label, and error of the EF."""
    labels = result["labels"]
    unit = next(iter(result["arms"].values()))["unit"]
    heads = ["arm", "real", "synthetic", "Dice", *labels, f"HD95 {labels[0]} ({unit})", "EF error"]
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, arm in result["arms"].items():
        found = arm["frames"]["all"]
        ejection = (arm["ejection"] or {}).get("absolute")
        cells = [
            name, f"{arm['num_real']:.0f}", str(arm["num_synthetic"]), write_mean(found["dice"]),
            *(f"{found[label]['dice']['value']:.3f}" for label in labels),
            write_mean(found[labels[0]]["hd95"], 1),
            "–" if ejection is None else write_mean(ejection, 1),
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def write_bars(result):
    """What is aimed at: synthetic frames alone, and added to the fewest real ones."""
    lines, arms = [], result["arms"]
    for one in result["contrasts"]:
        first = arms[one["first"]]
        if first["synthetic"] and not first["share"]:
            real = arms[one["second"]]["frames"]["all"]["dice"]["value"]
            share = {key: 1 + one[key] / real for key in ("value", "low", "high") if one[key]}
            told = write_mean({"low": None, "high": None, "value": 1.0} | share)
            lines.append(f"{one['first']} alone over {one['second']}: {told}, aim {AIM_ALONE}")
    shares = [arm["share"] for arm in arms.values() if arm["share"]]
    for one in result["contrasts"]:
        first = arms[one["first"]]
        if first["share"] == min(shares) and first["synthetic"]:
            lines.append(
                f"{one['first']} less {one['second']}: {write_mean(one)}, aim above 0; "
                f"p {one['p_holm']:.2g} (Holm)"
            )
    return [*lines, result["verdict"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--synthetic", type=Path, nargs="+")
    parser.add_argument("--test", type=Path)
    parser.add_argument("--run", type=Path, help="weights of train-controlnet that draw")
    parser.add_argument("--images", type=int, help="images to draw; default: one for each mask")
    parser.add_argument("--phantom", action="store_true")
    parser.add_argument("--num", type=int, default=400)
    args, flags = parser.parse_known_args()
    real, synthetic = args.real, args.synthetic
    if args.phantom:
        real, synthetic = make_phantoms(args.out, args.num)
    elif real and args.run:
        synthetic = draw(args.out / args.run.name, real, args.run, args.images)
    elif real is None or synthetic is None:
        parser.error("give --real with --synthetic or --run, or --phantom")
    out = args.out / "utility"
    words = ["--real", real, "--test", args.test or real, "--out", out, "--synthetic", *synthetic]
    more = [flag for flag in flags if flag != "--"]
    run(["utility", *words, *more], out / "utility.json")
    result = json.loads((out / "utility.json").read_text(encoding="utf-8"))
    print(*write_arms(result), "", *write_bars(result), sep="\n")


if __name__ == "__main__":
    main()
