"""Feature networks by name: what a distance between image sets is measured in."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echodiff.errors import InputError
from echodiff.metrics import inception, texture
from echodiff.runs import sha256_file

FEATURE_NAMES = ("inception", "tiny", "texture", "dinov2", "rad-dino")
Embed = Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float64]]
PADDED = "padded to a square with black, then "
"""What `measure_frames` does before the network's own resize."""


@dataclass(frozen=True, kw_only=True)
class FeatureNetwork:
    """A map from grey images (H, W) uint8, of any sizes, to features (N, D) float64."""

    name: str
    """One of FEATURE_NAMES, the stem of a file, the name of a folder or of a function."""
    sha256: str
    """Of the weights, or of a function's source; of version and constants where there are none."""
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


def load_features(name: str, *, trust: bool = False, modules: Path | None = None) -> FeatureNetwork:
    """Open a network by one of FEATURE_NAMES, or by what else `--features` takes.

    - The path of a TorchScript file, or `module:function`: float32 (B, 3, 299, 299) in 0..255 to
      (B, D), as clean-fid's `custom_feat_extractor`.
    - A folder of transformers weights in safetensors, of a network with a class token.

    trust: open TorchScript files; they are programs, which can read and write files. modules: a
    folder in which modules are looked for besides the installed ones.

    Features are kept on disk (`with_cache`), but for functions: what they load is not in the hash.
    InceptionMissing (an InputError) where the weights of Inception cannot be had: callers say its
    one line and go on with `tiny`.
    """
    match name:
        case "texture":
            return _load_texture()
        case "tiny":
            return _load_tiny()
        case "inception":
            return _load_inception()
        case "dinov2" | "rad-dino":
            from echodiff.metrics import vision_transformers

            return _load_transformer(name, vision_transformers.find_weights(name))
    path = Path(name)
    if path.is_dir():
        return _load_transformer(_own_name(path.resolve().name, name), path)
    if path.is_file():
        return _load_file(_own_name(path.stem, name), path, trust=trust)
    if ":" in name:
        return _load_function(_own_name(name.rpartition(":")[2], name), name, modules)
    raise InputError(
        f"--features: no file {name}; or one of {', '.join(FEATURE_NAMES)}, or module:function"
    )


def with_cache(
    network: FeatureNetwork, folder: Path | None = None, *, code: str = ""
) -> FeatureNetwork:
    """The same network, its features kept in `folder` (by default in `inception.cache_folder()`).

    A picture is known again by its pixels, and only for the same hash, resize and `code`: whatever
    else the features depend on. `feature_cache` has the layout.
    """
    from echodiff.metrics.feature_cache import FORMAT, FeatureCache

    root = inception.cache_folder() / "features" if folder is None else folder
    key = "\0".join([FORMAT, network.sha256, network.resize, code])
    name = f"{network.name[:40]}-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    cache = FeatureCache(root / name, network.num_features)
    return replace(network, embed=lambda images_u8: cache.embed(images_u8, network))


def _own_name(name: str, given: str) -> str:
    if name in FEATURE_NAMES:
        raise InputError(f"--features {given}: rename it, `{name}` means another network")
    return name


def _load_texture() -> FeatureNetwork:
    network = FeatureNetwork(
        name="texture",
        sha256=texture.sha256(),
        num_features=texture.NUM_FEATURES,
        resize=PADDED + texture.RESIZE,
        embed=texture.compute_texture_features,
    )
    return with_cache(network, code=sha256_file(Path(texture.__file__)))


def _load_tiny() -> FeatureNetwork:
    from echodiff.metrics import tiny_features

    judge = tiny_features.load_tiny_features()
    network = FeatureNetwork(
        name="tiny",
        sha256=judge.sha256,
        num_features=tiny_features.NUM_FEATURES,
        resize=f"{PADDED}{tiny_features.SIZE} antialiased (the network's own)",
        embed=judge.embed,
    )
    return with_cache(network, code=sha256_file(Path(tiny_features.__file__)))


def _load_inception() -> FeatureNetwork:
    from echodiff.metrics import torchscript
    from echodiff.metrics.extractor import describe_arithmetic

    path = inception.find_inception()
    extractor = torchscript.load_inception(path)
    network = _fed_as_cleanfid("inception", inception.SHA256, 2048, extractor)
    return with_cache(network, code=describe_arithmetic())


def _load_transformer(name: str, folder: Path) -> FeatureNetwork:
    from echodiff.metrics.extractor import describe_arithmetic
    from echodiff.metrics.vision_transformers import VisionTransformer

    network = VisionTransformer(folder)
    return with_cache(
        FeatureNetwork(
            name=name,
            sha256=network.sha256,
            num_features=network.num_features,
            resize=PADDED + network.resize,
            embed=network.embed,
        ),
        code=describe_arithmetic(),
    )


def _load_file(name: str, path: Path, *, trust: bool) -> FeatureNetwork:
    from echodiff.metrics import torchscript
    from echodiff.metrics.extractor import count_features, describe_arithmetic

    if not trust:
        raise InputError(
            f"--features {path}: a TorchScript file is a program, which can read and write files; "
            "--trust runs it"
        )
    extractor = torchscript.load_torchscript(path)
    with _naming(path):
        num_features = count_features(extractor)
    network = _fed_as_cleanfid(name, sha256_file(path), num_features, extractor)
    return with_cache(network, code=describe_arithmetic())


def _load_function(name: str, given: str, modules: Path | None) -> FeatureNetwork:
    from echodiff.metrics.extractor import count_features, import_function

    with _naming(given):
        function, source = import_function(given, modules)
        num_features = count_features(function)
    return _fed_as_cleanfid(name, sha256_file(source), num_features, function)


def _fed_as_cleanfid(
    name: str, sha256: str, num_features: int, extractor: Callable[..., Any]
) -> FeatureNetwork:
    from echodiff.metrics.extractor import RESIZE, embed_with_extractor

    def embed(images_u8: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        with _naming(name):
            return embed_with_extractor(extractor, images_u8)

    return FeatureNetwork(
        name=name, sha256=sha256, num_features=num_features, resize=PADDED + RESIZE, embed=embed
    )


@contextmanager
def _naming(given: str | Path) -> Iterator[None]:
    """Say which network an error is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"--features {given}: {error}") from error
