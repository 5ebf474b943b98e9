"""Stable Diffusion 1.5 at full size (random weights from its configuration) through the script."""

import gc
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from echodiff.diffusion.base import load_base, num_unet_parameters
from echodiff.diffusion.lora import lora_parameters
from echodiff.runs import Run

pytestmark = pytest.mark.slow


def test_one_step_at_256_and_its_adapter_in_plain_diffusers(
    full_size_base: Path,
    make_frames: Callable[..., Path],
    train_lora: Callable[..., None],
    tmp_path: Path,
) -> None:
    from echodiff.training.precision import has_fast_bf16

    gc.collect()
    frames = make_frames("frames", captioned=2, null=0, num_patients=1)
    out = tmp_path / "run"
    started = time.monotonic()
    train_lora(
        *("--config", "cmc2024", "--base", full_size_base, "--data", frames, "--out", out),
        *("--resolution", 256, "--batch-size", 1, "--max-steps", 1, "--alpha", 16),
        *("--sample-every", 0, "--checkpoint-every", 1),
    )
    assert time.monotonic() - started < 120

    assert num_unet_parameters(str(full_size_base)) == 859_520_964
    record = Run.load(out).record
    is_bf16 = has_fast_bf16(torch.device("cpu"))
    assert record["mixed_precision"] == ("bf16" if is_bf16 else "no")
    weights = load_file(out / "pytorch_lora_weights.safetensors")
    assert len(weights) == 128
    assert sum(tensor.numel() for tensor in weights.values()) == 795_648
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert 0 < rows[-1]["loss"] < 100

    pipeline = load_base(str(full_size_base), torch.bfloat16, vae=None, text_encoder=None)
    pipeline.load_lora_weights(str(out))
    assert len(lora_parameters(pipeline.unet)) == 128
    scales = {
        value
        for module in pipeline.unet.modules()
        if hasattr(module, "scaling")
        for value in module.scaling.values()
    }
    assert scales == {2.0}

    from peft import PeftModel

    del pipeline  # one UNet of this size at a time
    gc.collect()
    unet = load_base(str(full_size_base), torch.bfloat16, vae=None, text_encoder=None).unet
    model = PeftModel.from_pretrained(unet, str(out))
    assert model.peft_config["default"].lora_alpha == 16
    opened = {
        name.replace("base_model.model.", "unet.").replace(".default.", "."): parameter
        for name, parameter in lora_parameters(model).items()
    }
    assert opened.keys() == weights.keys()
    assert all(torch.equal(opened[name].float(), tensor) for name, tensor in weights.items())
