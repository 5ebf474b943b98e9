"""Which frames are trained on, which are held out, and that the encoders do not stay."""

import gc
import json
import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from echodiff.diffusion import dataset
from echodiff.diffusion.base import load_base
from echodiff.diffusion.dataset import encode_set, load_set
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.errors import InputError


def patients(frames: list[Any]) -> set[str]:
    return {frame.patient_id for frame in frames}


def test_patients_never_cross(make_frames: Callable[..., Path]) -> None:
    folder = make_frames("many", captioned=20, null=20, num_patients=10)
    chosen = load_set(TrainLoraConfig(seed=4), folder)
    assert chosen.held_out
    assert not patients(chosen.train) & patients(chosen.held_out)
    assert len(chosen.train) + len(chosen.held_out) == 40
    assert {f.file_name for f in chosen.watched} <= {f.file_name for f in chosen.held_out}


def test_counts_are_drawn_by_seed(make_frames: Callable[..., Path]) -> None:
    folder = make_frames("many", captioned=20, null=20, num_patients=10)
    config = TrainLoraConfig(annotated=4, regularization=6)
    chosen = load_set(config, folder)
    assert [bool(frame.text) for frame in chosen.train] == [True] * 4 + [False] * 6
    again = load_set(config, folder)
    assert [f.file_name for f in again.train] == [f.file_name for f in chosen.train]


def test_too_few_frames_is_one_warning_each_and_goes_on(
    toy_frames: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        chosen = load_set(TrainLoraConfig(annotated=40, regularization=400), toy_frames)
    assert sum(bool(frame.text) for frame in chosen.train) == 5
    assert len(caplog.records) == 2
    assert "40 captioned frames requested, 5 available" in caplog.text
    assert "400 regularization frames requested, 5 available" in caplog.text


def test_nothing_asked_for_is_no_warning(
    toy_frames: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_set(TrainLoraConfig(), toy_frames)
    assert not caplog.records


def test_one_patient_trains_with_a_warning(
    make_frames: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_frames("one", captioned=2, null=0, num_patients=1)
    chosen = load_set(TrainLoraConfig(), folder)
    assert len(chosen.train) == 2
    assert "no patient is held out" in caplog.text


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        load_set(TrainLoraConfig(), tmp_path / "nowhere")


def test_vae_and_text_encoder_leave_memory(
    toy_frames: Path, tiny_random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = []

    def watched_load(*args: Any, **parts: Any) -> Any:
        pipeline = load_base(*args, **parts)
        alive.extend(weakref.ref(part) for part in (pipeline.vae, pipeline.text_encoder))
        return pipeline

    monkeypatch.setattr(dataset, "load_base", watched_load)
    config = TrainLoraConfig(base=str(tiny_random_base), held_out_frames=1)
    chosen = load_set(config, toy_frames)
    train, held_out = encode_set(config, chosen, 32, torch.device("cpu"), tmp_path)
    gc.collect()
    assert len(alive) == 2
    assert not any(reference() for reference in alive)
    assert len(train) == 10
    assert held_out is not None
    assert len(held_out) == 1


def set_rows(folder: Path, change: Callable[[int, dict[str, Any]], None]) -> None:
    path = folder / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for index, row in enumerate(rows):
        change(index, row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def split_by_patient(*splits: str) -> Callable[[int, dict[str, Any]], None]:
    """Patient p0 is in the first split, p1 in the second, and so on."""
    return lambda _, row: row.update(split=splits[int(row["patient_id"][1:])])


def test_only_val_is_looked_at_during_training(toy_frames: Path) -> None:
    set_rows(toy_frames, split_by_patient("train", "train", "train", "val", "test", "test"))
    chosen = load_set(TrainLoraConfig(held_out_frames=9), toy_frames)
    assert patients(chosen.val) == {"p3"}
    assert patients(chosen.test) == {"p4", "p5"}
    assert patients(chosen.watched) == {"p3"}
    record = chosen.to_record(toy_frames.parent)
    assert sorted(record["held_out"]) == sorted([*record["val"], *record["test"]])
    assert [len(record[name]) for name in ("train", "val", "test")] == [6, 2, 4]


def test_without_val_frames_nothing_is_looked_at(
    toy_frames: Path, caplog: pytest.LogCaptureFixture
) -> None:
    set_rows(toy_frames, split_by_patient("train", "train", "train", "train", "test", "test"))
    chosen = load_set(TrainLoraConfig(), toy_frames)
    assert (chosen.val, chosen.watched, len(chosen.test)) == ([], [], 4)
    assert len(caplog.records) == 1
    assert "no row is of split val, 4 are of test, which only final scores see" in caplog.text


def test_without_a_split_column_what_is_held_out_is_val(toy_frames: Path) -> None:
    chosen = load_set(TrainLoraConfig(), toy_frames)
    assert (len(chosen.val), chosen.test) == (2, [])


def test_rows_without_a_patient_are_told_once(
    toy_frames: Path, caplog: pytest.LogCaptureFixture
) -> None:
    set_rows(toy_frames, lambda index, row: row.pop("patient_id") if index % 3 == 0 else None)
    load_set(TrainLoraConfig(), toy_frames)
    assert len(caplog.records) == 1
    assert "frames: 4 of 12 rows have no patient_id" in caplog.text
    assert "--patient-regex" in caplog.text
    load_set(TrainLoraConfig(), toy_frames, is_quiet=True)  # the second of two processes
    assert len(caplog.records) == 1
