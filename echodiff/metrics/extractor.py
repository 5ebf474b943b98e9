"""Networks with the interface of clean-fid's `custom_feat_extractor`, fed as clean-fid feeds them.

Such a network takes float32 (B, 3, 299, 299) in 0..255 and returns a tensor (B, D). It comes from
a TorchScript file (`torchscript`) or is a function of the user's own, named `module:function`.
"""

import importlib
import inspect
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from echodiff.errors import InputError
from echodiff.training.precision import ieee_float32

SIDE = 299
RESIZE = f"{SIDE} bicubic antialiased, one channel, float (clean-fid's)"
BATCH_SIZE = 32
FLOAT32 = "ieee"
"""Not TF32, in which a feature would depend on the card."""
INTERFACE = f"float32 (B, 3, {SIDE}, {SIDE}) in 0..255 to a tensor (B, D)"

Extractor = Callable[[torch.Tensor], Any]


def best_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_arithmetic() -> str:
    """What decides a feature beside the weights; features of other arithmetic are not mixed."""
    return f"{best_device().type}, float32 {FLOAT32}"


def resize_for_extractor(images_u8: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """Grey images (H, W), of any sizes -> float32 (N, 299, 299) in 0..255.

    Within 4e-3 grey levels of Pillow's bicubic on floats, which clean-fid uses, and 5e-4 in the
    mean. One channel is resized and expanded afterwards: R=G=B, so the other two come out equal.
    """
    rows_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, image in enumerate(images_u8):
        if image.ndim != 2 or image.dtype != np.uint8:
            raise ValueError(f"grey uint8 image (H, W) expected, got {image.dtype} {image.shape}")
        rows_of[image.shape].append(row)
    resized = torch.empty(len(images_u8), SIDE, SIDE)
    for rows in rows_of.values():
        same_size = torch.from_numpy(np.stack([images_u8[row] for row in rows])).float()
        larger = F.interpolate(
            same_size[:, None], size=(SIDE, SIDE), mode="bicubic", antialias=True
        )
        resized[rows] = larger[:, 0].clamp_(0.0, 255.0)
    return resized


@torch.inference_mode()
def embed_with_extractor(
    extractor: Extractor, images_u8: Sequence[NDArray[np.uint8]]
) -> NDArray[np.float64]:
    """Features (N, D) of grey images (H, W), of any sizes, N >= 1."""
    features = []
    device = best_device()
    for start in range(0, len(images_u8), BATCH_SIZE):
        batch = resize_for_extractor(images_u8[start : start + BATCH_SIZE])[:, None].to(device)
        with ieee_float32():
            output = extractor(batch.expand(-1, 3, -1, -1))
        if not isinstance(output, torch.Tensor) or output.ndim < 2 or len(output) != len(batch):
            given = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output)
            raise InputError(
                f"the network must turn {INTERFACE}, a row per image; it gave {given} for "
                f"{len(batch)} images"
            )
        features.append(output.flatten(1).double().cpu().numpy())
    return np.concatenate(features)


def count_features(extractor: Extractor) -> int:
    """D of a network, found by showing it two black images; InputError where it does not fit."""
    try:
        return embed_with_extractor(extractor, [np.zeros((8, 8), dtype=np.uint8)] * 2).shape[1]
    except InputError:
        raise
    except Exception as error:  # a foreign network may raise anything
        raise InputError(
            f"does not take {INTERFACE} ({type(error).__name__}: {_last_line(error)})"
        ) from error


def import_function(name: str, folder: Path | None = None) -> tuple[Extractor, Path]:
    """The function that `module:function` names, and the file that its source lies in.

    Modules are looked for where Python looks for them, but not in the working folder, where a file
    of anybody's may lie; and then in `folder`.
    """
    module_name, _, function_name = name.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), function_name]):
        raise InputError("neither a file nor module:function")
    if folder is not None and not folder.is_dir():
        raise InputError(f"--features-path {folder}: no such folder")
    try:
        with _searching(folder):
            module = importlib.import_module(module_name)
    except Exception as error:  # a foreign module may raise anything
        hint = ""
        if folder is None and isinstance(error, ModuleNotFoundError):
            hint = "; --features-path FOLDER looks for it there too, `.` in the working folder"
        raise InputError(f"{_last_line(error)}{hint}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f"{module_name} has no function {function_name}")
    try:
        source = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:  # a network, say, made at the top of the module
        source = module.__file__
    if source is None or not Path(source).is_file():
        raise InputError("no source file by which to tell it from another")
    return function, Path(source)


@contextmanager
def _searching(folder: Path | None) -> Iterator[None]:
    """Import without the working folder, which `python -m` puts first; then with `folder`, last, so
    that nothing of Python's is hidden. It stays: functions may import when they are called."""
    here, before = Path.cwd(), list(sys.path)
    sys.path[:] = [place for place in before if Path(place or ".").resolve() != here]
    added = [] if folder is None else [str(folder.resolve())]
    sys.path += added
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before + [place for place in added if place not in before]


def _last_line(error: BaseException) -> str:
    """What an error says; TorchScript ends its own trace with that."""
    return (str(error).strip().splitlines() or [""])[-1]
