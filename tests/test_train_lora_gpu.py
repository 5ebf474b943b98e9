"""What only a GPU can show: the step is one graph, nothing waits, and it fits on small cards."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from echodiff.diffusion import trainer
from echodiff.diffusion.trainer import DenoisingTrainer
from echodiff.runs import Run
from echodiff.training.graphs import NO_GRAPH, NUM_WARM_UP, CudaGraph

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates for want of
    # `copy=`.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]

WEIGHTS = "pytorch_lora_weights.safetensors"
NUM_STEPS = 12

TrainLora = Callable[..., None]


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[CudaGraph]:
    """The graph of every replay, in order."""
    seen: list[CudaGraph] = []
    real_replay = CudaGraph.replay

    def replay(self: CudaGraph) -> None:
        seen.append(self)
        real_replay(self)

    monkeypatch.setattr(CudaGraph, "replay", replay)
    return seen


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--mixed-precision", "bf16"],
        ["--gradient-checkpointing"],
        ["--gradient-accumulation", 3, "--ema-decay", 0.9, "--lr-scheduler", "cosine"],
        ["--compile", "regional"],
    ],
    ids=["float32", "bf16", "checkpointing", "accumulation", "regional"],
)
def test_the_whole_step_is_one_graph_and_does_what_plain_steps_do(
    train_lora: TrainLora,
    toy_frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    replays: list[CudaGraph],
    more: list[object],
) -> None:
    flags = ["--data", toy_frames, "--max-steps", NUM_STEPS, "--log-every", 3, "--epochs", 9]
    flags += ["--held-out-every", 5, "--sample-every", 5, "--sample-steps", 2, *more]
    with caplog.at_level(logging.WARNING):
        train_lora(*flags, "--out", tmp_path / "graph")
    assert not caplog.records
    assert len(replays) == NUM_STEPS - NUM_WARM_UP
    assert len(set(replays)) == 1
    monkeypatch.setattr(trainer, "can_capture", lambda *args, **kwargs: False)
    train_lora(*flags, "--out", tmp_path / "plain")
    rows = [Run.load(tmp_path / name).read_metrics() for name in ("graph", "plain")]
    rel = 1e-3 if "bf16" not in more else 3e-2
    for ours, theirs in zip(*rows, strict=True):
        assert ours == pytest.approx(theirs, rel=rel)


def test_no_step_waits_for_the_gpu(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_run = DenoisingTrainer.run

    def run_without_waiting(self: DenoisingTrainer, number: int) -> torch.Tensor:
        # The capture itself, once, waits for what came before it.
        is_steady = number != NUM_WARM_UP
        torch.cuda.set_sync_debug_mode("error" if is_steady else "default")
        try:
            return real_run(self, number)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(DenoisingTrainer, "run", run_without_waiting)
    flags = ["--data", toy_frames, "--out", tmp_path / "run", "--ema-decay", 0.9]
    train_lora(*flags, "--max-steps", NUM_STEPS, "--epochs", 9)


def test_a_run_that_was_stopped_goes_on(
    train_lora: TrainLora, toy_frames: Path, tmp_path: Path, replays: list[CudaGraph]
) -> None:
    out = tmp_path / "run"
    flags = ["--data", toy_frames, "--max-steps", NUM_STEPS, "--checkpoint-every", 3, "--epochs", 9]
    train_lora(*flags, "--out", out)
    expected = load_file(out / WEIGHTS)
    Run.load(out).update(status="running")
    (out / "checkpoints" / f"step-{NUM_STEPS:06d}").rename(out / "gone")
    train_lora(*flags, "--out", out)  # from step 9
    for name, tensor in load_file(out / WEIGHTS).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-5)


def test_fp16_goes_without_a_graph_and_says_why(
    train_lora: TrainLora,
    toy_frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    replays: list[CudaGraph],
) -> None:
    # As `accelerate launch --mixed_precision fp16 train_lora.py` does.
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    out = tmp_path / "run"
    with caplog.at_level(logging.WARNING):
        train_lora("--data", toy_frames, "--out", out, "--max-steps", 8, "--checkpoint-every", 8)
    assert [record.message.split(":")[0] for record in caplog.records] == [NO_GRAPH]
    assert "gradient scaler" in caplog.text
    assert not replays
    state = out / "checkpoints" / "step-000008" / "tensors.safetensors"
    for path in (out / WEIGHTS, state):
        assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float32}


@pytest.fixture
def card_of_gib(request: pytest.FixtureRequest) -> Iterator[float]:
    """This GPU, as if it had no more memory than the parameter says."""
    total = torch.cuda.get_device_properties(0).total_memory
    if total < request.param * 2**30:
        pytest.skip("the card itself is smaller")
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(request.param * 2**30 / total)
    yield request.param
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize(
    ("card_of_gib", "flags"),
    [
        (5.0, ["--batch-size", 1]),
        (10e9 / 2**30, ["--config", "cmc2024"]),
    ],
    ids=["batch 1 in 5 GiB", "the paper's recipe in 10 GB"],
    indirect=["card_of_gib"],
)
@pytest.mark.usefixtures("card_of_gib")
def test_sd15_at_512_trains_on_a_small_card(
    full_size_base: Path,
    make_frames: Callable[..., Path],
    train_lora: TrainLora,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[Any],
) -> None:
    flags = [*flags, "--base", full_size_base, "--resolution", 512, "--mixed-precision", "bf16"]
    train_lora(*flags, "--memory", "--sample-every", 0)
    assert "a training step" in capsys.readouterr().out
    frames = make_frames("frames", captioned=4, null=0, num_patients=1)
    more = ["--max-steps", NUM_WARM_UP + 2, "--epochs", 9, "--sample-every", 0]
    train_lora(*flags, *more, "--data", frames, "--out", tmp_path / "run")
    assert Run.load(tmp_path / "run").is_finished
