"""Train the text encoder of the embedded base on captions only, before any image.

Stable Diffusion uses the frozen text encoder of CLIP, which can distinguish words that never occur
in fine-tuning. The small encoder here learns this from captions, including those of every finding:
each position from the end of the text on has to predict which words, and which pairs of
neighbouring words, the caption contains. The words that a LoRA has to learn are then directions
that cross-attention can read immediately.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from echodiff.anatomy import View
from echodiff.phantom.acquisition import VISIBLE, Population, sample_acquisition
from echodiff.pretrain.stage import Stage, cosine, set_rate, step_generators

TEXT_WIDTH = 128
CAPTIONS = Population(finding_rate=0.7, views=(View.A4C,) * 5 + tuple(VISIBLE))
"""Hearts that only contribute captions, of every view; they are not rendered."""
FOREIGN = Population(finding_rate=0.9, views=(View.A4C,) * 3 + (View.A2C,))
"""Hearts whose captions the UNet sees beside frames of other hearts."""
MIN_COUNT = 10
"""Smallest number of captions with a word or pair for it to be a target."""


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Build the encoder: 0.4M parameters, and token embeddings of large variance, so that each word
    starts as a separate direction."""
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=3 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    nn.init.normal_(model.get_input_embeddings().weight, std=0.5)
    return model


def build_captions(seed: int, num: int) -> list[str]:
    """Write the captions of `num` hearts, with and without findings."""
    return [sample_acquisition(seed, index, CAPTIONS).text for index in range(num)]


def build_foreign_captions(seed: int, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Write for each row the caption of another heart in the same view, phase and age group, which
    names that heart's findings."""
    written: dict[tuple[str, str, str], list[str]] = {}
    keys = [(row["view"], row["phase"], _age(row["text"])) for row in rows]
    index = 0
    while index < len(rows) or not written.keys() >= set(keys):
        made = sample_acquisition(seed, index, FOREIGN)
        key = (str(made.pose.view), str(made.heart.phase), _age(made.text))
        written.setdefault(key, []).append(made.text)
        index += 1
    rng = np.random.default_rng([seed, 4])
    return [written[key][int(rng.integers(len(written[key])))] for key in keys]


def _age(caption: str) -> str:
    """The last part of a phantom's caption, "echocardiogram of the child"."""
    return caption.rsplit(", ", 1)[-1]


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return token ids (N, 77)."""
    batch = tokenizer(
        texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt"
    )
    ids: Tensor = batch.input_ids
    return ids


def train_text_encoder(
    tokenizer: CLIPTokenizer,
    texts: list[str],
    folder: Path,
    steps: int,
    batch_size: int,
    seed: int,
    device: str,
) -> CLIPTextModel:
    """Train on `texts` and return the frozen encoder."""
    torch.manual_seed(seed)
    ids = tokenize(tokenizer, texts)
    targets = find_words(ids, tokenizer)
    encoder = build_text_encoder(tokenizer).to(device)
    head = nn.Linear(TEXT_WIDTH, targets.shape[1]).to(device)
    network = nn.ModuleDict({"encoder": encoder, "head": head})
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    stage = Stage(folder / "text_encoder.pt", steps, {"network": network, "opt": optimizer})
    for step, bar in stage.run("text encoder"):
        set_rate(optimizer, 2e-3 * cosine(step, steps, 100))
        rng, _ = step_generators(seed, 3, step)
        chosen = torch.from_numpy(rng.integers(len(ids), size=batch_size))
        batch, wanted = ids[chosen].to(device), targets[chosen].to(device)
        hidden = encoder(batch)[0]
        # Texts are padded with the end token, so all its positions have read the whole caption.
        has_read = (batch == tokenizer.eos_token_id).float()
        logits = head(hidden)
        each = functional.binary_cross_entropy_with_logits(
            logits, wanted[:, None].expand_as(logits), reduction="none"
        ).mean(-1)
        loss = (each * has_read).sum() / has_read.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 0:
            bar.set_postfix(loss=f"{float(loss.detach()):.4f}")
    encoder.eval().requires_grad_(False)
    return encoder


def find_words(ids: Tensor, tokenizer: CLIPTokenizer) -> Tensor:
    """Return (N, W) float 0 or 1: whether each caption contains each word and each pair of
    neighbouring words."""
    special = set(tokenizer.all_special_ids)
    held = []
    for row in ids.tolist():
        words = [number for number in row if number not in special]
        held.append({*((word,) for word in words), *pairwise(words)})
    counts = Counter(item for items in held for item in items)
    wanted = sorted(item for item, count in counts.items() if count >= MIN_COUNT)
    columns = {item: column for column, item in enumerate(wanted)}
    targets = np.zeros((len(held), len(wanted)), np.float32)
    for row_number, items in enumerate(held):
        targets[row_number, [columns[item] for item in items if item in columns]] = 1
    return torch.from_numpy(targets)
