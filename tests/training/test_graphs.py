"""What is compiled, and that a recorded step is the step; the graph's place is taken by a tape."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from echodiff.diffusion import trainer
from echodiff.runs import Run
from echodiff.training.graphs import NO_GRAPH, NUM_WARM_UP, choose_compile

# diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates for want of `copy=`.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

WEIGHTS = "pytorch_lora_weights.safetensors"
CPU, CUDA = torch.device("cpu"), torch.device("cuda")

EVERYTHING = [
    *("--max-steps", 9, "--checkpoint-every", 3, "--log-every", 2, "--held-out-every", 4),
    *("--ema-decay", 0.9, "--caption-dropout", 0.2, "--gradient-accumulation", 2),
    *("--noise-offset", 0.1, "--min-snr-gamma", 5, "--lr-scheduler", "cosine", "--lr-warmup", 2),
]


# --- what is compiled


@pytest.mark.parametrize(
    ("num_steps", "batch_size", "latent_side", "expected"),
    [
        (880, 2, 64, "none"),  # the paper's run is over before a compiler is
        (5_000, 2, 64, "regional"),
        (50_000, 2, 64, "full"),
        (5_000, 16, 64, "full"),
        (880, 16, 64, "regional"),
        (5_000, 2, 16, "none"),  # the embedded base's latents
    ],
)
def test_the_longer_the_run_the_more_is_compiled(
    num_steps: int, batch_size: int, latent_side: int, expected: str
) -> None:
    options = {"num_steps": num_steps, "batch_size": batch_size, "latent_side": latent_side}
    assert choose_compile("auto", CUDA, **options) == expected
    assert choose_compile("auto", CPU, **options) == "none"
    assert choose_compile("full", CPU, **options) == "full"


# --- a recorded step


@pytest.fixture
def on_tape(monkeypatch: pytest.MonkeyPatch, tape: Any) -> list[Any]:
    """Training records its steps, with Adam as it is on CUDA but for the device."""

    def build_fused(config: Any, parameters: Any, device: Any, *, capturable: bool) -> Any:
        rate = torch.tensor(config.learning_rate)
        return torch.optim.Adam(parameters, lr=rate, weight_decay=config.weight_decay, fused=True)

    monkeypatch.setattr(trainer, "build_optimizer", build_fused)
    monkeypatch.setattr(trainer, "can_capture", lambda *args, **kwargs: True)
    monkeypatch.setattr(trainer, "CudaGraph", tape)
    tapes: list[Any] = tape.made
    return tapes


def test_a_recorded_step_is_the_step(
    train_lora: Callable[..., None],
    toy_frames: Path,
    tmp_path: Path,
    on_tape: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flags = ["--data", toy_frames, *EVERYTHING]
    train_lora(*flags, "--out", tmp_path / "recorded")
    assert [tape.num_replays for tape in on_tape] == [9 - NUM_WARM_UP]
    monkeypatch.setattr(trainer, "can_capture", lambda *args, **kwargs: False)
    train_lora(*flags, "--out", tmp_path / "plain")
    assert len(on_tape) == 1
    recorded, plain = (load_file(tmp_path / name / WEIGHTS) for name in ("recorded", "plain"))
    for name, tensor in plain.items():
        torch.testing.assert_close(recorded[name], tensor, rtol=1e-5, atol=1e-7)
    rows = [Run.load(tmp_path / name).read_metrics() for name in ("recorded", "plain")]
    for ours, theirs in zip(*rows, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_recorded_run_resumes_from_its_checkpoint(
    train_lora: Callable[..., None], toy_frames: Path, tmp_path: Path, on_tape: list[Any]
) -> None:
    out = tmp_path / "run"
    flags = ["--data", toy_frames, "--out", out, *EVERYTHING]
    train_lora(*flags)
    before = (out / WEIGHTS).read_bytes()
    Run.load(out).update(status="running")
    (out / "checkpoints" / "step-000009").rename(out / "gone")
    train_lora(*flags)  # from step 6: three plain steps take the place of three recorded ones
    assert [tape.num_replays for tape in on_tape] == [9 - NUM_WARM_UP, 0]
    assert (out / WEIGHTS).read_bytes() == before


def test_what_cannot_be_captured_goes_on_with_one_warning(
    train_lora: Callable[..., None],
    toy_frames: Path,
    tmp_path: Path,
    on_tape: list[Any],
    tape: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Adam as it is on a CPU looks at its step's number: the recording breaks in the middle."""
    monkeypatch.undo()
    train_lora("--data", toy_frames, "--out", tmp_path / "plain", "--max-steps", 6)
    monkeypatch.setattr(trainer, "can_capture", lambda *args, **kwargs: True)
    monkeypatch.setattr(trainer, "CudaGraph", tape)
    with caplog.at_level(logging.WARNING):
        train_lora("--data", toy_frames, "--out", tmp_path / "broken", "--max-steps", 6)
    assert [record.message for record in caplog.records] == [
        f"{NO_GRAPH}: the capture failed: operation not permitted when stream is capturing"
    ]
    weights = [(tmp_path / name / WEIGHTS).read_bytes() for name in ("plain", "broken")]
    assert weights[0] == weights[1]


# --- compiled


@pytest.mark.slow
def test_compiled_training_ends_where_plain_training_does(
    train_lora: Callable[..., None], toy_frames: Path, tmp_path: Path
) -> None:
    flags = ["--data", toy_frames, "--max-steps", 3, "--sample-every", 2, "--sample-steps", 2]
    train_lora(*flags, "--out", tmp_path / "plain")
    train_lora(*flags, "--out", tmp_path / "compiled", "--compile", "regional")
    for plain, compiled in zip(
        *(Run.load(tmp_path / name).read_metrics() for name in ("plain", "compiled")), strict=True
    ):
        assert compiled == pytest.approx(plain, rel=1e-4)


def test_a_compiler_that_fails_is_one_warning_and_training_goes_on(
    train_lora: Callable[..., None],
    toy_frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    real_compile = torch.nn.Module.compile

    def break_down(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler\nand a page of advice")

    def compile_with_it(self: torch.nn.Module, **options: Any) -> None:
        real_compile(self, backend=break_down, **options)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_with_it)
    flags = ["--data", toy_frames, "--max-steps", 3, "--checkpoint-every", 0]
    train_lora(*flags, "--out", tmp_path / "plain")
    with caplog.at_level(logging.WARNING):
        train_lora(*flags, "--out", tmp_path / "compiled", "--compile", "regional")
    (record,) = caplog.records
    assert record.message == (
        "--compile regional failed, going on without: "
        "backend='break_down' raised: RuntimeError: no C++ compiler"
    )
    weights = [(tmp_path / name / WEIGHTS).read_bytes() for name in ("plain", "compiled")]
    assert weights[0] == weights[1]
