"""What other trainers got wrong, and the test that keeps it from happening here.

Of diffusers' train_text_to_image_lora.py (commit 58eb52c, read 2026-08):

| | defect | test |
|---|---|---|
| a | gradients are never clipped | test_train_lora: gradients_are_clipped_before_adam_sees_them |
| b | fp16 asked for at the launcher dies | here: fp16_of_the_launcher; _launch; _gpu |
| c | bf16 adapter, small steps round away | test_train_lora: adams_state; test_lora: small_steps |
| d | a resumed epoch begins anew | test_train_lora_kills |
| e | upload crashes where nothing was drawn | hub/test_push: an_unscored_run |
| f | uploads optimizer, logs, token | hub/test_push: the_folder_holds; hub/test_scan |
| g | old checkpoint goes before the new is there | test_checkpoints: the_old_one_goes_only_after |
| h | the host waits at every step | test_train_lora: loss_is_read; test_graphs: recorded; _gpu |
| i | alpha is not saved | test_lora: plain_diffusers, peft, our_loader; hub: the_code_on_the_card |
| j | 16-bit frames become white | test_batch, test_images: 16_bit |
| k | hearts are mirrored | test_batch: nothing_is_ever_mirrored; test_train_lora: no_flip |

Of the threads of several trainers:

| threads (diffusers unless named) | defect | test |
|---|---|---|
| #2780 #6086 #6363 | "Attempting to unscale FP16 gradients" | as b |
| #12689, accelerate #4195 | resume loses weights or order | test_train_lora_kills |
| #14430 #13353 | cached latents beside another frame's caption | here: every_sample_has_its_own |
| kohya #201 #653, ai-toolkit #503 | NaN swallowed | test_train_lora: loss_that_is_no_number |
| #6087 #7669 | alpha lost | as i |
| #14409 | ranks that differ from layer to layer | here: ranks_that_differ |
| #4092 #6093 #6916 | upload crashes, is empty, or gives a token away | as e, f; hub/test_faults |
| kohya #526, #6785 | grey frames become tinted ones | here: a_tint |
"""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from echodiff.diffusion.base import load_base
from echodiff.diffusion.encoding import EncodedFrames
from echodiff.diffusion.lora import LORA_TARGETS, kohya_state, load_lora
from echodiff.diffusion.lora_config import TrainLoraConfig
from echodiff.diffusion.objective import build_noise_schedule, epsilon
from echodiff.diffusion.trainer import StepSamples
from echodiff.runs import Run

WEIGHTS = "pytorch_lora_weights.safetensors"


def test_fp16_of_the_launcher_trains_a_float32_adapter(
    train_lora: Callable[..., None],
    toy_frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # As `accelerate launch --mixed_precision fp16 train_lora.py` does: no flag of the script's.
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with caplog.at_level(logging.WARNING):
        train_lora("--data", toy_frames, "--out", tmp_path / "run", "--max-steps", 2)
    assert {tensor.dtype for tensor in load_file(tmp_path / "run" / WEIGHTS).values()} == {
        torch.float32
    }
    if not torch.cuda.is_available():
        assert [record.message for record in caplog.records] == [
            "fp16 needs a GPU: training in float32 on this CPU"
        ]


def test_every_sample_has_its_own_frames_latents_and_caption() -> None:
    """Over epochs, repeats and processes: row i of latents and captions belongs to frame i."""
    num = 7
    number = torch.arange(float(num))
    encoded = EncodedFrames(
        file_names=tuple(map(str, range(num))),
        latent_mean=number[:, None, None, None].expand(num, 4, 2, 2),
        latent_std=torch.zeros(num, 4, 2, 2),
        caption_index=torch.tensor([3, 0, 1, 2, 0, 4, 5]),
        embeddings=torch.tensor([-1.0, 2, 3, 0, 5, 6])[:, None, None].expand(6, 3, 2),
    )
    config = TrainLoraConfig(batch_size=3, gradient_accumulation=2, epochs=9, repeats=2)
    objective = epsilon(build_noise_schedule({"num_train_timesteps": 1000}))
    seen = []
    for rank in (0, 1):
        process = SimpleNamespace(process_index=rank, num_processes=2)
        samples = StepSamples(config, encoded, objective, process)
        for step in range(samples.num_steps):
            drawn, _ = samples.draw(step)
            frames = drawn.latents[:, 0, 0, 0].tolist()
            captions = drawn.embeddings[:, 0, 0].tolist()
            for frame, caption in zip(frames, captions, strict=True):
                assert caption == (-1.0 if frame in (1, 4) else frame)
            assert set(map(int, frames)) <= set(map(int, samples.file_names(step)))
            seen += frames
    counts = torch.bincount(torch.tensor(seen).long()).tolist()
    assert counts == [18, 9, 18, 18, 9, 18, 18]


@pytest.mark.parametrize("form", ["diffusers", "kohya"])
def test_ranks_that_differ_from_layer_to_layer_are_loaded_as_they_are(
    tiny_random_base: Path, tmp_path: Path, form: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    unet = load_base(str(tiny_random_base), torch.float32, vae=None, text_encoder=None).unet
    state: dict[str, torch.Tensor] = {}
    for name, module in unet.named_modules():
        if name.endswith(LORA_TARGETS):
            rank = 2 + 2 * LORA_TARGETS.index(next(t for t in LORA_TARGETS if name.endswith(t)))
            down = 0.3 * torch.randn((rank, module.in_features), generator=generator)
            up = 0.3 * torch.randn((module.out_features, rank), generator=generator)
            state |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
            scale = 1.0 if form == "diffusers" else 4.0 / rank  # alpha is the rank, or 4
            module.weight.data += scale * up @ down
    if form == "diffusers":
        state = {f"unet.{name}": tensor for name, tensor in state.items()}
    else:
        state = kohya_state(state, alpha=4.0)
    save_file(state, tmp_path / "mixed.safetensors")
    pipeline = load_base(str(tiny_random_base), torch.float32)
    load_lora(pipeline, tmp_path / "mixed.safetensors")
    torch.testing.assert_close(predict(pipeline.unet), predict(unet), rtol=1e-4, atol=1e-4)


def predict(unet: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn((2, 4, 8, 8), generator=generator)
    text = torch.randn((2, 77, 32), generator=generator)
    with torch.no_grad():
        return unet.eval()(latents, torch.tensor([10, 500]), encoder_hidden_states=text).sample


def test_a_tint_does_not_reach_the_network(
    train_lora: Callable[..., None], make_frames: Callable[..., Path], tmp_path: Path
) -> None:
    """A scanner's sepia, and grey written as colour, train what the grey frame trains."""
    frames = make_frames("frames")
    for path in sorted((frames / "images").iterdir()):
        luma = np.asarray(Image.open(path)).astype(float)
        tinted = np.stack([luma * 1.2, luma, luma * 0.6], axis=-1).clip(0, 255).astype(np.uint8)
        Image.fromarray(tinted).save(path)
    train_lora("--data", frames, "--out", tmp_path / "tinted", "--max-steps", 2)
    for path in sorted((frames / "images").iterdir()):
        Image.open(path).convert("L").save(path)
    train_lora("--data", frames, "--out", tmp_path / "grey", "--max-steps", 2)
    for path in sorted((frames / "images").iterdir()):
        Image.open(path).convert("RGB").save(path)
    train_lora("--data", frames, "--out", tmp_path / "as-colour", "--max-steps", 2)
    expected = (tmp_path / "grey" / WEIGHTS).read_bytes()
    for name in ("tinted", "as-colour"):
        assert (tmp_path / name / WEIGHTS).read_bytes() == expected
        assert Run.load(tmp_path / name).is_finished
