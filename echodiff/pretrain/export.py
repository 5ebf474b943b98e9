"""Write the trained networks as they are shipped: half-precision safetensors and cards."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from echodiff.documents import read_record
from echodiff.files import write_json_atomic, write_text_atomic
from echodiff.fingerprints import sha256_file
from echodiff.metrics.tiny_features import TinyFeatures
from echodiff.pretrain.autoencoder import build_autoencoder
from echodiff.pretrain.corpus import FINDINGS
from echodiff.pretrain.denoiser import FOREIGN_SHARE, build_unet
from echodiff.pretrain.language import build_captions

MADE_BY = "echodiff pretrain"


def build_tokenizer(seed: int) -> CLIPTokenizer:
    """Build a CLIP tokenizer whose vocabulary comes from phantom captions of every finding."""
    trained = CLIPTokenizer().train_new_from_iterator(build_captions(seed, 2000), vocab_size=1200)
    # The trainer orders tokens of equal count differently in every process. They are renumbered, so
    # that a training that resumes in another process has the same tokens.
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
    """Replace `folder` by a Diffusers pipeline in fp16."""
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


def check_base(folder: Path) -> None:
    """ValueError unless `folder` holds an earlier base of this command: its networks fit, and its
    card says that phantoms alone were seen."""
    where = f"--init-from {folder}"
    card = folder / "README.md"
    if not card.is_file() or f"by `{MADE_BY}`" not in card.read_text("utf-8"):
        raise ValueError(f"{where}: no card (README.md) says that `{MADE_BY}` made it")
    for name, ours in (("unet", build_unet()), ("vae", build_autoencoder())):
        theirs = read_record(folder / name / "config.json")
        for key in ("in_channels", "block_out_channels", "latent_channels", "cross_attention_dim"):
            if (need := ours.config.get(key)) is not None and theirs.get(key) != json.loads(
                json.dumps(need)
            ):
                raise ValueError(f"{where}: {name} with {key} {theirs.get(key)}, not {need}")


@dataclass(frozen=True)
class Base:
    """The networks of an exported base, in float32."""

    vae: AutoencoderKL
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer


def load_base(folder: Path) -> Base:
    """Load the networks of an exported base."""
    vae, unet, text_encoder = (
        kind.from_pretrained(folder, subfolder=name, torch_dtype=torch.float32)
        for name, kind in (
            ("vae", AutoencoderKL),
            ("unet", UNet2DConditionModel),
            ("text_encoder", CLIPTextModel),
        )
    )
    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    return Base(vae, unet, text_encoder.eval().requires_grad_(False), tokenizer)


def hash_base(folder: Path) -> dict[str, str]:
    """SHA-256 of the weights that a base goes on from, by network."""
    return {name: sha256_file(folder / name / SAFETENSORS_WEIGHTS_NAME) for name in ("unet", "vae")}


def export_features(folder: Path, network: TinyFeatures, card: dict[str, Any]) -> None:
    """Write `model.safetensors` (fp16) and `config.json`: the findings in the order of the
    head's outputs (`columns`), thresholds of those it knows, held-out scores."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    write_json_atomic(folder / "config.json", card)


def num_parameters(module: nn.Module) -> int:
    """Count the parameters of a network."""
    return sum(p.numel() for p in module.parameters())


def base_card(facts: dict[str, Any]) -> str:
    """Write the model card of the embedded base."""
    start = (
        "VAE and UNet went on from an earlier version of this base, which was trained on phantoms "
        "as well; `init_from` has the SHA-256 of its weights.\n\n"
        if "init_from" in facts["settings"]
        else ""
    )
    return f"""---
license: apache-2.0
library_name: diffusers
tags: [echocardiography, synthetic, phantom, text-to-image]
---
# tiny: the embedded base of echodiff

A small Stable Diffusion (same classes as 1.5: `UNet2DConditionModel`, `AutoencoderKL`,
`CLIPTextModel`, `CLIPTokenizer`) for images of 128x128, trained on frames of echodiff's
phantom alone. No image of a patient was used. **Not for diagnosis**: its hearts are simulated.

It was made by `{MADE_BY}` (seeded, resumable):

```json
{json.dumps(facts, indent=2)}
```

{start}The frames show hearts of adults and children on two invented scanners (`aspen`, `birch`),
mostly in apical four-chamber view, some in two-chamber view, and on scanners drawn at random, a new
one for each patient. Of these frames,
{facts["finding_percent"]:g} per cent show at least one of {len(FINDINGS)} findings (septal defects,
hypertrophy, dilations, hypoplastic ventricles, valves, effusions). Captions give view, phase and
age and mention some of the normal parts, but never a finding of the frame: the model knows the
shapes, and a LoRA teaches their names. In the training of the UNet, {100 * FOREIGN_SHARE:g} per
cent of the captions are those of other hearts in the same view, phase and age group, and name the
findings of those: such words tell nothing about the frame, and the model draws a whole heart where
a prompt has them.

The text encoder was trained first and separately, on captions without images, including those of
findings. It can distinguish the words, but has not seen what they describe. The base was not
trained on the scanner `cedar`.
"""
