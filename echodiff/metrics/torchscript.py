"""Feature networks in TorchScript files."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from echodiff.errors import InputError
from echodiff.metrics import inception
from echodiff.metrics.extractor import Extractor, best_device


def load_torchscript(path: Path) -> Any:
    """Open a TorchScript file for inference on the best device; InputError names a broken file."""
    with _deprecation_ignored():
        try:
            network = torch.jit.load(str(path), map_location=best_device())
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{path}: not a TorchScript file, or a damaged one") from error
    return network.eval()


def load_inception(path: Path) -> Extractor:
    """clean-fid's own network, of a file that `find_inception` has checked: (B, 3, 299, 299) in
    0..255 -> (B, 2048)."""
    from cleanfid.inception_torchscript import InceptionV3W

    with _deprecation_ignored(), tempfile.TemporaryDirectory() as place:
        folder = path.parent
        if path.name != inception.FILE_NAME:  # the only name that clean-fid looks for
            folder = Path(place)
            shutil.copyfile(path, folder / inception.FILE_NAME)
        network = InceptionV3W(str(folder), download=False, resize_inside=False)
    return network.to(best_device()).eval()


@contextmanager
def _deprecation_ignored() -> Iterator[None]:
    """Torch 2.15 deprecates TorchScript, the one form in which Inception is published."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield
