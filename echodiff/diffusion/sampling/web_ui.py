"""Remove the syntax of web UIs from prompts: weights, LoRA tags, negative prompts, settings.

The text encoder would read them as words. The syntax is AUTOMATIC1111's, which others share:
github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features.
"""

import re
from typing import NamedTuple

TAGS = "<lora:...> and like tags are left out: --weights names the adapter, --lora-scale its scale"
WEIGHTS = "(words:1.2), ((words)) and [words] are read as their words: weights are not supported"
SETTINGS = "lines of settings (Steps: 20, Sampler: ...) are left out: flags set them"

_NEGATIVE = re.compile(r"\bnegative prompt:\s*", re.IGNORECASE)
_SETTINGS = re.compile(r"(?:^|[\s,])Steps: \d+(?:, .*)?$")
_TAG = re.compile(r"<[A-Za-z]+:[^<>]*>")
_EDITED = re.compile(r"(?<!\\)\[[^\[\]]*[:|][^\[\]]*\]")
_WEIGHTED = (
    re.compile(r"(?<!\\)\(([^()]*[^()\s]):\d*\.?\d+\)"),
    # Only from the first bracket of a row: from every one of them the time would be its square.
    re.compile(r"(?<!\\)(?<!(?<!\\)\()\(\(+([^()]*)\)\)+"),
    re.compile(r"(?<!\\)\[([^\[\]]*)\]"),
)
_ESCAPED = re.compile(r"\\([()\[\]])")


class Cleaned(NamedTuple):
    """Text without the markup of web UIs."""

    text: str
    said: frozenset[str]
    """What was taken out: some of the sentences above."""


def split_negative(line: str) -> tuple[str, str | None]:
    """Split a line into its prompt and its `Negative prompt:`, or None."""
    prompt, *rest = _NEGATIVE.split(line, maxsplit=1)
    return prompt.strip(), rest[0].strip() if rest else None


def cut_settings(line: str) -> Cleaned:
    """Remove the settings that a web UI writes after a prompt."""
    text = _SETTINGS.sub("", line)
    return Cleaned(text, frozenset({SETTINGS} if text != line else ()))


def clean(text: str) -> Cleaned:
    """Return the words of a prompt; ValueError for prompts that change during sampling."""
    said = set()
    if edited := _EDITED.search(text):
        raise ValueError(f"{edited[0]} changes during sampling, which is not supported")
    words = _TAG.sub("", text)
    if words != text:
        said.add(TAGS)
        words = re.sub(r"\s*,(?:\s*,)*", ",", words).strip(" ,")
    plain = words
    while (simpler := _unwrap(plain)) != plain:
        plain = simpler
    plain = _ESCAPED.sub(r"\1", plain)
    if plain != words:
        said.add(WEIGHTS)
    return Cleaned(" ".join(plain.split()), frozenset(said))


def _unwrap(text: str) -> str:
    for pattern in _WEIGHTED:
        text = pattern.sub(r"\1", text)
    return text
