"""How well four kinds of weights obey masks: the tables of docs/controlnet.md.

    python benchmarks/controlnet.py WORK                        # phantom frames, embedded base
    python benchmarks/controlnet.py WORK --frames CAMUS --base ID --lora RUN --reader auto
    python benchmarks/controlnet.py WORK --only train,draw,cost --kinds concat

Every stage keeps what it made in WORK, so that the same command resumes: trainings and image sets
by themselves, measurements in results.json. The stages `table` and `picture` show what there is.

Obedience is (Dice - floor) / (ceiling - floor), mean over LV, its wall and LA, as in `echodiff
evaluate`. Dice is that of the asked-for masks and those that a network reads from the images; the
ceiling is the same of real frames and their own masks, the floor of real frames and masks of other
patients. Dice alone flatters: hearts lie in the middle of every image.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from echodiff.__main__ import main as echodiff
from echodiff.anatomy import Label
from echodiff.contact_sheet import contact_sheet
from echodiff.data.masks import find_labels, read_mask
from echodiff.data.reference import RealFrames
from echodiff.files import write_json_atomic
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.images import colour_mask, pad_square, read_gray_u8, write_image
from echodiff.metrics.segmenter import SIZE
from echodiff.phantom.dataset import write_phantom_frames
from echodiff.published import MASK_FILES
from echodiff.runs import RECORD, Run
from echodiff.segmentation.agreement import measure_agreement
from echodiff.segmentation.faithfulness import choose_mask_reader
from echodiff.segmentation.label_names import name_label
from echodiff.segmentation.mask_scores import score_masks

LABELS = (Label.LV, Label.LV_MYOCARDIUM, Label.LA)
SHIFT, ANGLE, ZOOM = 0.10, 10.0, 0.15
"""Share of the side, degrees, and share of the size by which masks are moved."""
MOVED = ("shifted", "turned", "scaled")
DROPPED = {f"no_{name_label(label)}": label for label in LABELS}
VARIANTS = ("plain", *MOVED, *DROPPED)
STAGES = ("train", "draw", "score", "cost", "table", "picture")
PICTURE_COLUMNS = 6
NUM_TIMED, SHORT = 100, 2
"""Images of the timed set; steps of the shorter of two timed trainings."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--frames", type=Path, help="frames with masks; default: phantoms")
    parser.add_argument("--phantoms", type=int, default=640)
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--lora", type=Path, help="LoRA that adapts the base to the frames")
    parser.add_argument("--reader", default="shipped", help="shipped, auto (trained on the training"
                        " frames) or the run folder of a segmentation network")  # fmt: skip
    parser.add_argument("--kinds", default=",".join(MASK_FILES))
    parser.add_argument("--only", default=",".join(STAGES))
    parser.add_argument("--steps", type=int, default=3500, help="optimizer steps")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--augment", type=int, default=1, help="copies of each training frame")
    parser.add_argument("--images", type=int, default=64, help="masks of each variant")
    parser.add_argument("--guidance", default="5,2", help="of the plain masks; the first of all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timed-steps", type=int, default=22, help="of the longer timed training")
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
        started = time.monotonic()
        stages[stage](args, chosen)
        print(f"stage {stage}: {time.monotonic() - started:.0f} s", flush=True)


def choose_frames(folder: Path, count: int) -> list[Frame]:
    """Test frames with masks, of as many patients as there are."""
    frames = [f for f in load_frames(folder) if f.split == "test" and f.mask_file_name]
    if not frames:
        sys.exit(f"{folder}: no frame of split test has a mask")
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
            call("train-controlnet", *train_flags(args, kind), "--out", run_dir,
                 "--max-steps", args.steps, "--obedience-every", max(1, args.steps // 14),
                 "--obedience-images", min(16, args.images), "--sample-steps", 12, "--sample-every",
                 args.steps, "--lr-scheduler", "cosine",
                 "--lr-warmup", 50, "--checkpoint-every", 200, "--augment",
                 args.augment)  # fmt: skip
        finally:  # what an interrupted training took counts as well
            add(args, f"{kind}.train_seconds", time.monotonic() - started)


def train_flags(args: argparse.Namespace, kind: str) -> list[Any]:
    flags = ["--kind", kind, "--data", args.frames, "--base", args.base, "--threads", args.threads]
    flags += ["--batch-size", args.batch]
    return [*flags, *(["--lora", args.lora] if args.lora else [])]


def draw(args: argparse.Namespace, chosen: Sequence[Frame]) -> None:
    """Draw an image for each mask of each variant, and the same captions by the base alone."""
    trained = [frame for frame in load_frames(args.frames) if frame.split == "train"]
    known = find_labels([args.frames / str(f.mask_file_name) for f in trained], None)
    for name in VARIANTS:
        write_variant(args, name, chosen, known)
    prompts = args.work / "prompts.txt"
    captions = [frame.text or "echocardiogram" for frame in chosen]
    prompts.write_text("".join(f"{caption}\n" for caption in captions), encoding="utf-8")
    common = ["--num-images", len(chosen), "--fast", "--base", args.base, "--features", "texture",
              "--reference", args.frames, "--split", "test"]  # fmt: skip
    weights = args.lora or "none"
    generate(args.work / "drawn" / "base", *common, "--prompt-file", prompts, "--weights", weights)
    for kind, name, guidance, out in list_sets(args):
        generate(out, *common, "--weights", args.work / "runs" / kind, "--guidance", guidance,
                 "--masks", args.work / "masks" / name)  # fmt: skip


def list_sets(args: argparse.Namespace) -> list[tuple[str, str, float, Path]]:
    """Kind, variant, guidance and folder of every set."""
    sets = []
    for kind in args.kinds:
        for name in VARIANTS:
            for guidance in args.guidance if name == "plain" else args.guidance[:1]:
                out = args.work / "drawn" / f"{kind}-{name}-{guidance:g}"
                sets.append((kind, name, guidance, out))
    return sets


def write_variant(
    args: argparse.Namespace, name: str, chosen: Sequence[Frame], known: Sequence[Label]
) -> None:
    """Write the changed masks as a frames folder, whose rows say whose they are."""
    folder = args.work / "masks" / name
    if (folder / "metadata.jsonl").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    with FramesWriter(folder) as writer:
        for number, frame in enumerate(chosen):
            mask = read_mask(args.frames / str(frame.mask_file_name), None)
            mask = np.where(np.isin(mask, known), mask, 0).astype(np.uint8)
            image = pad_square(read_gray_u8(args.frames / frame.file_name))
            row = dataclasses.replace(frame, file_name=f"{number:04d}.png", mask_file_name=None)
            writer.add(row, image, change(mask, name, number))


def generate(out: Path, *flags: Any) -> None:
    """Draw a set in this process, which has everything imported, unless it is there."""
    record = out / "generate.json"
    if record.is_file() and json.loads(record.read_text("utf-8")).get("finished"):
        return
    started = time.monotonic()
    if status := echodiff(["generate", *map(str, flags), "--out", str(out)]):
        sys.exit(status)
    print(f"{out.name}: {time.monotonic() - started:.0f} s", flush=True)


def score(args: argparse.Namespace, chosen: Sequence[Frame]) -> None:
    """Read the masks of all images, and hold them against the asked-for ones."""
    reference = RealFrames(args.frames, args.frames, [*chosen], f"{len(chosen)} test frames")
    frames = [frame for frame in load_frames(args.frames) if frame.split == "train"]
    trained = RealFrames(args.frames, args.frames, frames, f"{len(frames)} training frames")
    reader, _ = choose_mask_reader(args.reader, reference, trained, args.work)
    assert reader is not None
    ceiling = measure_agreement(args.frames, chosen, reader)
    floor = measure_agreement(args.frames, chosen, reader, of_others=True)
    for kind, name, guidance, out in list_sets(args):
        if (out / "metadata.jsonl").is_file():
            generated = measure_agreement(out, load_frames(out), reader)
            assert generated is not None
            found, left_out, _ = score_masks(
                generated, reader, ceiling=ceiling, floor=floor, seed=0
            )
            if left_out:
                print(f"{out.name}: {left_out}")
            kept = {score.name: {key: getattr(score, key) for key in ("value", "low", "high", "n")}
                    | {"real": score.real, "floor": score.floor}
                    for score in found.values()
                    if str(score.name).startswith(("obedience", "mask_dice"))}  # fmt: skip
            keep(args, f"{kind}.{name}.{guidance:g}", {str(key): one for key, one in kept.items()})


def cost(args: argparse.Namespace, _: Sequence[Frame]) -> None:
    """Peak memory and time of a training step, next to those of a LoRA of rank 8, and the time of
    a labelled set from start to report."""
    lora = ["--data", args.frames, "--base", args.base, "--threads", args.threads, "--batch-size",
            args.batch]  # fmt: skip
    arms = {"lora": ("train-lora", lora)}
    arms |= {kind: ("train-controlnet", train_flags(args, kind)) for kind in args.kinds}
    for name, (command, flags) in arms.items():
        known = load(args)
        if f"{name}.gib" not in known:
            told = call(command, *flags, "--memory", is_read=True)
            peak = re.search(r"a training step\s+([\d.]+) GiB", told)
            keep(args, f"{name}.gib", float(peak[1]) if peak else None)
        if f"{name}.step_seconds" not in known:
            seconds = []
            for steps in (SHORT, args.timed_steps):
                out = args.work / "timed" / f"{name}-{steps}"
                quiet = [] if name == "lora" else ["--obedience-images", 0]
                started = time.monotonic()
                call(command, *flags, *quiet, "--held-out-frames", 0, "--max-steps", steps,
                     "--checkpoint-every", 0, "--sample-every", 0, "--out", out,
                     "--overwrite")  # fmt: skip
                seconds.append(time.monotonic() - started)
            per_step = (seconds[1] - seconds[0]) / (args.timed_steps - SHORT)
            keep(args, f"{name}.step_seconds", per_step)
        if name != "lora" and f"{name}.hundred_seconds" not in known:
            started = time.monotonic()
            call("generate", "--masks", args.frames, "--num-images", NUM_TIMED, "--fast",
                 "--weights", args.work / "runs" / name, "--base", args.base, "--out",
                 args.work / "timed" / f"{name}-set", "--overwrite")  # fmt: skip
            keep(args, f"{name}.hundred_seconds", time.monotonic() - started)


def table(args: argparse.Namespace, chosen: Sequence[Frame]) -> None:
    """Print the tables of docs/controlnet.md from results.json."""
    known, first = load(args), args.guidance[0]
    names = [("plain", g) for g in args.guidance] + [(name, first) for name in VARIANTS[1:]]
    cells = {kind: [known.get(f"{kind}.{name}.{g:g}", {}) for name, g in names]
             for kind in args.kinds}  # fmt: skip
    print(f"obedience, n {len(chosen)}")
    print("| kind | " + " | ".join(f"{name}, guidance {g:g}" for name, g in names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for kind in args.kinds:
        print(f"| {kind} | {' | '.join(describe(cell.get('obedience')) for cell in cells[kind])} |")
    print("\n| Dice | " + " | ".join(name_label(label) for label in LABELS) + " |")
    print("|---" * (len(LABELS) + 1) + "|")
    for kind in args.kinds:
        of = [cells[kind][0].get(f"mask_dice_{name_label(label)}") for label in LABELS]
        print(f"| {kind} | {' | '.join(map(describe, of))} |")
        if kind == args.kinds[-1] and all(of):
            print(f"| real frames | {' | '.join(write(one['real']) for one in of)} |")
            print(f"| masks of others | {' | '.join(write(one['floor']) for one in of)} |")
    base = seconds_of(args.work / "drawn" / "base")
    print("\n| kind | training | step | peak memory | an image | of the base | a set of "
          f"{NUM_TIMED} |")  # fmt: skip
    print("|---" * 7 + "|")
    for kind in ("lora", *args.kinds):
        drawn = seconds_of(args.work / "drawn" / f"{kind}-plain-{first:g}")
        minutes = known.get(f"{kind}.train_seconds", 0) / 60
        print(f"| {kind} | {minutes:.0f} min | {known.get(f'{kind}.step_seconds') or 0:.2f} s | "
              f"{known.get(f'{kind}.gib')} GiB | {drawn:.2f} s | {drawn / base:.2f} | "
              f"{known.get(f'{kind}.hundred_seconds') or 0:.0f} s |")  # fmt: skip
    print("", *list_bars(args), sep="\n")


def list_bars(args: argparse.Namespace) -> list[str]:
    """What is aimed at, and what was reached."""
    known, first = load(args), args.guidance[0]

    def obedience(kind: str, name: str, label: str = "") -> float:
        score = known.get(f"{kind}.{name}.{first:g}", {}).get(f"obedience{label}")
        return float("nan") if score is None else float(score["value"])

    best = max(args.kinds, key=lambda kind: np.nan_to_num(obedience(kind, "plain"), nan=-9.0))
    bars = [(f"best kind ({best})", obedience(best, "plain"), 0.85)]
    if "controlnet" in args.kinds:
        bars.append(("controlnet", obedience("controlnet", "plain"), 0.75))
    bars += [(f"{best}, {name}", obedience(best, name), 0.7) for name in MOVED]
    for name, label in DROPPED.items():
        # The mean over the other labels, against the same of masks with all.
        others = [obedience(best, "plain", f"_{name_label(o)}") for o in LABELS if o != label]
        mean = float(np.mean(others))
        share = obedience(best, name) / mean if mean > 0 else float("nan")
        bars.append((f"{best}, {name}: share kept on the others", share, 0.8))
    return [f"{'reached' if value >= aim else 'MISSED '} {what}: {value:.2f}, aim {aim}"
            for what, value, aim in bars]  # fmt: skip


def picture(args: argparse.Namespace, chosen: Sequence[Frame]) -> None:
    """Write kinds.png: masks, their real frames, and the image of each kind, guided least."""
    shown = range(0, len(chosen), max(1, len(chosen) // PICTURE_COLUMNS))[:PICTURE_COLUMNS]
    asked = load_frames(args.work / "masks" / "plain")
    home = args.work / "masks" / "plain"
    masks = [read_mask(home / str(asked[i].mask_file_name), SIZE) for i in shown]
    rows = [("mask", [colour_mask(mask) for mask in masks]),
            ("real", [read_gray_u8(home / asked[i].file_name) for i in shown])]  # fmt: skip
    for kind in args.kinds:
        out = args.work / "drawn" / f"{kind}-plain-{min(args.guidance):g}"
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
    if variant in DROPPED:
        return np.where(mask == DROPPED[variant], 0, mask).astype(np.uint8)
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


# --- Results --------------------------------------------------------------------------------------


def describe(score: dict[str, Any] | None) -> str:
    if not score:
        return "–"
    if score["low"] is None:
        return write(score["value"])
    return f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"


def write(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def call(*words: Any, is_read: bool = False) -> str:
    command = [sys.executable, "-m", "echodiff", *map(str, words)]
    print("$ echodiff", *words, flush=True)
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
