"""Draws of a step, Adam as it is asked for, and a network that is trained whole."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from echodiff.diffusion.callbacks import HeldOutLoss
from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.objective import build_noise_schedule, epsilon, flow
from echodiff.diffusion.samples import Samples
from echodiff.diffusion.trainer import DenoisingTrainer, StepSamples, build_optimizer
from echodiff.runs import Run
from echodiff.training.checkpoints import (
    load_newest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
)
from echodiff.training.loop import Intervals, train
from echodiff.training.trackers import Curves

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def samples_of(num_frames: int) -> StepSamples:
    """Of as many captioned frames, each with a caption of its own."""
    encoded = EncodedFrames(
        file_names=tuple(f"{index}.png" for index in range(num_frames)),
        latent_mean=torch.zeros(num_frames, 4, 16, 16),
        latent_std=torch.ones(num_frames, 4, 16, 16),
        caption_index=torch.arange(1, num_frames + 1),
        embeddings=torch.zeros(num_frames + 1, 77, 64),
    )
    config = TrainLoraConfig(batch_size=4, epochs=100)
    objective = epsilon(build_noise_schedule({"num_train_timesteps": 1000}))
    process = SimpleNamespace(process_index=0, num_processes=1)
    return StepSamples(config, encoded, objective, process)


def test_a_step_of_10000_frames_is_drawn_as_fast_as_one_of_40() -> None:
    few, many = samples_of(40), samples_of(10_000)
    times: dict[StepSamples, list[float]] = {few: [], many: []}
    for first in range(0, 500, 50):
        for samples, seen in times.items():
            start = time.process_time()
            drawn = [samples.draw(step) for step in range(first, first + 50)]
            seen.append(time.process_time() - start)
            assert sum(tensor.nbytes for tensor in drawn[0][0].tensors()) == 4 * (
                2 * 4096 + 8 + 4 * 77 * 64
            )
    # The fastest of ten: what else the machine does only ever adds to it.
    assert min(times[many]) < 1.5 * min(times[few])


def parameters() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2, 2))]


def test_adam_on_cuda_is_one_launch_that_a_graph_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    real_tensor = torch.tensor  # no CUDA device is needed to look at the settings
    monkeypatch.setattr(torch, "tensor", lambda value, device: real_tensor(value))
    config = TrainLoraConfig(learning_rate=0.5, weight_decay=0.1)
    (group,) = build_optimizer(config, parameters(), CUDA, capturable=True).param_groups
    assert (group["fused"], group["capturable"], group["weight_decay"]) == (True, True, 0.1)
    assert torch.is_tensor(group["lr"])


def test_8_bit_adam_comes_from_bitsandbytes_and_its_count_survives_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Adam8bit(torch.optim.SGD):
        """Like the real one in what is tested: the count of a parameter's steps is an int."""

        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for parameter in group["params"]:
                    state = self.state[parameter]
                    state["step"] = state.get("step", 0) + 1
                    state["state1"] = torch.zeros(3, dtype=torch.uint8)

    monkeypatch.setitem(sys.modules, "bitsandbytes", ModuleType("bitsandbytes"))
    optim = ModuleType("bitsandbytes.optim")
    optim.Adam8bit = Adam8bit
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", optim)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    config = TrainLoraConfig(optimizer="adam8bit")
    first, second = (
        build_optimizer(config, parameters(), CUDA, capturable=False) for _ in range(2)
    )
    assert isinstance(first, Adam8bit)
    first.step()
    first.step()
    restore_optimizer(second, ["a", "b"], optimizer_tensors(first, ["a", "b"]))
    assert [type(state["step"]) for state in second.state.values()] == [int, int]
    second.step()
    assert [state["step"] for state in second.state.values()] == [3, 3]


def test_8_bit_adam_on_a_cpu_is_adam_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    config = TrainLoraConfig(optimizer="adam8bit")
    optimizer = build_optimizer(config, parameters(), CPU, capturable=False)
    assert type(optimizer) is torch.optim.Adam
    assert [record.message for record in caplog.records] == [
        "--optimizer adam8bit needs an NVIDIA GPU: Adam's state stays float32"
    ]


# --- a network trained whole, for another objective, with a condition


def build_unet(in_channels: int) -> Any:
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DConditionModel(
            sample_size=8, in_channels=in_channels, out_channels=4, block_out_channels=(8, 16),
            layers_per_block=1, cross_attention_dim=8, attention_head_dim=4, norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip


def encoded_with_masks() -> EncodedFrames:
    """Eight frames that are their masks, up to a scale that no prompt tells."""
    masks = (torch.rand((8, 1, 8, 8), generator=torch.Generator().manual_seed(3)) > 0.5).float()
    return EncodedFrames(
        file_names=tuple(f"{index}.png" for index in range(8)),
        latent_mean=(2 * masks - 1).expand(-1, 4, -1, -1).clone(),
        latent_std=torch.zeros(8, 4, 8, 8),
        caption_index=torch.zeros(8, dtype=torch.long),
        embeddings=torch.zeros(1, 3, 8),
        condition=masks,
    )


def predict_with_mask(network: Any, noisy: torch.Tensor, samples: Samples) -> torch.Tensor:
    given = noisy if samples.condition is None else torch.cat([noisy, samples.condition], dim=1)
    prediction: torch.Tensor = network(given, samples.times, samples.embeddings).sample
    return prediction


def open_toy_run(folder: Path) -> Run:
    return Run.create(folder, command="toy", config={})


def train_flow(
    folder: Path, *, with_masks: bool, num_steps: int = 60, callbacks: Any = None
) -> tuple[DenoisingTrainer, Run]:
    """Train a toy UNet whole as rectified flow, masks beside its input or not."""
    from accelerate import Accelerator

    config = TrainLoraConfig(batch_size=8, max_steps=num_steps, learning_rate=3e-3, ema_decay=0.8)
    accelerator = Accelerator(cpu=True)
    encoded = encoded_with_masks() if with_masks else replace(encoded_with_masks(), condition=None)
    unet = build_unet(5 if with_masks else 4)
    trainer = DenoisingTrainer(
        config, accelerator, unet, encoded, objective=flow(), prefix="unet",
        parameters=dict(unet.named_parameters()), predict=predict_with_mask,
    )  # fmt: skip
    run = open_toy_run(folder)
    train(
        trainer,
        run,
        accelerator,
        intervals=Intervals(num_steps // 3, (num_steps * 5 // 12,), 1),
        curves=Curves(run, accelerator, project="toy", config=config),
        callbacks=callbacks or [HeldOutLoss(config, encoded, trainer)],
    )
    return trainer, run


@pytest.mark.usefixtures("fresh_accelerate")
def test_a_unet_is_trained_whole_as_a_flow_with_a_condition(tmp_path: Path) -> None:
    """The condition tells where the network could only guess: the loss falls further with it."""
    losses = {}
    for with_masks in (True, False):
        trainer, run = train_flow(tmp_path / str(with_masks), with_masks=with_masks)
        rows = [row["held_out_loss"] for row in run.read_metrics() if "held_out_loss" in row]
        assert len(rows) == 2
        losses[with_masks] = rows[1] / rows[0]
    assert losses[True] < 0.75 * losses[False]
    checkpoint = load_newest_checkpoint(run.checkpoints)
    assert checkpoint is not None
    assert checkpoint.step == 50
    kinds = {name.split(".")[0] for name in checkpoint.tensors}
    assert kinds == {"unet", "average", "optimizer"}
    assert set(trainer.parameters) == {n.split(".", 1)[1] for n in checkpoint.tensors
                                       if n.startswith("unet.")}  # fmt: skip


@pytest.mark.usefixtures("fresh_accelerate")
def test_a_whole_network_is_resumed_to_the_last_bit(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    class Stop:
        every, has_start = 16, False

        def __call__(self, trained: Any, step: int) -> dict[str, float]:
            raise StoppedError

    straight, _ = train_flow(tmp_path / "straight", with_masks=True, num_steps=24)
    with pytest.raises(StoppedError):
        train_flow(tmp_path / "stopped", with_masks=True, num_steps=24, callbacks=[Stop()])
    resumed, run = train_flow(tmp_path / "stopped", with_masks=True, num_steps=24)
    for name, tensor in straight.tensors().items():
        assert torch.equal(tensor, resumed.tensors()[name]), name
    steps = [row["step"] for row in run.read_metrics() if "loss" in row]
    assert steps == [8, 16, 24]
