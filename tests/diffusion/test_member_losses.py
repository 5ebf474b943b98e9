"""Losses at fixed times and noises, with the adapter and without it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from echodiff.diffusion.lora import add_lora, lora_parameters
from echodiff.diffusion.member_losses import adapter_off, draw_pairs, paired_losses
from echodiff.diffusion.objective import Objective, build_noise_schedule, epsilon


@pytest.fixture
def objective() -> Objective:
    return epsilon(build_noise_schedule({"num_train_timesteps": 1000}))


@pytest.fixture
def unet(tiny_random_base: Path) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(tiny_random_base, subfolder="unet")


def frames(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn((count, 4, 8, 8), generator=generator),
        torch.randn((count, 77, 32), generator=generator),
    )


def test_a_loss_depends_on_its_frame_and_its_pair_alone(unet: Any, objective: Objective) -> None:
    latents, embeddings = frames(5)
    times, noise = draw_pairs(objective, 3, (4, 8, 8), seed=2)
    assert times.tolist() == [166, 500, 833]
    losses = paired_losses(unet, latents, embeddings, times, noise, objective=objective)
    assert losses.shape == (5, 3)
    few = paired_losses(
        unet, latents[3:], embeddings[3:], times[1:2], noise[1:2], objective=objective, batch_size=1
    )
    torch.testing.assert_close(few, losses[3:, 1:2], rtol=1e-5, atol=1e-6)
    by_index = paired_losses(
        unet, latents, embeddings[:2], times, noise, objective=objective,
        caption_index=torch.tensor([0, 1, 0, 1, 1]),
    )  # fmt: skip
    torch.testing.assert_close(by_index[:2], losses[:2])
    # By hand, from the definition of the loss.
    noisy = objective.mix(latents[:1], noise[:1], times[:1])
    with torch.no_grad():
        predicted = unet(noisy, times[:1], encoder_hidden_states=embeddings[:1]).sample
    assert losses[0, 0] == pytest.approx(float((predicted - noise[0]).square().mean()), rel=1e-5)


def test_without_its_adapter_a_network_is_its_base_to_the_last_bit(
    unet: Any, objective: Objective
) -> None:
    latents, embeddings = frames(4)
    times, noise = draw_pairs(objective, 2, (4, 8, 8))
    given = (latents, embeddings, times, noise)
    before = paired_losses(unet, *given, objective=objective)
    add_lora(unet, rank=2, alpha=2.0)
    for parameter in lora_parameters(unet).values():
        parameter.data.normal_()
    unet.train()
    trained = {name for name, one in unet.named_parameters() if one.requires_grad}
    moved = paired_losses(unet, *given, objective=objective)
    with adapter_off(unet):
        assert torch.equal(paired_losses(unet, *given, objective=objective), before)
    assert not torch.equal(moved, before)
    assert torch.equal(paired_losses(unet, *given, objective=objective), moved)
    assert {name for name, one in unet.named_parameters() if one.requires_grad} == trained
    assert unet.training
    unet.requires_grad_(False)  # an adapter that is only used
    with adapter_off(unet):
        pass
    assert not any(one.requires_grad for one in unet.parameters())
