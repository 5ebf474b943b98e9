"""Screens of scanners for `benchmarks/screens.py`: layouts, fonts and marks that no training knows.

Drawn after the looks of common machines, with made-up names and numbers. Unlike the screens of
`echodiff.pretrain` these have an ECG across the foot of the sector, image areas of another colour
than the screen, TGC curves, thumbnails, depth marks that touch the sector, and palette files.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from echodiff.images import resize_u8
from echodiff.pretrain.drawn_screens import crop_frame

Colour = tuple[int, int, int]
FAMILIES = ("LiberationSans-", "OpenSans-", "Roboto-", "NotoSans-", "FreeSans", "LiberationMono-")
"""Fonts of the system; those of matplotlib were trained on."""


class Layout(NamedTuple):
    """How a machine's screen looks."""

    size: tuple[int, int]
    """Height and width."""
    screen: tuple[Colour, Colour]
    """Background at the top and at the bottom."""
    area: Colour | None
    """Background of the image area, where that is a rectangle of its own."""
    ink: Colour
    accent: Colour
    ecg: Colour | None
    ecg_over: float
    """Part of the sector's height that the ECG reaches up from its foot; below 0: beside it."""
    ecg_width: int
    file: str
    """png, palette, grey, or jpg with its quality."""
    marks: tuple[str, ...]
    """Which of `MARKS` are drawn."""
    texts: tuple[str, ...]


BLACK = ((0, 0, 0), (0, 0, 0))
MARKS = ("ticks", "touching ticks", "dots", "tgc", "grey bar", "tinted bar", "focus", "apex mark",
         "banner", "thumbnails", "logo", "ruler", "indices")  # fmt: skip
LAYOUTS = {
    "GE-like, green ECG over the foot, PNG": Layout(
        (708, 1016), BLACK, None, (220, 220, 220), (255, 255, 0), (0, 255, 0), 0.08, 2, "png",
        ("touching ticks", "grey bar", "apex mark", "indices"),
        ("FR 61 fps", "1.7/3.3 MHz", "D 15.0 cm"),
    ),
    "GE-like, thumbnails, JPEG 60": Layout(
        (768, 1024), ((70, 74, 82), (44, 46, 52)), (0, 0, 0), (240, 240, 240), (120, 230, 120),
        (60, 255, 90), 0.12, 2, "jpg 60",
        ("ticks", "grey bar", "apex mark", "thumbnails", "banner"), ("S6 4C", "HR 71", "AO% 100"),
    ),
    "Philips-like, white ECG below, PNG": Layout(
        (768, 1024), BLACK, None, (205, 205, 205), (255, 180, 60), (225, 225, 225), -0.03, 1, "png",
        ("dots", "tinted bar", "apex mark", "indices"),
        ("Adult Echo", "X5-1", "52Hz", "15cm", "2D", "68%"),
    ),
    "Philips-like, white ECG over the foot, JPEG 75": Layout(
        (600, 800), BLACK, None, (205, 205, 205), (255, 180, 60),
        (230, 230, 230), 0.06, 1, "jpg 75",
        ("dots", "tinted bar", "apex mark", "indices"),
        ("TTE", "S5-1", "47Hz", "16cm", "C 50", "P Low"),
    ),
    "Siemens-like, blue, yellow ECG, PNG": Layout(
        (768, 1024), ((22, 32, 66), (10, 14, 34)), None, (230, 236, 255), (255, 220, 90),
        (255, 240, 60), 0.05, 2, "png",
        ("ticks", "grey bar", "focus", "logo", "banner"), ("4V1c", "58 fps", "H3.25 MHz", "DR 65"),
    ),
    "Siemens-like, blue, light ECG below, JPEG 60": Layout(
        (600, 800), ((18, 26, 58), (18, 26, 58)), None, (230, 236, 255), (120, 200, 255),
        (190, 215, 255), -0.02, 2, "jpg 60",
        ("ticks", "tgc", "grey bar", "logo"), ("4P1", "49 fps", "0 dB", "General"),
    ),
    "Samsung-like, grey, TGC curve, PNG": Layout(
        (1080, 1920), ((46, 48, 52), (46, 48, 52)), None, (235, 235, 235), (90, 200, 255),
        (110, 255, 140), 0.07, 3, "png",
        ("touching ticks", "tgc", "tinted bar", "focus", "banner"),
        ("PA1-5A", "15.0cm", "Adult", "Har-Low"),
    ),
    "Canon-like, cyan ECG, palette PNG": Layout(
        (720, 960), BLACK, None, (255, 226, 120), (120, 255, 120), (0, 230, 255), 0.1, 2, "palette",
        ("ticks", "grey bar", "ruler", "logo"), ("PST-25", "h2.5", "DR70", "G:82", "41 fps"),
    ),
    "Mindray-like, grey frame, JPEG 60": Layout(
        (480, 640), ((98, 104, 112), (70, 76, 84)), (12, 12, 14), (250, 250, 250), (255, 200, 60),
        (0, 255, 0), 0.08, 1, "jpg 60",
        ("ticks", "focus", "tinted bar", "banner"), ("SP5-1s", "F H3.2", "D 16.0", "G 50"),
    ),
    "dark grey, tissue of the screen's own grey, PNG": Layout(
        (600, 800), ((64, 64, 66), (64, 64, 66)), None, (255, 255, 255), (255, 220, 0), None,
        0.0, 1, "png", ("ticks", "grey bar", "focus", "banner"), ("P4-2", "14.0cm", "57 Hz"),
    ),
    "white page, red ECG below, JPEG 85": Layout(
        (600, 800), ((255, 255, 255), (255, 255, 255)), None, (10, 10, 10), (20, 40, 160),
        (210, 20, 20), -0.03, 1, "jpg 85", ("ticks", "grey bar", "logo"),
        ("TEI", "D 15 cm", "G 60%"),
    ),
    "grey export, ECG over the foot, PNG": Layout(
        (600, 800), BLACK, None, (220, 220, 220), (200, 200, 200), (235, 235, 235), 0.05, 2, "grey",
        ("touching ticks", "grey bar", "apex mark", "indices"), ("S4-2", "62 Hz", "14 cm"),
    ),
}  # fmt: skip


class Screen(NamedTuple):
    """A screen, and what lies where."""

    image: Image.Image
    clean_u8: NDArray[np.uint8]
    """(H, W): the sector alone, black around it."""
    sector: NDArray[np.bool_]
    """(H, W): where the scan is."""
    ink: NDArray[np.bool_]
    """(H, W): where anything was drawn over the screen or the sector."""


def draw_layout(frame_u8: NDArray[np.uint8], layout: Layout, rng: np.random.Generator) -> Screen:
    """A machine's screen around (H, W), a frame that is black around its sector."""
    rows, columns = layout.size
    down = np.linspace(0, 1, rows)[:, None, None]
    ends = np.array(layout.screen, float)
    shade = ends[0] * (1 - down) + ends[1] * down
    canvas = np.broadcast_to(np.rint(shade), (rows, columns, 3)).astype(np.uint8).copy()
    top, foot = round(0.11 * rows), round((0.80 if "thumbnails" in layout.marks else 0.88) * rows)
    if layout.area:
        canvas[round(0.09 * rows) : foot + round(0.05 * rows), columns // 8 : -columns // 8] = (
            layout.area
        )
    scan, sector = crop_frame(frame_u8)
    scale = min(0.66 * columns / scan.shape[1], (foot - top) / scan.shape[0])
    size = (round(scan.shape[0] * scale), round(scan.shape[1] * scale))
    left = (columns - size[1]) // 2 + int(rng.integers(-20, 21))
    top += (foot - top - size[0]) // 2
    box = np.s_[top : top + size[0], left : left + size[1]]
    place, clean = np.zeros((rows, columns), bool), np.zeros((rows, columns), np.uint8)
    place[box] = resize_u8(sector.astype(np.uint8) * 255, size) > 127
    clean[box] = resize_u8(scan, size)
    clean[~place] = 0
    canvas[place] = clean[place][:, None]
    image = Image.fromarray(canvas)
    draw_marks(image, layout, place, rng)
    ink = (np.asarray(image) != canvas).any(-1)
    return Screen(image, clean, place, ink)


def draw_marks(
    image: Image.Image, layout: Layout, place: NDArray[np.bool_], rng: np.random.Generator
) -> None:
    draw = ImageDraw.Draw(image)
    rows, columns = layout.size
    inside = np.argwhere(place)
    (top, left), (bottom, right) = inside.min(0), inside.max(0)
    size = max(10, round(rows * rng.uniform(0.017, 0.026)))
    font = _load_font(rng, size)
    line = round(1.5 * size)
    name = rng.choice(["PETROVA ANNA", "Garcia, Luis M", "DOE^JOHN", "Okafor Chidi", "Li Wei"])
    day = f"{rng.integers(1, 29):02d}.{rng.integers(1, 13):02d}.20{rng.integers(10, 26)}"
    stamp = f"{day} {rng.integers(10, 24)}:{rng.integers(10, 60)}"
    if "banner" in layout.marks:
        grey = tuple(min(255, channel + 30) for channel in layout.screen[0])
        draw.rectangle([0, 0, columns, round(0.075 * rows)], fill=grey)
    for x, y, text, anchor in (
        (8, 6, name, "la"), (8, 6 + line, f"ID {rng.integers(10**6, 10**7)}", "la"),
        (columns - 8, 6, stamp, "ra"), (columns // 2, 6, "St. Anna Hospital", "ma"),
    ):  # fmt: skip
        draw.text((x, y), str(text), fill=layout.ink, font=font, anchor=anchor)
    for number, text in enumerate(layout.texts):
        draw.text((8, 0.16 * rows + number * line), text, fill=layout.ink, font=font)
    if "indices" in layout.marks:
        draw.text(
            (columns - 8, 6 + line), "TIS 0.8  MI 1.3", fill=layout.accent, font=font, anchor="ra"
        )
    if "logo" in layout.marks:
        draw.ellipse(
            [columns - 60, rows - 56, columns - 20, rows - 16], outline=layout.accent, width=2
        )
        draw.text((columns - 40, rows - 36), "EX", fill=layout.accent, font=font, anchor="mm")
    depth = min(columns - 30, right + 14)
    if "touching ticks" in layout.marks:
        depth = right - 4
    for number, y in enumerate(np.linspace(top, bottom, 16).tolist()):
        if "ticks" in layout.marks or "touching ticks" in layout.marks:
            draw.line(
                [(depth, y), (depth + (10 if number % 5 == 0 else 5), y)], fill=layout.ink, width=1
            )
        if "dots" in layout.marks:
            draw.ellipse([depth - 1, y - 1, depth + 1, y + 1], fill=layout.ink)
        if number and number % 5 == 0:
            draw.text((depth + 14, y), str(number), fill=layout.ink, font=font, anchor="lm")
    if "ruler" in layout.marks:
        x = (left + right) // 2
        for number in range(9):
            draw.line(
                [(x - 160 + 40 * number, bottom + 8), (x - 160 + 40 * number, bottom + 14)],
                fill=layout.ink,
            )
    bar = [left - 60, top + 10, left - 46, top + round(0.3 * rows)]
    for y in range(bar[1], bar[3]):
        level = 255 - round(255 * (y - bar[1]) / (bar[3] - bar[1]))
        if "grey bar" in layout.marks:
            draw.line([(bar[0], y), (bar[2], y)], fill=(level,) * 3)
        if "tinted bar" in layout.marks:
            draw.line(
                [(columns - 40, y), (columns - 26, y)],
                fill=(level, round(0.8 * level), round(0.5 * level)),
            )
    if "tgc" in layout.marks:
        down = np.linspace(top, bottom, 60)
        across = columns - 90 + 14 * np.sin(np.linspace(0, 5, 60)) + np.linspace(0, 18, 60)
        curve = list(zip(across.tolist(), down.tolist(), strict=True))
        draw.line(curve, fill=layout.accent, width=1)
    if "focus" in layout.marks:
        y = top + 0.6 * (bottom - top)
        draw.polygon([(depth - 6, y), (depth + 2, y - 5), (depth + 2, y + 5)], fill=layout.accent)
    if "apex mark" in layout.marks:
        apex = int(np.flatnonzero(place[top]).mean())
        x, y = apex + round(0.035 * columns), top - 2
        draw.ellipse([x - 7, y - 7, x + 7, y + 7], outline=layout.accent, width=2)
        draw.text((x, y), "V", fill=layout.accent, font=font, anchor="mm")
    if "thumbnails" in layout.marks:
        for number in range(6):
            x = columns // 8 + number * columns // 8
            draw.rectangle(
                [x, rows - 90, x + columns // 9, rows - 12],
                fill=(20, 20, 20),
                outline=(110, 110, 110),
            )
            draw.pieslice(
                [x + 12, rows - 130, x + columns // 9 - 12, rows - 22], 55, 125, fill=(90, 90, 90)
            )
    if layout.ecg:
        draw_ecg(draw, layout, (left, top, right, bottom), rng)


def draw_ecg(
    draw: ImageDraw.ImageDraw,
    layout: Layout,
    box: tuple[int, int, int, int],
    rng: np.random.Generator,
) -> None:
    """P, QRS and T over the width of the image area, with a mark at the frame's time."""
    left, top, right, bottom = box
    assert layout.ecg is not None
    height = 0.055 * layout.size[0]
    base = bottom - layout.ecg_over * (bottom - top) + height
    x = np.arange(left - 50, min(right + 50, layout.size[1] - 4))
    beat = (x - x[0]) / (len(x) / rng.uniform(2.5, 4)) % 1

    def bump(at: float, width: float, size: float) -> NDArray[np.float64]:
        return np.asarray(size * np.exp(-0.5 * ((beat - at) / width) ** 2))

    wave = (
        bump(0.2, 0.03, 0.15)
        - bump(0.36, 0.008, 0.15)
        + bump(0.39, 0.01, 1)
        - bump(0.42, 0.01, 0.3)
    )
    wave += bump(0.65, 0.05, 0.3)
    y = base - height * wave + rng.normal(0, 0.3, len(x))
    draw.line(
        list(zip(x.tolist(), y.tolist(), strict=True)), fill=layout.ecg, width=layout.ecg_width
    )
    at = int(x[len(x) // 3])
    draw.line([(at, base - height), (at, base + 4)], fill=layout.accent, width=layout.ecg_width)


def save_screen(screen: Screen, layout: Layout, folder: Path, name: str) -> Path:
    """Write it in the layout's own format."""
    kind, _, quality = layout.file.partition(" ")
    path = folder / f"{name}.{'jpg' if kind == 'jpg' else 'png'}"
    image = screen.image
    if kind == "palette":
        image = image.quantize(256)
    elif kind == "grey":
        image = image.convert("L")
    image.save(path, quality=int(quality or 0))
    return path


def _load_font(rng: np.random.Generator, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    found = sorted(
        path
        for path in font_manager.findSystemFonts()
        if Path(path).name.startswith(FAMILIES)
        and Path(path).stem.endswith(("Regular", "FreeSans"))
    )
    return (
        ImageFont.truetype(str(rng.choice(found)), size) if found else ImageFont.load_default(size)
    )
