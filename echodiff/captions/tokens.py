"""Split a report into tokens: parts of the heart, their states, and the words between."""

import re
import unicodedata
from collections.abc import Iterator
from enum import Enum, auto
from functools import cache
from typing import NamedTuple

from echodiff.captions import spellings, terms


class Kind(Enum):
    """What a token does in a sentence."""

    PART = auto()
    """Part of the heart, or several; `-` is a structure without findings."""
    STATE = auto()
    """What a part is like: dilated, thick, open, normal."""
    MENTION = auto()
    """Part and state in one term, such as ASD."""
    ASPECT = auto()
    """Size or thickness."""
    QUALIFIER = auto()
    """Grade, kind or size of a finding."""
    NEGATION = auto()
    """Denies the words after it."""
    DENIAL = auto()
    """Denies the words before it, or those after it where none are before."""
    DOUBT = auto()
    PAST = auto()
    RELATIVE = auto()
    """Somebody else's heart: family history."""
    REPAIR = auto()
    """Closure of a defect, drainage of an effusion: what remains of it is not known."""
    PLANNED = auto()
    """The repair is still to come."""
    AFFIRMED = auto()
    AND = auto()
    OR = auto()
    NOR = auto()
    COMMA = auto()
    LINK = auto()
    """Begins a phrase of its own: with, but, due to."""
    EXCEPT = auto()
    OF = auto()
    ONLY = auto()
    """Limits a finding to the part that follows: "confined to"."""
    STUDY = auto()
    """The examination: normal, it makes the heart normal."""
    COLON = auto()
    STOP = auto()
    """End of a sentence."""
    LEFT = auto()
    """Opening bracket."""
    RIGHT = auto()
    IDIOM = auto()
    """Fixed phrase that says nothing of a finding: "for age"."""
    WORD = auto()
    """Any other word."""


class Token(NamedTuple):
    """A term of a report, or a word or mark between terms."""

    kind: Kind
    value: str
    """Canonical term; of a part, its parts separated by spaces."""
    is_noun: bool = False
    """Whether a state is named by a noun ("hypertrophy"), not an adjective ("thickened")."""


_MARKS = {
    ".": Kind.STOP, "!": Kind.STOP, "\n": Kind.STOP, ";": Kind.LINK, ",": Kind.COMMA,
    "(": Kind.LEFT, "[": Kind.LEFT, ")": Kind.RIGHT, "]": Kind.RIGHT, "/": Kind.AND,
    "?": Kind.DOUBT, "&": Kind.AND, "+": Kind.AND, ":": Kind.COLON,
}  # fmt: skip
OTHER = "-"
"""A structure without findings."""
_WORDS = re.compile(
    r"""
    (?:approx|ca|dil|enl|incl|max|min|mod|resp|sev|vs)[.](?=[ ]?[a-z0-9(])  # short forms
    | [^\W_]+ (?:[-'/.][^\W_]+)*
    | (?<!\d) : | : (?!\d) | [ ]-(?=[ ]) | [.!;,()\[\]/?&+\n]
    """,
    re.VERBOSE,
)
_SIGN = re.compile(
    r"""
    [(] ([+]+|-+|[+]/-) [)]
    | (?<=\w) [ ]?:?[ ]? ([+]/-|±|[+]+|-+) (?: ve\b | [ ]* (?=[,;.\n]|\Z) | (?<=:[ ].) (?=[ ]))
    | (?<=\w) [ ]?:?[ ]? ([+]{2,})
    """,
    re.VERBOSE,
)
"""Signs after a term: "ASD -, VSD: +, LAE ++", "ASD -ve", "LVH (+)"."""
_SIGNS = {"-": "negative", "+": "positive", "+/-": "possible", "±": "possible"}
_INSIDE = re.compile(r"([-'/.])")


def read_tokens(text: str) -> list[Token]:
    """Return the tokens of a report in English, of any case and spelling."""
    words = list(_list_words(text))
    phrases, longest = _load_phrases()
    tokens = []
    place = 0
    while place < len(words):
        for length in range(min(longest, len(words) - place), 0, -1):
            found = phrases.get(tuple(words[place : place + length]))
            if found is not None:
                tokens.append(found)
                break
        else:
            length, mark = 1, words[place]
            tokens.append(Token(_MARKS.get(mark, Kind.WORD), mark))
        place += length
    return tokens


def _list_words(text: str) -> Iterator[str]:
    """Canonical words and marks, in order; fillers are left out."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    text = text.translate(dict.fromkeys(map(ord, "‐‑‒–—−"), "-"))
    text = text.replace("↑", " increased ").replace("↓", " reduced ")
    text = _SIGN.sub(_name_sign, text)
    for match in _WORDS.finditer(text):
        word = ":" if match[0] == " -" else match[0]
        yield from _spell(word.removesuffix(".") if len(word) > 1 else word)
        if match[0] == "?" and not text[match.end() :][:1].isalnum():
            yield "."


def _name_sign(sign: re.Match[str]) -> str:
    mark = sign[1] or sign[2] or sign[3]
    return f" {_SIGNS.get(mark) or _SIGNS[mark[0]]}, "


def _spell(word: str) -> Iterator[str]:
    """Canonical words of a written word: "LV-hypertrophy" gives left, ventricle, hypertrophy."""
    known = _load_spellings()
    if word in known:
        yield from known[word]
    elif word in _MARKS or (word[0].isdigit() and word[-1].isdigit()):
        yield word
    else:
        for part in _INSIDE.split(word):
            if part in "./" and part:
                yield part
            elif part not in ("", "-", "'", "s"):
                yield from known.get(part, (part,))


@cache
def _load_spellings() -> dict[str, tuple[str, ...]]:
    """Canonical words of every word that has others."""
    words: dict[str, tuple[str, ...]] = dict.fromkeys(spellings.FILLERS.split(), ())
    for canonical, others in _list_entries(spellings.SPELLINGS):
        words[canonical] = (canonical,)
        words |= dict.fromkeys(others.split(), (canonical,))
    for canonical, others in _list_entries(spellings.SHORT_FORMS):
        words |= dict.fromkeys(others.split(), tuple(canonical.split()))
    return words


@cache
def _load_phrases() -> tuple[dict[tuple[str, ...], Token], int]:
    """Token of every term by its canonical words, and the number of words of the longest."""
    phrases: dict[tuple[str, ...], Token] = {}

    def add(kind: Kind, value: str, term: str) -> None:
        for words in _expand(term.rstrip("*")):
            phrases.setdefault(words, Token(kind, value or " ".join(words), term.endswith("*")))

    tables = ((Kind.MENTION, terms.MENTIONS), (Kind.PART, terms.PARTS), (Kind.STATE, terms.STATES))
    for kind, table in tables:
        for value, listed in _list_entries(table):
            for term in listed.split(";"):
                add(kind, value, term.strip())
    for name, listed in _list_entries(terms.FUNCTION_WORDS):
        for term in listed.split(";"):
            add(Kind[name], "", term.strip())
    for noun in terms.OTHER_NOUNS.split():
        add(Kind.PART, OTHER, noun)
    return phrases, max(map(len, phrases))


def _list_entries(table: str) -> Iterator[tuple[str, str]]:
    """Meaning and terms of every entry of a table; a line indented further continues it."""
    lines = [line for line in table.splitlines() if line.strip()]
    indent = min(len(line) - len(line.lstrip()) for line in lines)
    entry = ""
    for line in [*lines, " " * indent + ":"]:
        if line[indent] != " " and entry:
            meaning, _, listed = entry.partition(":")
            yield meaning.strip(), listed.strip()
            entry = ""
        entry += " " + line.strip()


def _expand(term: str) -> Iterator[tuple[str, ...]]:
    """Every reading of a term as words: "{a|b} c" is a c, and b c."""
    before, brace, rest = term.partition("{")
    if not brace:
        yield tuple(term.replace(",", " , ").split())
        return
    depth, end = 1, 0
    while depth:
        depth += {"{": 1, "}": -1}.get(rest[end], 0)
        end += 1
    for choice in _split_choices(rest[: end - 1]):
        yield from _expand(f"{before}{choice}{rest[end:]}")


def _split_choices(inner: str) -> list[str]:
    """Parts of "a|{b|c} d" at the bars outside of braces."""
    choices, depth = [""], 0
    for letter in inner:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "|" and not depth:
            choices.append("")
        else:
            choices[-1] += letter
    return choices
