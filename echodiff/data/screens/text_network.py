"""Run the two small networks that find text in an image, with numpy only.

The finder decides for every 4 x 4 pixels whether a line of letters or digits runs there. The scout
takes a fifteenth of its time, reads the image at half its size and selects where the finder looks.
Weights and measurements: `echodiff/assets/text_finder`; training: `echodiff.pretrain.text_finder`.
"""

import threading
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.special import expit

from echodiff.files import shipped

STRIDE = 4
"""Side of one output in pixels, of the finder and of the scout."""
STRIP_BYTES = 2**21
"""Memory for one product of matrices."""
_kept = threading.local()  # allocating it each time would take as long as the products


class Layer(NamedTuple):
    """A convolution of 3 x 3 followed by a ReLU."""

    channels: int
    stride: int = 1
    dilation: int = 1


Weights = dict[str, NDArray[np.float32]]
LAYERS = (Layer(16, stride=2), Layer(16), Layer(24, stride=2), Layer(24), Layer(24, dilation=2),
          Layer(24, dilation=3), Layer(24))  # fmt: skip
SCOUT_LAYERS = (Layer(12, stride=2), Layer(16, stride=2), Layer(16), Layer(16, dilation=2),
                Layer(16))  # fmt: skip
REACH = 36
"""Pixels around an output of the finder that affect it (33), rounded up to whole outputs."""


def score_text(image_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the probability of text (H/4, W/4), rounded up, for an image (H, W)."""
    return _run(image_u8, LAYERS, load_weights("model"))


def scout_text(half_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the scout's probability of text (H/4, W/4), rounded up, for a halved image (H, W)."""
    return _run(half_u8, SCOUT_LAYERS, load_weights("scout"))


def convolve(
    values: NDArray[np.float32],
    kernel: NDArray[np.float32],
    bias: NDArray[np.float32],
    stride: int,
    dilation: int,
) -> NDArray[np.float32]:
    """Convolve (C, H, W) with (O, C, 3, 3), add (O,) and apply a ReLU.

    Returns (O, H/stride, W/stride), rounded up. The border is padded with zeros. A few rows at a
    time are one product of matrices.
    """
    channels, height, width = values.shape
    padded = np.zeros((channels, height + 2 * dilation, width + 2 * dilation), np.float32)
    padded[:, dilation : dilation + height, dilation : dilation + width] = values
    rows, columns = -(-height // stride), -(-width // stride)
    matrix = np.ascontiguousarray(kernel.transpose(0, 2, 3, 1)).reshape(len(kernel), -1)
    step = max(1, STRIP_BYTES // (4 * 9 * channels * columns))
    out = np.empty((len(kernel), rows, columns), np.float32)
    windows = _take_memory(9 * channels * step * columns).reshape(9 * channels, -1)
    for first in range(0, rows, step):
        num = min(step, rows - first)
        for place in range(9):
            y = first * stride + place // 3 * dilation
            x = place % 3 * dilation
            part = windows[place * channels : (place + 1) * channels, : num * columns]
            part.reshape(channels, num, columns)[:] = padded[
                :, y : y + num * stride : stride, x : x + width : stride
            ]
        strip = matrix @ windows[:, : num * columns]
        strip += bias[:, None]
        np.maximum(strip.reshape(len(kernel), num, columns), 0, out=out[:, first : first + num])
    return out


def _take_memory(size: int) -> NDArray[np.float32]:
    """Return uninitialised memory (size,) that this thread reuses."""
    if getattr(_kept, "memory", np.empty(0)).size < size:
        _kept.memory = np.empty(max(size, STRIP_BYTES // 4), np.float32)
    memory: NDArray[np.float32] = _kept.memory[:size]
    return memory


@cache
def load_weights(name: str) -> Weights:
    """Load the weights of `model` (the finder) or `scout`."""
    return dict(load_file(shipped("assets") / "text_finder" / f"{name}.safetensors"))


def _run(
    image_u8: NDArray[np.uint8], layers: Sequence[Layer], weights: Weights
) -> NDArray[np.float32]:
    values = image_u8[None].astype(np.float32) / np.float32(255)
    for number, layer in enumerate(layers):
        kernel, bias = weights[f"{number}.weight"], weights[f"{number}.bias"]
        values = convolve(values, kernel, bias, layer.stride, layer.dilation)
    logits = np.tensordot(weights["head.weight"][0, :, 0, 0], values, 1) + weights["head.bias"]
    return np.asarray(expit(logits), dtype=np.float32)
