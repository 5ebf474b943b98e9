"""Feature networks by name: what a distance between image sets is measured in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echodiff.config import InputError
from echodiff.metrics import inception, texture
from echodiff.runs import sha256_file

FEATURE_NAMES = ("inception", "tiny", "texture")
Embed = Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float64]]
PADDED = "padded to a square with black, then "
"""What `measure_frames` does before the network's own resize."""


@dataclass(frozen=True, kw_only=True)
class FeatureNetwork:
    """A map from grey images (H, W) uint8, of any sizes, to features (N, D) float64."""

    name: str
    """inception, tiny, texture, or the stem of a file."""
    sha256: str
    """Of the weights; of version and constants where there are no weights."""
    num_features: int
    resize: str
    """What every frame goes through first; features of other resizes are not comparable."""
    embed: Embed = field(repr=False)

    def __call__(self, images_u8: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        if not len(images_u8):
            return np.zeros((0, self.num_features))
        features = np.asarray(self.embed(images_u8), dtype=np.float64)
        if not np.isfinite(features).all():
            raise InputError(f"--features {self.name}: the network gave NaN or infinity")
        return features

    @property
    def frechet_name(self) -> str:
        """`fid` with Inception alone; a Frechet distance in other features is not an FID."""
        return "fid" if self.name == "inception" else f"fd_{self.name}"


def load_features(name: str) -> FeatureNetwork:
    """Open `inception`, `tiny`, `texture`, or a TorchScript file by its path.

    A file must take float32 (B, 3, 299, 299) in 0..255 and return (B, D), as clean-fid's
    `custom_feat_extractor` does. InceptionMissing (an InputError) where the weights of Inception
    cannot be had: callers say its one line and go on with `tiny`.
    """
    match name:
        case "texture":
            return FeatureNetwork(
                name=name,
                sha256=texture.sha256(),
                num_features=texture.NUM_FEATURES,
                resize=PADDED + texture.RESIZE,
                embed=texture.compute_texture_features,
            )
        case "tiny":
            return _load_tiny()
        case "inception":
            return _load_inception()
    path = Path(name)
    if not path.is_file():
        raise InputError(f"--features: no file {name}; or one of {', '.join(FEATURE_NAMES)}")
    return _load_file(path)


def _load_tiny() -> FeatureNetwork:
    from echodiff.metrics import tiny_features

    judge = tiny_features.load_tiny_features()
    return FeatureNetwork(
        name="tiny",
        sha256=judge.sha256,
        num_features=tiny_features.NUM_FEATURES,
        resize=f"{PADDED}{tiny_features.SIZE} antialiased (the network's own)",
        embed=judge.embed,
    )


def _load_inception() -> FeatureNetwork:
    from echodiff.metrics import torchscript

    path = inception.find_inception()
    network = torchscript.build_inception(torchscript.load_torchscript(path))
    return FeatureNetwork(
        name="inception",
        sha256=inception.SHA256,
        num_features=2048,
        resize=PADDED + torchscript.RESIZE,
        embed=lambda images_u8: torchscript.embed_with_torchscript(network, images_u8),
    )


def _load_file(path: Path) -> FeatureNetwork:
    from echodiff.metrics import torchscript

    if path.stem in FEATURE_NAMES:
        raise InputError(f"--features {path}: rename the file, `{path.stem}` means another network")
    network = torchscript.load_torchscript(path)

    def embed(images_u8: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        return torchscript.embed_with_torchscript(network, images_u8)

    try:
        probe = embed([np.zeros((8, 8), dtype=np.uint8)])
    except RuntimeError as error:
        raise InputError(f"--features {path}: does not take float32 (B, 3, 299, 299)") from error
    return FeatureNetwork(
        name=path.stem,
        sha256=sha256_file(path),
        num_features=probe.shape[1],
        resize=PADDED + torchscript.RESIZE,
        embed=embed,
    )
