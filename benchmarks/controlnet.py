"""How well four kinds of weights obey masks: the table of docs/controlnet.md.

    python benchmarks/controlnet.py WORK                        # phantom frames, embedded base
    python benchmarks/controlnet.py WORK --frames CAMUS --segmenter DIR --base ID
    python benchmarks/controlnet.py WORK --only train,draw,cost --kinds concat

Every stage keeps what it made in WORK, so that the same command resumes: trainings and image sets
by themselves, measurements in results.json. The last stage prints the table.

Obedience is (Dice - floor) / (ceiling - floor), mean over LV, its wall and LA. Dice is that of the
asked-for masks and those that a segmenter reads from the images; the ceiling is the same of real
frames and their own masks, the floor of real frames and masks of other patients. Dice alone
flatters: hearts lie in the middle of every image.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from echodiff.anatomy import Label
from echodiff.contact_sheet import contact_sheet
from echodiff.data.masks import find_labels, read_mask
from echodiff.files import write_json_atomic
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.images import (
    colour_mask,
    pad_square,
    read_gray_u8,
    resize_mask,
    write_image,
    write_mask,
)
from echodiff.metrics.resampling import build_groups, sample_halves
from echodiff.metrics.segmenter import SIZE, load_segmenter
from echodiff.phantom.dataset import write_phantom_frames
from echodiff.published import MASK_FILES
from echodiff.runs import RECORD, Run

LABELS = (Label.LV, Label.LV_MYOCARDIUM, Label.LA)
SHIFT, ANGLE, ZOOM = 0.10, 10.0, 0.15
"""Share of the side, degrees, and share of the size by which masks are moved."""
VARIANTS = ("plain", "shifted", "turned", "scaled", "no_lv", "no_lv_myocardium", "no_la")
STAGES = ("train", "draw", "score", "cost", "table", "picture")
Z_95 = 1.96
PICTURE_COLUMNS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--frames", type=Path, help="frames with masks; default: phantoms")
    parser.add_argument("--phantoms", type=int, default=640)
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--segmenter", type=Path)
    parser.add_argument("--kinds", default=",".join(MASK_FILES))
    parser.add_argument("--only", default=",".join(STAGES))
    parser.add_argument("--steps", type=int, default=3500, help="optimizer steps")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--images", type=int, default=64, help="masks of each variant")
    parser.add_argument("--guidance", default="5,2", help="of the plain masks; the first of all")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.kinds, args.only = args.kinds.split(","), args.only.split(",")
    args.guidance = [float(value) for value in args.guidance.split(",")]
    stages = {one.__name__: one for one in (train, draw, score, cost, table, picture)}
    if unknown := set(args.only) - set(stages):
        parser.error(f"--only {', '.join(sorted(unknown))}: not one of {', '.join(STAGES)}")
    args.work.mkdir(parents=True, exist_ok=True)
    if args.frames is None:
        args.frames = args.work / "frames"
        if not (args.frames / "metadata.jsonl").is_file():
            write_phantom_frames(args.frames, num=args.phantoms, seed=1, size=SIZE,
                                 styles=("aspen", "birch"), splits=(0.7, 0.1, 0.2),
                                 progress=True)  # fmt: skip
    chosen = choose_frames(args.frames, args.images)
    for stage in args.only:
        stages[stage](args, chosen)


def choose_frames(folder: Path, count: int) -> list[Frame]:
    """Captioned test frames with masks, of as many patients as there are."""
    frames = [f for f in load_frames(folder) if f.split == "test" and f.mask_file_name and f.text]
    first = list({frame.patient_id: frame for frame in reversed(frames)}.values())[::-1]
    rest = [frame for frame in frames if frame not in first]
    return sorted([*first, *rest][:count], key=lambda frame: str(frame.mask_file_name))


# --- Stages ---------------------------------------------------------------------------------------


def train(args: argparse.Namespace, _: Sequence[Frame]) -> None:
    """Train every kind on the same number of samples."""
    for kind in args.kinds:
        run_dir = args.work / "runs" / kind
        if (run_dir / RECORD).is_file() and Run.load(run_dir).is_finished:
            continue
        started = time.monotonic()
        try:
            call(args, "train-controlnet", *train_flags(args, kind), "--out", run_dir,
                 "--max-steps", args.steps, "--obedience-every", max(1, args.steps // 14),
                 "--sample-every", args.steps, "--lr-scheduler", "cosine", "--lr-warmup", 50,
                 "--checkpoint-every", 200)  # fmt: skip
        finally:  # what an interrupted training took counts as well
            add(args, f"{kind}.train_seconds", time.monotonic() - started)


def train_flags(args: argparse.Namespace, kind: str) -> list[Any]:
    flags = ["--kind", kind, "--data", args.frames, "--base", args.base, "--threads", args.threads]
    flags += ["--batch-size", args.batch]
    return [*flags, *(["--segmenter", args.segmenter] if args.segmenter else [])]


def draw(args: argparse.Namespace, chosen: Sequence[Frame]) -> None:
    """Draw an image for each mask of each variant, and the same prompts by the base alone."""
    prompts = args.work / "prompts.txt"
    prompts.write_text("".join(f"{frame.text}\n" for frame in chosen), encoding="utf-8")
    trained = [frame for frame in load_frames(args.frames) if frame.split == "train"]
    known = find_labels([args.frames / str(f.mask_file_name) for f in trained], None)
    for name in VARIANTS:
        for number, frame in enumerate(chosen):
            path = args.work / "masks" / name / f"{number:04d}.png"
            if not path.is_file():
                mask = read_mask(args.frames / str(frame.mask_file_name), None)
                mask = np.where(np.isin(mask, known), mask, 0).astype(np.uint8)
                write_mask(path, change(mask, name, number))
    common = ["--prompt-file", prompts, "--num-images", len(chosen), "--fast", "--base", args.base,
              "--features", "texture", "--reference", args.frames, "--split", "test"]  # fmt: skip
    generate(args, args.work / "drawn" / "base", *common, "--weights", "none")
    for kind in args.kinds:
        for name in VARIANTS:
            for guidance in args.guidance if name == "plain" else args.guidance[:1]:
                out = args.work / "drawn" / f"{kind}-{name}-{guidance:g}"
                generate(args, out, *common, "--weights", args.work / "runs" / kind, "--guidance",
                         guidance, "--masks", args.work / "masks" / name)  # fmt: skip


def generate(args: argparse.Namespace, out: Path, *flags: Any) -> None:
    record = out / "generate.json"
    if not record.is_file() or not json.loads(record.read_text("utf-8")).get("finished"):
        call(args, "generate", *flags, "--out", out)


def score(args: argparse.Namespace, chosen: Sequence[Frame]) -> None:
    """Read the masks of all images, and hold them against the asked-for ones."""
    segment = load_segmenter(args.segmenter)
    real = [pad_square(read_gray_u8(args.frames / frame.file_name)) for frame in chosen]
    found = segment(real)
    own = read_masks(args.work / "masks" / "plain", len(chosen))
    patients = [frame.patient_id or frame.file_name for frame in chosen]
    others = [next(j for j in (*range(i + 1, len(chosen)), *range(i))
                   if patients[j] != patients[i]) for i in range(len(chosen))]  # fmt: skip
    ceiling, floor = compute_dice(own, found, LABELS), compute_dice(own[others], found, LABELS)
    keep(args, "ceiling", summarise(ceiling, patients))
    keep(args, "floor", summarise(floor, patients))
    for kind in args.kinds:
        for name in VARIANTS:
            for guidance in args.guidance if name == "plain" else args.guidance[:1]:
                out = args.work / "drawn" / f"{kind}-{name}-{guidance:g}"
                if not (out / "metadata.jsonl").is_file():
                    continue
                images = [read_gray_u8(out / frame.file_name) for frame in load_frames(out)]
                kept = [one for one in LABELS if name != f"no_{one.name.lower()}"]
                rows = [LABELS.index(one) for one in kept]
                asked = read_masks(args.work / "masks" / name, len(chosen))
                dice = compute_dice(asked, segment(images), kept)
                low, high = (np.nanmean(one[:, rows], axis=0) for one in (floor, ceiling))
                keep(args, f"{kind}.{name}.{guidance:g}",
                     {"dice": summarise(dice, patients),
                      "obedience": summarise((dice - low) / (high - low), patients)})  # fmt: skip


def cost(args: argparse.Namespace, _: Sequence[Frame]) -> None:
    """Peak memory and time of a training step, next to those of a LoRA of rank 8."""
    lora = ["--data", args.frames, "--base", args.base, "--threads", args.threads, "--batch-size",
            args.batch]  # fmt: skip
    arms = {"lora": ("train-lora", lora)}
    arms |= {kind: ("train-controlnet", train_flags(args, kind)) for kind in args.kinds}
    for name, (command, flags) in arms.items():
        known = load(args)
        if f"{name}.gib" not in known:
            told = call(args, command, *flags, "--memory", is_read=True)
            peak = re.search(r"a training step\s+([\d.]+) GiB", told)
            keep(args, f"{name}.gib", float(peak[1]) if peak else None)
        if f"{name}.step_seconds" not in known:
            seconds = []
            for steps in (2, 22):
                out = args.work / "timed" / f"{name}-{steps}"
                quiet = [] if name == "lora" else ["--obedience-images", 0]
                started = time.monotonic()
                call(args, command, *flags, *quiet, "--held-out-frames", 0, "--max-steps", steps,
                     "--checkpoint-every", 0, "--out", out, "--overwrite")  # fmt: skip
                seconds.append(time.monotonic() - started)
            keep(args, f"{name}.step_seconds", (seconds[1] - seconds[0]) / 20)


def table(args: argparse.Namespace, chosen: Sequence[Frame]) -> None:
    """Print the tables of docs/controlnet.md from results.json."""
    known, first = load(args), args.guidance[0]
    print(f"n {len(chosen)}; Dice {describe(known.get('ceiling'))} for real frames, "
          f"{describe(known.get('floor'))} for masks of other patients")  # fmt: skip
    names = [("plain", g) for g in args.guidance]
    names += [(name, first) for name in VARIANTS[1:]]
    print("| kind | " + " | ".join(f"{name}, guidance {g:g}" for name, g in names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for kind in args.kinds:
        cells = [known.get(f"{kind}.{name}.{g:g}", {}) for name, g in names]
        print(f"| {kind} | " + " | ".join(describe(cell.get("obedience")) for cell in cells) + " |")
    base = seconds_of(args.work / "drawn" / "base")
    print("\n| kind | training | step | peak memory | an image | of the base |")
    print("|---|---|---|---|---|---|")
    for kind in ("lora", *args.kinds):
        drawn = seconds_of(args.work / "drawn" / f"{kind}-plain-{first:g}")
        minutes = known.get(f"{kind}.train_seconds", 0) / 60
        print(f"| {kind} | {minutes:.0f} min | {known.get(f'{kind}.step_seconds') or 0:.2f} s | "
              f"{known.get(f'{kind}.gib')} GiB | {drawn:.2f} s | {drawn / base:.2f} |")  # fmt: skip


def picture(args: argparse.Namespace, chosen: Sequence[Frame]) -> None:
    """Write kinds.png: masks, their real frames, and the image of each kind."""
    shown = range(0, len(chosen), max(1, len(chosen) // PICTURE_COLUMNS))[:PICTURE_COLUMNS]
    masks = read_masks(args.work / "masks" / "plain", len(chosen))
    rows = [("mask", [colour_mask(masks[i]) for i in shown]),
            ("real", [pad_square(read_gray_u8(args.frames / chosen[i].file_name))
                      for i in shown])]  # fmt: skip
    for kind in args.kinds:
        out = args.work / "drawn" / f"{kind}-plain-{args.guidance[0]:g}"
        rows.append((kind, [read_gray_u8(out / "images" / f"{i:06d}.png") for i in shown]))
    sheet = contact_sheet(
        [image for _, images in rows for image in images],
        columns=len(shown),
        labels=[name for name, images in rows for _ in images],
    )
    write_image(args.work / "kinds.png", sheet)


# --- Masks ----------------------------------------------------------------------------------------


def change(mask: NDArray[np.uint8], variant: str, number: int) -> NDArray[np.uint8]:
    """Shift, turn or scale a mask (S, S), or leave a label out; directions take turns."""
    side, sign = len(mask), 1 if number % 2 else -1
    if variant.startswith("no_"):
        return np.where(mask == Label[variant[3:].upper()], 0, mask).astype(np.uint8)
    image = Image.fromarray(mask)
    if variant == "shifted":
        along = sign * SHIFT * side
        dx, dy = (along, 0.0) if number % 4 < 2 else (0.0, along)
        moved = image.transform(image.size, Image.Transform.AFFINE, (1, 0, -dx, 0, 1, -dy))
    elif variant == "turned":
        moved = image.rotate(sign * ANGLE, Image.Resampling.NEAREST)
    elif variant == "scaled":
        scale, middle = 1 + sign * ZOOM, side / 2
        rest = middle * (1 - 1 / scale)
        moved = image.transform(
            image.size, Image.Transform.AFFINE, (1 / scale, 0, rest, 0, 1 / scale, rest)
        )
    else:
        return mask
    return np.asarray(moved, dtype=np.uint8)


def read_masks(folder: Path, count: int) -> NDArray[np.uint8]:
    """Masks (count, S, S) at the side that the segmenter reads."""
    masks = [read_mask(path, None) for path in sorted(folder.glob("*.png"))[:count]]
    return np.stack([resize_mask(mask, (SIZE, SIZE)) for mask in masks])


def compute_dice(
    asked: NDArray[np.uint8], found: NDArray[np.uint8], labels: Sequence[Label]
) -> NDArray[np.float64]:
    """Dice (N, labels) of masks (N, S, S); NaN where a mask does not ask for a label."""
    scores = np.full((len(asked), len(labels)), np.nan)
    for column, label in enumerate(labels):
        ours, theirs = asked == label, found == label
        sizes = ours.sum((1, 2)), theirs.sum((1, 2))
        has = sizes[0] > 0
        scores[has, column] = (2 * (ours & theirs).sum((1, 2)) / np.maximum(sum(sizes), 1))[has]
    return scores


def summarise(scores: NDArray[np.float64], patients: Sequence[str]) -> dict[str, Any]:
    """Mean over labels and frames, with its 95 % interval by half-samples of patients."""
    means = np.nanmean(scores, axis=1)
    halves = sample_halves(build_groups([("patient", name) for name in patients]), 400,
                           np.random.default_rng(0))  # fmt: skip
    spread = Z_95 * float(np.std(halves @ means / halves.sum(axis=1), ddof=1))
    mean = float(means.mean())
    return {"value": mean, "low": mean - spread, "high": mean + spread, "n": len(means),
            "by_label": np.nanmean(scores, axis=0).tolist()}  # fmt: skip


def describe(score: dict[str, Any] | None) -> str:
    return "–" if not score else f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"


# --- Results --------------------------------------------------------------------------------------


def call(args: argparse.Namespace, *words: Any, is_read: bool = False) -> str:
    command = [sys.executable, "-m", "echodiff", *map(str, words)]
    print("$ echodiff", *words[:1], *words[-2:], flush=True)
    done = subprocess.run(
        command, check=True, text=True, stdout=subprocess.PIPE if is_read else None
    )
    return done.stdout or ""


def seconds_of(folder: Path) -> float:
    path = folder / "generate.json"
    record = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return float(record.get("seconds", np.nan)) / max(1, int(record.get("num_drawn", 1)))


def load(args: argparse.Namespace) -> dict[str, Any]:
    path = args.work / "results.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found


def keep(args: argparse.Namespace, name: str, value: Any) -> None:
    write_json_atomic(args.work / "results.json", load(args) | {name: value})


def add(args: argparse.Namespace, name: str, seconds: float) -> None:
    keep(args, name, load(args).get(name, 0.0) + seconds)


if __name__ == "__main__":
    main()
