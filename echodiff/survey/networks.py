"""The networks of the arms, from MONAI and diffusers, as wide as gives the same number of weights.

All of them are shown the same: a mask, one channel a label, and the style of a scanner as weights
over the training vendors, one for a vendor and several for a mixture; all 0 is no style.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CODE = 64
"""Numbers in the random code of the GAN."""
LATENT_CHANNELS, LATENT_SIDE = 8, 4
"""Of the random code of the VAE."""
GROUPS = 8
"""Groups of every group normalisation."""


@dataclass(frozen=True)
class Sizes:
    """What every network is built for."""

    side: int
    """Of an image, pixels."""
    num_labels: int
    """Channels of a mask, the background included."""
    num_styles: int
    """Training vendors."""


class StyledUNet(nn.Module):
    """UNet of diffusers that takes a mask beside its noisy input, and a style beside the time.

    x (B, C, s, s), times (B,), mask (B, L, s, s), style (B, V) to (B, C, s, s). Blocks of
    `patch` x `patch` pixels are folded into channels first, which loses nothing and makes a step
    `patch`^2 times cheaper.
    """

    def __init__(
        self, sizes: Sizes, *, channels: int, in_channels: int, side: int, patch: int
    ) -> None:
        from diffusers import UNet2DModel

        super().__init__()
        self.patch = patch
        num_levels = max(2, min(4, round(math.log2(side / patch / 4))))
        widths = tuple(channels * times for times in (1, 2, 3, 4)[:num_levels])
        plain = num_levels - 1
        self.unet: Any = UNet2DModel(
            sample_size=side // patch,
            in_channels=(in_channels + sizes.num_labels) * patch**2,
            out_channels=in_channels * patch**2,
            block_out_channels=widths,
            layers_per_block=1,
            down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
            attention_head_dim=GROUPS,
            norm_num_groups=GROUPS,
            class_embed_type="identity",
            # Time and style scale the features: added to them alone, normalisation mutes them.
            # diffusers then leaves out the normalisation before the attention of the middle.
            resnet_time_scale_shift="scale_shift",
        )
        # A sum over styles, so that a mixture of scanners is one too.
        self.style = nn.Linear(sizes.num_styles, 4 * channels, bias=False)

    def forward(self, x: Tensor, times: Tensor, mask: Tensor, style: Tensor) -> Tensor:
        given = F.pixel_unshuffle(torch.cat([x, mask], dim=1), self.patch)
        folded: Tensor = self.unet(given, times, class_labels=self.style(style), return_dict=False)[
            0
        ]
        return F.pixel_shuffle(folded, self.patch)


class SpadeGenerator(nn.Module):
    """SPADE generator with its style encoder (Park et al., CVPR 2019), by MONAI's `SPADENet`.

    MONAI's network ends with as many channels as the image has, at half the resolution. It is
    built here with `width` channels there, and one SPADE block more at full resolution.
    """

    def __init__(self, sizes: Sizes, *, width: int, hidden: int) -> None:
        from monai.networks.nets.spade_network import SPADENet, SPADENetResBlock

        super().__init__()
        self.num_given = sizes.num_labels + sizes.num_styles
        num_levels = min(4, round(math.log2(sizes.side / 8)))
        self.net: Any = SPADENet(
            spatial_dims=2, in_channels=1, out_channels=width, label_nc=self.num_given,
            input_shape=(sizes.side, sizes.side),
            channels=[width * times for times in (1, 2, 3, 4)[:num_levels]],
            z_dim=CODE, is_vae=True, spade_intermediate_channels=hidden,
        )  # fmt: skip
        self.last: Any = SPADENetResBlock(
            spatial_dims=2, in_channels=width, out_channels=width, label_nc=self.num_given,
            spade_intermediate_channels=hidden,
        )  # fmt: skip
        self.head = nn.Conv2d(width, 1, 3, padding=1)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Of the random code of an image."""
        return (CODE,)

    def encode(self, images: Tensor, mask: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, 64) of the code of images (B, 1, S, S)."""
        mean, log_variance = self.net.encoder(images)
        return mean, log_variance

    def decode(self, code: Tensor, mask: Tensor, style: Tensor) -> Tensor:
        """Images (B, 1, S, S) in -1..1."""
        given = join_condition(mask, style)
        return torch.tanh(self.head(self.last(self.net.decode(given, code), given)))


class SpadeAutoencoder(nn.Module):
    """Variational autoencoder with a SPADE decoder, by MONAI's `SPADEAutoencoderKL`.

    Its code is small, 8 x 4 x 4 numbers, so that its prior can be drawn from: what the mask tells
    needs no code.
    """

    def __init__(self, sizes: Sizes, *, width: int, hidden: int) -> None:
        from monai.networks.nets.spade_autoencoderkl import SPADEAutoencoderKL

        super().__init__()
        num_levels = round(math.log2(sizes.side / LATENT_SIDE)) + 1
        times = (1, 1, 2, 2, 3, 4, 4, 4)[:num_levels]
        self.code_side = sizes.side // 2 ** (num_levels - 1)
        self.net: Any = SPADEAutoencoderKL(
            spatial_dims=2, label_nc=sizes.num_labels + sizes.num_styles, num_res_blocks=1,
            channels=[width * one for one in times], attention_levels=[False] * num_levels,
            latent_channels=LATENT_CHANNELS, norm_num_groups=GROUPS,
            with_encoder_nonlocal_attn=False, with_decoder_nonlocal_attn=False,
            spade_intermediate_channels=hidden,
        )  # fmt: skip

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Of the random code of an image."""
        return (LATENT_CHANNELS, self.code_side, self.code_side)

    def encode(self, images: Tensor, mask: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the code of images (B, 1, S, S)."""
        mean, deviation = self.net.encode(images)
        return mean, 2 * deviation.log()

    def decode(self, code: Tensor, mask: Tensor, style: Tensor) -> Tensor:
        """Images (B, 1, S, S) in -1..1."""
        return torch.tanh(self.net.decode(code, join_condition(mask, style)))


class Discriminator(nn.Module):
    """Patch discriminator of image, mask and style, by MONAI's `PatchDiscriminator`."""

    def __init__(self, sizes: Sizes, *, width: int) -> None:
        from monai.networks.nets.patchgan_discriminator import PatchDiscriminator

        super().__init__()
        self.net: Any = PatchDiscriminator(
            spatial_dims=2, channels=width, norm="INSTANCE",
            num_layers_d=3 if sizes.side > 64 else 2,
            in_channels=1 + sizes.num_labels + sizes.num_styles,
        )  # fmt: skip

    def forward(self, images: Tensor, mask: Tensor, style: Tensor) -> list[Tensor]:
        """Features of every layer; the last are the logits of the patches."""
        given = torch.cat([images, join_condition(mask, style)], dim=1)
        features: list[Tensor] = self.net(given)
        return features


def join_condition(mask: Tensor, style: Tensor) -> Tensor:
    """Mask (B, L, S, S) and style (B, V), which is spread over the image: (B, L + V, S, S)."""
    spread = style[:, :, None, None].expand(-1, -1, *mask.shape[2:])
    return torch.cat([mask, spread], dim=1)


def build_matched(
    build: Callable[..., nn.Module], sizes: Sizes, num_parameters: int, *, seed: int
) -> nn.Module:
    """Build a network of `width` and `hidden` channels with as many weights as is nearest.

    `width` sets about four fifths of the weights, and `hidden`, of the SPADE blocks, the rest.
    The weights are a function of `seed`; the global generator is left as it was.
    """

    def count(width: int, hidden: int) -> int:
        with torch.device("meta"):
            return count_parameters(build(sizes, width=width, hidden=hidden))

    width = GROUPS
    while count(width + GROUPS, GROUPS) <= 0.9 * num_parameters:
        width += GROUPS
    one, two = count(width, GROUPS), count(width, 2 * GROUPS)
    more = (num_parameters - one) / ((two - one) / GROUPS)
    return build_seeded(build, sizes, seed=seed, width=width, hidden=max(1, round(GROUPS + more)))


def build_seeded(
    build: Callable[..., nn.Module], *args: Any, seed: int, **kwargs: Any
) -> nn.Module:
    """Build a network whose weights are a function of `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(*args, **kwargs)


def count_parameters(network: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in network.parameters())
