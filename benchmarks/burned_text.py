"""How much burned-in text is found, and how often some is seen where there is none.

    echodiff phantom --num 60 --size 512 --views A4C,A2C --styles random --seed 6 --out phantom
    python benchmarks/burned_text.py --frames phantom/images --clean FOLDER_OF_REAL_FRAMES

Names, dates, numbers and measurements are drawn into frames without text: 8 to 24 px from the top
of the highest letter to the foot of the lowest, in every font of Pillow, matplotlib and the system
that has letters, white, grey or coloured, anywhere in the picture, half of them JPEG-compressed.
A text counts as found where boxes cover half of its ink, and as masked where they cover 95 %.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from echodiff.data.screens.burned_text import Box, find_text
from echodiff.images import IMAGE_SUFFIXES, read_gray_u8
from echodiff.pretrain.drawn_text import (
    COLOURS,
    DrawnText,
    compress,
    draw_text,
    list_fonts,
    make_text,
)

Detector = Callable[[NDArray[np.uint8]], list[Box]]


class Sample(NamedTuple):
    """A picture with one text in it, and how it was drawn."""

    drawn: DrawnText
    height: int
    colour: tuple[int, int, int]
    font: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=Path, required=True, help="frames to draw texts into")
    parser.add_argument("--clean", type=Path, nargs="*", default=[], help="real frames, no text")
    parser.add_argument("--num", type=int, default=500, help="texts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detector", default="echodiff", help="echodiff or rapidocr")
    parser.add_argument("--scale", type=float, default=2, help="rapidocr: enlarge first")
    parser.add_argument("--misses", type=Path, help="folder to write missed pictures to")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    detect = find_text if args.detector == "echodiff" else load_rapidocr(args.scale)
    paths = list_pictures(args.frames)
    result = measure_recall(detect, paths, args.num, args.seed, args.misses)
    for folder in [args.frames, *args.clean]:
        result[f"false alarms, {folder}"] = measure_alarms(detect, list_pictures(folder))
    text = json.dumps({"detector": args.detector} | result, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


def measure_recall(
    detect: Detector, paths: Sequence[Path], num: int, seed: int, misses: Path | None
) -> dict[str, object]:
    """Found and masked texts in per cent: all, and by height, place, contrast, colour and font."""
    found: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    trained_on = set(list_fonts(bundled_only=True))
    seconds = 0.0
    for number, (drawn, height, colour, font) in enumerate(draw_samples(paths, num, seed)):
        start = time.perf_counter()
        boxes = detect(drawn.image_u8)
        seconds += time.perf_counter() - start
        covered = np.zeros(drawn.ink.shape, bool)
        for box in boxes:
            covered[box.top : box.bottom, box.left : box.right] = True
        share = covered[drawn.ink].mean()
        for key in (
            "all",
            f"height {height // 4 * 4:02d} px and more",
            "on the scan" if drawn.is_on_scan else "on the screen",
            f"contrast {name_contrast(drawn.contrast)}",
            f"colour {colour}",
            "font it was trained on" if font in trained_on else "font it never saw",
        ):
            found[key].append((bool(share >= 0.5), bool(share >= 0.95)))
        if misses is not None and share < 0.5:
            misses.mkdir(parents=True, exist_ok=True)
            name = f"{number:04d}-{height}px-{drawn.contrast:.0f}-{Path(font).stem}.png"
            Image.fromarray(drawn.image_u8).save(misses / name)
    shares = {
        key: {
            "texts": len(outcomes),
            "found_percent": round(100 * float(np.mean([o[0] for o in outcomes])), 2),
            "masked_percent": round(100 * float(np.mean([o[1] for o in outcomes])), 2),
        }
        for key, outcomes in sorted(found.items())
    }
    return {"seconds_per_picture": round(seconds / num, 3), "recall": shares}


def measure_alarms(detect: Detector, paths: Sequence[Path]) -> dict[str, object]:
    """Pictures without text in which some is seen."""
    alarms = [path.name for path in paths if detect(read_gray_u8(path))]
    return {
        "pictures": len(paths),
        "alarms": alarms,
        "percent": round(100 * len(alarms) / max(1, len(paths)), 2),
    }


def draw_samples(paths: Sequence[Path], num: int, seed: int) -> Iterator[Sample]:
    """Yield frames with one text each; every draw comes from `seed`."""
    rng = np.random.default_rng(seed)
    fonts = list_fonts()
    while num:
        image_u8 = read_gray_u8(paths[rng.integers(len(paths))])
        font = fonts[rng.integers(len(fonts))]
        height = int(rng.integers(8, 25))
        colour = COLOURS[rng.integers(len(COLOURS))]
        text = make_text(rng)
        drawn = draw_text(image_u8, text, font=font, height=height, colour=colour, rng=rng)
        if drawn is None or not drawn.ink.any():
            continue
        if rng.random() < 0.5:
            quality = int(rng.integers(80, 96))
            drawn = drawn._replace(image_u8=compress(drawn.image_u8, quality))
        num -= 1
        yield Sample(drawn, height, colour, font)


def name_contrast(contrast: float) -> str:
    return "below 60" if contrast < 60 else "60 to 119" if contrast < 120 else "120 and more"


def list_pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def load_rapidocr(scale: float) -> Detector:
    """The detector that was weighed against ours; `pip install rapidocr-onnxruntime`."""
    from rapidocr_onnxruntime import RapidOCR

    engine = RapidOCR(intra_op_num_threads=1)

    def detect(image_u8: NDArray[np.uint8]) -> list[Box]:
        image = Image.fromarray(image_u8).convert("RGB")
        size = (round(image.width * scale), round(image.height * scale))
        result, _ = engine(np.asarray(image.resize(size, Image.Resampling.BICUBIC))[..., ::-1])
        boxes = []
        for corners, _, _ in result or ():
            x, y = np.array(corners).T / scale
            boxes.append(
                Box(int(x.min()), int(y.min()), int(np.ceil(x.max())), int(np.ceil(y.max())))
            )
        return boxes

    return detect


if __name__ == "__main__":
    main()
