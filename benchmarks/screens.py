"""What `prepare folder --crop sector` leaves of the tissue, and of what a scanner draws around it.

    python benchmarks/screens.py --frames FRAMES [FRAMES ...] --num 6

Screens of twelve layouts (`scanner_layouts.py`) are drawn around frames without text and go through
the real command; each cleaned image is laid over what was drawn, and compared pixel by pixel.
"""

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scanner_layouts import LAYOUTS, Screen, draw_layout, save_screen
from scipy import ndimage, signal

from echodiff.__main__ import main as run_echodiff
from echodiff.frames.reader import load_frames
from echodiff.images import list_pictures, read_gray_u8

SEEN = 12
"""Grey level from which tissue counts, and by which a pixel differs from what it should be."""


class Outcome(NamedTuple):
    """In per cent of the sector's pixels."""

    lost: float
    """Tissue that is black, beside what was drawn over it."""
    outside: float
    """Pixels outside the sector, two beyond its edge, that are not black."""
    marks: float
    """Pixels of marks over the tissue that still are as they were drawn."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=Path, nargs="+", required=True, help="without text")
    parser.add_argument("--num", type=int, default=6, help="screens of each layout")
    parser.add_argument("--text", default="mask", help="mask or mask-inside")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--keep", type=Path, help="folder for screens and frames, to look at")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = args.keep or Path(place)
        (folder / "screens").mkdir(parents=True)
        drawn = draw_all([list_pictures(one).pictures for one in args.frames], args, folder)
        flags = ["--crop", "sector", "--text", args.text, "--patient-regex", "(p[0-9]+)"]
        command = ["prepare", "folder", str(folder / "screens"), "--out", str(folder / "frames")]
        if run_echodiff([*command, *flags]):
            raise SystemExit("prepare failed")
        cleaned = {
            Path(frame.file_name).stem: read_gray_u8(folder / "frames" / frame.file_name)
            for frame in load_frames(folder / "frames")
        }
    print("| layout | kept | tissue lost, median (worst) | outside (worst) | marks left (worst) |")
    print("|---|---|---|---|---|")
    for layout in LAYOUTS:
        names = [name for name, (own, _) in drawn.items() if own == layout]
        outcomes = np.array(
            [compare(cleaned[name], drawn[name][1]) for name in names if name in cleaned]
        ).reshape(-1, 3)
        if not len(outcomes):
            print(f"| {layout} | 0 of {len(names)} | | | |")
            continue
        middle, worst = np.median(outcomes, axis=0), outcomes.max(axis=0)
        print(
            f"| {layout} | {len(outcomes)} of {len(names)} | {middle[0]:.2f} ({worst[0]:.2f}) % | "
            f"{worst[1]:.2f} % | {worst[2]:.2f} % |"
        )


def draw_all(
    frames: list[list[Path]], args: argparse.Namespace, folder: Path
) -> dict[str, tuple[str, Screen]]:
    """Layout and screen by the name of its file; frames from the folders in turn."""
    drawn = {}
    for number, (name, layout) in enumerate(LAYOUTS.items()):
        for index in range(args.num):
            rng = np.random.default_rng([args.seed, number, index])
            paths = frames[index % len(frames)]
            frame = read_gray_u8(paths[int(rng.integers(len(paths)))])
            screen = draw_layout(frame, layout, rng)
            path = save_screen(screen, layout, folder / "screens", f"p{number:02d}{index:02d}_")
            drawn[path.stem] = (name, screen)
    return drawn


def compare(cleaned: NDArray[np.uint8], screen: Screen) -> Outcome:
    """A cleaned image against what was drawn; where it lies is found by correlation."""
    clean, sector = screen.clean_u8, screen.sector
    margin = max(cleaned.shape)
    padded = np.pad(clean, margin)
    match = signal.fftconvolve(
        padded.astype(np.float32), cleaned[::-1, ::-1].astype(np.float32), mode="valid"
    )
    top, left = np.unravel_index(int(match.argmax()), match.shape)
    whole = np.zeros(padded.shape, np.uint8)
    whole[top : top + cleaned.shape[0], left : left + cleaned.shape[1]] = cleaned
    whole = whole[margin:-margin, margin:-margin]
    tissue = sector & (clean > SEEN) & ~ndimage.binary_dilation(screen.ink, iterations=6)
    beyond = ~ndimage.binary_dilation(sector, iterations=2)
    shown = np.asarray(screen.image.convert("L"), dtype=np.int16)
    marks = screen.ink & sector & (np.abs(shown - clean) > 4 * SEEN)
    left_over = marks & (np.abs(shown - whole) <= SEEN)
    return Outcome(
        100 * float((tissue & (whole == 0)).sum() / tissue.sum()),
        100 * float((beyond & (whole > SEEN)).sum() / sector.sum()),
        100 * float(left_over.sum() / sector.sum()),
    )


if __name__ == "__main__":
    main()
