"""The masks of `benchmarks/controlnet.py` are moved as docs/controlnet.md says."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
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


def test_what_is_reached_is_of_the_best_kind_and_of_the_labels_that_are_left(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    def scores(whole: float, **labels: float) -> dict[str, dict[str, float]]:
        named = {"obedience": whole} | {f"obedience_{name}": v for name, v in labels.items()}
        return {name: {"value": value} for name, value in named.items()}

    of_all = {"lv": 0.9, "lv_myocardium": 0.6, "la": 1.2}
    results = {
        "controlnet.plain.5": scores(0.7),
        "concat.plain.5": scores(0.9, **of_all),
        "concat.shifted.5": scores(0.69),
        "concat.no_la.5": scores(0.63),  # of LV and its wall, 0.75 with LA
    }
    (tmp_path / "results.json").write_text(json.dumps(results), encoding="utf-8")
    args = Namespace(work=tmp_path, kinds=["controlnet", "concat"], guidance=[5.0, 2.0])
    lines = benchmark.list_bars(args)
    assert lines[:3] == [
        "reached best kind (concat): 0.90, aim 0.85",
        "MISSED  controlnet: 0.70, aim 0.75",
        "MISSED  concat, shifted: 0.69, aim 0.7",
    ]
    assert "reached concat, no_la: share kept on the others: 0.84, aim 0.8" in lines
    assert "MISSED  concat, no_lv: share kept on the others: nan, aim 0.8" in lines
