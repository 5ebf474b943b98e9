"""Search a text for patient and file names of a training, in any spelling."""

import functools
import re
import unicodedata
from collections.abc import Iterable

from echodiff.files import shipped

SHORTEST = 5
"""Fewest letters and digits of a name that is searched for; shorter ones match by chance."""
_SHORTEST_ACROSS = 6
"""The same for a name that is also found across spaces and punctuation."""


class PrivateWords:
    """Names that must not appear, whatever their case, accents, separators, suffixes and zeros.

    `krd-0012_A4C` is found as `KRD 0012 a4c`, in `xkrd0012a4cx` and in `krd0012A4C.png`. The digits
    of a name are also found alone if there are five or more.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.unsearchable: set[str] = set()
        """Names that are too short, or that are common words of captions."""
        self._across: dict[str, str] = {}
        self._within: dict[str, str] = {}
        self._digits: dict[str, str] = {}
        for name in sorted(set(names)):
            self._add(name)
        self._lengths = {len(word) for word in self._across}
        self._lengths_within = {len(word) for word in self._within}

    def _add(self, name: str) -> None:
        word = re.sub(r"[\W_]+", "", _fold(name))
        digits = re.sub(r"\D", "", word).lstrip("0")
        is_number = word.isdecimal()
        if len(digits) >= SHORTEST:
            self._digits[digits] = name
        elif is_number or len(word) < SHORTEST or _is_ordinary(word):
            self.unsearchable.add(name)
        if is_number or len(word) < SHORTEST or _is_ordinary(word):
            return
        has_digits = any(map(str.isdecimal, word))
        if len(word) >= _SHORTEST_ACROSS and (has_digits or len(word) >= 9):
            self._across[word] = name
        else:
            self._within[word] = name

    def find(self, text: str) -> list[str]:
        """Return the names found in `text`, as they were given, sorted."""
        if not (self._across or self._within or self._digits):
            return []
        folded = _fold(text)
        found = set(_find_in(re.sub(r"[\W_]+", "", folded), self._across, self._lengths))
        for token in set(re.findall(r"[^\W_]+", folded)):
            found.update(_find_in(token, self._within, self._lengths_within))
        for number in set(re.findall(r"\d+", folded)):
            # Generated images are numbered with leading zeros: 000012.png is not patient 12.
            if (name := self._digits.get(number.lstrip("0"))) is not None:
                found.add(name)
        return sorted(found)


def _find_in(text: str, words: dict[str, str], lengths: Iterable[int]) -> set[str]:
    """Names whose word is anywhere in `text`: one look-up per position and length."""
    return {
        words[text[start : start + length]]
        for length in lengths
        for start in range(len(text) - length + 1)
        if text[start : start + length] in words
    }


def _fold(text: str) -> str:
    """Convert to lower case and compatible forms, without accents."""
    text = unicodedata.normalize("NFKD", text).casefold()
    return "".join(letter for letter in text if not unicodedata.combining(letter))


def _is_ordinary(word: str) -> bool:
    """Whether the word is, or is part of, a word of the shipped prompts, cards and presets."""
    return any(word in known for known in _ordinary_words())


@functools.cache
def _ordinary_words() -> frozenset[str]:
    places = [*shipped("prompts").glob("*.txt"), *shipped("templates").glob("*.jinja"),
              *shipped("data_cards").glob("*.md"), *shipped("presets").glob("*.yaml")]  # fmt: skip
    words = {
        word
        for path in places
        for word in re.findall(r"[^\W\d_]+", _fold(path.read_text(encoding="utf-8")))
    }
    return frozenset(words)
