"""Networks that let a UNet of Stable Diffusion obey a mask: four kinds, one way to call them.

Each starts as the base itself, to the last bit: what it adds ends in layers that are zero.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from echodiff.diffusion.condition import BACKGROUND_ONLY, one_hot, share_of_cells
from echodiff.diffusion.lora import add_lora
from echodiff.diffusion.samples import Samples
from echodiff.errors import InputError
from echodiff.training.streams import Stream, build_stream, sample_uniform

Kind = Literal["controlnet", "control-lora", "t2i-adapter", "concat"]
KINDS: tuple[Kind, ...] = ("controlnet", "control-lora", "t2i-adapter", "concat")

EMBEDDING_CHANNELS = (16, 32, 96, 256)
"""Of the condition's embedding, one more than its halvings; the published ones, for a VAE of 8."""
TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out",
    "conv1", "conv2", "conv_shortcut", "time_emb_proj",
)  # fmt: skip
"""Layers with low-rank matrices: attention, feed-forward and residual blocks."""
SILU_GAIN = math.sqrt(3 / 0.356)
"""Keeps the size of what passes layers with SiLU (He et al. 2015; the mean of silu(x)^2 is 0.356
for a standard normal x). With torch's own weights a mask leaves the embedding a thousand times
smaller than it enters, and is ignored for longer."""
ZERO_CONVOLUTIONS = ("controlnet_down_blocks", "controlnet_mid_block")
EMBEDDING = "controlnet_cond_embedding"


class Branch(nn.Module, ABC):
    """What is trained next to the UNet, and how it acts on it."""

    @abstractmethod
    def encode(self, masks: Tensor, scale: float) -> tuple[Tensor, ...]:
        """Compute once an image what every step takes, from one-hot masks (B, K, H, W)."""

    @abstractmethod
    def predict(
        self, unet: Any, noisy: Tensor, times: Tensor, text: Tensor, *encoded: Tensor
    ) -> Tensor:
        """Predict from noisy latents (B, C, h, w), a time, a text, and what `encode` returned."""


class ControlNetBranch(Branch):
    """A copy of the UNet's encoder whose outputs are added to it (Zhang et al. 2023).

    Also of Control-LoRA. The embedding of the mask is taken out of the network, to be computed once
    an image and not once a step; `state` puts it back.
    """

    def __init__(self, controlnet: Any) -> None:
        super().__init__()
        self.embedding = controlnet.controlnet_cond_embedding
        controlnet.controlnet_cond_embedding = nn.Identity()
        self.controlnet = controlnet

    def encode(self, masks: Tensor, scale: float) -> tuple[Tensor, ...]:
        # The scale is that of the outputs: it travels with the condition, and stays on the device.
        return self.embedding(masks), masks.new_full((len(masks),), scale)

    def predict(
        self, unet: Any, noisy: Tensor, times: Tensor, text: Tensor, *encoded: Tensor
    ) -> Tensor:
        embedded, scale = encoded
        down, mid = self.controlnet(
            noisy, times, encoder_hidden_states=text, controlnet_cond=embedded, return_dict=False
        )
        factor = scale.view(-1, 1, 1, 1)
        prediction: Tensor = unet(
            noisy,
            times,
            encoder_hidden_states=text,
            down_block_additional_residuals=[one * factor for one in down],
            mid_block_additional_residual=mid * factor,
            return_dict=False,
        )[0]
        return prediction

    def state(self) -> dict[str, Tensor]:
        """All weights by the names of diffusers' ControlNet."""
        embedding = {
            f"{EMBEDDING}.{name}": one for name, one in self.embedding.state_dict().items()
        }
        return self.controlnet.state_dict() | embedding


class AdapterBranch(Branch):
    """T2I-Adapter (Mou et al. 2023): features of the mask, computed once an image."""

    def __init__(self, adapter: Any) -> None:
        super().__init__()
        self.adapter = adapter

    def encode(self, masks: Tensor, scale: float) -> tuple[Tensor, ...]:
        return tuple(feature * scale for feature in self.adapter(masks))

    def predict(
        self, unet: Any, noisy: Tensor, times: Tensor, text: Tensor, *encoded: Tensor
    ) -> Tensor:
        prediction: Tensor = unet(
            noisy,
            times,
            encoder_hidden_states=text,
            down_intrablock_additional_residuals=list(encoded),
            return_dict=False,
        )[0]
        return prediction


class ConcatBranch(Branch):
    """The mask as further channels of the UNet's input, which `widen_input` made room for."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def encode(self, masks: Tensor, scale: float) -> tuple[Tensor, ...]:
        # From the empty mask to the given one: without any channel the network was never trained.
        given = share_of_cells(masks, self.factor)
        empty = torch.zeros_like(given)
        empty[:, BACKGROUND_ONLY] = 1
        return (empty + scale * (given - empty),)

    def predict(
        self, unet: Any, noisy: Tensor, times: Tensor, text: Tensor, *encoded: Tensor
    ) -> Tensor:
        rows = torch.cat([noisy, encoded[0].to(noisy.dtype)], dim=1)
        prediction: Tensor = unet(rows, times, encoder_hidden_states=text, return_dict=False)[0]
        return prediction


class MaskedUNet(nn.Module):
    """A UNet with its branch: what is trained, and what draws."""

    def __init__(self, unet: Any, branch: Branch, num_channels: int) -> None:
        super().__init__()
        self.unet, self.branch, self.num_channels = unet, branch, num_channels

    def encode(self, condition: Tensor, scale: float = 1.0) -> tuple[Tensor, ...]:
        """Compute once an image what `predict` takes, from (B, 1, H, W) channel numbers."""
        return self.branch.encode(one_hot(condition, self.num_channels, self.unet.dtype), scale)

    def predict(self, noisy: Tensor, times: Tensor, text: Tensor, *encoded: Tensor) -> Tensor:
        """Predict from noisy latents (B, C, h, w) and what `encode` returned."""
        return self.branch.predict(self.unet, noisy, times, text, *encoded)

    def forward(self, noisy: Tensor, times: Tensor, text: Tensor, condition: Tensor) -> Tensor:
        """A training step's prediction, from (B, 1, H, W) channel numbers."""
        return self.predict(noisy, times, text, *self.encode(condition))

    @property
    def device(self) -> torch.device:
        device: torch.device = self.unet.device
        return device

    def enable_gradient_checkpointing(self, function: Callable[..., Any]) -> None:
        """Recompute activations, as of a diffusers model, in every part that can."""
        for network in (self.unet, *self.branch.children()):
            if getattr(network, "_supports_gradient_checkpointing", False):
                network.enable_gradient_checkpointing(function)

    def compile_repeated_blocks(self, **options: Any) -> None:
        """Compile the transformer blocks, as of a diffusers model."""
        for module in self.modules():
            if type(module).__name__ in self.unet._repeated_blocks:
                module.compile(**options)


def predict_from_mask(network: nn.Module, noisy: Tensor, samples: Samples) -> Tensor:
    """Return the prediction of a `MaskedUNet` for a time, a caption and a mask."""
    prediction: Tensor = network(noisy, samples.times, samples.embeddings, samples.condition)
    return prediction


# --- Building -------------------------------------------------------------------------------------


def build_controlnet(unet: Any, *, num_channels: int, factor: int, seed: int) -> Any:
    """Build diffusers' ControlNet from a UNet's own weights, float32, for one-hot masks.

    factor: of the VAE; the strides of the embedding must come to the same.
    """
    from diffusers import ControlNetModel

    halvings = int(math.log2(factor))
    wider = [EMBEDDING_CHANNELS[-1]] * (halvings + 1 - len(EMBEDDING_CHANNELS))
    controlnet = ControlNetModel.from_unet(
        unet,
        conditioning_channels=num_channels,
        conditioning_embedding_out_channels=(*EMBEDDING_CHANNELS[: halvings + 1], *wider),
    ).float()
    embedding = controlnet.controlnet_cond_embedding
    _init_from_seed(embedding, seed, zero=("conv_out.weight",), gain=SILU_GAIN)
    return controlnet


def build_adapter(unet: Any, *, num_channels: int, factor: int, seed: int) -> Any:
    """Build diffusers' T2IAdapter whose features fit the down blocks of a UNet."""
    from diffusers import T2IAdapter

    adapter = T2IAdapter(in_channels=num_channels, **choose_adapter(unet.config, factor))
    zero = [
        name
        for name, _ in adapter.adapter.named_parameters()
        if name.startswith("conv_in.") or ".block2." in name
    ]
    _init_from_seed(adapter.adapter, seed, zero=zero)
    return adapter


def choose_adapter(config: Any, factor: int) -> dict[str, Any]:
    """Choose the T2IAdapter whose features have the sizes of a UNet's down blocks.

    A block with cross-attention takes its features before it halves, another one after. A UNet
    takes fewer features than it has blocks: of the two layouts the one that reaches further.
    """
    channels = [int(width) for width in config.block_out_channels]
    last = len(channels) - 1
    halvings = [
        place + int("CrossAttn" not in block and place < last)
        for place, block in enumerate(config.down_block_types)
    ]
    first = halvings[0]
    layouts = {
        "full_adapter": [first + place for place in range(len(channels))],
        "full_adapter_xl": [first + int(place >= 2) for place in range(len(channels))],
    }
    reach = {}
    for name, own in layouts.items():
        # Blocks of the second layout from the fourth on cannot change their width.
        fits = [
            there == wanted
            and (name == "full_adapter" or place < 3 or channels[place] == channels[place - 1])
            for place, (there, wanted) in enumerate(zip(own, halvings, strict=True))
        ]
        reach[name] = fits.index(False) if False in fits else len(fits)
    kind = max(reach, key=lambda name: reach[name])
    return {
        "adapter_type": kind,
        "channels": channels[: reach[kind]],
        "downscale_factor": factor * 2**first,
    }


def widen_input(unet: Any, num_channels: int) -> None:
    """Give the input convolution of a UNet further channels, with zero weights, in float32."""
    old = unet.conv_in
    wider = nn.Conv2d(
        old.in_channels + num_channels,
        old.out_channels,
        old.kernel_size,
        padding=old.padding,
        device=old.weight.device,
    )
    with torch.no_grad():
        wider.weight.zero_()
        wider.weight[:, : old.in_channels].copy_(old.weight)
        assert wider.bias is not None
        wider.bias.copy_(old.bias)
    unet.conv_in = wider


def build_masked(
    kind: Kind, unet: Any, *, num_channels: int, factor: int, rank: int, alpha: float, seed: int
) -> tuple[MaskedUNet, dict[str, nn.Parameter]]:
    """Build the network of a kind around a frozen UNet, and return the parameters to train.

    unet: float32. rank, alpha: of the low-rank matrices of control-lora and concat.
    """
    unet.requires_grad_(False)
    sizes = {"num_channels": num_channels, "factor": factor, "seed": seed}
    branch: Branch
    if kind == "concat":
        widen_input(unet, num_channels)
        parameters = add_lora(unet, rank=rank, alpha=alpha, seed=seed, targets=TARGETS)
        unet.conv_in.requires_grad_(True)
        parameters |= {f"conv_in.{name}": one for name, one in unet.conv_in.named_parameters()}
        branch = ConcatBranch(factor)
    elif kind == "t2i-adapter":
        adapter = build_adapter(unet, **sizes)
        parameters, branch = dict(adapter.named_parameters()), AdapterBranch(adapter)
    else:
        controlnet = build_controlnet(unet, **sizes)
        if kind == "control-lora":
            parameters = add_lora(controlnet, rank=rank, alpha=alpha, seed=seed, targets=TARGETS)
            parameters |= unfreeze(controlnet, (EMBEDDING, *ZERO_CONVOLUTIONS))
        else:
            parameters = dict(controlnet.named_parameters())
        branch = ControlNetBranch(controlnet)
    return MaskedUNet(unet, branch, num_channels), parameters


def unfreeze(network: nn.Module, parts: Sequence[str]) -> dict[str, nn.Parameter]:
    """Have the parameters of some parts of a network trained; return them by name."""
    chosen = {n: p for n, p in network.named_parameters() if n.split(".")[0] in parts}
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    return chosen


def check_kind(kind: Kind, unet: Any, base: str) -> None:
    """InputError where a kind cannot be built for the UNet of `base`."""
    layers = unet.config.transformer_layers_per_block
    if kind in ("controlnet", "control-lora") and not isinstance(layers, int):
        raise InputError(
            f"--kind {kind}: --base {base} has a UNet that diffusers' ControlNet lacks"
        )


def _init_from_seed(
    module: nn.Module, seed: int, *, zero: Sequence[str], gain: float = 1.0
) -> None:
    """Draw weights as torch does (uniform, by the inputs of a layer), from our own stream.

    Biases and the parameters named in `zero` are zero. gain: of the largest weight over torch's,
    which is 1 / sqrt(inputs of the layer).
    """
    stream = build_stream(seed, Stream.NETWORK, 0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in zero or parameter.ndim < 2:
                parameter.zero_()
                continue
            bound = gain / math.sqrt(parameter[0].numel())
            parameter.copy_(sample_uniform(stream, parameter.shape) * (2 * bound) - bound)
