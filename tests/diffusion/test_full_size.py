"""Stable Diffusion 1.5 at full size (random weights from its configuration) through the script."""

import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from echodiff.diffusion.base import load_base, num_unet_parameters
from echodiff.diffusion.lora import lora_parameters
from echodiff.runs import Run

pytestmark = pytest.mark.slow

# The configurations of stable-diffusion-v1-5; what is not named is the class's default.
UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
VAE = {
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}


def fill(module: torch.nn.Module) -> torch.nn.Module:
    """Give a module made on the meta device weights, from one small random block: in seconds."""
    module = module.to_empty(device="cpu")
    block = 0.02 * torch.randn(1_000_003, generator=torch.Generator().manual_seed(0)).bfloat16()
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1:
            parameter.data.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        else:
            flat = parameter.data.view(-1)
            for start in range(0, len(flat), len(block)):
                piece = flat[start : start + len(block)]
                piece.copy_(block[: len(piece)])
    for name, buffer in module.named_buffers():
        assert name.endswith("position_ids"), name
        buffer.copy_(torch.arange(77).expand_as(buffer))
    return module


@pytest.fixture(scope="module")
def full_size_base(tiny_random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    toy = load_base(str(tiny_random_base), torch.float32)
    config = CLIPTextConfig(
        vocab_size=49408, bos_token_id=0, eos_token_id=1, pad_token_id=1, **TEXT
    )
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNET).bfloat16()
        vae = AutoencoderKL(**VAE).bfloat16()
        text_encoder = CLIPTextModel(config).bfloat16()
    folder = tmp_path_factory.mktemp("full") / "sd15"
    StableDiffusionPipeline(
        unet=fill(unet),
        vae=fill(vae),
        text_encoder=fill(text_encoder),
        tokenizer=toy.tokenizer,
        scheduler=toy.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


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
