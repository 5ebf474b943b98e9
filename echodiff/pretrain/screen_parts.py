"""Draw parts of a scanner's screen at random: header, settings, scales, ECG, flow, strips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from echodiff.data.screens.burned_text import Box
from echodiff.pretrain.drawn_text import fit_font, make_text

Colour = tuple[int, int, int]


class Layout(NamedTuple):
    """The look of a vendor's screens."""

    screen: Colour
    """Colour of the background."""
    ink: Colour
    """Colour of most of the text."""
    accent: Colour
    """Colour of the other text."""
    header: bool
    """Whether there is a bar of another grey behind name, number and date at the top."""
    settings_left: bool
    """Whether the settings are on the left."""
    bar_colour: Colour | None
    """Colour of the grey bar's border; None for no border."""
    logo: str
    settings: tuple[str, ...]


LAYOUTS = {
    "general": Layout(
        (0, 0, 0), (230, 230, 230), (255, 255, 0), True, True, None, "VIVID",
        ("FR 58 fps", "1.7/3.4 MHz", "70%", "D 16.0 cm", "AO% 100", "Gn 4", "S 1/2", "4V-D"),
    ),
    "royal": Layout(
        (0, 0, 0), (200, 200, 200), (255, 190, 60), False, True, (200, 120, 30), "EPIQ",
        ("Adult Echo", "S5-1", "49Hz", "16cm", "2D", "71%", "C 50", "P Low", "HGen"),
    ),
    "blue": Layout(
        (18, 24, 48), (235, 240, 255), (120, 200, 255), True, False, (80, 120, 200), "ACUSON",
        ("4V1c", "61 fps", "H3.50 MHz", "0 dB", "DR 65", "General", "DTCE M", "SC 2"),
    ),
    "amber": Layout(
        (4, 4, 4), (255, 230, 120), (120, 255, 120), False, True, None, "Aplio",
        ("Cardiac", "PST-30", "h2.7", "DR70", "G:85", "15.0", "44 fps", "T1.0"),
    ),
    "slate": Layout(
        (44, 46, 50), (245, 245, 245), (170, 220, 170), True, False, (90, 90, 90), "Affiniti",
        ("TTE", "2D", "HM", "Res", "Dyn R 60", "57 Hz", "14.0cm", "P4-2"),
    ),
    "paper": Layout(
        (255, 255, 255), (10, 10, 10), (20, 40, 160), True, False, (120, 120, 120), "MyLab",
        ("TEI", "PHI", "F 2.1 MHz", "D 15 cm", "G 60%", "X/M C/2", "PRC 9-3", "PST 2"),
    ),
}  # fmt: skip
"""Invented layouts, each similar to those of one or two vendors."""


class Pen:
    """Draws text on a screen and records where it is."""

    def __init__(self, image: Image.Image, fonts: Sequence[str], rng: np.random.Generator) -> None:
        self.image, self.rng = image, rng
        self.draw = ImageDraw.Draw(image)
        self.letters = Image.new("L", image.size)
        self.letters_draw = ImageDraw.Draw(self.letters)
        self.lines: list[Box] = []
        self.font = fonts[int(rng.integers(len(fonts)))]
        if rng.random() < 0.2:
            self.draw.fontmode = self.letters_draw.fontmode = "1"

    def write(self, x: float, y: float, text: str, height: int, ink: Colour) -> float:
        """Write a text with its top left corner at (x, y); return the x at which it ends."""
        face = fit_font(self.font, "Hg8", height)
        self.draw.text((x, y), text, fill=ink, font=face)
        self.letters_draw.text((x, y), text, fill=255, font=face)
        left, top, right, bottom = (round(side) for side in face.getbbox(text))
        width, rows = self.image.size
        box = Box(
            max(0, round(x) + left), max(0, round(y) + top),
            min(width, round(x) + right), min(rows, round(y) + bottom),
        )  # fmt: skip
        if box.left < box.right and box.top < box.bottom:
            self.lines.append(box)
        return x + face.getlength(text)

    def write_right(self, x: float, y: float, text: str, height: int, ink: Colour) -> None:
        """Write a text that ends at x."""
        face = fit_font(self.font, "Hg8", height)
        self.write(x - face.getlength(text), y, text, height, ink)


def draw_flow(
    image: Image.Image,
    place: NDArray[np.bool_],
    box: tuple[int, int, int, int],
    rng: np.random.Generator,
) -> None:
    """Draw colour flow within the scan: smooth areas of red and blue, with a colour bar."""
    rows, columns = place.shape
    left, top, right, bottom = box
    y, x = np.mgrid[:rows, :columns]
    middle, radius = (
        ((left + right) / 2, top + 0.55 * (bottom - top)),
        (bottom - top) * rng.uniform(0.12, 0.3),
    )
    near = np.hypot(x - middle[0], y - middle[1]) < radius
    speed = ndimage.gaussian_filter(rng.standard_normal(place.shape), max(4, radius / 5))
    speed /= np.abs(speed).max()
    flow = near & place & (np.abs(speed) > 0.12)
    pixels = np.asarray(image).copy()
    pixels[flow] = paint_speed(speed[flow])
    bar_left, bar_top = columns - round(columns * 0.06), top
    bar = np.linspace(1, -1, round(rows * 0.2))
    pixels[bar_top : bar_top + len(bar), bar_left : bar_left + 14] = paint_speed(bar)[:, None]
    image.paste(Image.fromarray(pixels))


def paint_speed(speed: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Map speeds (...) in -1..1 to colours (..., 3): red to yellow towards the probe, blue to cyan
    away from it."""
    strength = np.clip(np.abs(speed), 0, 1)
    main, second = 90 + 165 * np.sqrt(strength), 230 * strength**2
    red = np.where(speed > 0, main, 0.1 * main)
    blue = np.where(speed > 0, 0.05 * main, main)
    return np.stack([red, second, blue], axis=-1).clip(0, 255).astype(np.uint8)


def draw_strip(
    image: Image.Image,
    place: NDArray[np.bool_],
    kind: str,
    box: tuple[int, int, int, int],
    scan: NDArray[np.uint8],
    rng: np.random.Generator,
) -> None:
    """Draw a strip over time at the bottom: M-mode of a column of the scan, or a spectrum."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    time = np.arange(width)
    if kind == "m-mode":
        column = scan[:, scan.shape[1] // 2].astype(np.float32)
        depth = np.linspace(0, len(column) - 1, height)
        beat = 0.04 * len(column) * np.sin(2 * np.pi * time / (width / rng.uniform(2, 5)))
        sway = np.clip(
            depth[:, None] + beat * np.sin(np.pi * depth[:, None] / len(column)), 0, len(column) - 1
        )
        strip = column[sway.astype(int)] * 1.3 + rng.normal(0, 12, (height, width))
    else:
        period = width / rng.uniform(3, 6)
        wave = np.abs(np.sin(np.pi * time / period)) ** rng.uniform(0.6, 3) * 0.7 * height
        base = 0.8 * height
        y = np.arange(height)[:, None]
        inside = (y < base) & (y > base - wave)
        strip = inside * rng.uniform(60, 200, (height, width)) + rng.uniform(0, 25, (height, width))
    strip_u8 = ndimage.gaussian_filter(strip, 0.7).clip(0, 255).astype(np.uint8)
    image.paste(Image.fromarray(strip_u8).convert("RGB"), (left, top))
    if kind == "spectral":
        ImageDraw.Draw(image).line(
            [(left, top + 0.8 * height), (right, top + 0.8 * height)], (220, 220, 220)
        )
    place[top:bottom, left:right] = True


def draw_header(pen: Pen, look: Layout, size: int, head: int) -> None:
    """Draw random texts at the left, and date, time and safety indices at the right."""
    rng, width = pen.rng, pen.image.width
    if look.header:
        shade = tuple(
            int(min(255, max(0, c + 25)) if sum(look.screen) < 380 else c - 30) for c in look.screen
        )
        pen.draw.rectangle([0, 0, width, head * 0.75], fill=shade)
    line = round(size * 1.45)
    y = max(1, round(head * 0.04))
    texts = [make_text(rng) for _ in range(5)]
    pen.write(6, y, texts[0], size, look.ink)
    pen.write(6, y + line, texts[1], size, look.ink)
    date = f"{rng.integers(1, 29):02d}/{rng.integers(1, 13):02d}/{rng.integers(2008, 2026)}"
    time = ":".join(f"{rng.integers(top):02d}" for top in (24, 60, 60))
    pen.write_right(width - 6, y, f"{date} {time}", size, look.ink)
    pen.write_right(
        width - 6,
        y + line,
        f"MI {rng.uniform(0.4, 1.6):.1f}  TIs {rng.uniform(0.1, 1.4):.1f}",
        size,
        look.accent,
    )
    if rng.random() < 0.6:
        pen.write(width * 0.4, y, texts[2], size, look.ink)


def draw_settings(
    pen: Pen,
    look: Layout,
    size: int,
    head: int,
    box: tuple[int, int, int, int],
    kind: str,
) -> None:
    """Draw the column of settings, the vendor's logo, and sometimes measurements in a corner."""
    rng = pen.rng
    rows, width = pen.image.height, pen.image.width
    small = max(8, size - int(rng.integers(0, 5)))
    y = head + size
    for text in look.settings[: int(rng.integers(4, 9))]:
        if look.settings_left:
            pen.write(6, y, text, small, look.ink)
        else:
            pen.write_right(width - 6, y, text, small, look.ink)
        y += round(small * 1.6)
    corner = width - 8
    pen.write_right(corner, rows - size * 2, look.logo, size, look.accent)
    if rng.random() < 0.4:
        for number in range(int(rng.integers(1, 5))):
            name = rng.choice(["LVIDd", "IVSd", "LVPWd", "EF", "LA"])
            text = f"{name} {rng.uniform(0.5, 70):.1f} cm"
            pen.write(6, rows * 0.72 + number * size * 1.6, text, size, look.accent)


def draw_scales(
    pen: Pen,
    look: Layout,
    size: int,
    place: NDArray[np.bool_],
    boxes: Sequence[tuple[int, int, int, int]],
    kind: str,
) -> None:
    """Draw numbered depth ticks next to the scan, a grey bar, a focus and an orientation mark."""
    rng = pen.rng
    left, top, right, bottom = boxes[0]
    x = min(right + 6, pen.image.width - 40)
    small = max(8, size - 3)
    for number, y in enumerate(np.linspace(top, bottom - 2, int(rng.integers(9, 19)))):
        length = 8 if number % 5 == 0 else 4
        pen.draw.line([(x, y), (x + length, y)], fill=look.ink)
        if number % 5 == 0 and number:
            pen.write(x + 11, y - small / 2, str(number), small, look.ink)
    bar_top = top + round((bottom - top) * 0.5)
    bar_x = 10 if not look.settings_left else pen.image.width - 24
    for i in range(round((bottom - top) * 0.25)):
        level = 255 - round(255 * i / ((bottom - top) * 0.25))
        pen.draw.line([(bar_x, bar_top + i), (bar_x + 12, bar_top + i)], fill=(level,) * 3)
    if look.bar_colour:
        pen.draw.rectangle(
            [bar_x - 1, bar_top - 1, bar_x + 13, bar_top + round((bottom - top) * 0.25)],
            outline=look.bar_colour,
        )
    focus = top + (bottom - top) * rng.uniform(0.3, 0.8)
    pen.draw.polygon([(x - 4, focus), (x + 2, focus - 4), (x + 2, focus + 4)], fill=look.accent)
    mark = (left + right) / 2 + (right - left) * 0.08
    pen.draw.ellipse([mark - 5, top - 4, mark + 5, top + 6], outline=look.accent, width=2)
    pen.write(mark + 8, top - 4, str(rng.choice(["V", "P", "M3", "GE"])), small, look.accent)


def draw_ecg(pen: Pen, size: int, foot: int) -> None:
    """Draw the ECG at the bottom, mostly green, with the heart rate; it may cross the scan's lower
    end."""
    rng = pen.rng
    rows, width = pen.image.height, pen.image.width
    ink = [(0, 255, 0), (80, 255, 120), (0, 220, 255), (230, 230, 230), (255, 220, 0)][
        int(rng.integers(5))
    ]
    base = rows - foot * rng.uniform(0.35, 1.1)
    x = np.arange(4, width - 4, 2)
    period = rng.uniform(60, 200)
    beat = (x + rng.uniform(0, period)) % period / period
    spike = 1.0 * np.exp(-(((beat - 0.3) / 0.012) ** 2)) - 0.25 * np.exp(
        -(((beat - 0.33) / 0.012) ** 2)
    )
    waves = 0.15 * np.exp(-(((beat - 0.15) / 0.04) ** 2)) + 0.25 * np.exp(
        -(((beat - 0.6) / 0.06) ** 2)
    )
    y = base - foot * 0.8 * (spike + waves) + rng.normal(0, 0.5, len(x))
    pen.draw.line(
        list(zip(x.tolist(), y.tolist(), strict=True)), fill=ink, width=int(rng.integers(1, 3))
    )
    pen.write(
        width * rng.uniform(0.02, 0.8), rows - size * 1.5, f"{rng.integers(45, 140)} bpm", size, ink
    )


def draw_over_scan(pen: Pen, place: NDArray[np.bool_], size: int, look: Layout) -> None:
    """Draw a label or a name, and a calliper, over the scan."""
    rng = pen.rng
    ys, xs = np.nonzero(ndimage.binary_erosion(place, iterations=3 * size))
    if not len(ys):
        return
    pick = int(rng.integers(len(ys)))
    text = str(rng.choice(["LV", "RV", "ASD", "A4C", make_text(rng), make_text(rng)]))
    ink = look.accent if sum(look.screen) < 380 else (255, 255, 255)
    pen.write(float(xs[pick]), float(ys[pick]), text, size, ink)
    pick = int(rng.integers(len(ys)))
    x, y = float(xs[pick]), float(ys[pick])
    pen.draw.line([(x - 5, y), (x + 5, y)], fill=ink)
    pen.draw.line([(x, y - 5), (x, y + 5)], fill=ink)
