"""Networks of SRGAN (Ledig et al., CVPR 2017), for twice the side."""

import torch
from torch import nn

from echodiff.gan.networks.layers import LastConv, initialise


class SrResNet(nn.Module):
    """16 residual blocks at the small size, then one pixel shuffle; PReLU and batch norm."""

    side_multiple = 1
    """Pixels of which either side of an image is a multiple."""
    scale = 2
    """Pixels of the output to one of the input, along each side."""

    def __init__(
        self, channels: int = 1, *, width: int = 64, num_blocks: int = 16, seed: int = 0
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 9, padding=4), nn.PReLU())
        self.blocks = nn.Sequential(*(SrBlock(width) for _ in range(num_blocks)))
        self.join = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )
        self.enlarge = nn.Sequential(
            nn.Conv2d(width, self.scale**2 * width, 3, padding=1),
            nn.PixelShuffle(self.scale),
            nn.PReLU(),
            LastConv(width, channels, 9, padding=4),
        )
        initialise(self, "normal", seed)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) in -1..1 -> (N, C, 2 H, 2 W), near that range."""
        stem = self.stem(image)
        output: torch.Tensor = self.enlarge(stem + self.join(self.blocks(stem)))
        return output


class SrBlock(nn.Module):
    """Two convolutions with batch norms beside the image as it came."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        residual: torch.Tensor = self.residual(image)
        return image + residual


class WholeDiscriminator(nn.Module):
    """One logit per image, from 8 convolutions; their mean stands for the paper's fixed 96 pixels.

    The first of two dense layers has 16 times `width` units, 1024 as published.
    """

    def __init__(self, channels: int = 1, *, width: int = 64, seed: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2)]
        before = width
        for count, stride in [(1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2)]:
            layers += [
                nn.Conv2d(before, count * width, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(count * width),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            before = count * width
        self.model = nn.Sequential(
            *layers,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(before, 16 * width),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.last = nn.Linear(16 * width, 1)
        initialise(self, "normal", seed)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> logits (N, 1)."""
        features = self.model(image)
        with torch.autocast(image.device.type, enabled=False):
            logits: torch.Tensor = self.last(features.to(self.last.weight.dtype))
        return logits
