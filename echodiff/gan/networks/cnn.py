"""A plain convolutional network, the baseline of CT to MR translation."""

import torch
from torch import nn

from echodiff.gan.names import Norm
from echodiff.gan.networks.layers import LastConv, build_norm, initialise


class Cnn(nn.Module):
    """A plain convolutional encoder and decoder, the residual network without its blocks.

    Jha and Iima (ICAART 2024) say no more of their CNN than that it is one.
    """

    side_multiple = 4
    """Pixels of which either side of an image is a multiple."""

    def __init__(self, channels: int = 1, *, norm: Norm, width: int = 64, seed: int = 0) -> None:
        super().__init__()

        def norm_relu(count: int) -> list[nn.Module]:
            return [build_norm(norm, count), nn.ReLU(inplace=True)]

        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(channels, width, 7),
            *norm_relu(width),
        ]
        for count in (width, 2 * width):
            layers.append(nn.Conv2d(count, 2 * count, 3, stride=2, padding=1))
            layers += norm_relu(2 * count)
        for count in (4 * width, 2 * width):
            layers.append(
                nn.ConvTranspose2d(count, count // 2, 3, stride=2, padding=1, output_padding=1)
            )
            layers += norm_relu(count // 2)
        layers += [nn.ReflectionPad2d(3), LastConv(width, channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        initialise(self, "normal", seed)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape, in -1..1."""
        output: torch.Tensor = self.model(image)
        return output
