"""Draw texts such as scanners burn into images over images without text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

NAMES = """Ivanova Petrov Doe Mueller Smith O'Brien Kim Garcia Nguyen Rossi Dubois Kowalski Иванова
    Петров Смирнова Yılmaz Müller Sørensen Ahmed Tanaka"""
GIVEN = ("M.", "Jane", "Anna-Maria", "J", "Alexander", "Li", "Olga S.", "Д.К.", "Ursula")
WORDS = """Adult Echo Cardiac General Hospital Dept Clinic MI TIS EF LVIDd IVSd HR FR Gain Depth
    Freq Harm Vel PG Loop Frame Exam Ped bpm cm mm Hz dB St."""
SHORT = "2D V P M3 LV RV A4C 5 10 15 HR R G 4 x + F GE C Hz cm dB S5-1 PW"
"""Short settings, scales and labels."""
COLOURS = (
    (255, 255, 255), (255, 255, 255), (235, 235, 235), (200, 200, 200), (170, 170, 170),
    (255, 255, 0), (255, 200, 60), (0, 255, 0), (0, 255, 255), (255, 140, 0), (120, 200, 255),
)  # fmt: skip
_NOT_LETTERS = ("Siz", "NonUni", "cmex", "cmsy", "cmmi", "LastResort", "Math", "Symbol", "Dingbat",
                "Display")  # fmt: skip


class DrawnText(NamedTuple):
    """An image with drawn text."""

    image_u8: NDArray[np.uint8]
    """(H, W), or (H, W, 3) if the text has colour."""
    ink: NDArray[np.bool_]
    """(H, W), true where the letters are."""
    contrast: float
    """Brightest channel of the text minus the mean of the image under its box, in grey levels."""
    is_on_scan: bool
    """Whether more than a tenth of the image under its box is not black."""


def list_fonts(*, bundled_only: bool = False) -> list[str]:
    """List font files with letters, those of matplotlib first; the empty name is Pillow's own font.

    bundled_only: omit the fonts of the system.
    """
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    paths = sorted(folder.glob("*.ttf"))
    if not bundled_only:
        known = {path.name for path in paths}
        system = sorted(map(Path, font_manager.findSystemFonts()))
        paths += [path for path in system if path.name not in known and path.suffix == ".ttf"]
    return ["", *(str(p) for p in paths if not any(word in p.name for word in _NOT_LETTERS))]


def make_text(rng: np.random.Generator) -> str:
    """Draw a name, a date, a time, a number, a setting, a measurement, or random letters."""
    kind = int(rng.integers(9))
    day, month, year = rng.integers(1, 29), rng.integers(1, 13), rng.integers(1925, 2026)
    if kind < 2:
        text = f"{rng.choice(NAMES.split())}{rng.choice([' ', ', ', '^'])}{rng.choice(GIVEN)}"
    elif kind == 2:
        separator = rng.choice([".", "/", "-"])
        parts = (f"{day:02d}", f"{month:02d}", str(year))
        text = separator.join(parts if rng.random() < 0.5 else parts[::-1])
    elif kind == 3:
        text = f"{rng.integers(24):02d}:{rng.integers(60):02d}:{rng.integers(60):02d}"
    elif kind == 4:
        text = f"{rng.choice(['ID ', 'MRN', '', '#'])}{rng.integers(10**4, 10**8)}"
    elif kind == 5:
        unit = rng.choice(["cm", "mm", "", "m/s"])
        text = f"{rng.choice(WORDS.split())} {rng.uniform(0.1, 99):.1f} {unit}"
    elif kind == 6:
        text = " ".join(rng.choice(WORDS.split(), size=rng.integers(1, 4)))
    elif kind == 7:
        text = f"{rng.choice(SHORT.split())}{rng.choice(['', '', str(rng.integers(100))])}"
    else:
        letters = list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
        text = "".join(rng.choice(letters, size=rng.integers(3, 10)))
    return str(text).strip().upper() if rng.random() < 0.25 else str(text).strip()


def fit_font(font: str, text: str, height: int) -> ImageFont.FreeTypeFont:
    """Load a font at the size at which `text` is closest to `height` pixels high.

    The height reaches from the top of the highest letter to the bottom of the lowest.
    """
    top, bottom = _face(font, 100).getbbox(text)[1::2]
    # A text such as a single dash would give a huge font.
    about = min(round(100 * height / max(1, bottom - top)), 2 * height)
    faces = [_face(font, size) for size in range(max(4, about - 1), about + 2)]
    return min(faces, key=lambda face: abs(np.ptp(face.getbbox(text)[1::2]) - height))


def draw_text(
    image_u8: NDArray[np.uint8],
    text: str,
    *,
    font: str,
    height: int,
    colour: Sequence[int],
    rng: np.random.Generator,
    degrees: float = 0.0,
) -> DrawnText | None:
    """Draw one text at a random place in (H, W); None if the image is too small."""
    face = fit_font(font, text, height)
    left, top, right, bottom = (round(side) for side in face.getbbox(text))
    stamp = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(stamp).text((-left, -top), text, fill=255, font=face)
    if degrees:
        stamp = stamp.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    rows, columns = image_u8.shape
    if stamp.width > columns - 4 or stamp.height > rows - 4 or not stamp.getbbox():
        return None
    x = int(rng.integers(2, columns - stamp.width - 1))
    y = int(rng.integers(2, rows - stamp.height - 1))
    alpha = np.zeros((rows, columns), np.float32)
    alpha[y : y + stamp.height, x : x + stamp.width] = np.asarray(stamp, np.float32) / 255
    under = image_u8[y : y + stamp.height, x : x + stamp.width]
    ink = alpha[..., None] * np.array(colour, np.float32)
    mixed = np.asarray(image_u8[..., None] * (1 - alpha[..., None]) + ink)
    pixels = np.rint(mixed).astype(np.uint8)
    return DrawnText(
        image_u8=pixels[..., 0] if len(set(colour)) == 1 else pixels,
        ink=alpha > 0.5,
        contrast=max(colour) - float(under.mean()),
        is_on_scan=bool((under > 10).mean() > 0.1),
    )


def draw_graphics(image_u8: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw scanner graphics that are not text: a trace, ticks, dots, crosses, a bar, a mark."""
    image = Image.fromarray(image_u8)
    draw = ImageDraw.Draw(image)
    width, height = image.size
    for _ in range(rng.integers(1, 4)):
        ink, kind = int(rng.integers(90, 256)), int(rng.integers(6))
        x, y = int(rng.integers(width)), int(rng.integers(height))
        if kind == 0:
            steps = np.cumsum(rng.normal(0, 2.5, 60)) + y
            steps[rng.integers(60, size=2)] -= rng.uniform(5, 40)
            points = [(x - 60 + 3 * i, float(step)) for i, step in enumerate(steps)]
            draw.line(points, fill=ink, width=int(rng.integers(1, 3)))
        elif kind == 1:
            gap, length = int(rng.integers(5, 40)), int(rng.integers(1, 8))
            for place in range(0, height, gap):
                draw.line([(x, place), (x + length, place)], fill=ink)
        elif kind == 2:
            dx, dy = rng.uniform(-25, 25, 2)
            for i in range(12):
                cx, cy = x + dx * i, y + dy * i
                draw.rectangle([cx, cy, cx + rng.integers(0, 3), cy + rng.integers(0, 3)], fill=ink)
        elif kind == 3:
            arm = int(rng.integers(3, 10))
            draw.line([(x - arm, y), (x + arm, y)], fill=ink)
            draw.line([(x, y - arm), (x, y + arm)], fill=ink)
        elif kind == 4:
            for i in range(int(rng.integers(20, 120))):
                draw.line([(x, y + i), (x + 12, y + i)], fill=max(0, 255 - 3 * i))
        else:
            radius = int(rng.integers(2, 14))
            box = [x - radius, y - radius, x + radius, y + radius]
            draw.ellipse(box, outline=ink, fill=ink if rng.random() < 0.5 else None)
    return np.asarray(image, dtype=np.uint8)


def spread_ink(ink: NDArray[np.bool_], height: int) -> NDArray[np.bool_]:
    """Turn letters into lines of text by a closing, which fills the gaps between words."""
    padded = np.pad(ink.astype(np.uint8), height)
    closed = ndimage.minimum_filter(ndimage.maximum_filter(padded, height), height)
    return np.asarray(closed[height:-height, height:-height] > 0)


def compress(image_u8: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Compress an image as JPEG and decode it."""
    buffer = io.BytesIO()
    Image.fromarray(image_u8).save(buffer, format="JPEG", quality=quality)
    return np.asarray(Image.open(buffer), dtype=np.uint8)


@lru_cache(maxsize=2000)
def _face(font: str, size: int) -> ImageFont.FreeTypeFont:
    face = ImageFont.truetype(font, size) if font else ImageFont.load_default(size)
    assert isinstance(face, ImageFont.FreeTypeFont)
    return face
