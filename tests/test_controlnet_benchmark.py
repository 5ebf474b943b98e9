"""The masks of `benchmarks/controlnet.py` are moved as docs/controlnet.md says."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from echodiff.anatomy import Label


@pytest.fixture(scope="module")
def benchmark(load_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return load_benchmark("controlnet")


def centre(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask == Label.LV).mean(axis=0)


def test_masks_are_shifted_turned_scaled_or_lose_a_label(benchmark: ModuleType) -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[30:50, 45:55], mask[60:70, 45:55] = Label.LV, Label.LA
    moves = [centre(benchmark.change(mask, "shifted", i)) - centre(mask) for i in range(4)]
    assert [move.round().tolist() for move in moves] == [[0, -10], [0, 10], [-10, 0], [10, 0]]
    sizes = [(benchmark.change(mask, "scaled", i) == Label.LV).mean() for i in range(2)]
    expected = [(mask == Label.LV).mean() * scale**2 for scale in (0.85, 1.15)]
    assert sizes == pytest.approx(expected, rel=0.1)
    turned = [centre(benchmark.change(mask, "turned", i)) for i in range(2)]
    assert turned[0][1] > 50.5 > 48.5 > turned[1][1] or turned[1][1] > 50.5 > turned[0][1]
    assert set(np.unique(benchmark.change(mask, "no_la", 0))) == {0, Label.LV}
    assert np.array_equal(benchmark.change(mask, "plain", 0), mask)
