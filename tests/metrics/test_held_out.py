"""Scores against the same real frames, time after time."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.metrics import held_out
from echodiff.metrics.features import FeatureNetwork
from echodiff.metrics.held_out import open_held_out

ENDS = ("", "_low", "_high", "_floor")
MakeFrames = Callable[..., Path]


class Quarters:
    """Mean of each quarter of a frame, and a count of the frames it was shown."""

    def __init__(self) -> None:
        self.num_shown = 0

    def __call__(self, images_u8: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        self.num_shown += len(images_u8)
        return np.array([
            [part.mean() for half in np.split(image, 2) for part in np.split(half, 2, axis=1)]
            for image in images_u8
        ])  # fmt: skip


def build_network(embed: Quarters) -> FeatureNetwork:
    return FeatureNetwork(name="stub", sha256="0", num_features=4, resize="none", embed=embed)


def read(folder: Path, frames: Sequence[Frame]) -> list[NDArray[np.uint8]]:
    from echodiff.images import read_gray_u8

    return [read_gray_u8(folder / frame.file_name) for frame in frames]


def test_real_frames_are_shown_to_the_network_once(make_frames: MakeFrames) -> None:
    folder = make_frames("real", captioned=12, null=0, num_patients=12)
    embed = Quarters()
    score = open_held_out([build_network(embed)], folder, load_frames(folder))
    assert score is not None
    assert embed.num_shown == 0  # not before the first look
    drawn = [255 - image for image in read(folder, load_frames(folder))[:5]]
    first = score(drawn)
    assert embed.num_shown == 12 + 5
    assert score(drawn) == first
    assert embed.num_shown == 12 + 5 + 5
    assert set(first) == {f"{name}_stub{end}" for name in ("mmd", "kid") for end in ENDS}
    assert first["mmd_stub_low"] < first["mmd_stub"] < first["mmd_stub_high"]
    assert first["mmd_stub_floor"] < first["mmd_stub"]


def test_of_many_real_frames_some_are_drawn(
    make_frames: MakeFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out, "MAX_FRAMES", 7)
    folder = make_frames("real", captioned=12, null=0, num_patients=12)
    embed = Quarters()
    score = open_held_out([build_network(embed)], folder, load_frames(folder))
    assert score is not None
    assert score.to_record()["n_reference"] == 7
    score(read(folder, load_frames(folder)))
    assert embed.num_shown == 7 + 12


def test_three_patients_have_a_value_and_no_interval(make_frames: MakeFrames) -> None:
    folder = make_frames("real", captioned=12, null=0, num_patients=3)
    score = open_held_out([build_network(Quarters())], folder, load_frames(folder))
    assert score is not None
    row = score(read(folder, load_frames(folder)))
    assert {"mmd_stub", "kid_stub"} <= set(row)
    assert not {"mmd_stub_low", "mmd_stub_high", "kid_stub_low", "kid_stub_high"} & set(row)


def test_what_cannot_be_scored_is_said_once(
    make_frames: MakeFrames, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_frames("real", captioned=6, null=0)
    for path in (folder / "images").glob("*.png"):
        path.write_bytes((folder / "images" / "0000.png").read_bytes())
    frames = load_frames(folder)
    score = open_held_out([build_network(Quarters())], folder, frames)
    assert score is not None
    with caplog.at_level(logging.WARNING):
        rows = [score(read(folder, frames)) for _ in range(2)]
    assert all("mmd_stub" not in row and "kid_stub" in row for row in rows)
    (said,) = caplog.messages
    assert said.startswith("mmd_stub is left out: ")


def test_without_networks_or_frames_there_is_nothing_to_score(make_frames: MakeFrames) -> None:
    folder = make_frames("real", captioned=4, null=0)
    frames = load_frames(folder)
    network = build_network(Quarters())
    assert open_held_out([], folder, frames) is None
    assert open_held_out([network], folder, frames[:3]) is None
    assert open_held_out([network], folder, frames) is not None
