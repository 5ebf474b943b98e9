"""Networks of the patch-cGAN from mask to echo (Abdi et al., arXiv 1911.02121), as in its code.

It was written in Keras: weights are Glorot's, batch norms have its momentum 0.8 (torch counts the
other share, 0.2) and its epsilon of 0.001, and `same` padding of an even kernel is one-sided.
"""

import math

import torch
from torch import nn

from echodiff.gan.networks.layers import LastConv, count_links
from echodiff.training.streams import Stream, build_stream, sample_uniform

LEVELS = (1, 2, 4, 8, 8, 8, 8)
"""Widths of the 7 encoder layers in units of the first."""
SAME = (1, 2, 1, 2)
"""Zeros left, right, above and below that keep the sides under a 4 x 4 kernel."""


class MaskToEcho(nn.Module):
    """7 convolutions down, 7 transposed ones up with a convolution each; no skips, no noise."""

    side_multiple = 2 ** len(LEVELS)
    """Pixels of which either side of an image is a multiple."""

    def __init__(self, channels: int = 1, *, width: int = 64, seed: int = 0) -> None:
        super().__init__()
        widths = [width * level for level in LEVELS]
        layers: list[nn.Module] = []
        before = 1
        for level, count in enumerate(widths):
            layers.append(nn.Conv2d(before, count, 4, stride=2, padding=1))
            layers += [_norm(count)] if level else []
            layers.append(nn.LeakyReLU(0.2))
            before = count
        for count in reversed(widths[:-1]):
            layers += [
                nn.ConvTranspose2d(before, count, 4, stride=2, padding=1),
                nn.ZeroPad2d(SAME),
                nn.Conv2d(count, count, 4),
                nn.ReLU(inplace=True),
                _norm(count),
            ]
            before = count
        layers += [
            nn.ConvTranspose2d(before, channels, 4, stride=2, padding=1),
            nn.ZeroPad2d(SAME),
            LastConv(channels, channels, 4),
            nn.Sigmoid(),
        ]
        self.model = nn.Sequential(*layers)
        _initialise(self, seed)

    def forward(self, mask: torch.Tensor) -> torch.Tensor:
        """Label numbers (N, 1, H, W) as they are -> images (N, C, H, W) in 0..1."""
        image: torch.Tensor = self.model(mask)
        return image


class MaskedPatchDiscriminator(nn.Module):
    """Judges an image beside its mask; 256 x 256 pixels have 16 x 16 logits."""

    def __init__(self, channels: int = 1, *, width: int = 64, seed: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels + 1
        for level, count in enumerate(width * level for level in LEVELS[:4]):
            layers.append(nn.Conv2d(before, count, 4, stride=2, padding=1))
            layers += [_norm(count)] if level else []
            layers.append(nn.LeakyReLU(0.2))
            before = count
        self.model = nn.Sequential(*layers, nn.ZeroPad2d(SAME), LastConv(before, 1, 4))
        _initialise(self, seed)

    def forward(self, image_and_mask: torch.Tensor) -> torch.Tensor:
        """(N, C + 1, H, W) -> logits (N, 1, H / 16, W / 16)."""
        logits: torch.Tensor = self.model(image_and_mask)
        return logits


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.2)


@torch.no_grad()
def _initialise(net: nn.Module, seed: int) -> None:
    stream = build_stream(seed, Stream.NETWORK, 0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            bound = math.sqrt(6.0 / count_links(module))
            module.weight.copy_(bound * (2.0 * sample_uniform(stream, module.weight.shape) - 1.0))
            assert module.bias is not None
            nn.init.zeros_(module.bias)
