"""Scan every file of the upload folder for identifiers, secrets and training images.

Tokens, absolute paths, patient identifiers, DICOM tags, files that are not on the list, and bytes
that hide behind a picture or a tensor. Rules for forms: what they find stops the push; that they
find nothing is no proof.
"""

from __future__ import annotations

import dataclasses
import functools
import html
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from echodiff.data.check.disclosure import find_identifiers, is_identifying_column
from echodiff.data.check.file_bytes import find_beyond_pixels
from echodiff.documents import parse_json, parse_yaml
from echodiff.embedded import read_embedded
from echodiff.files import shipped
from echodiff.hub.private_words import PrivateWords
from echodiff.images import read_size
from echodiff.published import CONFIG, MANIFEST, PRIVACY


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
    private_words: PrivateWords = field(default_factory=lambda: PrivateWords(()))
    """Patients and files of the training."""
    harmless: frozenset[str] = frozenset()
    """Numbers of the recipe that look like a date or a record's number: a seed."""


KEYWORDS = "identifying_dicom_keywords.txt"
"""Shipped in `echodiff/assets`, a keyword a line."""

_TAG = re.compile(r"\(\s*[\dA-Fa-f]{4}\s*,\s*[\dA-Fa-f]{4}\s*\)")
_TAG_KEY = re.compile(r"[\dA-Fa-f]{8}")
_CAMEL = re.compile(r"\b[A-Z][a-z]+[A-Z][A-Za-z]*\b")
_SHORT_HASH = re.compile(r"SHA-256 `?[\da-f]{12}\b")
"""As the cards give them: some are digits alone."""
_OF_THE_FORMAT = frozenset({
    "model-index.name", "model-index.results.task.name", "model-index.results.dataset.name",
    "model-index.results.metrics.name",
})  # fmt: skip
"""Keys of the Hub's model card that are called as a person's would be."""
_TENSOR = re.compile(
    r"unet\.[\w.]{1,200}\.lora(?:_[AB]|\.up|\.down)\.weight"
    r"|lora_unet_\w{1,200}\.(?:lora_(?:up|down)\.weight|alpha)"
)
"""Names that an adapter's tensors have, in diffusers' layout and in kohya's."""
_MOST_AXES = 4
_DATA_URI = re.compile(r"\bdata:[\w.+-]*/?[\w.+-]*(?:;[\w=.+-]{1,40})*,", re.IGNORECASE)
"""An image or anything else inside a page: nothing looks at what it shows."""
_PRIVACY_FIELDS = frozenset({
    "weights_sha256", "data_sha256", "settings", "attacks", "ceiling", "verdict", "not_tested",
    "n", "seed", "versions",
})  # fmt: skip
_MANIFEST_FIELDS = frozenset({"kind", "echodiff", "files"})
_BLOB = re.compile(r"[\w+/=-]{200,}")
"""No word or hash is as long: an image, in hexadecimal or base 64?"""
_MOST_NUMBERS = 500
"""Of a list: no score has as many, an image has."""
_LONGEST_METADATA = 20_000
"""Characters in the header of weights."""
_SMALLEST_NUMBER = 1_000_000
"""Whole numbers from here on are read as text too: a record number fits into them."""


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
    if data[128:132] == b"DICM":
        yield "is a DICOM file"
    for secret, what in known.secrets.items():
        if secret.encode() in data:
            yield f"holds {what}"
    seen: dict[str, None] = {}
    try:
        for key, text in _read_texts(path, data):
            for message in _scan_text(key, text, known):
                seen[message] = None
    except ValueError as error:
        seen[f"cannot be read as what its name says ({' '.join(str(error).split())[:120]})"] = None
    yield from seen


def _read_texts(path: Path, data: bytes) -> Iterator[tuple[str, str]]:
    """(key, text) of everything in a file that can be read as text; ValueError where it has what
    a file of its name has not."""
    match path.suffix:
        case ".safetensors":
            yield from _walk(_read_header(data))
        case ".json":
            value = parse_json(data)
            _check_fields(path.name, value)
            yield from _walk(value)
        case ".jsonl":
            for line in data.split(b"\n"):
                if line.strip():
                    yield from _walk(parse_json(line))
        case ".yaml":
            yield from _walk(_load_yaml(path.name, data.decode("utf-8")))
        case ".png":
            _check_picture(path, data)
        case _:
            yield from _read_markdown(data.decode("utf-8"))


def _scan_text(key: str, text: str, known: Known) -> Iterator[str]:
    where = f" (at {key})" if key else ""
    for keyword in _CAMEL.findall(f"{key.rpartition('.')[2]} {text}"):
        if keyword in _identifying_keywords():
            yield f"holds the DICOM tag {keyword}{where}"
    if (tag := _TAG.search(text)) or _TAG_KEY.fullmatch(key.rpartition(".")[2]):
        yield f"holds the DICOM tag {tag.group() if tag else key}{where}"
    if key not in _OF_THE_FORMAT and is_identifying_column(key.rpartition(".")[2]):
        yield f"has a field that identifies people or devices{where}"
    for word in known.private_words.find(text):
        yield f"names a patient or a file of the training, {word!r}{where}"
    if blob := _BLOB.search(text):
        yield f"holds {len(blob.group())} characters without a space: an image?{where}"
    text = _SHORT_HASH.sub(" ", text)
    for number in known.harmless:
        text = re.sub(rf"(?<!\w){re.escape(number)}(?!\w)", " ", text)
    for kind, found in find_identifiers(text):
        match kind:
            case "credential":
                yield f"holds {found}{where}"
            case "identifier-place":
                yield f"holds a path or an address, {found!r}{where}"
            case _:
                yield f"holds {found!r}, {kind.removeprefix('identifier-')} of a person?{where}"


def _walk(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, text) of a JSON value: names of fields, texts, and large whole numbers; ValueError for
    a list that could hold an image."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            below = f"{key}.{name}" if key else str(name)
            yield below, str(name)
            yield from _walk(inner, below)
    elif isinstance(value, list | tuple):
        if sum(isinstance(inner, int | float | list) for inner in value) > _MOST_NUMBERS:
            raise ValueError(f"a list of {len(value)} numbers at {key}: an image?")
        for inner in value:
            yield from _walk(inner, key)
    elif isinstance(value, str):
        yield key, value
    elif isinstance(value, int | float) and value == value // 1 >= _SMALLEST_NUMBER:
        yield key, str(int(value))


def _load_yaml(name: str, text: str) -> Any:
    """A settings file, of which this software writes `key: value` lines alone."""
    if re.search(r"(?:^|\s)#", re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)):
        raise ValueError("holds comments")
    value = parse_yaml(text)
    _check_fields(name, value)
    return value


def _check_fields(name: str, value: Any) -> None:
    """ValueError for fields that this software does not write."""
    match name:
        case _ if name == MANIFEST:
            allowed = _MANIFEST_FIELDS
        case _ if name == PRIVACY:
            allowed = _PRIVACY_FIELDS
        case _ if name == CONFIG:
            from echodiff.diffusion.lora_config import TrainLoraConfig

            allowed = frozenset(f.name for f in dataclasses.fields(TrainLoraConfig))
        case _:
            return
    if strange := sorted(set(map(str, value)) - allowed):
        raise ValueError(f"has the unknown field {strange[0]!r}")


def _read_header(data: bytes) -> dict[str, Any]:
    """The header of a safetensors file; ValueError where bytes lie outside of its tensors, or a
    tensor is none of an adapter."""
    if len(data) < 8:
        raise ValueError("cut short")
    (length,) = struct.unpack("<Q", data[:8])
    header = parse_json(data[8 : 8 + length])
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    size = sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in tensors.values())
    if 8 + length + end != len(data) or size != end:
        raise ValueError("bytes beyond its tensors")
    for name, entry in tensors.items():
        if not _TENSOR.fullmatch(name) or len(entry["shape"]) > _MOST_AXES:
            raise ValueError(f"{name!r} is no tensor of an adapter")
    metadata = header.get("__metadata__", {})
    if len(json.dumps(metadata)) > _LONGEST_METADATA:
        raise ValueError(f"more than {_LONGEST_METADATA:,} characters of metadata")
    return {"names": [name.replace(".", " ") for name in tensors], "metadata": metadata}


def _check_picture(path: Path, data: bytes) -> None:
    """ValueError for a PNG that carries anything but pixels."""
    read_size(path)
    carried = [*read_embedded(path), *find_beyond_pixels(data, is_strict=True)]
    if data[25] not in (0, 2):  # the colour type of IHDR
        carried.append("an alpha channel or a palette")
    if carried:
        raise ValueError(f"carries more than pixels: {', '.join(sorted(carried))}")


def _read_markdown(text: str) -> Iterator[tuple[str, str]]:
    """Metadata by key, where numbers are numbers, then the text without the lines of the shipped
    data cards, which name data sets and their authors."""
    if text.startswith("---\n"):
        _, head, text = text.split("---\n", 2)
        for key, value in _walk(parse_yaml(head)):
            if not (key == "license_link" and f"license_link: {value}" in _shipped_lines()):
                yield key, value
    if _DATA_URI.search(unquote(html.unescape(text))):
        raise ValueError("a file is embedded in it (data:...)")
    plain = "\n".join(line for line in text.split("\n") if line not in _shipped_lines())
    yield "", plain
    # As a browser shows it.
    if (shown := unquote(html.unescape(plain))) != plain:
        yield "", shown


@functools.cache
def _shipped_lines() -> frozenset[str]:
    cards = shipped("data_cards").glob("*.md")
    return frozenset(line for card in cards for line in card.read_text("utf-8").split("\n"))


@functools.cache
def _identifying_keywords() -> frozenset[str]:
    """Keywords of all DICOM tags that the Basic Profile of PS3.15 would remove.

    A list that is shipped, not read from pydicom, which is an optional package here.
    """
    return frozenset((resources.files("echodiff") / "assets" / KEYWORDS).read_text("utf-8").split())
