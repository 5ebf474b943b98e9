"""Prompt faithfulness, intact anatomy and distance over the strength of a demo's LoRA, as a table.

    echodiff demo --out echodiff-demo
    python benchmarks/lora_scale.py echodiff-demo [--scales 0 0.25 0.5 0.75 1 1.25] [--guidance 5]

The prompts are the demo's, the captions of its held-out frames; a scale that was generated before
is not generated again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from echodiff.files import shipped

COLUMNS = ("intact", "faithfulness", "faithfulness_asd", "specificity", "mmd_tiny", "mmd_texture",
           "coverage_tiny")  # fmt: skip


def generate(demo, scale, args):
    """Generate and score the images of one scale; return the scores."""
    start, end = args.guidance_interval
    name = f"{scale:g}-guidance-{args.guidance:g}-{start:g}-{end:g}"
    out = demo / "scales" / (f"{name}-retries-{args.retries}" if args.retries else name)
    if not (out / "metrics.json").is_file():
        flags = ["--prompt-file", demo / "held-out.txt", "--num-images", args.num_images, "--fast"]
        flags += ["--weights", demo / "run", "--lora-scale", scale, "--guidance", args.guidance]
        flags += ["--guidance-interval", f"{start},{end}", "--features", "tiny,texture"]
        flags += ["--retries", args.retries]
        flags += ["--reference", demo / "run", "--out", out]
        command = [sys.executable, shipped("generate.py"), *map(str, flags)]
        subprocess.run(command, check=True, stdout=sys.stderr)  # the table alone is the output
    return json.loads((out / "metrics.json").read_text(encoding="utf-8"))["scores"]


def describe(score):
    if score is None:
        return "–"
    value = f"{score['value']:.3f}"
    interval = "" if score["low"] is None else f" [{score['low']:.3f}, {score['high']:.3f}]"
    return f"{value}{interval}, n {score['n']}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="folder of a finished `echodiff demo`")
    parser.add_argument("--scales", type=float, nargs="+", default=[0, 0.25, 0.5, 0.75, 1, 1.25])
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--guidance-interval", type=float, nargs=2, default=[0.0, 1.0])
    parser.add_argument("--num-images", type=int, default=80)
    parser.add_argument("--retries", type=int, default=0)
    args = parser.parse_args()
    print("| scale |", " | ".join(COLUMNS), "|")
    print("|---|" + "---|" * len(COLUMNS))
    for scale in args.scales:
        scores = generate(args.demo, scale, args)
        print(f"| {scale:g} |", " | ".join(describe(scores.get(name)) for name in COLUMNS), "|")


if __name__ == "__main__":
    main()
