"""Shift, turn and scale a frame together with its mask; nothing is ever flipped.

The amounts are drawn once from (seed, frame, copy), stored, and applied to both.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from echodiff.training.streams import Stream, build_stream

SHIFT, ANGLE_DEG, ZOOM = 0.05, 5.0, 0.08
"""Largest amounts: share of the side along each axis, degrees, and share of the size."""


class Move(NamedTuple):
    """A movement of the picture about its centre."""

    right: float
    """Share of the side."""
    down: float
    angle_deg: float
    """Counter-clockwise."""
    scale: float
    """Above 1: larger."""


def draw_moves(seed: int, num_frames: int, copies: int) -> list[Move | None]:
    """Moves of `copies` times `num_frames` frames, copy by copy; the first copy stays as it is."""
    moves: list[Move | None] = [None] * num_frames
    for copy in range(1, copies):
        for frame in range(num_frames):
            stream = build_stream(seed, Stream.MOVE, copy * num_frames + frame)
            right, down, turn, zoom = 2 * stream.random(4) - 1
            move = Move(SHIFT * right, SHIFT * down, ANGLE_DEG * turn, 1 + ZOOM * zoom)
            moves.append(Move(*map(float, move)))
    return moves


def move_image(image_u8: NDArray[np.uint8], move: Move | None) -> NDArray[np.uint8]:
    """Move a square image (S, S), bicubic; black comes in from outside."""
    return _apply(image_u8, move, Image.Resampling.BICUBIC)


def move_mask(mask_u8: NDArray[np.uint8], move: Move | None) -> NDArray[np.uint8]:
    """Move a square mask (S, S) by nearest neighbour; background comes in from outside."""
    return _apply(mask_u8, move, Image.Resampling.NEAREST)


def _apply(
    values: NDArray[np.uint8], move: Move | None, resampling: Image.Resampling
) -> NDArray[np.uint8]:
    if move is None:
        return values
    side = len(values)
    # Pillow takes the way back: where a pixel of the result comes from.
    angle, middle = math.radians(move.angle_deg), side / 2
    cos, sin = math.cos(angle) / move.scale, math.sin(angle) / move.scale
    x, y = middle + move.right * side, middle + move.down * side
    back = (cos, -sin, middle - cos * x + sin * y, sin, cos, middle - sin * x - cos * y)
    image = Image.fromarray(values)
    moved = image.transform(image.size, Image.Transform.AFFINE, back, resampling)
    return np.asarray(moved, dtype=np.uint8)
