"""Images of a page: found with their captions, scaled alike, embedded as PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from echodiff.contact_sheet import contact_sheet
from echodiff.frames.layout import METADATA
from echodiff.frames.maker import PHANTOM
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.images import pad_square, read_gray_u8, resize_u8

SHOWN_SIDE = 256
"""Largest side of an embedded image, pixels."""
SAMPLE_CELL, SAMPLE_COLUMNS = 160, 8
"""Of a sheet of samples: side of an image in pixels, and images in a row."""


@dataclass(frozen=True)
class Picture:
    """An image file and what its frames folder says of it."""

    path: Path
    text: str = ""
    is_simulated: bool = False


@dataclass(frozen=True)
class Scale:
    """How the images of one page are brought to the same size and grey levels."""

    side: int
    """Longer side, pixels."""
    white: int | None
    """Grey value shown as white, for images of more than 8 bits."""

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Read an image as (H, W) uint8 at this scale."""
        image = read_gray_u8(path, max_value=self.white)
        scale = self.side / max(image.shape)
        return resize_u8(image, (round(image.shape[0] * scale), round(image.shape[1] * scale)))

    def embed(self, path: Path) -> str:
        """Return an image at this scale as a data URI."""
        return embed_png(self.read(path))


@dataclass(frozen=True)
class Shown:
    """One image in a grid of the page."""

    image: str
    """Data URI."""
    alt: str
    note: str = ""
    """Text under the image."""


def find_pictures(source: Path | Sequence[Path]) -> list[Picture]:
    """Find the images of a frames folder, or look up the rows of images in frames folders."""
    if isinstance(source, Path):
        return [_picture(source / frame.file_name, frame) for frame in load_frames(source)]
    frames: dict[Path, Frame] = {}
    for path in source:
        if path not in frames:
            folder = next((f for f in path.parents if (f / METADATA).is_file()), None)
            frames |= {folder / f.file_name: f for f in load_frames(folder)} if folder else {}
    return [_picture(path, frames.get(path)) for path in source]


def _picture(path: Path, frame: Frame | None) -> Picture:
    if frame is None:
        return Picture(path)
    return Picture(path, frame.text, (frame.source or "").startswith(PHANTOM))


def embed_png(image_u8: NDArray[np.uint8]) -> str:
    """Encode a (H, W) uint8 image as a data URI."""
    stream = io.BytesIO()
    Image.fromarray(image_u8).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def draw_samples(
    pictures: Mapping[str, Sequence[Path]], *, seed: int, white: int | None = None
) -> NDArray[np.uint8]:
    """Draw a sheet of randomly chosen frames, one labelled row per set.

    white: grey value shown as white, for images of more than 8 bits.
    """
    generator = np.random.default_rng(seed)
    num = min(SAMPLE_COLUMNS, *(len(paths) for paths in pictures.values()))
    images, labels = [], []
    for name, paths in pictures.items():
        chosen = generator.choice(len(paths), num, replace=False)
        images += [pad_square(read_gray_u8(paths[i], max_value=white)) for i in chosen]
        labels += [name, *[""] * (num - 1)]
    return contact_sheet(images, columns=num, labels=labels, cell=SAMPLE_CELL)
