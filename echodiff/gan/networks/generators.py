"""The translation networks as published: their sizes, their key names, their initialisation.

Generators are the U-Net of pix2pix and the residual network of Johnson et al. in the forms of
CycleGAN (Zhu et al., ICCV 2017) and of CUT (Park et al., ECCV 2020), whose sampling is
anti-aliased; the discriminator is the 70 x 70 PatchGAN. Pictures are (N, C, H, W) in -1..1.
"""

import itertools
from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import nn

from echodiff.gan.names import ANTIALIASED, DiscriminatorName, GeneratorName, Norm
from echodiff.gan.networks.cnn import Cnn
from echodiff.gan.networks.layers import (
    BlurDown,
    BlurUp,
    LastConv,
    LastConvTranspose,
    build_norm,
    initialise,
)
from echodiff.gan.networks.patch_cgan import MaskToEcho
from echodiff.gan.networks.srgan import SrResNet


def build_generator(
    name: str, channels: int = 1, *, norm: Norm = "instance", width: int = 64, seed: int = 0
) -> "Generator":
    """A generator from images (N, channels, H, W) to the same, initialised as published.

    `width` is the number of channels after the first layer. `patch_cgan` takes label numbers
    (N, 1, H, W), `srgan_x2` gives twice the sides; both have batch norm whatever `norm` says.
    ValueError for an unknown name.
    """
    if name not in get_args(GeneratorName):
        raise ValueError(f"{name}: no generator; one of {', '.join(get_args(GeneratorName))}")
    if name == "patch_cgan":
        return MaskToEcho(channels, width=width, seed=seed)
    if name == "srgan_x2":
        return SrResNet(channels, width=width, seed=seed)
    if name == "cnn":
        return Cnn(channels, norm=norm, width=width, seed=seed)
    is_antialiased = name.endswith(ANTIALIASED)
    kind, size = name.removesuffix(ANTIALIASED).split("_")
    net: UNet | ResNet
    if kind == "unet":
        net = UNet(channels, num_downs={"128": 7, "256": 8}[size], norm=norm, width=width)
    else:
        net = ResNet(
            channels, num_blocks=int(size), norm=norm, width=width, is_antialiased=is_antialiased
        )
    initialise(net, "xavier" if is_antialiased else "normal", seed)
    return net


def build_discriminator(
    name: str, channels: int = 1, *, norm: Norm = "instance", width: int = 64, seed: int = 0
) -> "PatchDiscriminator":
    """A discriminator from images (N, channels, H, W) to logits of patches, initialised.

    ValueError for an unknown name.
    """
    if name not in get_args(DiscriminatorName):
        known = ", ".join(get_args(DiscriminatorName))
        raise ValueError(f"{name}: no discriminator; one of {known}")
    is_antialiased = name.endswith(ANTIALIASED)
    net = PatchDiscriminator(channels, norm=norm, width=width, is_antialiased=is_antialiased)
    initialise(net, "xavier" if is_antialiased else "normal", seed)
    return net


class UNet(nn.Module):
    """Encoder and decoder with a skip at every level (Isola et al., CVPR 2017), no dropout.

    With 8 halvings a 256 x 256 image is one pixel in the middle, so sides are multiples of 256.
    """

    def __init__(self, channels: int, *, num_downs: int, norm: Norm, width: int) -> None:
        super().__init__()
        self.side_multiple = 2**num_downs
        """Pixels of which either side of an image is a multiple."""
        widths = [width * min(2**level, 8) for level in range(num_downs)]
        below = None
        for outer, inner in reversed(list(itertools.pairwise(widths))):
            below = _UNetLevel(outer, inner, below, norm)
        assert below is not None
        self.model = _UNetTop(channels, width, below, norm)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape, in -1..1; ValueError for other sides."""
        check_sides(self, *image.shape[2:])
        output: torch.Tensor = self.model(image)
        return output


class _UNetLevel(nn.Module):
    """One level and, inside it, all below; its output stands beside its input.

    The decoder begins with a ReLU, and ReLU(x) = ReLU(LeakyReLU(x)): it does not matter that the
    published code changes the skipped tensor in place.
    """

    def __init__(self, outer: int, inner: int, below: "_UNetLevel | None", norm: Norm) -> None:
        super().__init__()
        has_bias = norm == "instance"
        # The lowest level is one pixel: its norm would leave nothing.
        middle = [] if below is None else [build_norm(norm, inner), below]
        back = inner if below is None else 2 * inner
        self.model = nn.Sequential(
            nn.LeakyReLU(0.2),
            nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=has_bias),
            *middle,
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(back, outer, 4, stride=2, padding=1, bias=has_bias),
            build_norm(norm, outer),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image, self.model(image)], dim=1)


class _UNetTop(nn.Module):
    def __init__(self, channels: int, width: int, below: _UNetLevel, norm: Norm) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=norm == "instance"),
            below,
            nn.ReLU(inplace=True),
            LastConvTranspose(2 * width, channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.model(image)
        return output


class ResNet(nn.Module):
    """Two halvings, residual blocks, two doublings (Johnson et al., ECCV 2016)."""

    side_multiple = 4
    """Pixels of which either side of an image is a multiple."""

    def __init__(
        self, channels: int, *, num_blocks: int, norm: Norm, width: int, is_antialiased: bool
    ) -> None:
        super().__init__()
        has_bias = norm == "instance"

        def norm_relu(count: int) -> list[nn.Module]:
            return [build_norm(norm, count), nn.ReLU(inplace=True)]

        stem = nn.Conv2d(channels, width, 7, bias=has_bias)
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), stem, *norm_relu(width)]
        for count in (width, 2 * width):
            stride = 1 if is_antialiased else 2
            layers += [
                nn.Conv2d(count, 2 * count, 3, stride=stride, padding=1, bias=has_bias),
                *norm_relu(2 * count),
                *([BlurDown(2 * count)] if is_antialiased else []),
            ]
        layers += [ResNetBlock(4 * width, norm) for _ in range(num_blocks)]
        for count in (4 * width, 2 * width):
            if is_antialiased:
                conv = nn.Conv2d(count, count // 2, 3, padding=1, bias=has_bias)
                layers += [BlurUp(count), conv, *norm_relu(count // 2)]
            else:
                up = nn.ConvTranspose2d(
                    count, count // 2, 3, stride=2, padding=1, output_padding=1, bias=has_bias
                )
                layers += [up, *norm_relu(count // 2)]
        layers += [nn.ReflectionPad2d(3), LastConv(width, channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape, in -1..1; ValueError for other sides."""
        check_sides(self, *image.shape[2:])
        output: torch.Tensor = self.model(image)
        return output

    def with_features(
        self, image: torch.Tensor, layers: Sequence[int]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The output, and the outputs of `layers` (rising indices) on the way to it."""
        check_sides(self, *image.shape[2:])
        return self._run(image, layers, len(self.model))

    def encode(self, image: torch.Tensor, layers: Sequence[int]) -> list[torch.Tensor]:
        """The outputs of `layers` (rising indices); what comes after the last is not computed."""
        return self._run(image, layers, layers[-1] + 1)[1]

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As of any module, and the way that CUT takes through this one."""
        super().compile(*args, **kwargs)
        self._run = torch.compile(self._run, *args, **kwargs)  # type: ignore[method-assign]

    def _run(
        self, image: torch.Tensor, layers: Sequence[int], stop: int
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        features = []
        for index in range(stop):
            image = self.model[index](image)
            if index in layers:
                features.append(image)
        return image, features


class ResNetBlock(nn.Module):
    """Two convolutions beside the image as it came."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        has_bias = norm == "instance"
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=has_bias),
            build_norm(norm, channels),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=has_bias),
            build_norm(norm, channels),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        residual: torch.Tensor = self.conv_block(image)
        return image + residual


class PatchDiscriminator(nn.Module):
    """Judges patches of 70 x 70 pixels, each by one logit (Isola et al., CVPR 2017)."""

    def __init__(self, channels: int, *, norm: Norm, width: int, is_antialiased: bool) -> None:
        super().__init__()
        has_bias = norm == "instance"
        stride = 1 if is_antialiased else 2

        def blur(count: int) -> list[nn.Module]:
            return [BlurDown(count)] if is_antialiased else []

        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, 4, stride=stride, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            *blur(width),
        ]
        for count in (width, 2 * width):
            layers += [
                nn.Conv2d(count, 2 * count, 4, stride=stride, padding=1, bias=has_bias),
                build_norm(norm, 2 * count),
                nn.LeakyReLU(0.2, inplace=True),
                *blur(2 * count),
            ]
        layers += [
            nn.Conv2d(4 * width, 8 * width, 4, padding=1, bias=has_bias),
            build_norm(norm, 8 * width),
            nn.LeakyReLU(0.2, inplace=True),
            LastConv(8 * width, 1, 4, padding=1),
        ]
        self.model = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> logits (N, 1, h, w); 256 x 256 pixels give 30 x 30."""
        logits: torch.Tensor = self.model(image)
        return logits


class PatchProjection(nn.Module):
    """CUT's network F: a two-layer perceptron for each layer of features, to the unit sphere.

    `channels` are those of the layers; keys are `mlp_<i>.0` and `mlp_<i>.2` as published.
    """

    def __init__(self, channels: Sequence[int], *, num_features: int = 256, seed: int = 0) -> None:
        super().__init__()
        for number, count in enumerate(channels):
            mlp = nn.Sequential(
                nn.Linear(count, num_features), nn.ReLU(), nn.Linear(num_features, num_features)
            )
            self.add_module(f"mlp_{number}", mlp)
        initialise(self, "xavier", seed)

    def forward(
        self, features: Sequence[torch.Tensor], places: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Features (N, C, H, W) at `places` (P,), row by row, -> vectors (N, P, num_features)."""
        found = []
        for mlp, feature, place in zip(self.children(), features, places, strict=True):
            vectors = mlp(feature.flatten(2)[:, :, place].transpose(1, 2))
            # Lengths and all that follows in the precision of the weights.
            vectors = vectors.to(next(mlp.parameters()).dtype)
            length = torch.linalg.vector_norm(vectors, dim=2, keepdim=True)
            found.append(vectors / (length + 1e-7))
        return found


Generator = UNet | ResNet | MaskToEcho | Cnn | SrResNet


def check_sides(net: "Generator", *sides: int) -> None:
    """ValueError where a side (pixels) is no multiple of what `net` takes."""
    multiple = net.side_multiple
    if any(side < 1 or side % multiple for side in sides):
        size = " x ".join(map(str, reversed(sides)))
        raise ValueError(f"{size} pixels: this generator takes sides that are multiples of "
                         f"{multiple}")  # fmt: skip
