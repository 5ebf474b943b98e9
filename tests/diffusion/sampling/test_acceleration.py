"""A quicker call of the network draws the same images, and what fails is one warning."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from echodiff.diffusion.base import load_base
from echodiff.diffusion.sampling import acceleration
from echodiff.diffusion.sampling.acceleration import AcceleratedUNet, CapturedCall, choose_compile
from echodiff.diffusion.sampling.sampler import Sampler
from echodiff.diffusion.sampling.schedulers import SCHEDULERS

# diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates for want of `copy=`.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

PROMPTS = ["ASD, four-chamber view", "LVH, four-chamber view", "normal heart"]
BATCHES = [[0, 1, 2], [3, 4, 5], [6]]


def build_sampler(base: Path, device: str = "cpu", **options: Any) -> Sampler:
    pipeline = load_base(str(base), torch.float32).to(device)
    settings = {"seed": 3, "steps": 3, "guidance": 4.0, "scheduler": "dpmpp", **options}
    return Sampler(pipeline, PROMPTS, **settings)


@pytest.fixture
def sampler(tiny_random_base: Path) -> Sampler:
    return build_sampler(tiny_random_base)


def draw(sampler: Sampler) -> dict[int, np.ndarray]:
    return {index: image for batch in BATCHES for index, image in sampler.sample(batch)}


def assert_same_images(first: dict[int, np.ndarray], second: dict[int, np.ndarray]) -> None:
    assert list(first) == list(second)
    for index, image in first.items():
        assert np.abs(image.astype(int) - second[index]).max() <= 1


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What echodiff itself said; torch logs every step of a compilation."""
    return [record.message for record in caplog.records if record.name.startswith("echodiff")]


@contextmanager
def rows_of_calls(unet: torch.nn.Module) -> Iterator[list[int]]:
    """Record the batch of every call of the network."""
    rows: list[int] = []
    hook = unet.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    yield rows
    hook.remove()


# --- What is worth it ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds_left", "best"),
    [(0, "none"), (149, "none"), (150, "regional"), (299, "regional"), (300, "full")],
)
def test_longer_jobs_earn_longer_compilations_back(seconds_left: float, best: str) -> None:
    assert choose_compile(seconds_left) == best


@pytest.mark.parametrize(
    ("seconds_a_call", "best"), [(0.1, "none"), (2.0, "regional"), (4.0, "full")]
)
def test_auto_chooses_after_the_first_batch_by_its_time_but_for_the_first_call(
    monkeypatch: pytest.MonkeyPatch, seconds_a_call: float, best: str
) -> None:
    now = 0.0

    class Unet(torch.nn.Module):
        def forward(self, rows: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor]:
            nonlocal now
            now += seconds_a_call if now else 1000.0
            return (rows,)

    monkeypatch.setattr(acceleration, "time", SimpleNamespace(monotonic=lambda: now))
    call = AcceleratedUNet(Unet(), "auto", num_calls=104, calls_per_batch=4)
    monkeypatch.setattr(call, "_prepare", lambda *_: call._eager)
    inputs = [torch.zeros(1)] * 3
    for _ in range(4):
        call(*inputs)
    assert call.compile == "auto"
    call(*inputs)
    assert call.compile == best


def test_auto_does_nothing_on_a_cpu(sampler: Sampler) -> None:
    plain = sampler.predict_noise
    with sampler.accelerated("auto", BATCHES), rows_of_calls(sampler.pipeline.unet) as rows:
        assert sampler.predict_noise is plain
        draw(sampler)
    assert rows == [6] * 6 + [2] * 3


# --- The same images ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["regional", "full"])
def test_compiled_calls_have_one_shape_and_draw_the_same(
    sampler: Sampler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    compile_module, num_compiled = torch.nn.Module.compile, 0

    def trace_only(self: torch.nn.Module, **options: Any) -> None:
        nonlocal num_compiled
        num_compiled += 1
        # The whole way but for the code generator, which takes a minute on two cores.
        compile_module(self, backend="eager", fullgraph=True, **options)

    monkeypatch.setattr(torch.nn.Module, "compile", trace_only)
    unet = sampler.pipeline.unet
    expected = draw(sampler)
    shapes = set()
    with sampler.accelerated(how, BATCHES):
        call = sampler.predict_noise
        sampler.predict_noise = lambda *inputs: shapes.add(inputs[0].shape) or call(*inputs)
        assert_same_images(draw(sampler), expected)
        assert any(module._compiled_call_impl for module in unet.modules())
    assert shapes == {(6, 4, 8, 8)}
    assert num_compiled == (1 if how == "full" else 4)  # the transformer blocks of the toy UNet
    assert not any(module._compiled_call_impl for module in unet.modules())
    assert not warnings_of(caplog)
    assert_same_images(draw(sampler), expected)


@pytest.mark.slow
def test_generated_code_draws_the_same(sampler: Sampler) -> None:
    expected = draw(sampler)
    with sampler.accelerated("regional", BATCHES):
        assert_same_images(draw(sampler), expected)


def test_what_cannot_be_compiled_is_one_warning_and_drawn_as_it_comes(
    sampler: Sampler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: torch.nn.Module, **_: Any) -> None:
        self._compiled_call_impl = fail_later

    def fail_later(*_: Any, **__: Any) -> None:
        raise RuntimeError("no compiler\nand a long story")

    monkeypatch.setattr(torch.nn.Module, "compile", fail)
    expected = draw(sampler)
    with caplog.at_level(logging.WARNING), sampler.accelerated("full", BATCHES):
        assert_same_images(draw(sampler), expected)
    assert warnings_of(caplog) == [
        "--compile full: no compiled or captured UNet here, drawn without "
        "(RuntimeError: no compiler)"
    ]


def test_a_replay_reads_its_inputs_anew_and_its_output_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bookkeeping about a graph, with a stand-in that records and replays on the CPU."""

    class Graph:
        def replay(self) -> None:
            captured.output.copy_(add(*captured.inputs))

    @contextmanager
    def nothing(*_: Any, **__: Any) -> Iterator[None]:
        yield

    class Stream:
        def __init__(self, *_: object) -> None: ...

        def wait_stream(self, _: object) -> None: ...

    def add(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return first + second

    for name, stand_in in {
        "CUDAGraph": Graph, "Stream": Stream, "current_stream": Stream,
        "stream": nothing, "graph": nothing,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, stand_in)
    one, two = torch.ones(2), torch.full((2,), 2.0)
    captured = CapturedCall(add, (one, two))
    first = captured(one, two)
    second = captured(two, two)
    assert (first.tolist(), second.tolist()) == ([3, 3], [4, 4])
    assert one.tolist() == [1, 1]


# --- Nothing waits ------------------------------------------------------------------------------


class Copies(TorchDispatchMode):
    """Counts what is copied from one device to another."""

    num = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [item for item in (*args, result) if isinstance(item, torch.Tensor)]
        is_copy = "copy" in str(function)
        self.num += is_copy and len({tensor.device for tensor in tensors}) > 1
        return result


@pytest.mark.parametrize("scheduler", [name for name in SCHEDULERS if name != "unipc"])
def test_denoising_never_waits_for_the_device(tiny_random_base: Path, scheduler: str) -> None:
    """The meta device plays the GPU: it has no values to wait for, and to ask for one raises."""
    sampler = build_sampler(tiny_random_base, scheduler=scheduler, steps=5)
    sampler.pipeline.unet.to("meta")
    noise = torch.empty(2, 4, 8, 8, device="meta")
    text = torch.empty(4, 77, 32, device="meta")
    scale = torch.empty(2, 1, 1, 1, device="meta")
    with torch.no_grad(), Copies() as copies:
        latents = sampler._denoise(noise, text, scale)
    assert latents.shape == noise.shape
    assert latents.device.type == "meta"
    assert copies.num == 1  # the time steps, once


# --- On a GPU -----------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("how", ["none", "regional", "full"])
def test_a_captured_call_draws_the_same(
    tiny_random_base: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    sampler = build_sampler(tiny_random_base, "cuda", scheduler="pndm", steps=6)
    expected = draw(sampler)
    with sampler.accelerated(how, BATCHES):
        drawn = draw(sampler)
        assert isinstance(sampler.predict_noise._call, CapturedCall)
    assert not warnings_of(caplog)
    assert_same_images(drawn, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("how", ["auto", "none"])
def test_only_the_images_of_a_batch_are_waited_for(tiny_random_base: Path, how: str) -> None:
    sampler = build_sampler(tiny_random_base, "cuda")
    noise = torch.randn(3, *sampler.latent_shape, device="cuda")
    text = torch.randn(6, 77, 32, device="cuda")
    scale = torch.ones(3, 1, 1, 1, device="cuda")
    with sampler.accelerated(how, BATCHES), torch.no_grad():
        sampler._denoise(noise, text, scale)
        sampler._denoise(noise, text, scale)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as waits:
                warnings.simplefilter("always")
                sampler._denoise(noise, text, scale)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len(waits) <= 1  # the time steps, once


@pytest.mark.gpu
def test_memory_does_not_grow_with_the_images(tiny_random_base: Path) -> None:
    sampler = build_sampler(tiny_random_base, "cuda")

    def peak(batches: list[list[int]]) -> int:
        torch.cuda.reset_peak_memory_stats()
        with sampler.accelerated("none", batches):
            for batch in batches:
                list(sampler.sample(batch))
        return torch.cuda.max_memory_allocated()

    few = peak([[0, 1], [2, 3]])
    assert peak([[start, start + 1] for start in range(0, 40, 2)]) <= 1.05 * few
