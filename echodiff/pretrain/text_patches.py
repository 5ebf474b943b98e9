"""Draw small random images with and without text, to train the text finder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from echodiff.data.screens.text_network import STRIDE
from echodiff.images import resize_u8
from echodiff.pretrain.drawn_screens import KINDS, draw_screen
from echodiff.pretrain.drawn_text import (
    COLOURS,
    compress,
    draw_graphics,
    draw_text,
    make_text,
    spread_ink,
)

PATCH = 96
"""Side of a patch in pixels."""
SMALLEST = 4.5
"""Height in pixels of the smallest letters that count as text; they are enlarged first."""
LEAST_CONTRAST = 25
"""Contrast in grey levels below which text is not required to be found."""


def draw_patch(
    images: Sequence[NDArray[np.uint8]], fonts: Sequence[str], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Draw one patch; return it with targets and weights at a quarter of its side."""
    image = draw_background(images, rng)
    if rng.random() < 0.3:
        image = draw_graphics(image, rng)
    image, text, faint = draw_lines(image, fonts, rng)
    return degrade(image, rng), *weigh(text, faint)


def draw_screen_patches(
    images: Sequence[NDArray[np.uint8]],
    fonts: Sequence[str],
    rng: np.random.Generator,
    num: int,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]]:
    """Yield patches of one drawn screen, at a random export size."""
    source = images[int(rng.integers(len(images)))]
    kind = str(rng.choice(KINDS, p=[0.6, 0.1, 0.1, 0.1, 0.05, 0.05]))
    screen = draw_screen(
        source, fonts, rng, kind=kind, over_scan=rng.random() < 0.5, is_compressed=False
    )
    height = float(np.median([box.bottom - box.top for box in screen.lines]))
    shrink = float(rng.uniform(min(1.0, SMALLEST / height), 1))
    enlarge = 2.0 if shrink * height < 9 and rng.random() < 0.7 else 1.0
    if shrink * height * enlarge < 7:
        enlarge = 2.0
    size = tuple(round(side * shrink) for side in screen.ink.shape)
    small = resize_u8(screen.image_u8, (size[0], size[1]))
    if rng.random() < 0.7:
        small = compress(small, int(rng.integers(60, 96)))
    size = tuple(round(side * enlarge) for side in size)
    image = resize_u8(small, (size[0], size[1]))
    plane = image.max(axis=-1) if rng.random() < 0.8 else np.ptp(image, axis=-1)
    text, faint = np.zeros(size, bool), np.zeros(size, bool)
    for box in screen.lines:
        place = tuple(
            slice(int(low * shrink * enlarge), int(np.ceil(high * shrink * enlarge)))
            for low, high in ((box.top, box.bottom), (box.left, box.right))
        )
        within = plane[place]
        if not within.size:
            continue
        is_seen = np.subtract(*np.percentile(within, [97, 3])) >= 2 * LEAST_CONTRAST
        (text if is_seen else faint)[place] = True
    for _ in range(num):
        if rng.random() < 0.6:
            box = screen.lines[int(rng.integers(len(screen.lines)))]
            middle = ((box.top + box.bottom) / 2, (box.left + box.right) / 2)
        else:
            middle = tuple(rng.uniform(0, 1, 2) * screen.ink.shape)
        corner = [
            int(np.clip(at * shrink * enlarge - rng.uniform(0.2, 0.8) * PATCH, 0, side - PATCH))
            for at, side in zip(middle, size, strict=True)
        ]
        crop = tuple(slice(start, start + PATCH) for start in corner)
        yield vary_levels(plane[crop], rng), *weigh(text[crop], faint[crop])


def weigh(
    text: NDArray[np.bool_], faint: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return targets and weights at a quarter of the side of masks (PATCH, PATCH).

    text: where text is. faint: where text is too faint to be required.
    """
    cells = (PATCH // STRIDE, STRIDE, PATCH // STRIDE, STRIDE)
    share = text.reshape(cells).mean((1, 3))
    # Where exactly a line ends matters less than whether there is one.
    weight = np.where((share > 0) & (share < 1), 0.3, 1.0)
    weight[faint.reshape(cells).any((1, 3))] = 0.0
    return (share >= 0.5).astype(np.float32), weight.astype(np.float32)


def draw_lines(
    image_u8: NDArray[np.uint8], fonts: Sequence[str], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw up to three lines of text, some rotated, some on another grey.

    Returns the image, the mask of the lines, and the mask of lines too faint to be required.
    """
    text = np.zeros(image_u8.shape, bool)
    faint = np.zeros(image_u8.shape, bool)
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.45, 0.3, 0.15, 0.1]))):
        height, degrees = int(rng.integers(7, 29)), 0.0
        if rng.random() >= 0.85:
            degrees = float(rng.choice([90, -90, *rng.uniform(-12, 12, 6)]))
        words = make_text(rng)
        while len(words) > 3 and 0.55 * height * len(words) > PATCH:
            words = words[: len(words) // 2]
        if rng.random() < 0.1:
            image_u8 = image_u8 // 3 + np.uint8(0 if rng.random() < 0.5 else 50)
        colour = COLOURS[rng.integers(len(COLOURS))]
        if rng.random() >= 0.7:
            colour = (int(rng.integers(90, 256)),) * 3
        font = fonts[int(rng.integers(len(fonts)))]
        drawn = draw_text(
            image_u8, words, font=font, height=height, colour=colour, rng=rng, degrees=degrees
        )
        line = None if drawn is None else spread_ink(drawn.ink, height)
        if drawn is None or line is None or (line & text).any():
            continue
        image_u8 = drawn.image_u8 if drawn.image_u8.ndim == 2 else drawn.image_u8.max(axis=-1)
        (faint if drawn.contrast < LEAST_CONTRAST else text)[line] = True
    return image_u8, text, faint


def draw_background(
    images: Sequence[NDArray[np.uint8]], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw an image crop at a random scale and brightness, a black screen, or noise."""
    kind = rng.random()
    if kind < 0.12:
        return np.full((PATCH, PATCH), rng.integers(0, 45), np.uint8)
    if kind < 0.24:
        return draw_speckle(rng)
    if kind < 0.42:
        return draw_shapes(rng)
    source = images[int(rng.integers(len(images)))]
    side = int(PATCH / draw_scale(rng))
    y, x = (int(rng.integers(0, max(1, length - side))) for length in source.shape)
    image = resize_u8(source[y : y + side, x : x + side], (PATCH, PATCH))
    if rng.random() < 0.5:
        image = np.rot90(image, int(rng.integers(4))).copy()
    return vary_levels(image, rng)


def draw_scale(rng: np.random.Generator) -> float:
    """Draw the scale of a phantom: the smallest ones are as sharp as an MR image of 100 pixels."""
    return float(np.exp(rng.uniform(np.log(0.2), np.log(2.5))))


def vary_levels(image_u8: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Apply a random gamma and gain."""
    levels = 255 * (np.arange(256) / 255) ** rng.uniform(0.6, 1.6) * rng.uniform(0.6, 1.4)
    return levels.clip(0, 255).astype(np.uint8)[image_u8]


def draw_speckle(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw speckle: the log-compressed envelope of filtered complex noise, with random tissue."""
    sigma = (rng.uniform(0.3, 2.5), rng.uniform(0.5, 5))
    waves = [ndimage.gaussian_filter(rng.standard_normal((PATCH, PATCH)), sigma) for _ in range(2)]
    echo = np.hypot(*waves)
    tissue = ndimage.gaussian_filter(rng.standard_normal((PATCH, PATCH)), rng.uniform(2, 15))
    echo = echo / echo.mean() * np.exp(rng.uniform(0, 2) * tissue / tissue.std())
    decibels = 20 * np.log10(echo + 1e-3)
    grey = 255 * (decibels / rng.uniform(30, 60) + rng.uniform(0.2, 0.8))
    image = grey.clip(0, 255).astype(np.uint8)
    return np.rot90(image, int(rng.integers(4))).copy()


def draw_shapes(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw spots, arcs and bands as large and sharp as letters but in no order, like the vessels,
    bones and fat in MR."""
    image = Image.new("L", (PATCH, PATCH), int(rng.integers(0, 120)))
    draw = ImageDraw.Draw(image)
    largest, thickest = int(rng.integers(8, 60)), int(rng.integers(2, 14))
    for _ in range(int(rng.integers(3, 50))):
        (x, y), (width, height) = rng.integers(-8, PATCH, 2), rng.integers(1, largest, 2)
        grey, box = int(rng.integers(0, 256)), [int(x), int(y), int(x + width), int(y + height)]
        kind, thickness = int(rng.integers(4)), int(rng.integers(1, thickest))
        if kind == 0:
            draw.ellipse(box, fill=grey)
        elif kind == 1:
            start = float(rng.uniform(0, 360))
            draw.arc(box, start, start + rng.uniform(30, 300), grey, thickness)
        elif kind == 2:
            draw.line(box, grey, thickness)
        else:
            steps = np.cumsum(rng.normal(0, largest / 4, (5, 2)), axis=0) + np.array([x, y])
            draw.line([(float(a), float(b)) for a, b in steps], grey, thickness, joint="curve")
    shapes = ndimage.gaussian_filter(np.asarray(image, np.float32), rng.uniform(0.3, 2))
    return (shapes + rng.normal(0, rng.uniform(0, 12), shapes.shape)).clip(0, 255).astype(np.uint8)


def degrade(image_u8: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Degrade an image as a transfer does: resize it and back, add noise, compress it as JPEG."""
    if rng.random() < 0.3:
        side = int(PATCH * rng.uniform(0.6, 1.5))
        image_u8 = resize_u8(resize_u8(image_u8, (side, side)), (PATCH, PATCH))
    if rng.random() < 0.25:
        noise = rng.normal(0, rng.uniform(1, 8), image_u8.shape)
        image_u8 = (image_u8 + noise).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        image_u8 = compress(image_u8, int(rng.integers(60, 97)))
    return image_u8
