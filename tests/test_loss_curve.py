"""Our training against a plain loop, written here to be read: the same losses, step by step."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from echodiff.diffusion.base import load_base
from echodiff.diffusion.lora import add_lora
from echodiff.diffusion.objective import build_noise_schedule, epsilon
from echodiff.diffusion.samples import SampleOrder, sample_step
from echodiff.runs import Run

NUM_STEPS, BATCH_SIZE, RATE = 200, 2, 2e-3


def plain_losses(base: Path, folder: Path, file_names: list[str], seed: int) -> list[float]:
    """Losses of a loop in float32 that caches nothing; what is drawn at random is given."""
    pipeline = load_base(str(base), torch.float32)
    vae, unet, text_encoder = pipeline.vae, pipeline.unet, pipeline.text_encoder
    schedule = build_noise_schedule(pipeline.scheduler.config)
    add_lora(unet, rank=8, alpha=8.0, seed=seed)
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=RATE)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    captions = {row["file_name"]: row["text"] for row in rows}
    order = SampleOrder([bool(captions[name]) for name in file_names], repeats=1, seed=seed)
    losses = []
    for step in range(NUM_STEPS):
        draw = sample_step(
            order, step=step, count=BATCH_SIZE, latent_shape=(4, 8, 8),
            draw_times=epsilon(schedule).draw_times, caption_dropout=0.0, noise_offset=0.0,
        )  # fmt: skip
        names = [file_names[index] for index in draw.indices.tolist()]
        with torch.no_grad():
            grey = np.stack([np.asarray(Image.open(folder / name)) for name in names])
            images = torch.tensor(grey / 127.5 - 1.0, dtype=torch.float32)
            posterior = vae.encode(images[:, None].expand(-1, 3, -1, -1)).latent_dist
            latents = posterior.mean + posterior.std * draw.posterior
            latents = latents * vae.config.scaling_factor
            tokens = pipeline.tokenizer(
                [captions[name] for name in names],
                padding="max_length", max_length=77, truncation=True, return_tensors="pt",
            )  # fmt: skip
            embeddings = text_encoder(tokens.input_ids)[0]
        noisy = schedule.add_noise(latents, draw.noise, draw.times)
        prediction = unet(noisy, draw.times, encoder_hidden_states=embeddings).sample
        loss = F.mse_loss(prediction, draw.noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_losses_are_those_of_a_plain_loop_for_200_steps(
    train_lora: Callable[..., None], tiny_random_base: Path, toy_frames: Path, tmp_path: Path
) -> None:
    train_lora(
        *("--data", toy_frames, "--out", tmp_path / "run", "--seed", 5, "--epochs", 100),
        *("--max-steps", NUM_STEPS, "--log-every", 1, "--checkpoint-every", 0),
        *("--batch-size", BATCH_SIZE, "--learning-rate", RATE),
    )
    run = Run.load(tmp_path / "run")
    ours = [row["loss"] for row in run.read_metrics() if "loss" in row]
    theirs = plain_losses(tiny_random_base, toy_frames, run.record["train"], seed=5)
    assert len(ours) == NUM_STEPS
    assert ours == pytest.approx(theirs, rel=0.01)
    assert np.mean(ours[-50:]) < 0.97 * np.mean(ours[:50])  # it is a curve, not a level
