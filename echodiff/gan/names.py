"""Names of networks and layers that settings may choose. No torch here."""

from collections.abc import Iterable
from typing import Literal

GeneratorName = Literal[
    "unet_256",
    "unet_128",
    "resnet_6",
    "resnet_9",
    "resnet_6_antialiased",
    "resnet_9_antialiased",
    "patch_cgan",
    "cnn",
    "srgan_x2",
]
DiscriminatorName = Literal["patch", "patch_antialiased"]
Norm = Literal["instance", "batch"]
Adversarial = Literal["squares", "log"]
ANTIALIASED = "_antialiased"
"""How names of networks end whose sampling is anti-aliased."""


def find_forward(names: Iterable[str]) -> str:
    """Name of the generator from source to target among the networks of a method."""
    return "G_A" if "G_A" in names else "G"
