"""Masks as a condition: channels, one-hot, drop-out, and networks that start as the base."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echodiff.anatomy import Label
from echodiff.diffusion.augmentation import Move, draw_moves, move_image, move_mask
from echodiff.diffusion.base import load_base
from echodiff.diffusion.condition import (
    Channels,
    draw_kept,
    keep_channels,
    one_hot,
    share_of_cells,
)
from echodiff.diffusion.mask_networks import (
    KINDS,
    ConcatBranch,
    build_masked,
    choose_adapter,
)
from echodiff.errors import InputError

CHANNELS = Channels((Label.BACKGROUND, Label.LV, Label.LA))


def test_channels_number_labels_and_leave_out_the_others() -> None:
    mask = np.array([[0, 1, 2, 3, 9]], np.uint8)
    numbers = CHANNELS.number(mask)
    assert numbers.tolist() == [[0, 1, 0, 2, 0]]
    assert CHANNELS.label(numbers).tolist() == [[0, 1, 0, 3, 0]]
    assert Channels.of_names(CHANNELS.names, "run") == CHANNELS
    for names in (["LV"], ["BACKGROUND", "LIVER"], []):
        with pytest.raises(InputError, match=r"^run: its labels: "):
            Channels.of_names(names, "run")


def test_one_hot_has_a_channel_for_background_and_holds_0_and_1() -> None:
    numbers = torch.tensor([[[[0, 1], [2, 2]]]], dtype=torch.uint8)
    masks = one_hot(numbers, 3, torch.float32)
    assert masks.shape == (1, 3, 2, 2)
    assert masks[0, 0].tolist() == [[1, 0], [0, 0]]
    assert masks.sum(dim=1).unique().tolist() == [1]
    # Of a latent's pixels: a share of each label, none is lost.
    assert share_of_cells(masks, 2).flatten().tolist() == [0.25, 0.25, 0.5]


@given(seed=st.integers(0, 2**64 - 1), step=st.integers(0, 10**6), num_channels=st.integers(2, 14))
@settings(max_examples=40, deadline=None)
def test_drop_out_is_a_function_of_seed_and_step_and_keeps_background(
    seed: int, step: int, num_channels: int
) -> None:
    sizes = {"count": 64, "num_channels": num_channels}
    kept = draw_kept(seed, step, **sizes, mask_dropout=0.3, label_dropout=0.5)
    again = draw_kept(seed, step, **sizes, mask_dropout=0.3, label_dropout=0.5)
    assert torch.equal(kept, again)
    assert kept[:, 0].all()
    assert draw_kept(seed, step, **sizes, mask_dropout=0.0, label_dropout=0.0).all()
    assert not draw_kept(seed, step, **sizes, mask_dropout=1.0, label_dropout=0.0)[:, 1:].any()
    # Switching the drop-out of labels on leaves the empty masks where they were.
    without = draw_kept(seed, step, **sizes, mask_dropout=0.3, label_dropout=0.0)
    is_empty = ~without[:, 1:].any(dim=1)
    assert torch.equal(is_empty, ~kept[:, 1:].any(dim=1))


def test_every_number_of_labels_is_kept_and_each_label_as_often() -> None:
    kept = draw_kept(0, 0, count=6000, num_channels=5, mask_dropout=0.1, label_dropout=1.0)
    counts = torch.bincount(kept[:, 1:].sum(dim=1), minlength=5) / 6000
    assert counts[0] == pytest.approx(0.1, abs=0.02)
    assert counts[1:4].tolist() == pytest.approx([0.3] * 3, abs=0.03)
    assert counts[4] == 0  # all but one at most
    shares = kept[:, 1:].float().mean(dim=0)
    assert shares.tolist() == pytest.approx([0.45] * 4, abs=0.03)


def test_a_label_that_is_left_out_becomes_background() -> None:
    condition = torch.tensor([0, 1, 2], dtype=torch.uint8).view(1, 1, 1, 3).repeat(2, 1, 1, 1)
    kept = torch.tensor([[True, False, True], [True, True, True]])
    found = keep_channels(condition, kept)
    assert found.dtype == torch.uint8
    assert found.flatten(1).tolist() == [[0, 0, 2], [0, 1, 2]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", ["toy", "tiny"])
def test_every_kind_starts_as_the_base_itself(kind: Any, base: str, tiny_random_base: Any) -> None:
    """On two layouts of down blocks, whose features a T2IAdapter has to fit."""
    name = str(tiny_random_base) if base == "toy" else base
    unet = load_base(name, torch.float32, vae=None, text_encoder=None).unet
    width, side = unet.config.cross_attention_dim, unet.config.sample_size
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, 4, side, side, generator=generator)
    text = torch.randn(2, 7, width, generator=generator)
    times = torch.tensor([3, 700])
    with torch.no_grad():
        expected = unet(noisy, times, text).sample
        network, parameters = build_masked(
            kind, unet, num_channels=3, factor=4, rank=8, alpha=8.0, seed=0
        )
        condition = torch.randint(0, 3, (2, 1, 4 * side, 4 * side), generator=generator)
        found = network(noisy, times, text, condition.to(torch.uint8))
    assert torch.equal(found, expected)
    trained = {id(one) for one in network.parameters() if one.requires_grad}
    assert trained == {id(one) for one in parameters.values()}
    if kind == "control-lora" and base == "tiny":
        _, every = build_masked(
            "controlnet", load_base(name, torch.float32, vae=None, text_encoder=None).unet,
            num_channels=3, factor=4, rank=8, alpha=8.0, seed=0,
        )  # fmt: skip
        assert sum(map(torch.numel, parameters.values())) < 0.15 * sum(
            map(torch.numel, every.values())
        )


def test_a_mask_passes_the_embedding_in_about_its_size(tiny_random_base: Any) -> None:
    """What is a thousand times smaller is learnt a thousand times later."""
    unet = load_base(str(tiny_random_base), torch.float32, vae=None, text_encoder=None).unet
    sizes = {"num_channels": 9, "rank": 8, "alpha": 8.0, "seed": 0}
    for factor in (4, 8):
        network, _ = build_masked("controlnet", unet, factor=factor, **sizes)
        embedding = network.branch.embedding
        blobs = torch.arange(9).repeat_interleave(7)[:, None] + torch.arange(56) // 8
        masks = one_hot((blobs % 9)[None, None], 9, torch.float32)
        with torch.no_grad():
            found = torch.nn.functional.silu(embedding.conv_in(masks))
            for block in embedding.blocks:
                found = torch.nn.functional.silu(block(found))
        assert 0.05 < found.std() < 1
        assert not embedding.conv_out.weight.any()


def test_a_scale_of_0_shows_concat_the_empty_mask() -> None:
    branch = ConcatBranch(4)
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    mask[..., 2:7, 3:] = 2
    given, empty = (one_hot(one, 3, torch.float32) for one in (mask, torch.zeros_like(mask)))
    (full,), (off,), (half,) = (branch.encode(given, scale) for scale in (1.0, 0.0, 0.5))
    assert torch.equal(full, share_of_cells(given, 4))
    assert torch.equal(off, share_of_cells(empty, 4))
    assert torch.equal(half, (full + off) / 2)


def test_the_adapter_of_sd_15_is_the_published_one() -> None:
    class Config:
        block_out_channels = (320, 640, 1280, 1280)
        down_block_types = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)

    assert choose_adapter(Config, 8) == {
        "adapter_type": "full_adapter",
        "channels": [320, 640, 1280, 1280],
        "downscale_factor": 8,
    }


def test_a_control_lora_of_sd_15_has_at_most_15_percent_of_the_weights() -> None:
    """On a device without memory: sizes alone."""
    from diffusers import UNet2DConditionModel

    counts = {}
    for kind in ("controlnet", "control-lora"):
        with torch.device("meta"):
            unet = UNet2DConditionModel(cross_attention_dim=768)
            _, parameters = build_masked(
                kind, unet, num_channels=9, factor=8, rank=8, alpha=8.0, seed=0
            )
        counts[kind] = sum(map(torch.numel, parameters.values()))
    assert counts["controlnet"] == pytest.approx(361e6, rel=0.01)
    assert counts["control-lora"] < 0.15 * counts["controlnet"]


def test_image_and_mask_are_moved_together_and_the_first_copy_stays() -> None:
    moves = draw_moves(3, 5, 4)
    assert moves[:5] == [None] * 5
    assert len(set(moves[5:])) == 15
    assert draw_moves(3, 5, 2) == moves[:10]  # more copies leave the others as they are
    for move in moves[5:]:
        assert max(abs(move.right), abs(move.down)) <= 0.05
        assert abs(move.angle_deg) <= 5
        assert abs(move.scale - 1) <= 0.08
    # A dark disc in grey, and its mask: their edges stay on one another.
    y, x = np.mgrid[:100, :100] + 0.5
    mask = (((x - 40) ** 2 + (y - 55) ** 2) < 400).astype(np.uint8)
    image = np.where(mask, 200, 50).astype(np.uint8)
    for move in moves[5:]:
        moved, found = move_image(image, move), move_mask(mask, move)
        assert set(np.unique(found)) == {0, 1}
        assert ((moved > 125) != found.astype(bool))[10:90, 10:90].mean() < 0.01
    right = Move(0.05, 0.0, 0.0, 1.0)
    assert np.array_equal(move_mask(mask, right)[:, 5:], mask[:, :-5])
    larger = move_mask(mask, Move(0.0, 0.0, 0.0, 1.08)).sum()
    assert larger == pytest.approx(1.08**2 * mask.sum(), rel=0.02)
    turned = np.argwhere(move_mask(mask, Move(0.0, 0.0, 5.0, 1.0))).mean(axis=0) + 0.5
    # Counter-clockwise about the centre: what lies to the left of it goes down.
    angle = np.radians(5.0)
    expected = [50 + 5 * np.cos(angle) + 10 * np.sin(angle),
                50 - 10 * np.cos(angle) + 5 * np.sin(angle)]  # fmt: skip
    assert turned == pytest.approx(expected, abs=0.2)
