"""Which score catches which fault? Phantom frames with a known fault against sound ones.

    python benchmarks/faults.py [--num 100] [--lora FOLDER --base FOLDER]

A score catches a fault when its interval lies beyond the floor, or beyond the range of real frames,
and an alarm when it is raised. FOLDER: generated frames folders to rank beside them. Markdown.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy import ndimage

from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.metrics.evaluation import score_measured
from echodiff.metrics.frame_features import load_networks, measure_frames
from echodiff.phantom.acquisition import Population, render, sample_acquisition

SIDE = 128
SEEDS = {"reference": 11, "train": 12, "real": 13, "collapse": 14, "style": 15, "noise": 16}


def simulate(name, num, style="cedar"):
    """(picture, caption, patient) of `num` frames, two a patient, that share none with others."""
    population = Population(styles=(style,), finding_rate=0.5)
    frames = [sample_acquisition(SEEDS[name], i, population) for i in range(num)]
    return [(render(one, "echo", SIDE), one.text, f"{name}-{i // 2}")
            for i, one in enumerate(frames)]  # fmt: skip


def make_sets(num):
    """Sets with one fault each, made of phantom frames that are no part of the reference."""
    rng = np.random.default_rng(0)
    real, train = simulate("real", num), simulate("train", num)
    few = simulate("collapse", max(4, num // 12))
    grain = rng.standard_normal((num, SIDE, SIDE))

    def grainy(image, i):
        return np.where(image > 0, np.clip(image + 2.0 * grain[i], 0, 255), 0).astype(np.uint8)

    def change(frames, edit):
        return [(edit(image), text, patient) for image, text, patient in frames]

    return {
        "real": real,
        "blurred": change(real, lambda image: ndimage.gaussian_filter(image, 0.6)),
        "wrong style": simulate("style", num, "birch"),
        "collapsed": [(grainy(few[i % len(few)][0], i), few[i % len(few)][1], f"c-{i}")
                      for i in range(num)],
        "mirrored": change(real, lambda image: np.ascontiguousarray(image[:, ::-1])),
        "copies of training": [(grainy(image, i), text, f"t-{i}")
                               for i, (image, text, _) in enumerate(train)],
        "orange in one frame": [
            (np.stack([image, image // 2, image // 8], axis=-1) if i == 0 else image, text, patient)
            for i, (image, text, patient) in enumerate(real)
        ],
        "noise": [(rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8), text, patient)
                  for _, text, patient in real],
    }, train  # fmt: skip


def write(folder, frames):
    with FramesWriter(folder) as writer:
        for i, (image, text, patient) in enumerate(frames):
            writer.add(Frame(file_name=f"{i:04d}.png", text=text, patient_id=patient), image)
    return folder


def list_catches(result):
    """Names of the scores that lie beyond what real frames have, and first words of the alarms."""
    caught = []
    for name, score in result["scores"].items():
        low, high = score.get("floor_low"), score.get("floor_high")
        if low is None:
            low, high = score.get("real_low"), score.get("real_high")
        if None in (low, high, score["low"]):
            continue
        if score["low"] > high or score["high"] < low:
            caught.append(name)
    return caught, sorted({alarm.split(":")[0] for alarm in result["alarms"]})


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=100, help="frames of each set")
    parser.add_argument("--base", type=Path, help="frames folder drawn by the bare base")
    parser.add_argument("--lora", type=Path, help="frames folder drawn with the LoRA")
    args = parser.parse_args(argv)
    networks = load_networks(("tiny", "texture"))
    with tempfile.TemporaryDirectory() as place:
        sets, train = make_sets(args.num)
        folders = {name: write(Path(place) / f"{i}", frames)
                   for i, (name, frames) in enumerate(sets.items())}  # fmt: skip
        folders |= {name: folder for name, folder in (("LoRA", args.lora), ("base", args.base))
                    if folder}  # fmt: skip
        reference = simulate("reference", 2 * args.num)
        of_reference, of_train = (
            measure_frames(write(Path(place) / name, frames), networks.opened)
            for name, frames in (("reference", reference), ("train", train))
        )
        print("| set | MMD² tiny | MMD² texture | alarms | caught by |\n|---|---|---|---|---|")
        for name, folder in folders.items():
            measured = measure_frames(folder, networks.opened)
            result = score_measured(measured, of_reference, networks, seed=0, train=of_train)
            caught, alarms = list_catches(result)
            mmd = [result["scores"][f"mmd_{features}"]["value"] for features in ("tiny", "texture")]
            print(f"| {name} | {mmd[0]:.3f} | {mmd[1]:.3f} | {', '.join(alarms) or '–'} | "
                  f"{', '.join(f'`{one}`' for one in caught) or '–'} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
