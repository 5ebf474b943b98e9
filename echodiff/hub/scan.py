"""The last look before anything goes up: every file of the folder, whatever wrote it.

Tokens, absolute paths, patient identifiers, DICOM tags, files that are not on the list, and bytes
that hide behind a picture or a tensor. Rules for forms: what they find stops the push; that they
find nothing is no proof.
"""

from __future__ import annotations

import functools
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from echodiff.config import InputError
from echodiff.data.check.disclosure import find_identifiers, is_identifying_column
from echodiff.files import shipped
from echodiff.images import read_embedded, read_size


class Finding(NamedTuple):
    """Something that must not leave the house."""

    file: str
    """Relative to the folder, with forward slashes."""
    message: str
    """What it is and where; a secret is never repeated."""


@dataclass(frozen=True)
class Known:
    """Words of this machine and of these data, which no rule for forms could know."""

    secrets: Mapping[str, str] = field(default_factory=dict)
    """Text that must not appear -> what it is."""
    private_words: frozenset[str] = frozenset()
    """Patients and files of the training."""
    harmless: frozenset[str] = frozenset()
    """Numbers of the recipe that look like a date or a record's number: a seed."""


_TOKENS = tuple(
    (name, re.compile(form))
    for name, form in (
        ("a Hugging Face token", rb"\bhf_[A-Za-z0-9]{20,}|\bapi_org_[A-Za-z0-9]{20,}"),
        ("a GitHub token", rb"\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{40,}"),
        ("a GitLab token", rb"\bglpat-[\w-]{20,}"),
        ("an API key", rb"\bsk-[A-Za-z0-9_-]{20,}|\bxox[abprs]-[\w-]{20,}"),
        ("an AWS key", rb"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
        ("a private key", rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
        ("a JSON web token", rb"\beyJ[\w-]{15,}\.eyJ[\w-]{15,}\."),
        ("a password in an address", rb"\b[a-z]{3,10}://[^\s/:@]+:[^\s/@]+@"),
    )
)
_PATH = re.compile(
    r"(?<![\w/:.)\]>~-])/(?!/)(?:[\w.@+~-]+/)+[\w.@+~-]*"  # /home/jane/frames, not in an address
    r"|(?<![\w/:.)\]>~-])/(?:home|root|Users|mnt|media|data|scratch|tmp|var|opt|srv)\b"
    r"|file:/+\S+|(?<!\w)~/[\w.-]+|\b[A-Za-z]:[\\/](?!/)[\w.\\/ -]+|\\\\[\w.-]+\\[\w.$-]+"
)
_TAG = re.compile(r"\(\s*[\dA-Fa-f]{4}\s*,\s*[\dA-Fa-f]{4}\s*\)")
_TAG_KEY = re.compile(r"[\dA-Fa-f]{8}")
_CAMEL = re.compile(r"\b[A-Z][a-z]+(?:[A-Z][A-Za-z]*)+\b")
_SHORT_HASH = re.compile(r"SHA-256 `?[\da-f]{12}\b")
"""As the cards give them: some are digits alone."""
_OF_THE_FORMAT = frozenset({
    "model-index.name", "model-index.results.task.name", "model-index.results.dataset.name",
    "model-index.results.metrics.name",
})  # fmt: skip
"""Keys of the Hub's model card that are called as a person's would be."""
_WORD = re.compile(r"[\w.^-]+")
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def scan_folder(folder: Path, allowed: Sequence[str], known: Known) -> list[Finding]:
    """Everything in `folder` that stops a push; `allowed` are patterns of the names that may go."""
    findings: list[Finding] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            findings.append(Finding(name, "a link"))
        elif path.is_file():
            if not any(fnmatch(name, pattern) for pattern in allowed):
                findings.append(Finding(name, "is not on the list of what may go up"))
            findings += (Finding(name, message) for message in scan_file(path, known))
    return findings


def scan_file(path: Path, known: Known) -> Iterator[str]:
    """What is wrong with one file, message by message; each only once."""
    data = path.read_bytes()
    yield from _scan_bytes(data, known)
    try:
        match path.suffix:
            case ".safetensors":
                texts = _walk(_read_header(data))
            case ".json":
                texts = _walk(json.loads(data))
            case ".jsonl":
                texts = _walk([json.loads(line) for line in data.split(b"\n") if line.strip()])
            case ".yaml":
                texts = _walk(yaml.safe_load(data))
            case ".png":
                texts = _read_picture(path, data)
            case _:
                texts = _read_markdown(data.decode("utf-8"))
        seen: dict[str, None] = {}
        for key, text in texts:
            for message in _scan_text(key, text, known):
                seen[message] = None
        yield from seen
    except (ValueError, yaml.YAMLError, InputError) as error:
        yield f"cannot be read as what its name says ({' '.join(str(error).split())[:120]})"


def _scan_bytes(data: bytes, known: Known) -> Iterator[str]:
    if data[128:132] == b"DICM":
        yield "is a DICOM file"
    for what, form in _TOKENS:
        if form.search(data):
            yield f"holds {what}"
    for secret, what in known.secrets.items():
        if secret.encode() in data:
            yield f"holds {what}"


def _scan_text(key: str, text: str, known: Known) -> Iterator[str]:
    where = f" (at {key})" if key else ""
    for keyword in _CAMEL.findall(f"{key.rpartition('.')[2]} {text}"):
        if keyword in _identifying_keywords():
            yield f"holds the DICOM tag {keyword}{where}"
    if (tag := _TAG.search(text)) or _TAG_KEY.fullmatch(key.rpartition(".")[2]):
        yield f"holds the DICOM tag {tag.group() if tag else key}{where}"
    if found := _PATH.search(text):
        yield f"holds an absolute path, {found.group()!r}{where}"
    if key not in _OF_THE_FORMAT and is_identifying_column(key.rpartition(".")[2]):
        yield f"has a field that identifies people or devices{where}"
    words = {word.strip("._-") for word in _WORD.findall(text)}
    for word in sorted(words & known.private_words):
        yield f"names a patient or a file of the training, {word!r}{where}"
    text = _SHORT_HASH.sub(" ", text)
    for number in known.harmless:
        text = re.sub(rf"(?<!\w){re.escape(number)}(?!\w)", " ", text)
    for kind, found_text in find_identifiers(text):
        yield f"holds {found_text!r}, {kind.removeprefix('identifier-')} of a person?{where}"


def _walk(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, text) of everything in a JSON value that is text; numbers tell no name."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            below = f"{key}.{name}" if key else str(name)
            yield below, ""
            yield from _walk(inner, below)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _walk(inner, key)
    elif isinstance(value, str):
        yield key, value


def _read_header(data: bytes) -> dict[str, Any]:
    """The header of a safetensors file; ValueError where bytes lie outside of its tensors."""
    if len(data) < 8:
        raise ValueError("cut short")
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    if 8 + length + end != len(data):
        raise ValueError("bytes beyond its tensors")
    names = {name.replace(".", " "): "" for name in tensors}
    return {"names": " ".join(names), "metadata": header.get("__metadata__", {})}


def _read_picture(path: Path, data: bytes) -> Iterator[tuple[str, str]]:
    read_size(path)
    if not data.endswith(_PNG_END):
        raise ValueError("bytes beyond the picture")
    carried = read_embedded(path)
    if carried:
        raise ValueError(f"carries more than pixels: {', '.join(sorted(carried))}")
    return iter(())


def _read_markdown(text: str) -> Iterator[tuple[str, str]]:
    """Metadata by key, where numbers are numbers, then the text without the lines of the shipped
    data cards, which name data sets and their authors."""
    if text.startswith("---\n"):
        _, head, text = text.split("---\n", 2)
        yield from _walk(yaml.safe_load(head))
    yield "", "\n".join(line for line in text.split("\n") if line not in _shipped_lines())


@functools.cache
def _shipped_lines() -> frozenset[str]:
    cards = shipped("data_cards").glob("*.md")
    return frozenset(line for card in cards for line in card.read_text("utf-8").split("\n"))


@functools.cache
def _identifying_keywords() -> frozenset[str]:
    """Keywords of all DICOM tags that the Basic Profile of PS3.15 would remove."""
    from pydicom.datadict import DicomDictionary
    from pydicom.tag import Tag

    from echodiff.data.identifiers import is_identifying

    return frozenset(
        keyword
        for number, (vr, _, _, _, keyword) in DicomDictionary.items()
        if keyword and is_identifying(Tag(number), vr, keyword, "")
    )
