"""Train the tiny feature network to classify findings, view, phase and scanner style."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from echodiff.metrics.tiny_features import PHASES, STYLES, VIEWS, TinyFeatures
from echodiff.pretrain.corpus import FINDINGS, Corpus
from echodiff.pretrain.stage import Stage, cosine, set_rate, step_generators, to_pm1

logger = logging.getLogger(__name__)

LEAST = 10
"""Held-out frames with and without a finding, in each half, that a threshold needs."""


def train_classifier(
    corpus: Corpus, folder: Path, steps: int, batch_size: int, seed: int, device: str
) -> tuple[TinyFeatures, dict[str, Any]]:
    """Train on all but the last tenth; return the network, and its card with held-out scores."""
    torch.manual_seed(seed)
    targets = _targets(corpus.rows)
    num_train = len(corpus.rows) * 9 // 10
    network = TinyFeatures(len(FINDINGS)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.02)
    stage = Stage(folder / "classifier.pt", steps, {"network": network, "opt": optimizer})
    for step, bar in stage.run("feature network"):
        rng, noise = step_generators(seed, 3, step)
        chosen = rng.integers(num_train, size=batch_size)
        set_rate(optimizer, 1.5e-3 * cosine(step, steps, 50))
        images = _vary(to_pm1(corpus.images_u8[chosen], torch.device(device)), rng, noise)
        logits = network.logits(network(images))
        loss = functional.binary_cross_entropy_with_logits(
            logits["findings"], targets["findings"][chosen].to(device)
        )
        for name in ("view", "phase", "style"):
            loss = loss + 0.1 * functional.cross_entropy(
                logits[name], targets[name][chosen].to(device)
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            bar.set_postfix(loss=f"{float(loss.detach()):.3f}")
    network.eval().cpu()
    return network, _held_out_card(network, corpus, targets, num_train)


def _targets(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    findings = torch.tensor([[float(f in row["findings"]) for f in FINDINGS] for row in rows])
    return {
        "findings": findings,
        "view": torch.tensor([VIEWS.index(row["view"]) for row in rows]),
        "phase": torch.tensor([PHASES.index(row["phase"]) for row in rows]),
        "style": torch.tensor([STYLES.index(row["style"]) for row in rows]),
    }


def _vary(images: Tensor, rng: np.random.Generator, noise: torch.Generator) -> Tensor:
    """Vary gain, contrast and noise, shift by up to 5 pixels and blur.

    There are no flips, because they would mirror the heart.
    """
    batch = len(images)
    gain = torch.from_numpy(rng.normal(1, 0.12, (batch, 1, 1, 1)).astype(np.float32))
    lift = torch.from_numpy(rng.normal(0, 0.06, (batch, 1, 1, 1)).astype(np.float32))
    images = ((images + 1) * gain.to(images.device) - 1 + lift.to(images.device)).clamp(-1, 1)
    images = images.roll(tuple(int(v) for v in rng.integers(-5, 6, size=2)), dims=(2, 3))
    if rng.random() < 0.4:
        images = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    grain = torch.randn(images.shape, generator=noise).to(images.device)
    return images + float(rng.uniform(0, 0.08)) * grain


def _held_out_card(
    network: TinyFeatures, corpus: Corpus, targets: dict[str, Tensor], num_train: int
) -> dict[str, Any]:
    """Choose the thresholds of best balanced accuracy on one half of the held-out frames, and
    compute the scores on the other; a finding that too few of them show gets neither."""
    with torch.inference_mode():
        batches = to_pm1(corpus.images_u8[num_train:], torch.device("cpu")).split(64)
        logits = [network.logits(network(batch)) for batch in batches]
    joined = {name: torch.cat([row[name] for row in logits]) for name in logits[0]}
    probability = torch.sigmoid(joined["findings"]).double().numpy()
    truth = targets["findings"][num_train:].numpy() > 0.5
    half = len(truth) // 2
    card: dict[str, Any] = {
        "columns": list(FINDINGS),
        "thresholds": {},
        "held_out": {"n": len(truth) - half, "findings": {}},
    }
    for column, finding in enumerate(FINDINGS):
        p, y = probability[:, column], truth[:, column]
        counts = [np.bincount(part, minlength=2).min() for part in (y[:half], y[half:])]
        if (least := int(min(counts))) < LEAST:
            logger.warning(
                "feature network: %s is left out: %d of a half of the held-out frames, "
                "%d are needed; raise --num-feature-frames", finding, least, LEAST,
            )  # fmt: skip
            continue
        candidates = np.linspace(0.05, 0.95, 91)
        balanced = [_rates(p[:half], y[:half], c)["balanced_accuracy"] for c in candidates]
        threshold = round(float(candidates[int(np.argmax(balanced))]), 2)
        card["thresholds"][finding] = threshold
        card["held_out"]["findings"][finding] = _rates(p[half:], y[half:], threshold)
    for name in ("view", "phase", "style"):
        right = joined[name].argmax(1) == targets[name][num_train:]
        card["held_out"][name] = round(float(right.float().mean()), 4)
    return card


def _rates(
    probability: NDArray[np.float64], truth: NDArray[np.bool_], threshold: float
) -> dict[str, float]:
    said = probability >= threshold
    sensitivity = float((said & truth).sum() / max(1, truth.sum()))
    specificity = float((~said & ~truth).sum() / max(1, (~truth).sum()))
    return {
        "sensitivity": round(sensitivity, 4),
        "specificity": round(specificity, 4),
        "accuracy": round(float((said == truth).mean()), 4),
        "balanced_accuracy": round((sensitivity + specificity) / 2, 4),
        "num_positive": int(truth.sum()),
    }
