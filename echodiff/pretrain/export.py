"""Write what was trained in the form that is shipped: half-precision safetensors and cards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from echodiff.files import write_json_atomic, write_text_atomic
from echodiff.metrics.tiny_features import TinyFeatures
from echodiff.pretrain.language import build_captions


def build_tokenizer(seed: int) -> CLIPTokenizer:
    """CLIP's own byte-pair tokenizer, its vocabulary learned from phantom captions of every
    finding."""
    trained = CLIPTokenizer().train_new_from_iterator(build_captions(seed, 2000), vocab_size=1200)
    # The trainer numbers tokens of equal count in another order in every process: number them anew,
    # or a training that goes on in a second process reads other words.
    model = json.loads(trained.backend_tokenizer.to_str())["model"]
    special = sorted(trained.all_special_ids)
    fixed = [trained.convert_ids_to_tokens(number) for number in special]
    tokens = [*fixed, *sorted(set(model["vocab"]) - set(fixed))]
    vocab = {token: number for number, token in enumerate(tokens)}
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer: CLIPTokenizer = CLIPTokenizer(vocab=vocab, merges=merges)
    tokenizer.model_max_length = 77
    return tokenizer


def export_base(
    folder: Path,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    card: str,
) -> None:
    """Replace `folder` by a plain Diffusers pipeline folder, fp16."""
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16)
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    pipeline.save_pretrained(beside, safe_serialization=True)
    write_text_atomic(beside / "README.md", card)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    pipeline.to(torch.float32)


def export_features(folder: Path, network: TinyFeatures, card: dict[str, Any]) -> None:
    """Write `model.safetensors` (fp16) and `config.json` (thresholds and held-out figures)."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    write_json_atomic(folder / "config.json", card)


def num_parameters(module: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in module.parameters())


def base_card(facts: dict[str, Any]) -> str:
    """The model card of the embedded base."""
    return f"""---
license: apache-2.0
library_name: diffusers
tags: [echocardiography, synthetic, phantom, text-to-image]
---
# tiny: the embedded base of echodiff

A small Stable Diffusion (same classes as 1.5: `UNet2DConditionModel`, `AutoencoderKL`,
`CLIPTextModel`, `CLIPTokenizer`), 128x128, trained from nothing on frames of echodiff's own
phantom. No patient's picture was used. **Not for diagnosis**; its hearts are drawn, not seen.

Made by `echodiff pretrain` (seeded, resumable); what it was told:

```json
{json.dumps(facts, indent=2)}
```

It knows two invented scanners (`aspen`, `birch`), adult and child hearts, apical four-chamber views
and a few two-chamber ones. {facts["finding_percent"]:g} per cent of its frames show one of seven
findings (septal defects, hypertrophy, dilations). Captions say, now and then, what is as it should
be, and give view, phase and age; no frame ever came with the name of its finding: the shapes are in
the model, what they are called is for a LoRA to teach. The text encoder was trained first and
apart, on captions without pictures, those of findings included: it tells words apart and knows
none by sight. The base never saw the scanner `cedar`; the VAE, which has no words, saw frames of
scanners drawn at random besides.
"""
