"""Phrases of a report, and what each says of the heart."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from echodiff.captions.tokens import OTHER, Kind, Token

CONTENT = frozenset({Kind.PART, Kind.STATE, Kind.MENTION})
"""Tokens that speak of the heart."""
CHAMBERS = frozenset({"LV", "RV", "LA", "RA"})
VAGUE = {"VENTRICLE": ("LV", "RV"), "ATRIUM": ("LA", "RA")}
"""Parts without a side; a denial is of both."""
ANSWER = "answer"
"""State of an item that answers the sentence before."""
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
        first = next((i for i, t in enumerate(self.tokens) if t.kind is Kind.PART), 0)
        is_told |= any(  # "atrial fibrillation", "RV dominant", "compressed RV"
            token.kind is Kind.WORD and (place > first or token.value.endswith("ed"))
            for place, token in enumerate(self.tokens)
        )
        return kinds == {Kind.PART} and not (is_place or is_told or is_measured)

    @property
    def is_state(self) -> bool:
        """Whether it names states and no parts."""
        return {token.kind for token in self.content} == {Kind.STATE}

    def take_state(self, state: str, source: "Phrase") -> None:
        """Take over the state of another phrase."""
        if self.has(Kind.ASPECT):
            is_thickness = any(token.value == "thickness" for token in self.tokens)
            aspect = "normal thickness" if is_thickness else "normal size"
            if state == "normal" and source.starts_with_state:  # "normal LA and RA size"
                source.pairs = [
                    (place, parts, aspect if own == "normal" else own)
                    for place, parts, own in source.pairs
                ]
            state = aspect if state in ("normal", "normal size") else state
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
