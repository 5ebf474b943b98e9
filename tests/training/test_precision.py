"""Which number format a training gets, by request, launcher, size and hardware."""

import logging
import os
from collections.abc import Callable

import pytest
import torch

from echodiff.errors import InputError
from echodiff.training import precision
from echodiff.training.precision import (
    choose_precision,
    has_fast_bf16,
    ieee_float32,
    set_float32,
    start_accelerator,
    start_processes,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FULL, TINY = 860_000_000, 8_000_000


@pytest.fixture(autouse=True)
def not_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)


@pytest.fixture
def bf16_hardware(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: request.param)


@pytest.mark.parametrize(
    ("bf16_hardware", "parameters", "device", "expected"),
    [
        (True, FULL, CPU, "bf16"),
        (True, TINY, CPU, "no"),
        (False, FULL, CPU, "no"),
        (True, FULL, CUDA, "bf16"),
        (False, FULL, CUDA, "fp16"),
        (True, TINY, CUDA, "no"),
    ],
    indirect=["bf16_hardware"],
)
@pytest.mark.usefixtures("bf16_hardware")
def test_auto_chooses_by_size_and_hardware(
    parameters: int, device: torch.device, expected: str
) -> None:
    chosen = choose_precision("auto", num_parameters=parameters, device=device)
    assert chosen.mixed_precision == expected


def test_the_launcher_is_heard_and_a_flag_is_heard_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    auto = choose_precision("auto", num_parameters=TINY, device=CPU)
    assert (auto.mixed_precision, auto.weight_dtype) == ("bf16", torch.bfloat16)
    assert choose_precision("no", num_parameters=TINY, device=CPU).mixed_precision == "no"


def test_fp16_on_a_cpu_becomes_float32_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        chosen = choose_precision("fp16", num_parameters=FULL, device=CPU)
    assert chosen.weight_dtype == torch.float32
    assert "fp16 needs a GPU" in caplog.text


def test_fp8_of_the_launcher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(InputError, match="fp8"):
        choose_precision("auto", num_parameters=FULL, device=CUDA)


def test_hardware_is_asked() -> None:
    capabilities = torch.cpu.get_capabilities()
    named = any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    assert has_fast_bf16(CPU) == named


def kinds() -> tuple[str, str]:
    return (
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
    )


def test_float32_is_settled_and_recorded(
    monkeypatch: pytest.MonkeyPatch, fresh_accelerate: Callable[[], None]
) -> None:
    """Torch lets cuDNN convolve in TF32; accelerate asks for more of it where code is compiled."""
    options = {"num_parameters": TINY, "tracker": "none", "threads": None}
    set_float32("tf32")
    assert kinds() == ("ieee", "tf32")
    start_processes(None)
    assert kinds() == ("ieee", "ieee")
    _, chosen = start_accelerator("no", **options)
    assert (kinds(), chosen.to_record()["float32"]) == (("ieee", "ieee"), "ieee")
    fresh_accelerate()
    _, chosen = start_accelerator("no", **options, float32="tf32")
    assert (kinds(), chosen.to_record()["float32"]) == (("ieee", "tf32"), "tf32")
    with ieee_float32():
        assert kinds() == ("ieee", "ieee")
    assert kinds() == ("ieee", "tf32")
    set_float32("ieee")
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("name", ["DEEPSPEED", "FSDP", "MEGATRON_LM"])
def test_what_is_not_supported_is_refused_by_name(monkeypatch, name):
    from echodiff.errors import InputError
    from echodiff.training.precision import start_processes

    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(InputError, match=f"ACCELERATE_USE_{name}=true: .* is not supported here"):
        start_processes(None)


def test_settings_of_another_project_are_left_out_with_one_warning(monkeypatch, caplog):
    from echodiff.training.precision import leave_out_settings_of_others

    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    leave_out_settings_of_others()
    (record,) = caplog.records
    assert "ACCELERATE_DYNAMO_BACKEND=INDUCTOR" in record.message
    assert "ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4" in record.message
    assert not [name for name in os.environ if name.startswith(("ACCELERATE_D", "ACCELERATE_G"))]
