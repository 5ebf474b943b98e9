"""Split a report into tokens: parts of the heart, their states, and the words between."""

import re
import unicodedata
from collections.abc import Iterator
from enum import Enum, auto
from functools import cache
from typing import NamedTuple

from echodiff.captions import terms


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
    """Closure of a defect: what remains of it is not known."""
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
    STOP = auto()
    """End of a sentence."""
    LEFT = auto()
    """Opening bracket."""
    RIGHT = auto()
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
    "?": Kind.DOUBT, "(-)": Kind.DENIAL, "(+)": Kind.AFFIRMED, "&": Kind.AND, "+": Kind.AND,
}  # fmt: skip
OTHER = "-"
"""A structure without findings."""
LINE = 40
"""Letters from which a line counts as broken where the next begins with a small letter."""
_WORDS = re.compile(
    r"""
    (?:approx|ca|dil|enl|incl|max|min|mod|resp|sev|vs)[.](?=[ ]?[a-z0-9(])  # short forms
    | [(][-+][)]
    | [^\W_]+ (?:[-'/.][^\W_]+)*
    | [.!;,()\[\]/?&+\n]
    """,
    re.VERBOSE,
)
_SIGN = re.compile(r"(?<=\w) ?([-+])(?:ve\b| *(?=[,;.\n]|\Z))")
"""Plus and minus after a term: "ASD -, VSD +", "ASD -ve"."""
_SIGNS = {"-": "negative", "+": "positive"}
_INSIDE = re.compile(r"([-'/.])")
_DANGLING = frozenset({
    "of", "no", "or", "in", "is", "the", "a", "an", "and", "with", "without", "out", "are", "for",
    "not", "at", "to",
})  # fmt: skip
"""Words after which a sentence goes on in the next line."""


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
    text = unicodedata.normalize("NFKC", _join_lines(text)).lower().replace("’", "'")
    text = text.translate(dict.fromkeys(map(ord, "‐‑‒–—−"), "-"))
    text = text.replace("↑", " increased ").replace("↓", " reduced ")
    text = _SIGN.sub(lambda sign: f" {_SIGNS[sign[1]]} ", text)
    for match in _WORDS.finditer(text):
        word = match[0]
        yield from _spell(word.removesuffix(".") if len(word) > 1 else word)
        if match[0] == "?" and not text[match.end() :][:1].isalnum():
            yield "."


def _join_lines(text: str) -> str:
    """Join lines that were broken inside a sentence."""
    joined = ""
    for line in text.splitlines():
        last = joined.rpartition("\n")[2].rstrip()
        is_wrapped = len(last) >= LINE and line.lstrip()[:1].islower()
        is_open = last.rpartition(" ")[2].lower() in _DANGLING
        joined = f"{joined.rstrip()} {line}" if is_wrapped or is_open else f"{joined}\n{line}"
    return joined


def _spell(word: str) -> Iterator[str]:
    """Canonical words of a written word: "LV-hypertrophy" gives left, ventricle, hypertrophy."""
    spellings = _load_spellings()
    if word in spellings:
        yield from spellings[word]
    elif word in _MARKS or (word[0].isdigit() and word[-1].isdigit()):
        yield word
    else:
        for part in _INSIDE.split(word):
            if part in "./" and part:
                yield part
            elif part not in ("", "-", "'", "s"):
                yield from spellings.get(part, (part,))


@cache
def _load_spellings() -> dict[str, tuple[str, ...]]:
    """Canonical words of every word that has others."""
    spellings: dict[str, tuple[str, ...]] = dict.fromkeys(terms.FILLERS.split(), ())
    for canonical, others in _list_entries(terms.SPELLINGS):
        spellings[canonical] = (canonical,)
        spellings |= dict.fromkeys(others.split(), (canonical,))
    for canonical, others in _list_entries(terms.SHORT_FORMS):
        spellings |= dict.fromkeys(others.split(), tuple(canonical.split()))
    return spellings


@cache
def _load_phrases() -> tuple[dict[tuple[str, ...], Token], int]:
    """Token of every term by its canonical words, and the number of words of the longest."""
    phrases: dict[tuple[str, ...], Token] = {}

    def add(kind: Kind, value: str, term: str) -> None:
        for words in _expand(term.rstrip("*")):
            phrases.setdefault(words, Token(kind, value, term.endswith("*")))

    tables = ((Kind.MENTION, terms.MENTIONS), (Kind.PART, terms.PARTS), (Kind.STATE, terms.STATES))
    for kind, table in tables:
        for value, listed in _list_entries(table):
            for term in listed.split(";"):
                add(kind, value, term.strip())
    for name, listed in _list_entries(terms.FUNCTION_WORDS):
        for term in listed.split(";"):
            add(Kind[name], term.strip(), term.strip())
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
