"""Build a method from its settings, with networks, optimizers and pools."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from echodiff.errors import InputError
from echodiff.gan.dataset import TranslationSet
from echodiff.gan.gan_config import TrainGanConfig
from echodiff.gan.methods.cut import Cut, build_projection, measure_features
from echodiff.gan.methods.cyclegan import CycleGan
from echodiff.gan.methods.patch_cgan import PatchCgan
from echodiff.gan.methods.regression import Regression
from echodiff.gan.methods.srgan import Srgan
from echodiff.gan.networks.generators import (
    Generator,
    ResNet,
    build_discriminator,
    build_generator,
    check_sides,
)
from echodiff.gan.networks.patch_cgan import MaskedPatchDiscriminator
from echodiff.gan.networks.srgan import WholeDiscriminator
from echodiff.gan.pool import ImagePool
from echodiff.gan.updates import Autocast


class Method(Protocol):
    """One way to learn a translation: everything that a step changes, and the step."""

    nets: Mapping[str, nn.Module]
    """G_A (or G) goes from source to target."""
    optimizers: Mapping[str, torch.optim.Optimizer]
    pools: Mapping[str, ImagePool]
    names: tuple[str, ...]
    """Names of the losses of a step, in the order in which they are logged."""

    def sample(self, stream: np.random.Generator, step: int, count: int) -> Any:
        """Draw what a step takes at random beside its images."""

    def step(
        self, source: torch.Tensor, target: torch.Tensor, draw: Any
    ) -> dict[str, torch.Tensor]:
        """One step on (N, C, H, W) each; every loss, on the device."""


def build_networks(config: TrainGanConfig) -> dict[str, nn.Module]:
    """The networks of a method under their published names, initialised from the seed."""
    channels, width, norm = config.channels, config.width, config.norm

    def generator(number: int) -> Generator:
        net = build_generator(config.generator, channels, norm=norm, width=width,
                              seed=_seed(config, number))  # fmt: skip
        try:
            check_sides(net, config.resolution, config.resolution)
        except ValueError as error:
            raise InputError(f"--generator {config.generator}: {error}") from error
        return net

    def discriminator(number: int) -> nn.Module:
        name = "patch_antialiased" if config.method == "cut" else "patch"
        return build_discriminator(name, channels, norm=norm, width=width,
                                   seed=_seed(config, number))  # fmt: skip

    match config.method:
        case "cyclegan":
            return {"G_A": generator(0), "G_B": generator(1),
                    "D_A": discriminator(2), "D_B": discriminator(3)}  # fmt: skip
        case "cut":
            net = generator(0)
            assert isinstance(net, ResNet)
            sizes = measure_features(net, channels, config.resolution)
            return {"G": net, "D": discriminator(2),
                    "F": build_projection(sizes, seed=_seed(config, 4))}  # fmt: skip
        case "patch_cgan":
            judge = MaskedPatchDiscriminator(channels, width=width, seed=_seed(config, 2))
            return {"G": generator(0), "D": judge}
        case "regression":
            return {"G": generator(0)}
        case "srgan":
            whole = WholeDiscriminator(channels, width=width, seed=_seed(config, 2))
            return {"G": generator(0), "D": whole}


def build_method(
    config: TrainGanConfig,
    nets: dict[str, nn.Module],
    device: torch.device,
    autocast: Autocast = nullcontext,
    *,
    is_captured: bool = False,
) -> Method:
    """The method of `config` around `nets`, all on `device`, ready for step 0.

    is_captured: its steps become a CUDA graph, for which Adam counts on the device.
    """
    for net in nets.values():
        net.to(device).train()
        if device.type == "cuda":
            net.to(memory_format=torch.channels_last)  # what convolutions on tensor cores read
    shape = (config.channels, config.resolution, config.resolution)

    def adam(*names: str) -> torch.optim.Adam:
        is_judge = names[0].startswith("D")
        rate = (config.learning_rate_d if is_judge else None) or config.learning_rate
        parameters = [p for name in names for p in nets[name].parameters()]
        return build_adam(config, parameters, rate, device, is_captured=is_captured)

    match config.method:
        case "cyclegan":
            return CycleGan(
                nets,
                {"G": adam("G_A", "G_B"), "D": adam("D_A", "D_B")},
                {name: ImagePool(config.pool_size, shape).to(device) for name in ("A", "B")},
                cycle_weight=config.cycle_weight,
                identity_weight=config.identity_weight,
                adversarial=config.adversarial,
                together=config.norm == "instance",
                autocast=autocast,
            )
        case "cut":
            generator = nets["G"]
            assert isinstance(generator, ResNet)
            return Cut(
                nets,
                {name: adam(name) for name in ("G", "D", "F")},
                feature_sizes=measure_features(generator, config.channels, config.resolution),
                nce_weight=config.nce_weight,
                identity_nce=config.identity_nce,
                flip_equivariance=config.flip_equivariance,
                num_patches=config.num_patches,
                temperature=config.temperature,
                adversarial=config.adversarial,
                autocast=autocast,
            )
        case "patch_cgan":
            pool = ImagePool(config.pool_size, (config.channels + 1, *shape[1:]))
            return PatchCgan(
                nets,
                {name: adam(name) for name in ("G", "D")},
                {"pairs": pool.to(device)},
                reconstruction_weight=config.reconstruction_weight,
                adversarial=config.adversarial,
                autocast=autocast,
            )
        case "regression":
            return Regression(nets, {"G": adam("G")}, autocast=autocast)
        case "srgan":
            return Srgan(
                nets,
                {name: adam(name) for name in ("G", "D")},
                reconstruction_weight=config.reconstruction_weight,
                adversarial=config.adversarial,
                autocast=autocast,
            )


def build_adam(
    config: TrainGanConfig,
    parameters: Sequence[nn.Parameter],
    rate: float,
    device: torch.device,
    *,
    is_captured: bool,
) -> torch.optim.Adam:
    """Adam at `rate`; on CUDA one launch a step, which a graph can hold."""
    betas, eps = (config.beta1, 0.999), config.epsilon
    if device.type != "cuda":
        return torch.optim.Adam(parameters, lr=rate, betas=betas, eps=eps)
    place = torch.tensor(rate, device=device)  # a graph reads it where it lies
    return torch.optim.Adam(
        parameters, lr=place, betas=betas, eps=eps, fused=True, capturable=is_captured
    )


def describe_generators(config: TrainGanConfig, dataset: TranslationSet) -> dict[str, Any]:
    """Facts for each generator's file: what it takes, what it gives, how it is built."""
    modalities = [
        next((frame.modality for frame in domain.frames if frame.modality), None)
        for domain in (dataset.source, dataset.target)
    ]
    shared: dict[str, Any] = {
        "generator": config.generator,
        "channels": config.channels,
        "norm": config.norm,
        "width": config.width,
        "resolution": config.resolution,
        "method": config.method,
    }
    forward = shared | {
        "modality": modalities[1],
        "source_kind": config.source_kind,
        "labels": list(config.labels),
        "white_level": dataset.source.white_level,
    }
    back: dict[str, Any] = shared | {
        "modality": modalities[0],
        "source_kind": "image",
        "labels": [],
        "white_level": dataset.target.white_level,
    }
    return {"G": forward, "G_A": forward, "G_B": back}


def _seed(config: TrainGanConfig, number: int) -> int:
    """Of network `number` of a method: no two runs with neighbouring seeds share a network."""
    return 2**20 * config.seed + number
