"""Layers of the translation networks: norms that keep the layout, blurs, a last layer in fp32."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from echodiff.gan.names import Norm
from echodiff.training.streams import Stream, build_stream, sample_normal


class InstanceNorm(nn.Module):
    """Each channel of each image to mean 0 and variance 1; no parameters (Ulyanov et al. 2016).

    `F.instance_norm` always returns channels-first, after which every convolution
    of a channels-last network would copy; here the layout stays. Statistics are float32 or wider.
    """

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) of more than one pixel -> the same shape and layout."""
        # In 16 bit the mean would be taken off after rounding: what is left may be all rounding.
        wide = image if image.dtype == torch.float64 else image.float()
        if image.is_contiguous():
            normed = F.instance_norm(wide)
            if normed.requires_grad and not torch.compiler.is_compiling():
                # Given a channels-last gradient, torch 2.14 on a CPU returns another one's.
                normed.register_hook(torch.Tensor.contiguous)
            return normed.to(image.dtype)
        variance, mean = torch.var_mean(wide, (2, 3), correction=0, keepdim=True)
        return ((wide - mean) * torch.rsqrt(variance + 1e-5)).to(image.dtype)


class BlurDown(nn.Module):
    """Halve the sides through a [1, 2, 1] binomial filter (Zhang, ICML 2019)."""

    filt: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", _binomial([1.0, 2.0, 1.0], channels))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2))."""
        padded = F.pad(image, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(padded, self.filt, stride=2, groups=image.shape[1])


class BlurUp(nn.Module):
    """Double the sides through a [1, 3, 3, 1] binomial filter (Zhang, ICML 2019)."""

    filt: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Three of four values between the pixels are zero: the filter sums to 4.
        self.register_buffer("filt", 4 * _binomial([1.0, 3.0, 3.0, 1.0], channels))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, 2 H, 2 W)."""
        padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
        return F.conv_transpose2d(padded, self.filt, stride=2, padding=3, groups=image.shape[1])


class LastConv(nn.Conv2d):
    """A convolution in its weights' own precision: 16 bit would be half a grey level near black."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        with torch.autocast(image.device.type, enabled=False):
            return super().forward(image.to(self.weight.dtype))


class LastConvTranspose(nn.ConvTranspose2d):
    """The same for a transposed convolution."""

    def forward(self, image: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        with torch.autocast(image.device.type, enabled=False):
            return super().forward(image.to(self.weight.dtype), output_size)


def build_norm(norm: Norm, channels: int) -> nn.Module:
    """The norm layer of that name for `channels`."""
    return InstanceNorm() if norm == "instance" else nn.BatchNorm2d(channels)


@torch.no_grad()
def initialise(net: nn.Module, kind: Literal["normal", "xavier"], seed: int) -> None:
    """Draw the weights again as published: normal(0, 0.02), or Xavier's with gain 0.02 (CUT).

    Biases are 0, batch norms scale by normal(1, 0.02).
    """
    stream = build_stream(seed, Stream.NETWORK, 0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.copy_(1.0 + 0.02 * sample_normal(stream, module.weight.shape))
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            spread = 0.02 * (1.0 if kind == "normal" else math.sqrt(2.0 / count_links(module)))
            module.weight.copy_(spread * sample_normal(stream, module.weight.shape))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def count_links(layer: nn.Module) -> int:
    """Inputs of an output plus outputs of an input, of a layer with a weight (out, in, ...):
    Xavier's fans (Glorot and Bengio 2010, eq. 12)."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return (weight.shape[0] + weight.shape[1]) * weight[0, 0].numel()


def _binomial(row: list[float], channels: int) -> torch.Tensor:
    line = torch.tensor(row)
    square = line[:, None] * line[None, :] / math.fsum(row) ** 2
    return square.expand(channels, 1, *square.shape).clone()
