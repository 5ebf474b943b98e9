"""Stable Diffusion 1.5 with random weights: its architecture and cost, without its download.

    python benchmarks/random_sd15.py FOLDER

Writes a diffusers folder (bf16, 2.1 GB). The tokenizer is that of the embedded base.
"""

import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from echodiff.diffusion.base import load_base

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
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}


def save_random_sd15(folder: Path) -> None:
    """Write the base, a folder that `--base` takes."""
    tiny = load_base("tiny", torch.float32)
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNET).bfloat16()
        vae = AutoencoderKL(**VAE).bfloat16()
        text_encoder = CLIPTextModel(CLIPTextConfig(**TEXT)).bfloat16()
    StableDiffusionPipeline(
        unet=fill(unet),
        vae=fill(vae),
        text_encoder=fill(text_encoder),
        tokenizer=tiny.tokenizer,
        scheduler=tiny.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


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


if __name__ == "__main__":
    save_random_sd15(Path(sys.argv[1]))
