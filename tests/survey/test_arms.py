"""Every kind of arm learns a handful of frames, and resumes exactly."""

import pytest
import torch

from echodiff.survey.arm_trainer import ArmTrainer, TrainingTensors
from echodiff.survey.arms import ArmSettings, build_method
from echodiff.survey.latents import LatentSpace
from echodiff.survey.survey_config import DECODER, find_deviation
from echodiff.training.checkpoints import Checkpoint

SIDE = 32
FALLS = {"gan": "pixel_loss", "vae": "squared_error", "diffusion": "loss", "diffusion-v": "loss",
         "flow": "loss"}  # fmt: skip
"""Value of a step that a working arm brings down on four frames."""


def build_frames():
    """Four frames, bright where their mask is."""
    masks = torch.zeros(4, SIDE, SIDE, dtype=torch.uint8)
    for row in range(4):
        masks[row, 4 + 4 * row : 16 + 4 * row, 8:24] = 1
    images = masks[:, None].float() * 1.4 - 0.7
    names = tuple(f"frame-{row}" for row in range(4))
    return TrainingTensors(images, None, masks, torch.tensor([0, 1, 0, 1]), names, 2, 2)


def build_trainer(arm, tmp_path, num_steps, latents=None):
    config = ArmSettings(
        arm=arm, num_steps=num_steps, resolution=SIDE, channels=8, patch=2, space="pixel", base="",
        batch_size=4, learning_rate=2e-3, ema_decay=0.9, style_dropout=0.1,
        labels=("background", "lv"), vendors=("a", "b"), deviation=find_deviation(arm, "pixel"),
        seed=0, out=tmp_path,
    )  # fmt: skip
    return ArmTrainer(
        build_method(config, latents), build_frames(), torch.device("cpu"), num_steps=num_steps,
        batch_size=4, learning_rate=2e-3, ema_decay=0.9, style_dropout=0.1, seed=0,
    )  # fmt: skip


@pytest.mark.parametrize(("arm", "num_steps"), [("gan", 30), ("vae", 50), ("flow", 70)])
def test_an_arm_learns_four_frames_and_draws_what_their_masks_ask_for(arm, num_steps, tmp_path):
    trainer = build_trainer(arm, tmp_path, num_steps)
    place = trainer.names.index(FALLS[arm])
    values = [float(trainer.run(step)[place]) for step in range(num_steps)]
    assert sum(values[-10:]) < 0.7 * sum(values[:10])
    frames = build_frames()
    mask = torch.nn.functional.one_hot(frames.masks.long(), 2).movedim(-1, 1).float()
    style = torch.nn.functional.one_hot(frames.styles, 2).float()
    with trainer.averaged() as method:
        noise = torch.randn(4, *method.noise_shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            drawn = method.draw(noise, mask, style, 8)
    inside = drawn[frames.masks[:, None] == 1].mean()
    outside = drawn[frames.masks[:, None] == 0].mean()
    assert inside - outside > 0.3


@pytest.mark.parametrize("arm", ["gan", "diffusion-v", DECODER])
def test_a_restored_trainer_takes_the_same_steps(arm, tmp_path):
    def build():
        return build_trainer(arm, tmp_path, 4, LatentSpace("tiny", torch.device("cpu")))

    whole = build()
    for step in range(2):
        whole.run(step)
    # A file keeps no layout in memory.
    kept = {name: value.contiguous().clone() for name, value in whole.tensors().items()}
    expected = [whole.run(step) for step in (2, 3)]
    resumed = build()
    resumed.restore(Checkpoint(step=2, tensors=kept, state={}))
    assert all(torch.equal(resumed.run(step), expected[step - 2]) for step in (2, 3))
    ends = (resumed.tensors(), whole.tensors())
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_rows_times_and_dropped_styles_are_the_same_in_all_arms(tmp_path):
    batches = [build_trainer(arm, tmp_path, 4).draw_batch(3) for arm in FALLS]
    for batch in batches[1:]:
        assert torch.equal(batch.images, batches[0].images)
        assert torch.equal(batch.shares, batches[0].shares)
        assert torch.equal(batch.style, batches[0].style)


def test_latents_are_drawn_anew_from_mean_and_deviation_at_every_step(tmp_path):
    trainer = build_trainer("flow", tmp_path, 4)
    frames = build_frames()
    same = frames.names[:1] * 4
    frames = TrainingTensors(
        frames.images[:1].expand(4, -1, -1, -1), torch.full((4, 1, SIDE, SIDE), 0.5),
        frames.masks, frames.styles, same, 2, 2,
    )  # fmt: skip
    trainer._data = frames
    first, second = trainer.draw_batch(0).images, trainer.draw_batch(1).images
    assert not torch.equal(first, second)
    assert (first - frames.images).std() == pytest.approx(0.5, rel=0.1)


def test_a_decoder_learns_the_frames_and_leaves_their_latents_alone(tmp_path):
    latents, images = LatentSpace("tiny", torch.device("cpu")), build_frames().images
    before, _ = latents.encode(images.numpy())
    trainer = build_trainer(DECODER, tmp_path, 25, latents)
    values = [float(trainer.run(step)[0]) for step in range(25)]
    assert sum(values[-5:]) < 0.6 * sum(values[:5])
    after, _ = latents.encode(images.numpy())
    assert torch.equal(before, after)
    with trainer.averaged(), torch.no_grad():
        error = (latents.decode(after) - images).abs().mean()
        fresh = LatentSpace("tiny", torch.device("cpu"))
        assert error < 0.6 * (fresh.decode(before) - images).abs().mean()
