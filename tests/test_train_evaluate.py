"""`train_lora.py --evaluate-every`: what the curves say, and that the training never notices."""

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from echodiff.diffusion.base import load_base
from echodiff.diffusion.lora import load_lora
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.sampling.sampler import sample_images
from echodiff.evaluate import score_frames
from echodiff.frames.reader import load_frames
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter
from echodiff.metrics.scores import MIN_FRAMES
from echodiff.runs import Run
from echodiff.settings.command_line import parse, run_main

# diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates for want of `copy=`.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

WEIGHTS = "pytorch_lora_weights.safetensors"
PARTS = {"value": "", "low": "_low", "high": "_high", "floor": "_floor"}
KEYS = {f"{name}_texture{part}" for name in ("mmd", "kid") for part in PARTS.values()}
TRAIN = [
    *("--max-steps", 5, "--learning-rate", 0.02, "--log-every", 5, "--checkpoint-every", 3),
    *("--sample-steps", 2, "--held-out-frames", 0),
]
EVALUATE = ["--evaluate-every", 2, "--evaluate-images", 6, "--evaluate-features", "texture"]

TrainLora = Callable[..., None]


@pytest.fixture
def frames(make_frames: Callable[..., Path]) -> Path:
    """Forty captioned frames of as many patients; six are held out."""
    return make_frames("many", captioned=40, null=0, num_patients=40)


def score_rows(out: Path) -> list[dict[str, Any]]:
    return [row for row in Run.load(out).read_metrics() if "mmd_texture" in row]


def test_curves_hold_what_evaluate_says_of_the_saved_adapter(
    train_lora: TrainLora, frames: Path, tiny_random_base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    # With an average: it is what is saved, so it is what must have been drawn.
    train_lora("--data", frames, "--out", out, *TRAIN, *EVALUATE, "--ema-decay", 0.9)
    rows = score_rows(out)
    assert [row["step"] for row in rows] == [0, 2, 4, 5]
    assert all(set(row) == KEYS | {"step"} for row in rows)
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert len({row["mmd_texture"] for row in rows}) == 4

    record = Run.load(out).record
    held_out = [frame for frame in load_frames(frames) if frame.file_name in record["held_out"]]
    assert len(held_out) == 6
    pipeline = load_base(str(tiny_random_base), torch.float32)
    load_lora(pipeline, out)
    # The captions in the order in which the look takes them, which no score depends on but noise.
    captions = choose_captions(held_out)
    with FramesWriter(tmp_path / "drawn") as writer:
        for index, image in sample_images(
            pipeline, captions, seed=0, indices=range(6), steps=2, batch_size=4, resolution=32
        ):
            writer.add(Frame(file_name=f"{index}.png", text=captions[index]), image)
    expected = score_frames(
        tmp_path / "drawn", [frames / frame.file_name for frame in held_out], features=["texture"]
    )["scores"]
    for name in ("mmd_texture", "kid_texture"):
        for part, suffix in PARTS.items():
            # Products round by where a tensor lies in memory: one pixel may differ by a grey level.
            wanted = pytest.approx(expected[name][part], rel=1e-4, abs=1e-4)
            assert rows[-1][name + suffix] == wanted, part
    network = expected["mmd_texture"]
    assert record["evaluation"] == {
        "n_reference": 6,
        "features": {
            "texture": {"sha256": network["features_sha256"], "resize": network["resize"]}
        },
    }


def choose_captions(frames: list[Frame]) -> list[str]:
    from echodiff.diffusion.dataset import choose_held_out

    return [frame.text for frame in choose_held_out(frames, 6, 0)]


@pytest.mark.parametrize("more", [[], ["--ema-decay", 0.9, "--sample-every", 2]])
def test_the_adapter_is_the_same_to_the_last_byte(
    train_lora: TrainLora, frames: Path, tmp_path: Path, more: list[object]
) -> None:
    flags = ["--data", frames, *TRAIN, *more, "--caption-dropout", 0.2, "--noise-offset", 0.1]
    train_lora(*flags, "--out", tmp_path / "without")
    train_lora(*flags, "--out", tmp_path / "with", *EVALUATE)
    assert score_rows(tmp_path / "with")
    assert not score_rows(tmp_path / "without")
    for name in (WEIGHTS, "checkpoints/step-000003/tensors.safetensors"):
        without, with_ = (tmp_path / out / name for out in ("without", "with"))
        assert with_.read_bytes() == without.read_bytes()
    losses = [
        [row for row in Run.load(tmp_path / out).read_metrics() if "loss" in row]
        for out in ("without", "with")
    ]
    assert losses[0] == losses[1] != []


def test_every_look_has_the_same_captions_and_noise(
    train_lora: TrainLora, make_frames: Callable[..., Path], tmp_path: Path
) -> None:
    # Without any caption, too: then the null text is drawn.
    for name, counts in {"captioned": (40, 0), "null": (0, 40)}.items():
        data = make_frames(name, captioned=counts[0], null=counts[1], num_patients=40)
        out = tmp_path / f"run-{name}"
        still = ["--learning-rate", 1e-30]  # the last bit of no activation moves
        train_lora("--data", data, "--out", out, *TRAIN, *EVALUATE, *still)
        rows = score_rows(out)
        assert [row.pop("step") for row in rows] == [0, 2, 4, 5]
        assert all(row == rows[0] for row in rows)


class KilledError(Exception):
    pass


@pytest.mark.parametrize(("killed_at", "goes_on_from"), [(4, 3), (0, None)])
def test_killed_and_resumed_writes_the_same_rows(
    train_lora: TrainLora,
    frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    killed_at: int,
    goes_on_from: int | None,
) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    train_lora("--data", frames, "--out", straight, *TRAIN, *EVALUATE)
    real_log = Run.log

    def log_and_die(self: Run, step: int, **values: float) -> None:
        real_log(self, step, **values)
        if step == killed_at:
            raise KilledError

    flags = ["--data", frames, "--out", killed, *TRAIN, *EVALUATE]
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(Run, "log", log_and_die)
        train_lora(*flags)
    assert score_rows(killed)[-1]["step"] == killed_at
    capsys.readouterr()
    train_lora(*flags)
    said = capsys.readouterr().out
    assert (f"resuming from step {goes_on_from}" in said) == (goes_on_from is not None)
    for name in (WEIGHTS, "metrics.jsonl"):
        assert (killed / name).read_bytes() == (straight / name).read_bytes()


def test_trackers_get_every_number(train_lora: TrainLora, frames: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    train_lora("--data", frames, "--out", out, *TRAIN, *EVALUATE, "--tracker", "tensorboard")
    (events,) = [p for p in (out / "logs").glob("**/events*") if b"mmd_texture" in p.read_bytes()]
    curves = EventAccumulator(str(events))
    curves.Reload()
    assert set(curves.Tags()["scalars"]) >= KEYS
    for key in KEYS:
        found = [(event.step, event.value) for event in curves.Scalars(key)]
        expected = [(row["step"], row[key]) for row in score_rows(out)]
        assert found == [(step, pytest.approx(value, rel=1e-5)) for step, value in expected]


def test_without_a_flag_features_are_tiny_and_texture(
    train_lora: TrainLora, frames: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    few = ["--max-steps", 1, "--evaluate-every", 1, "--evaluate-images", 4]
    train_lora("--data", frames, "--out", out, *TRAIN, *few)
    rows = score_rows(out)
    assert [row["step"] for row in rows] == [0, 1]
    assert set(rows[0]) == {"step"} | KEYS | {key.replace("texture", "tiny") for key in KEYS}


def test_too_few_held_out_frames_warn_once_and_train(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "run"
    with caplog.at_level(logging.WARNING):
        train_lora("--data", toy_frames, "--out", out, *TRAIN, *EVALUATE)
    (said,) = [message for message in caplog.messages if "evaluate" in message]
    assert said == (
        f"--evaluate-every: scores need {MIN_FRAMES} held-out frames, there are 2: going on without"
    )
    assert Run.load(out).is_finished
    assert not score_rows(out)
    assert "evaluation" not in Run.load(out).record


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--evaluate-every", "-1"], "--evaluate-every -1: must be 0 or more"),
        (["--evaluate-images", MIN_FRAMES - 1], "--evaluate-images 3: must be 4 or more"),
        (["--evaluate-features", ""], "--evaluate-features is empty"),
        (["--evaluate-features", "tiny,inceptoin"], "--evaluate-features: no file inceptoin"),
    ],
)
def test_bad_flags_are_one_line_and_leave_nothing(
    train_lora: TrainLora,
    frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    named: str,
) -> None:
    out = tmp_path / "run"
    words = ["--data", frames, "--out", out, "--evaluate-every", 1, *flags]
    assert run_main(lambda: train_lora(*words), "train_lora.py") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert named in line
    assert not out.exists()


def test_no_preset_spends_time_on_scores() -> None:
    for preset in ("demo", "cmc2024"):
        config = parse(TrainLoraConfig, ["--config", preset], prog="train_lora.py")
        assert config.evaluate_every == 0


def test_curves_and_samples_see_val_and_never_test(
    train_lora: TrainLora,
    frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from echodiff import images
    from echodiff.diffusion import encoding
    from echodiff.metrics import held_out

    path = frames / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for index, row in enumerate(rows):
        row["split"] = "train" if index < 28 else "val" if index < 34 else "test"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = set()

    def read(path: Path, **options: Any) -> Any:
        seen.add(path.name)
        return images.read_gray_u8(path, **options)

    for module in (encoding, held_out):
        monkeypatch.setattr(module, "read_gray_u8", read)
    flags = [*TRAIN[:-2], "--held-out-every", 2, "--sample-every", 5, *EVALUATE]
    train_lora("--data", frames, "--out", tmp_path / "run", *flags)
    record = Run.load(tmp_path / "run").record
    assert record["evaluation"]["n_reference"] == len(record["val"]) == 6
    assert seen == {f"{index:04d}.png" for index in range(34)}

    # No val at all: nothing is looked at, and one line says so.
    for row in rows:
        row["split"] = row["split"].replace("val", "test")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen.clear()
    train_lora("--data", frames, "--out", tmp_path / "none", *flags)
    assert seen == {f"{index:04d}.png" for index in range(28)}
    assert not score_rows(tmp_path / "none")
    assert not [r for r in Run.load(tmp_path / "none").read_metrics() if "held_out_loss" in r]
    assert "no row is of split val, 12 are of test" in caplog.text
