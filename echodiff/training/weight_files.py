"""Open weight files from other programs, and explain what an unsuitable file is."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from echodiff.errors import InputError

_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights: `git lfs pull` fetches them"),
    (b"# xet version", "a Xet pointer, not the weights: `git xet` or `hf download` fetches them"),
    (b"<", "a web page, not the weights: download the file itself"),
    (b"GGUF", "a GGUF file: give a .safetensors file"),
)
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Yield the opened safetensors file; InputError, with the reason, if `path` is not one."""
    try:
        with safe_open(path, framework="pt") as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        reason = name_content(path, is_pickle_known=False) or _shorten(error)
        raise InputError(f"{path}: not a safetensors file: {reason}") from error


def name_content(path: Path, *, is_pickle_known: bool) -> str | None:
    """Tell by its first bytes what a file without weights is, and what to do; None if unknown."""
    try:
        with path.open("rb") as file:
            start = file.read(512).lstrip()
    except OSError:
        return None
    if not start:
        return "empty: download it again"
    for beginning, kind in _BEGINNINGS:
        if start.startswith(beginning):
            return kind
    if start.startswith(_PICKLES) and not is_pickle_known:
        return "a pickle under another name, which can run code when opened"
    return None


def _shorten(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if "incomplete" in text.lower() or "MetadataIncompleteBuffer" in text:
        return "cut short: download it again"
    return text
