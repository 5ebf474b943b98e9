"""Draw the pictures of the docs from a finished demo: nothing in them is chosen.

    echodiff demo --out echodiff-demo
    python benchmarks/demo_sheets.py echodiff-demo

docs/images/first.png: the first three images of base, LoRA and reference, side by side.
docs/images/demo_base.png, demo_lora.png: the first 80 of each; `intact` marks the broken ones.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from echodiff.contact_sheet import contact_sheet
from echodiff.diffusion.sampling.reference import held_out_pictures
from echodiff.images import read_gray_u8
from echodiff.runs import Run

EACH, SHEET = 3, 80


def read_set(folder):
    """Images of a generated set, and the criteria that each one fails."""
    broken = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["anatomy"]["broken"]
    faults = {one["row"]: sorted({f["criterion"] for f in one["faults"]}) for one in broken}
    images = [read_gray_u8(path) for path in sorted((folder / "images").glob("*.png"))]
    return images, [" ".join(faults.get(row, ())).replace("_", " ") for row in range(len(images))]


def save(images, path, **layout):
    sheet = Image.fromarray(contact_sheet(images, **layout))
    sheet.save(path, optimize=True)
    print(f"{len(images)} images in {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="folder of a finished `echodiff demo`")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    reference = [read_gray_u8(path) for path in held_out_pictures(Run.load(args.demo / "run"))]
    sets = {name: read_set(args.demo / name) for name in ("base", "lora")}
    first = [sets["base"][0][:EACH], sets["lora"][0][:EACH], reference[:EACH]]
    labels = [f"{name} {i + 1}" for name in ("base", "LoRA", "reference") for i in range(EACH)]
    images = [np.asarray(image) for row in first for image in row]
    save(images, args.out / "first.png", columns=3 * EACH, labels=labels, cell=128)
    for name, (images, faults) in sets.items():
        options = {"columns": 10, "labels": faults[:SHEET], "cell": 128}
        save(images[:SHEET], args.out / f"demo_{name}.png", **options)


if __name__ == "__main__":
    main()
