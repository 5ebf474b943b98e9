"""Scan every file of the upload folder for identifiers, secrets and embedded images.

Looks for tokens, absolute paths, patient identifiers, DICOM tags, unexpected files, and bytes
hidden behind an image or a tensor. A finding blocks the push; no finding is not a proof.
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
    """A finding that blocks the push."""

    file: str
    """Relative to the folder, with forward slashes."""
    message: str
    """What was found and where; secrets are never repeated."""


@dataclass(frozen=True)
class Known:
    """Words of this machine and of these data that no general rule can know."""

    secrets: Mapping[str, str] = field(default_factory=dict)
    """Text that must not appear, and what it is."""
    private_words: PrivateWords = field(default_factory=lambda: PrivateWords(()))
    """Names of patients and files of the training."""
    harmless: frozenset[str] = frozenset()
    """Numbers of the recipe that look like a date or a record number, such as the seed."""


KEYWORDS = "identifying_dicom_keywords.txt"
"""File in `echodiff/assets`, one keyword per line."""

_TAG = re.compile(r"\(\s*[\dA-Fa-f]{4}\s*,\s*[\dA-Fa-f]{4}\s*\)")
_TAG_KEY = re.compile(r"[\dA-Fa-f]{8}")
_CAMEL = re.compile(r"\b[A-Z][a-z]+[A-Z][A-Za-z]*\b")
_SHORT_HASH = re.compile(r"SHA-256 `?[\da-f]{12}\b")
"""As cards show them; some consist of digits only."""
_OF_THE_FORMAT = frozenset({
    "model-index.name", "model-index.results.task.name", "model-index.results.dataset.name",
    "model-index.results.metrics.name",
})  # fmt: skip
"""Keys of the Hub's model card that look like those of a person."""
_TENSOR = re.compile(
    r"unet\.[\w.]{1,200}\.lora(?:_[AB]|\.up|\.down)\.weight"
    r"|lora_unet_\w{1,200}\.(?:lora_(?:up|down)\.weight|alpha)"
    r"|base_model\.model\.[\w.]{1,200}\.lora_[AB]\.weight"
    r"|(?:adapter|conv_in|time_embedding|down_blocks|mid_block|up_blocks|controlnet_[a-z]+_[a-z]+)"
    r"\.[\w.]{0,200}(?:weight|bias)"
)
"""Names of tensors: of an adapter in the layouts of diffusers, kohya and peft, of a ControlNet, and
of a T2IAdapter."""
_MOST_AXES = 4
_DATA_URI = re.compile(r"\bdata:[\w.+-]*/?[\w.+-]*(?:;[\w=.+-]{1,40})*,", re.IGNORECASE)
"""An image or another file embedded in a page; its content is not scanned."""
_PRIVACY_FIELDS = frozenset({
    "verdict", "passed", "reasons", "weights_sha256", "base_sha256", "data_sha256", "n", "attacks",
    "ceiling", "sets", "not_tested", "means_not", "settings", "seed", "versions", "reduced",
})  # fmt: skip
_MANIFEST_FIELDS = frozenset({"kind", "echodiff", "files"})
_BLOB = re.compile(r"[\w+/=-]{200,}")
"""Longer than any word or hash: possibly an image in hexadecimal or base 64."""
_MOST_NUMBERS = 500
"""Longest list of numbers; no score has more, but an image does."""
_LONGEST_METADATA = 20_000
"""Characters in the header of weights."""
_SMALLEST_NUMBER = 1_000_000
"""Whole numbers from here on are scanned as text: they can hold a record number."""


def scan_folder(folder: Path, allowed: Sequence[str], known: Known) -> list[Finding]:
    """Find everything in `folder` that blocks a push; `allowed`: patterns of permitted names."""
    findings: list[Finding] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            findings.append(Finding(name, "is a link"))
        elif path.is_file():
            if not any(fnmatch(name, pattern) for pattern in allowed):
                findings.append(Finding(name, "is not one of the files that a push writes"))
            findings += (Finding(name, message) for message in scan_file(path, known))
    return findings


def scan_file(path: Path, known: Known) -> Iterator[str]:
    """Yield what is wrong with one file, each message once."""
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
        seen[f"has an unexpected form ({' '.join(str(error).split())[:120]})"] = None
    yield from seen


def _read_texts(path: Path, data: bytes) -> Iterator[tuple[str, str]]:
    """Yield (key, text) of everything in a file that can be read as text.

    ValueError if the file holds something that a file of its name must not hold.
    """
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
            _check_png(path, data)
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
        yield f"holds {len(blob.group())} characters without a space: possibly an image{where}"
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
                kind = kind.removeprefix("identifier-")
                yield f"holds {found!r}, possibly the {kind} of a person{where}"


def _walk(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, text) of a JSON value: field names, texts, and large whole numbers.

    ValueError for a list that could hold an image.
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            below = f"{key}.{name}" if key else str(name)
            yield below, str(name)
            yield from _walk(inner, below)
    elif isinstance(value, list | tuple):
        if sum(isinstance(inner, int | float | list) for inner in value) > _MOST_NUMBERS:
            raise ValueError(f"a list of {len(value)} numbers at {key}: possibly an image")
        for inner in value:
            yield from _walk(inner, key)
    elif isinstance(value, str):
        yield key, value
    elif isinstance(value, int | float) and value == value // 1 >= _SMALLEST_NUMBER:
        yield key, str(int(value))


def _load_yaml(name: str, text: str) -> Any:
    """Parse a settings file, which consists of `key: value` lines only."""
    if re.search(r"(?:^|\s)#", re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)):
        raise ValueError("it holds comments")
    value = parse_yaml(text)
    _check_fields(name, value)
    return value


def _check_fields(name: str, value: Any) -> None:
    """Raise ValueError for a field that a push does not write."""
    match name:
        case _ if name == MANIFEST:
            allowed = _MANIFEST_FIELDS
        case _ if name == PRIVACY:
            allowed = _PRIVACY_FIELDS
        case _ if name == CONFIG:
            from echodiff.diffusion.controlnet_config import TrainControlNetConfig
            from echodiff.diffusion.lora_config import TrainLoraConfig

            configs = (TrainLoraConfig, TrainControlNetConfig)
            allowed = frozenset(f.name for one in configs for f in dataclasses.fields(one))
        case _:
            return
    if strange := sorted(set(map(str, value)) - allowed):
        raise ValueError(f"it has the unknown field {strange[0]!r}")


def _read_header(data: bytes) -> dict[str, Any]:
    """Read the header of a safetensors file.

    ValueError for bytes outside the tensors, and for a tensor that is not part of an adapter.
    """
    if len(data) < 8:
        raise ValueError("it is cut short")
    (length,) = struct.unpack("<Q", data[:8])
    header = parse_json(data[8 : 8 + length])
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    size = sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in tensors.values())
    if 8 + length + end != len(data) or size != end:
        raise ValueError("it holds bytes outside its tensors")
    for name, entry in tensors.items():
        if not _TENSOR.fullmatch(name) or len(entry["shape"]) > _MOST_AXES:
            raise ValueError(f"{name!r} is not a tensor of an adapter")
    metadata = header.get("__metadata__", {})
    if len(json.dumps(metadata)) > _LONGEST_METADATA:
        raise ValueError(f"it holds more than {_LONGEST_METADATA:,} characters of metadata")
    return {"names": [name.replace(".", " ") for name in tensors], "metadata": metadata}


def _check_png(path: Path, data: bytes) -> None:
    """Raise ValueError for a PNG that carries anything but pixels."""
    read_size(path)
    carried = [*read_embedded(path), *find_beyond_pixels(data, is_strict=True)]
    if data[25] not in (0, 2):  # the colour type of IHDR
        carried.append("an alpha channel or a palette")
    if carried:
        raise ValueError(f"it carries more than pixels: {', '.join(sorted(carried))}")


def _read_markdown(text: str) -> Iterator[tuple[str, str]]:
    """Yield the metadata by key, then the text.

    Lines of the shipped data cards are left out: they name data sets and their authors.
    """
    if text.startswith("---\n"):
        _, head, text = text.split("---\n", 2)
        for key, value in _walk(parse_yaml(head)):
            if not (key == "license_link" and f"license_link: {value}" in _shipped_lines()):
                yield key, value
    if _DATA_URI.search(unquote(html.unescape(text))):
        raise ValueError("it embeds a file (data:...)")
    plain = "\n".join(line for line in text.split("\n") if line not in _shipped_lines())
    yield "", plain
    # The text as a browser shows it.
    if (shown := unquote(html.unescape(plain))) != plain:
        yield "", shown


@functools.cache
def _shipped_lines() -> frozenset[str]:
    cards = shipped("data_cards").glob("*.md")
    return frozenset(line for card in cards for line in card.read_text("utf-8").split("\n"))


@functools.cache
def _identifying_keywords() -> frozenset[str]:
    """Return the keywords of all DICOM tags that the Basic Profile of PS3.15 removes.

    The list is shipped, because pydicom is an optional package.
    """
    return frozenset((resources.files("echodiff") / "assets" / KEYWORDS).read_text("utf-8").split())
