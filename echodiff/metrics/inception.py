"""clean-fid's Inception: where its file lies. `torchscript` runs it.

The file is the TorchScript `inception-2015-12-05.pt` published with StyleGAN2-ADA. It is looked for
at ECHODIFF_INCEPTION, in echodiff's cache folder and where clean-fid keeps it, and downloaded into
the cache folder otherwise. Only the one file with the known checksum is ever called Inception: a
download that was cut short, or another network, is refused by name.
"""

import http.client
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from echodiff.errors import InputError
from echodiff.files import written_beside
from echodiff.progress import ProgressBar
from echodiff.runs import sha256_file

FILE_NAME = "inception-2015-12-05.pt"
URL = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{FILE_NAME}"
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""Of the 95,607,719 bytes at URL; the digest that k-diffusion's evaluation checks as well."""
ENVIRONMENT = "ECHODIFF_INCEPTION"
CACHE_ENVIRONMENT = "ECHODIFF_CACHE"
TIMEOUT_S = 20.0


class InceptionMissing(InputError):  # noqa: N818 (a missing part, not an error of the program)
    """The Inception file is not here and could not be had; one line says what to do."""


def cache_folder() -> Path:
    """echodiff's folder for what is fetched or computed once; it may be deleted at any time.

    ECHODIFF_CACHE names it; else it lies in XDG_CACHE_HOME, or in `~/.cache`.
    """
    if given := os.environ.get(CACHE_ENVIRONMENT):
        return Path(given)
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "echodiff"


def find_inception(*, download: bool = True) -> Path:
    """Path of the checked Inception file; InceptionMissing where it cannot be had."""
    if given := os.environ.get(ENVIRONMENT):
        path = Path(given) / FILE_NAME if Path(given).is_dir() else Path(given)
        if not path.is_file():
            raise InceptionMissing(f"{ENVIRONMENT}: no file {path}")
        return _checked(path)
    cached = cache_folder() / FILE_NAME
    if cached.is_file():
        return _checked(cached)
    # clean-fid leaves a cut download behind as if it were whole: take only a sound one.
    of_cleanfid = Path(tempfile.gettempdir()) / FILE_NAME
    if of_cleanfid.is_file() and sha256_file(of_cleanfid) == SHA256:
        return of_cleanfid
    if not download:
        raise InceptionMissing(_advice("not found"))
    _download(cached)
    return cached


def _checked(path: Path) -> Path:
    digest = sha256_file(path)
    if digest != SHA256:
        raise InceptionMissing(
            f"{path}: not clean-fid's Inception, or cut short (sha256 {digest[:12]}..., "
            f"expected {SHA256[:12]}...); give another network as --features PATH"
        )
    return path


def _download(target: Path) -> None:
    """Fetch URL to `target`: whole, of the right checksum, or not at all."""
    try:
        with (
            urllib.request.urlopen(URL, timeout=TIMEOUT_S) as response,
            written_beside(target) as partial,
        ):
            total = int(response.headers.get("Content-Length") or 0) or None
            with (
                partial.open("wb") as file,
                ProgressBar(desc="Inception", total=total, unit="B", unit_scale=True) as progress,
            ):
                while chunk := response.read(1 << 20):
                    file.write(chunk)
                    progress.update(len(chunk))
            _checked(partial)
    except InceptionMissing as error:
        raise InceptionMissing(_advice("the download was cut short or changed")) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        # urllib wraps the socket's own error as the reason of its URLError.
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        reason = (cause.strerror if isinstance(cause, OSError) else None) or cause
        raise InceptionMissing(_advice(f"not downloaded ({reason})")) from error


def _advice(state: str) -> str:
    return (
        f"Inception weights {state}: fetch {URL} on a machine with network "
        f"and set {ENVIRONMENT} to the file"
    )
