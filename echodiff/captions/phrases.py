"""Split the sentences of a report into phrases, and pair states with parts of the heart."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import pairwise
from typing import NamedTuple

from echodiff.captions.headings import name_members
from echodiff.captions.tokens import OTHER, Kind, Token

CONTENT = frozenset({Kind.PART, Kind.STATE, Kind.MENTION})
"""Tokens that speak of the heart."""
CHAMBERS = frozenset({"LV", "RV", "LA", "RA"})
VAGUE = {"VENTRICLE": ("LV", "RV"), "ATRIUM": ("LA", "RA")}
"""Parts without a side; a denial is of both."""
ANSWER = "answer"
"""State of an item that answers the sentence before."""
_GENERAL = frozenset({"normal", "abnormal"})
_LINKS = frozenset({Kind.COMMA, Kind.AND, Kind.OR, Kind.NOR, Kind.LINK, Kind.EXCEPT})
JOINED = frozenset({Kind.AND, Kind.OR, Kind.NOR})
"""Links within a list, besides the comma."""


class Mode(Enum):
    """How a phrase speaks of an item."""

    STATED = auto()
    DENIED = auto()
    DOUBTED = auto()
    PAST = auto()
    NARROWED = auto()
    """Denied of one kind or grade only ("no large ASD"): nothing is known of the others."""
    DROPPED = auto()
    """Of somebody else's heart."""


class Item(NamedTuple):
    """A state of parts of the heart, or a term for both (then `state` is the term)."""

    parts: tuple[str, ...]
    state: str
    mode: Mode
    is_general: bool = False
    """Whether its phrase names nothing that it might be about: "no dilatation"."""


@dataclass
class Phrase:
    """Tokens between two links, and what they say."""

    link: Kind
    """What joins it to the phrase before."""
    tokens: list[Token]
    word: str = ""
    """The link itself."""
    pairs: list[tuple[int, tuple[str, ...], str]] = field(default_factory=list)
    """Place, parts and state; no parts for a term that names both."""
    modes: list[Mode] = field(default_factory=list)
    """Mode of each pair."""
    carried: Mode = Mode.STATED
    """Mode that the phrase before hands on."""
    source: "Phrase | None" = None
    """Phrase whose state it shares."""

    @property
    def parts(self) -> tuple[str, ...]:
        named = [t.value for t in self.tokens if t.kind is Kind.PART]
        return tuple(part for value in named for part in value.split())

    @property
    def content(self) -> list[Token]:
        return [token for token in self.tokens if token.kind in CONTENT]

    def has(self, *kinds: Kind) -> bool:
        return any(token.kind in kinds for token in self.tokens)

    @property
    def is_subject(self) -> bool:
        """Whether it names parts and says nothing of them."""
        kinds = {token.kind for token in self.content}
        is_told = self.has(Kind.DENIAL, Kind.DOUBT) or not {OTHER, "HEART"}.isdisjoint(self.parts)
        is_place = any(  # "in the septum"
            token.kind is Kind.OF and (place or token.value != "of")
            for place, token in enumerate(self.tokens)
        )
        is_measured = any(token.value[:1].isdigit() for token in self.tokens)
        is_other = any(  # "atrial fibrillation"
            token.value in VAGUE and after.kind is Kind.WORD
            for token, after in pairwise(self.tokens)
        )
        return kinds == {Kind.PART} and not (is_place or is_told or is_measured or is_other)

    @property
    def is_state(self) -> bool:
        """Whether it names states and no parts."""
        return {token.kind for token in self.content} == {Kind.STATE}

    def take_state(self, state: str, source: "Phrase") -> None:
        """Take over the state of another phrase."""
        if self.has(Kind.ASPECT) and any(token.value == "thickness" for token in self.tokens):
            state = {"normal size": "normal thickness"}.get(state, state)
        parts = self.parts or source.pairs[0][1]
        self.pairs, self.source = [(len(self.tokens), parts, state)], source

    @property
    def is_term(self) -> bool:
        """Whether it is a bare term ("ASD", "left atrial enlargement"), without a verb."""
        states = [token for token in self.content if token.kind is not Kind.PART]
        return (
            bool(states)
            and all(token.kind is Kind.MENTION or token.is_noun for token in states)
            and not self.has(Kind.NEGATION, Kind.DENIAL, Kind.DOUBT, Kind.PAST, Kind.QUALIFIER)
            and not any(t.kind is Kind.AFFIRMED and t.value != "seen" for t in self.tokens)
        )

    @property
    def starts_with_state(self) -> bool:
        return bool(self.content) and self.content[0].kind is Kind.STATE


def open_brackets(tokens: list[Token]) -> list[Token]:
    """Put what brackets hold in its place: words on the term before, or a sentence of its own."""
    plain: list[Token] = []
    later: list[Token] = []
    inside: list[Token] | None = None
    for token in [*tokens, Token(Kind.STOP, ".")]:
        if token.kind is Kind.LEFT and inside is None:
            inside = []
        elif inside is not None and token.kind in (Kind.RIGHT, Kind.STOP):
            kinds = {t.kind for t in inside}
            named = {t.value for t in inside if t.kind is Kind.PART} - {OTHER}
            if not kinds & {Kind.STATE, Kind.NEGATION} and not (
                kinds & {Kind.MENTION} and kinds & {Kind.LINK, Kind.AFFIRMED, Kind.DOUBT, Kind.PAST}
            ):
                plain = [*name_members(plain, inside), *inside]
            elif not named and Kind.MENTION not in kinds:
                kept = [t for t in inside if t.kind is not Kind.COMMA]
                plain += [t._replace(value="not") if t.value == "without" else t for t in kept]
            else:
                later += [*inside, Token(Kind.STOP, ".")]
            inside = None
            if token.kind is Kind.STOP:
                plain += [token, *later]
                later = []
        elif inside is not None:
            inside.append(token)
        elif token.kind is Kind.STOP:
            plain += [token, *later]
            later = []
        elif token.kind is not Kind.RIGHT:
            plain.append(token)
    return plain


def split_sentences(tokens: list[Token]) -> Iterator[list[Token]]:
    sentence: list[Token] = []
    for token in tokens:
        if token.kind is not Kind.STOP:
            sentence.append(token)
        elif sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def split_phrases(sentence: list[Token]) -> list[Phrase]:
    phrases = [Phrase(Kind.LINK, [])]
    for token in sentence:
        is_without = token.kind is Kind.NEGATION and token.value == "without"
        if token.kind in _LINKS or is_without:
            link = Kind.LINK if is_without else token.kind
            if phrases[-1].tokens:
                phrases.append(Phrase(link, [], token.value))
            elif link is not Kind.COMMA:
                phrases[-1].link, phrases[-1].word = link, token.value  # ", and" is "and"
            if token.kind is Kind.NOR or is_without:
                phrases[-1].tokens.append(Token(Kind.NEGATION, token.value))
        else:
            phrases[-1].tokens.append(token)
    phrases = [phrase for phrase in phrases if phrase.tokens]
    for phrase in phrases:
        _absorb(phrase)
        phrase.pairs = list(_pair(phrase))
    return phrases


def _absorb(phrase: Phrase) -> None:
    """Join nouns: "left ventricular function" and "function of the LV" are no chamber."""
    tokens: list[Token] = []
    for token in phrase.tokens:
        before = tokens[-1] if tokens else None
        if token.kind is Kind.WORD and before == (Kind.NEGATION, "non", False):
            tokens[-1] = Token(Kind.QUALIFIER, "non")  # "non-ischaemic"
            continue
        if token.kind is Kind.PART and before is not None:
            is_of = (
                before == (Kind.OF, "of", False)
                and len(tokens) > 1
                and tokens[-2].kind is Kind.PART
            )
            first = tokens[-2] if is_of else before
            if first.kind is Kind.PART and (OTHER in (first.value, token.value)):
                if not is_of or first.value == OTHER:
                    del tokens[-2 if is_of else -1 :]
                    token = Token(Kind.PART, OTHER)
            elif is_of and first.kind is Kind.PART:
                del tokens[-2:]
                token = Token(Kind.PART, _join_parts(first.value, token.value))
        tokens.append(token)
    last = len(tokens) - 1
    phrase.tokens = [
        Token(Kind.DOUBT if t.value == "not" else Kind.DENIAL, t.value)
        if t.kind is Kind.NEGATION and t.value != "without" and place == last and place > 0
        else t
        for place, t in enumerate(tokens)
    ]


def _join_parts(first: str, second: str) -> str:
    """Parts of "walls of the left ventricle"."""
    if second == "HEART":
        return first
    if first in ("WALL", "MV TV"):
        named = [f"{part}-wall" for part in second.split() if part in ("LV", "RV")]
        return " ".join(named) if named and first == "WALL" else first
    return second


def _pair(phrase: Phrase) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """Pair states with the parts before them or, if there are none, after them."""
    tokens = phrase.tokens
    aspects = {token.value for token in tokens if token.kind is Kind.ASPECT}
    states = [place for place, token in enumerate(tokens) if token.kind is Kind.STATE]
    has_term = any(token.kind is Kind.MENTION for token in tokens)
    limit = next((place for place, token in enumerate(tokens) if token.kind is Kind.ONLY), None)
    claimed: set[int] = set()
    for number, place in enumerate(states):
        state = _resolve(tokens[place].value, aspects, phrase.parts)
        if state is None:
            continue
        start = states[number - 1] if number else -1
        end = states[number + 1] if number + 1 < len(states) else len(tokens)
        before = _find_parts(tokens, start, place, state) - claimed
        if Kind.OF in {t.kind for t in tokens[max(before, default=0) : place]}:
            before = set()  # "vegetation on the thickened valve"
        after = _find_parts(tokens, place, end, state)
        chosen = before or after or _find_parts(tokens, -1, len(tokens), state)
        if limit is not None and state == "hypertrophied":  # "hypertrophy confined to the septum"
            chosen = _find_parts(tokens, limit, len(tokens), state)
        claimed |= chosen
        names = [tokens[i].value for i in sorted(chosen)]
        is_general = state.split()[0] in _GENERAL
        if is_general and _names_other(tokens[place + 1 :]):  # "normal function", "normal output"
            continue
        if OTHER in names and (is_general or set(names) == {OTHER}):
            continue
        parts = tuple(p for name in names for p in name.split() if p != OTHER)
        if state == "normal" and not names and _names_study(tokens):
            parts = ("HEART",)
        if tokens[place].value == "concentric":
            parts = parts or ("LV",)
        if parts or not has_term:
            yield place, parts, state
    for place, token in enumerate(tokens):
        if token.kind is Kind.MENTION:
            septa = tuple(part for part in phrase.parts if part in ("IAS", "IVS", "SEPTUM"))
            if limit is not None and token.value == "lvh":
                yield place, septa, "hypertrophied"
            elif token.value == "septal-defects" and (septa := tuple(s for s in septa if s != "SEPTUM")):
                yield place, septa, "open"
            else:
                yield place, (), token.value


def _names_other(after: list[Token]) -> bool:
    """Whether a structure without findings, or an unknown one, follows."""
    return bool(after) and (after[0].kind is Kind.WORD or after[0] == Token(Kind.PART, OTHER))


def _names_study(tokens: list[Token]) -> bool:
    """Whether it speaks of the examination as a whole: "normal echocardiogram"."""
    kinds = {token.kind for token in tokens}
    return Kind.STUDY in kinds and not kinds & {Kind.PART, Kind.WORD, Kind.MENTION}


def _find_parts(tokens: list[Token], start: int, end: int, state: str) -> set[int]:
    """Places of the parts between two places; the heart as a whole is only normal or not."""
    found = {place for place in range(start + 1, end) if tokens[place].kind is Kind.PART}
    whole = {place for place in found if tokens[place].value == "HEART"}
    is_whole = state.split()[0] in {*_GENERAL, "open"} and found == whole
    if is_whole:  # "normal heart sounds" are no heart
        return {place for place in found if not _names_other(tokens[place + 1 :])}
    return found - whole


def _resolve(state: str, aspects: set[str], parts: tuple[str, ...]) -> str | None:
    """State with its aspect: "normal size"; None where it says nothing."""
    is_wall = any("wall" in part.lower() for part in parts)
    if state == "concentric":
        return "hypertrophied"
    if state == "normal" and aspects:
        return f"normal {'thickness' if 'thickness' in aspects else 'size'}"
    if state in ("increased", "reduced"):
        if not aspects:  # "RA increased"
            is_chamber = bool(parts) and set(parts) <= CHAMBERS
            return "dilated" if state == "increased" and is_chamber else None
        if "thickness" in aspects:
            return "thick" if state == "increased" else "thin"
        return "dilated" if state == "increased" else "narrow"
    if state == "large":
        return "dilated" if set(parts) & CHAMBERS and not is_wall else None
    return state
