"""Do the translations work? The experiments of docs/gan.md, at reduced size, by the real commands.

    python benchmarks/gan_experiments.py --out FOLDER [--only NAME,...]
    python benchmarks/gan_experiments.py --out FOLDER --only heart --heart FILE.glb --camus FOLDER

Frames are simulated, train and test by patient. A command that has left its output is not run
again: killed and typed again this goes on. Tables are Markdown, in FOLDER/tables/NAME.md.
"""

import argparse
import json
import shlex
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from PIL import Image

from echodiff.__main__ import main as echodiff
from echodiff.anatomy import Label
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.images import read_image_u8, read_mask_u8
from echodiff.segmentation.agreement import measure_agreement
from echodiff.segmentation.labelled_frames import load_labelled_frames
from echodiff.segmentation.mask_scores import CAMUS_LABELS, score_masks
from echodiff.segmentation.segmentation_config import SegmentationConfig
from echodiff.segmentation.training import TrainingFrames, find_run_dir, train_segmentation
from echodiff.training.precision import start_accelerator

SIDE = 128
PHANTOM = (f"phantom --num 800 --seed 7 --size {SIDE} --styles cedar --findings asd,lvh,dilated_lv "
           "--finding-rate 0.8 --split 50/0/50 --modality echo,mr,ct,pseudo")  # fmt: skip
NUM_TEST = 100
"""Held-out frames that are translated and scored, two of each patient."""
SMALL = "--decay-epochs 0 --learning-rate 2e-4 --threads 1 --checkpoint-epochs 1"
WHOLE = f"--resolution {SIDE} --load-size {SIDE}"
U_NET = f"--generator unet_128 --width 16 {SMALL} {WHOLE}"
CROPS = f"--width 8 {SMALL} --resolution 64 --load-size {SIDE}"
HALF = f"--width 8 {SMALL} --resolution 64 --load-size 64"

TRAININGS = {
    "echo_to_mr": ("echo", "mr", f"--config cyclegan_echo_to_mr {U_NET} --steps 1200"),
    "echo_to_mr_cnn": ("echo", "mr", f"--config cnn_paired --width 16 {SMALL} {WHOLE} --steps 400"),
    "cyclegan": ("pseudo", "echo", "--config cyclegan_cmc2024 --generator resnet_6 "
                 f"{CROPS} --steps 1600"),
    "cut": ("pseudo", "echo", "--config cut_cmc2024 --generator resnet_6_antialiased "
            f"--batch-size 1 {CROPS} --steps 1000"),
    "ct_to_mr": ("ct", "mr", f"--config cyclegan_ct_to_mr {HALF} --steps 600"),
    "ct_to_mr_cnn": ("ct", "mr", f"--config cnn_random_pairs {HALF} --steps 400"),
    "ct_to_mr_unet": ("ct", "mr", f"--config cnn_paired {U_NET} --steps 200"),
    "srgan": ("mr", None, "--config srgan_x2 --width 8 --threads 1 --resolution 64 "
              f"--load-size {SIDE} --batch-size 4 --steps 120"),
    "heart": ("heart", "camus", "--config cyclegan_cmc2024 --generator resnet_6 "
              f"{CROPS} --steps 500"),
}  # fmt: skip
"""Source, target and flags of each training."""

MASKS = {"lv": (1,), "la": (3,), "lv_myo": (1, 2), "lv_la": (1, 3), "lv_myo_la": (1, 2, 3)}
"""The five experiments of Abdi et al. and the labels of each mask."""
for _name in MASKS:
    TRAININGS[f"patch_cgan_{_name}"] = (
        "echo", None, f"--config patch_cgan_{_name} --width 8 --threads 1 --batch-size 4 "
        f"{WHOLE} --steps 600 --learning-rate 1e-3 --learning-rate-d 1e-3",
    )  # fmt: skip


class Place:
    """Everything of one --out."""

    def __init__(self, out: Path) -> None:
        self.out = out
        for name in ("logs", "runs", "frames", "scores", "tables"):
            (out / name).mkdir(parents=True, exist_ok=True)

    def run(self, line: str, product: Path) -> Path:
        """Run `echodiff LINE` unless what it leaves is there; its log lies in logs."""
        if not product.exists():
            print(time.strftime("%H:%M:%S"), "echodiff", line, flush=True)
            name = "-".join(product.relative_to(self.out).parts[:2]).replace("/", "-")
            with (self.out / "logs" / f"{name}.log").open("w") as log, redirect_stdout(log), \
                    redirect_stderr(log):  # fmt: skip
                status = echodiff(shlex.split(line))  # here: imports alone take seconds
            if status:
                raise SystemExit(f"echodiff {line}: status {status}, see {log.name}")
        return product

    def domain(self, name: str) -> Path:
        """Folder of frames of that modality, simulated where it is not there."""
        if name in {"heart", "camus"}:
            return self.out / "frames" / name
        self.run(f"{PHANTOM} --out {self.out}/frames/phantom",
                 self.out / f"frames/phantom/{name}/metadata.jsonl")  # fmt: skip
        return self.out / "frames" / "phantom" / name

    def train(self, name: str) -> Path:
        """Train that translation; its run folder."""
        source, target, flags = TRAININGS[name]
        folders = f"--source {self.domain(source)}"
        folders += f" --target {self.domain(target)}" if target else ""
        run_dir = self.out / "runs" / name
        files = [run_dir / "G_A.safetensors", run_dir / "G.safetensors"]
        if not any(file.exists() for file in files):
            self.run(f"train-gan {flags} {folders} --out {run_dir}", run_dir / "run.finished")
        return run_dir

    def test(self, modality: str) -> Path:
        """Held-out frames of that modality, none of whose patients was trained on."""
        # There is one 3D heart: its slices are trained on and translated.
        split = None if modality == "heart" else "test"
        return self.take(self.domain(modality), f"{modality}-test", split=split, num=NUM_TEST)

    def translate(self, name: str, *, side: int = SIDE) -> Path:
        """Translate the held-out frames; a frames folder."""
        out = self.out / "frames" / f"{name}-translated"
        source = self.test(TRAININGS[name][0])
        self.run(f"translate {self.train(name)} {source} --resolution {side} --out {out}",
                 out / "metadata.jsonl")  # fmt: skip
        return out

    def take(self, folder: Path, name: str, *, split=None, num=None, side=None) -> Path:
        """Frames of a split, the first `num`, enlarged to `side` by a cubic filter."""
        out = self.out / "frames" / name
        if (out / "metadata.jsonl").exists():
            return out
        frames = [frame for frame in load_frames(folder) if split in (None, frame.split)][:num]
        with FramesWriter(out, overwrite=True) as writer:
            for frame in frames:
                image = read_image_u8(folder / frame.file_name)
                mask = frame.mask_file_name and read_mask_u8(folder / frame.mask_file_name)
                if side is not None and image.shape[0] != side:
                    image = np.asarray(Image.fromarray(image).resize((side, side), 3))
                    mask = None
                writer.add(_renamed(frame), image, mask)
        return out

    def score(self, generated: Path, reference: Path, *flags: str) -> dict:
        """`echodiff evaluate`; its metrics."""
        out = self.out / "scores" / generated.name
        self.run(f"evaluate {generated} --reference {reference} --out {out} {' '.join(flags)}",
                 out / "metrics.json")  # fmt: skip
        return json.loads((out / "metrics.json").read_text())

    def write(self, name: str, lines: list[str]) -> None:
        """Print a table and keep it."""
        text = "\n".join(lines) + "\n"
        (self.out / "tables" / f"{name}.md").write_text(text)
        print(text, flush=True)


def _renamed(frame: Frame) -> Frame:
    return Frame(
        file_name=Path(frame.file_name).name, text=frame.text, patient_id=frame.patient_id,
        view=frame.view, phase=frame.phase, modality=frame.modality, pair_id=frame.pair_id,
        source=frame.source,
    )  # fmt: skip


def cell(score: dict, digits: int = 3, factor: float = 1.0) -> str:
    """A score with its interval."""
    value, low, high = (score[key] for key in ("value", "low", "high"))
    if low is None:
        return f"{value * factor:.{digits}f}"
    return f"{value * factor:.{digits}f} [{low * factor:.{digits}f}, {high * factor:.{digits}f}]"


def paired_row(label: str, metrics: dict) -> str:
    """SSIM, PSNR and MAE (0..1) of translated pictures against their true partners."""
    scores = metrics["scores"]
    return (f"| {label} | {cell(scores['ssim'])} | {cell(scores['psnr'], 1)} | "
            f"{cell(scores['mae'], 3, 1 / 255)} | {scores['ssim']['n']} |")  # fmt: skip


PAIRED_HEAD = ["| | SSIM | PSNR (dB) | MAE (0..1) | n |", "|---|---|---|---|---|"]


def losses_of(run_dir: Path, *names: str, num: int = 100) -> list[str]:
    """Mean of named losses in the first and the last `num` steps."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "learning_rate" in row]
    last = rows[-1]["step"]
    said = []
    for name in names:
        first = np.mean([row[name] for row in rows if row["step"] <= num])
        end = np.mean([row[name] for row in rows if row["step"] > last - num])
        said.append(f"{name} {first:.3f} to {end:.3f}")
    return said


def echo_to_mr(place: Place) -> None:
    """CycleGAN without pairs, between copying the input and a network told the truth."""
    truth = place.test("mr")
    rows = []
    for label, folder in (
        ("copy of the input", place.test("echo")),
        ("CycleGAN", place.translate("echo_to_mr")),
        ("`cnn_paired`, told the pairs", place.translate("echo_to_mr_cnn")),
    ):
        rows.append(paired_row(label, place.score(folder, truth, "--paired", "--features tiny")))
    run_dir = place.out / "runs" / "echo_to_mr"
    place.write("echo_to_mr", [*PAIRED_HEAD, *rows, "",
                               "; ".join(losses_of(run_dir, "cycle_A", "cycle_B"))])  # fmt: skip


def pseudo_to_echo(place: Place, lora: Path | None) -> None:
    """P1: Fréchet distance, KID and MMD of CycleGAN, CUT and a LoRA, all at the same n."""
    reference = place.take(place.domain("echo"), "echo-truth", split="test")
    num = len(load_frames(lora)) if lora else 80
    sets = {
        "pseudo images as they are": place.take(place.test("pseudo"), "pseudo-taken", num=num),
        "CycleGAN": place.take(place.translate("cyclegan"), "cyclegan-taken", num=num),
        "CUT": place.take(place.translate("cut"), "cut-taken", num=num),
        "other real frames": place.take(place.domain("echo"), "echo-other", split="train", num=num),
    }  # fmt: skip
    if lora:
        sets["SD-style base and LoRA"] = place.take(lora, "lora-taken", num=num)
    rows = [
        "| | FD(tiny) | KID tiny | MMD² tiny | FD(texture) | MMD² texture | tinted | n |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for label, folder in sets.items():
        scores = place.score(folder, reference)["scores"]
        tinted = sum(_is_tinted(folder / frame.file_name) for frame in load_frames(folder))
        rows.append(
            f"| {label} | {cell(scores[f'fd_tiny@{num}'], 0)} | "
            f"{cell(scores['kid_tiny'], 1, 1e-6)} | {cell(scores['mmd_tiny'])} | "
            f"{cell(scores[f'fd_texture@{num}'], 0)} | {cell(scores['mmd_texture'])} | "
            f"{tinted} | {num} |"
        )
    place.write("pseudo_to_echo", rows)


def _is_tinted(path: Path) -> bool:
    image = read_image_u8(path)
    return image.ndim == 3 and bool((image.max(axis=2) > image.min(axis=2) + 8).mean() > 0.01)


def mask_to_echo(place: Place) -> None:
    """P3: is the heart that was drawn where the mask asked for it?"""
    reader = train_reader(place)
    real = place.test("echo")
    own, others = (
        measure_agreement(real, load_frames(real), reader, of_others=crossed)
        for crossed in (False, True)
    )
    rows = ["| mask | Dice LV | LV wall | LA | obedience | n |", "|---|---|---|---|---|---|"]
    sets = {
        "real frames, the ceiling": (own, CAMUS_LABELS),
        "the same against another patient's masks": (others, CAMUS_LABELS),
    }
    for name, labels in MASKS.items():
        folder = place.translate(f"patch_cgan_{name}")
        found = measure_agreement(folder, load_frames(folder), reader)
        sets[name] = found, [Label(label) for label in labels]
    for title, (agreement, asked) in sets.items():
        scores, *_ = score_masks(agreement, reader, ceiling=own, floor=others, seed=0)
        records = {name: score.to_record() for name, score in scores.items()}
        cells = [
            cell(records[f"mask_dice_{label.name.lower()}"], 2)
            + ("" if label in asked else " (not asked)")
            for label in CAMUS_LABELS
        ]
        obedience = cell(records["obedience"], 2) if "obedience" in records else "–"
        rows.append(f"| {title} | {' | '.join(cells)} | {obedience} | {len(agreement.values)} |")
    place.write("mask_to_echo", rows)


def train_reader(place: Place):
    """A network that reads LV, its wall and LA, trained on the frames of the training patients."""
    frames = place.domain("echo")
    train = [frame for frame in load_frames(frames) if frame.split == "train"]
    settings = SegmentationConfig(width=8, resolution=SIDE, steps=400)
    one = load_labelled_frames(frames, train, SIDE, flag="--frames")
    data = TrainingFrames.of_set("train", one)
    root = place.out / "runs" / "segmentation"
    run_dir = find_run_dir(root, settings, data.hashes, CAMUS_LABELS, seed=0)
    accelerator, _ = start_accelerator("no", num_parameters=0, tracker="none", threads=1)
    return train_segmentation(run_dir, settings, data, CAMUS_LABELS, accelerator, seed=0)


def ct_to_mr(place: Place) -> None:
    """P5: CycleGAN, a CNN on random pairs, a U-Net on true pairs, SRGAN on the result."""
    truth = place.test("mr")
    copied = place.test("ct")
    small = place.translate("ct_to_mr", side=64)
    large = place.out / "frames" / "ct_to_mr-srgan"
    place.run(f"translate {place.train('srgan')} {small} --out {large}", large / "metadata.jsonl")
    rows = []
    for label, folder in (
        ("copy of the input", copied),
        ("CNN on random pairs, 64 px enlarged", place.take(
            place.translate("ct_to_mr_cnn", side=64), "ct_to_mr_cnn-enlarged", side=SIDE)),
        ("CycleGAN, 64 px enlarged", place.take(small, "ct_to_mr-enlarged", side=SIDE)),
        ("CycleGAN, then SRGAN x2", large),
        ("U-Net on true pairs", place.translate("ct_to_mr_unet")),
    ):  # fmt: skip
        rows.append(paired_row(label, place.score(folder, truth, "--paired", "--features tiny")))
    run_dir = place.out / "runs" / "ct_to_mr"
    place.write("ct_to_mr", [*PAIRED_HEAD, *rows, "",
                             "; ".join(losses_of(run_dir, "cycle_A", "cycle_B"))])  # fmt: skip


def bf16(place: Place, num_seeds: int = 3) -> None:
    """Is bf16 harmless? KID of paired seeds: same pictures, order and weights, other arithmetic."""
    reference = place.take(place.domain("echo"), "echo-truth", split="test")
    rows = ["| seed | KID tiny, float32 | bf16 | bf16 within the interval | n |",
            "|---|---|---|---|---|"]  # fmt: skip
    for seed in range(num_seeds):
        kid = {}
        for precision in ("no", "bf16"):
            name = f"seed-{seed}-{precision}"
            flags = "--config cyclegan_cmc2024 --generator resnet_6 "
            TRAININGS[name] = ("pseudo", "echo", f"{flags} {CROPS} --steps 400 --seed {seed} "
                               f"--mixed-precision {precision}")  # fmt: skip
            kid[precision] = place.score(place.translate(name), reference)["scores"]["kid_tiny"]
        is_within = kid["no"]["low"] <= kid["bf16"]["value"] <= kid["no"]["high"]
        rows.append(f"| {seed} | {cell(kid['no'], 1, 1e-6)} | {cell(kid['bf16'], 1, 1e-6)} | "
                    f"{'yes' if is_within else 'no'} | {kid['no']['n']} |")  # fmt: skip
    place.write("bf16", rows)


def heart(place: Place, mesh: Path, camus: Path) -> None:
    """Slices of a real heart's 3D model, the same that were trained on, to frames of patients."""
    frames = place.out / "frames"
    place.run(f"prepare mesh {mesh} --slices 50 --views A4C,A2C --size {SIDE} --split 100/0/0 "
              f"--out {frames / 'heart'}", frames / "heart/metadata.jsonl")  # fmt: skip
    place.run(
        f"prepare folder {camus / 'frames'} --masks {camus / 'masks'} --captions plain "
        "--patient-regex '(?P<patient>patient\\d+)_(?P<view>\\dCH)_(?P<phase>E[DS])' "
        f"--size {SIDE} --split 70/0/30 --source CAMUS --out {frames / 'camus'}",
        frames / "camus/metadata.jsonl",
    )
    reference = place.take(frames / "camus", "camus-truth", split="test")
    num = len(load_frames(reference))
    rows = ["| | FD(tiny) | MMD² tiny | FD(texture) | MMD² texture | n |",
            "|---|---|---|---|---|---|"]  # fmt: skip
    for label, folder in (
        ("pseudo images as they are", place.take(frames / "heart", "heart-taken", num=num)),
        ("CycleGAN", place.take(place.translate("heart"), "heart-gan", num=num)),
        ("CAMUS frames of the training", place.take(frames / "camus", "camus-other",
                                                    split="train", num=num)),
    ):  # fmt: skip
        scores = place.score(folder, reference)["scores"]
        count = scores["mmd_tiny"]["n"]
        rows.append(f"| {label} | {cell(scores[f'fd_tiny@{count}'], 0)} | "
                    f"{cell(scores['mmd_tiny'])} | {cell(scores[f'fd_texture@{count}'], 0)} | "
                    f"{cell(scores['mmd_texture'])} | {count} |")  # fmt: skip
    place.write("heart", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", help="names, comma between; none: all whose data are given")
    parser.add_argument("--lora", type=Path, help="frames drawn with a LoRA of the same hospital")
    parser.add_argument("--heart", type=Path, help="3D heart for the real run")
    parser.add_argument("--camus", type=Path, help="its frames/ and masks/")
    args = parser.parse_args()
    place = Place(args.out)
    experiments = {
        "echo_to_mr": lambda: echo_to_mr(place),
        "pseudo_to_echo": lambda: pseudo_to_echo(place, args.lora),
        "ct_to_mr": lambda: ct_to_mr(place),
        "mask_to_echo": lambda: mask_to_echo(place),
        "bf16": lambda: bf16(place),
    }
    if args.heart and args.camus:
        experiments["heart"] = lambda: heart(place, args.heart, args.camus)
    for name in args.only.split(",") if args.only else experiments:
        experiments[name]()


if __name__ == "__main__":
    main()
