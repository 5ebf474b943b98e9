"""What a step draws costs the same however many frames there are; Adam as it is asked for."""

import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.objective import build_noise_schedule, epsilon
from echodiff.diffusion.trainer import StepSamples, build_optimizer
from echodiff.training.checkpoints import optimizer_tensors, restore_optimizer

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
