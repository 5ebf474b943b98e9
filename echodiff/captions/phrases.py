"""Split a report into phrases and decide what each of them says of the heart.

The scope of denials and doubts follows NegEx (Chapman et al. 2001) and ConText (Harkema et al.
2009): a word such as "no" reaches to the end of its phrase, and over "or" into the next; words
such as "with" and "but" end it. Ours is added how lists share their subject or their state: "LA
and RA dilated", "dilated LA and RA".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import pairwise
from typing import NamedTuple

from echodiff.captions.tokens import OTHER, Kind, Token

_CONTENT = frozenset({Kind.PART, Kind.STATE, Kind.MENTION})
_CHAMBER_NAMES = frozenset({"LV", "RV", "LA", "RA"})
_GENERAL = frozenset({"normal", "abnormal"})
_SIZES = frozenset({"large", "narrow"})
_SUBJECTS = {
    "asd": "IAS", "asd-kind": "IAS", "vsd": "IVS", "vsd-kind": "IVS", "lvh": "LV", "rvh": "RV",
    "septal-defects": "IAS IVS", "both-defects": "IAS IVS",
}  # fmt: skip
"""Part that a later word takes up: "no ASD, but a small defect cannot be excluded"."""
_DEFECTS = frozenset({"open", "asd", "asd-kind", "vsd", "vsd-kind", "septal-defects", "avsd",
                      "both-defects", "complete-avsd", "partial-avsd"})  # fmt: skip
_CAUSES = frozenset({"with", "due to", "because", "because of", "related to", "associated",
                     "causing", "leading"})  # fmt: skip
_LEFT = frozenset({"residual", "persistent", "persisting", "remains"})
"""Words for what a repair has left."""
_LINKS = frozenset({Kind.COMMA, Kind.AND, Kind.OR, Kind.NOR, Kind.LINK, Kind.EXCEPT})
_JOINED = frozenset({Kind.AND, Kind.OR, Kind.NOR})


class Mode(Enum):
    """How a phrase speaks of an item."""

    STATED = auto()
    DENIED = auto()
    DOUBTED = auto()
    PAST = auto()
    DROPPED = auto()
    """Denied of one kind or grade only ("no large ASD"): nothing is known of the others."""


_MODES = {
    Kind.NEGATION: Mode.DENIED, Kind.DENIAL: Mode.DENIED, Kind.DOUBT: Mode.DOUBTED,
    Kind.PAST: Mode.PAST, Kind.RELATIVE: Mode.DROPPED,
}  # fmt: skip


class Item(NamedTuple):
    """A state of parts of the heart, or a term for both (then `state` is the term)."""

    parts: tuple[str, ...]
    state: str
    mode: Mode


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
        return [token for token in self.tokens if token.kind in _CONTENT]

    def has(self, *kinds: Kind) -> bool:
        return any(token.kind in kinds for token in self.tokens)

    @property
    def is_subject(self) -> bool:
        """Whether it names parts and says nothing of them."""
        kinds = {token.kind for token in self.content}
        is_place = any(t.kind is Kind.OF and (i or t.value != "of") for i, t in enumerate(self.tokens))
        is_told = self.has(Kind.DENIAL, Kind.DOUBT) or OTHER in self.parts
        return kinds == {Kind.PART} and not is_place and not is_told

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


def read_sentences(tokens: Sequence[Token]) -> Iterator[list[Item]]:
    """Items of each sentence, in order."""
    for sentence in _split_sentences(_open_brackets(list(tokens))):
        if sentence == [Token(Kind.STATE, "normal")]:
            yield [Item(("HEART",), "normal", Mode.STATED)]
            continue
        phrases = _split_phrases(sentence)
        for phrase in phrases:
            _absorb(phrase)
            phrase.pairs = list(_pair(phrase))
        _share(phrases)
        _share_ahead(phrases)
        _carry(phrases)
        for phrase in phrases:
            phrase.modes = [_mode_of(phrase, place, state) for place, _, state in phrase.pairs]
        _look_back(phrases)
        items = [item for phrase in phrases for item in _list_items(phrase)]
        if not items and any(p.has(Kind.REPAIR) and not p.has(Kind.PLANNED) for p in phrases):
            items = [Item((), "repaired", Mode.PAST)]
        yield items


def _open_brackets(tokens: list[Token]) -> list[Token]:
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
                plain += inside
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


def _split_sentences(tokens: list[Token]) -> Iterator[list[Token]]:
    sentence: list[Token] = []
    for token in tokens:
        if token.kind is not Kind.STOP:
            sentence.append(token)
        elif sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _split_phrases(sentence: list[Token]) -> list[Phrase]:
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
    return [phrase for phrase in phrases if phrase.tokens]


def _absorb(phrase: Phrase) -> None:
    """Join nouns: "left ventricular function" and "function of the LV" are no chamber."""
    tokens: list[Token] = []
    for token in phrase.tokens:
        before = tokens[-1] if tokens else None
        if token.kind is Kind.PART and before is not None:
            is_of = before == (Kind.OF, "of", False) and len(tokens) > 1 and tokens[-2].kind is Kind.PART
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
        Token(Kind.DENIAL, t.value)
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
    claimed: set[int] = set()
    for number, place in enumerate(states):
        state = _resolve(tokens[place].value, aspects, phrase.parts)
        if state is None:
            continue
        start = states[number - 1] if number else -1
        end = states[number + 1] if number + 1 < len(states) else len(tokens)
        before = _find_parts(tokens, start, place, state) - claimed
        after = _find_parts(tokens, place, end, state)
        chosen = before or after or _find_parts(tokens, -1, len(tokens), state)
        claimed |= chosen
        names = [tokens[i].value for i in sorted(chosen)]
        if OTHER in names and (state.split()[0] in _GENERAL or set(names) == {OTHER}):
            continue
        parts = tuple(p for name in names for p in name.split() if p != OTHER)
        if parts or not has_term:
            yield place, parts, state
    for place, token in enumerate(tokens):
        if token.kind is Kind.MENTION:
            septa = tuple(part for part in phrase.parts if part in ("IAS", "IVS"))
            is_located = token.value == "septal-defects" and septa
            yield (place, septa, "open") if is_located else (place, (), token.value)


def _find_parts(tokens: list[Token], start: int, end: int, state: str) -> set[int]:
    """Places of the parts between two places; the heart as a whole is only normal or not."""
    return {
        place
        for place in range(start + 1, end)
        if tokens[place].kind is Kind.PART
        and (tokens[place].value != "HEART" or state.split()[0] in {*_GENERAL, "open"})
    }


def _resolve(state: str, aspects: set[str], parts: tuple[str, ...]) -> str | None:
    """State with its aspect: "normal size"; None where it says nothing."""
    is_wall = any("wall" in part.lower() for part in parts)
    if state == "normal" and aspects:
        return f"normal {'thickness' if 'thickness' in aspects else 'size'}"
    if state in ("increased", "reduced"):
        if not aspects:
            return None
        if "thickness" in aspects:
            return "thick" if state == "increased" else "thin"
        return "dilated" if state == "increased" else "narrow"
    if state == "large":
        return "dilated" if set(parts) & _CHAMBER_NAMES and not is_wall else None
    return state


def _share(phrases: list[Phrase]) -> None:
    """Share subjects and states along "and", "or" and commas."""
    is_led = _find_led(phrases)
    for here in reversed(range(len(phrases) - 1)):
        phrase, after = phrases[here], phrases[here + 1]
        follows = after.link in _JOINED or after.link is Kind.COMMA
        if not follows or not after.pairs:
            continue
        is_listed = bool(after.content) and after.content[0].kind is Kind.PART
        if after.link is Kind.COMMA and is_led[here]:
            is_listed = False  # "dilated LA and RA, LV normal"
        if phrase.is_subject and is_listed and "HEART" not in phrase.parts:
            _, shared, state = after.pairs[0]
            if shared:
                phrase.pairs, phrase.source = [(len(phrase.tokens), phrase.parts, state)], after
        is_state = phrase.content and not phrase.parts and not phrase.has(Kind.MENTION)
        if is_state and after.link in _JOINED and after.starts_with_state and after.pairs[0][1]:
            parts = after.pairs[0][1]
            phrase.pairs = [(p, own or parts, state) for p, own, state in phrase.pairs]
    subject: tuple[str, ...] = ()
    for here, phrase in enumerate(phrases):
        before = phrases[here - 1] if here else None
        if before is not None and phrase.is_subject and not phrase.pairs:
            is_listed = is_led[here]
            is_listed |= phrase.link in _JOINED and phrase.has(Kind.ASPECT)
            if (phrase.link is Kind.EXCEPT or is_listed) and before.pairs and before.pairs[0][1]:
                if "HEART" not in phrase.parts:
                    state = before.pairs[0][2]
                    if any(token.value == "thickness" for token in phrase.tokens):
                        state = {"normal size": "normal thickness"}.get(state, state)
                    phrase.pairs = [(len(phrase.tokens), phrase.parts, state)]
                    phrase.source = before
        phrase.pairs = [
            (place, parts or (subject if not phrase.has(Kind.MENTION) else ()), state)
            for place, parts, state in phrase.pairs
        ]
        named = [
            part
            for _, parts, state in phrase.pairs
            for part in parts or _SUBJECTS.get(state, "").split()
        ]
        subject = tuple(named) or phrase.parts or subject


def _find_led(phrases: list[Phrase]) -> list[bool]:
    """Whether each phrase is in a list of parts that begins with its state: "dilated LA and RA"."""
    is_led = [False] * len(phrases)
    for here, phrase in enumerate(phrases[1:], start=1):
        is_size = phrase.link is Kind.COMMA and set(phrase.parts) <= _CHAMBER_NAMES
        if phrase.is_subject and (is_size or phrase.link in _JOINED):
            is_led[here] = phrases[here - 1].starts_with_state or is_led[here - 1]
    return is_led


def _share_ahead(phrases: list[Phrase]) -> None:
    """Name the septum of "no residual defect after closure of an ASD"."""
    for phrase, after in pairwise(phrases):
        named = " ".join(_SUBJECTS.get(state, "") for _, _, state in after.pairs).split()
        phrase.pairs = [
            (place, parts or (tuple(named) if state == "open" else ()), state)
            for place, parts, state in phrase.pairs
        ]


def _carry(phrases: list[Phrase]) -> None:
    """Hand denials and doubts on along lists: "no ASD, VSD or effusion"."""
    for here, phrase in enumerate(phrases[1:], start=1):
        before = phrases[here - 1]
        own = _leading_mode(before)
        if phrase.has(Kind.NEGATION, Kind.DENIAL) and phrase.link is not Kind.NOR:
            continue
        if phrase.link in (Kind.OR, Kind.NOR):
            phrase.carried = own if own is not Mode.STATED else _any_mode(before)
        elif phrase.link in (Kind.AND, Kind.COMMA) and own is not Mode.STATED:
            if phrase.is_subject:
                phrase.carried = own
            elif phrase.is_term:
                is_sure = own is not Mode.DENIED or _is_one_list(phrases, here)
                phrase.carried = own if is_sure else Mode.DOUBTED
        elif phrase.word in _CAUSES and not before.content:
            phrase.carried = own


def _leading_mode(phrase: Phrase) -> Mode:
    """Mode that a word before any content gives the phrase and a list that follows."""
    if not phrase.content and phrase.has(Kind.WORD):  # "without upper margin"
        return Mode.STATED
    for token in phrase.tokens:
        if token.kind in _CONTENT:
            break
        if token.kind in _MODES:
            return _MODES[token.kind]
    return phrase.carried if not phrase.has(Kind.NEGATION, Kind.DENIAL) else Mode.STATED


def _any_mode(phrase: Phrase) -> Mode:
    """Mode of the last word that gives one: "not dilated or hypertrophied"."""
    found = [_MODES[token.kind] for token in phrase.tokens if token.kind in _MODES]
    return found[-1] if found and phrase.tokens[-1].kind is not Kind.DENIAL else Mode.STATED


def _is_one_list(phrases: list[Phrase], here: int) -> bool:
    """Whether a list under a denial goes on: it ends in "or", or its terms are of one class."""
    start = end = here
    while phrases[start].is_term and phrases[start].link in (Kind.COMMA, Kind.AND):
        start -= 1
    while end + 1 < len(phrases) and phrases[end + 1].is_term:
        end += 1
    links = {phrase.link for phrase in phrases[start + 1 : end + 1]}
    if links & {Kind.OR, Kind.NOR} or links == {Kind.COMMA, Kind.AND}:
        return True
    classes = {_class_of(phrase) for phrase in phrases[start : here + 1]}
    return len(classes) == 1


def _class_of(phrase: Phrase) -> str:
    states = {state for _, _, state in phrase.pairs}
    if states & _DEFECTS or any(t.kind is Kind.PART and t.value == OTHER for t in phrase.tokens):
        return "defect"
    return "size" if states & {"thick", "dilated", "hypertrophied"} and len(states) == 1 else str(sorted(states))


def _mode_of(phrase: Phrase, place: int, state: str) -> Mode:
    """Decide the mode of the pair at `place` by the words around it."""
    tokens = phrase.tokens
    denials = [i for i, t in enumerate(tokens) if t.kind is Kind.NEGATION and i < place]
    first = next((i for i, t in enumerate(tokens) if t.kind in _CONTENT), len(tokens))
    denials += [
        i for i, t in enumerate(tokens) if t.kind is Kind.DENIAL and (i > place or i < first)
    ]
    is_repaired = phrase.has(Kind.REPAIR) or any(
        t.kind is Kind.STATE and t.value == "closed" and i != place for i, t in enumerate(tokens)
    )
    if state in _DEFECTS and is_repaired and not phrase.has(Kind.PLANNED) and not _is_left(phrase):
        return Mode.PAST
    for kind in (Kind.RELATIVE, Kind.PAST, Kind.DOUBT):
        places = [i for i, t in enumerate(tokens) if t.kind is kind]
        if kind is Kind.DOUBT:  # "nothing to suggest LVH" is a denial
            places = [i for i in places if not any(denial < i for denial in denials)]
        if any(_reaches(tokens, i, place) for i in places):
            return _MODES[kind]
    if denials:
        between = tokens[min(denials) : place + 1]
        is_narrow = any(
            t.kind is Kind.QUALIFIER or (t.kind is Kind.STATE and t.value in _SIZES) for t in between
        )
        return Mode.DROPPED if is_narrow or state.endswith("-kind") else Mode.DENIED
    is_intact = any(t.kind is Kind.STATE and t.value == "intact" for t in tokens)
    if place < len(tokens) and tokens[place].kind is Kind.MENTION:
        if is_intact and not phrase.parts:
            return Mode.DENIED
        if any(t.kind is Kind.STATE and t.value == "normal" for t in tokens) and not phrase.parts:
            return Mode.DOUBTED
    return phrase.carried


def _is_left(phrase: Phrase) -> bool:
    """Whether it speaks of what a repair has left."""
    return any(t.kind is Kind.AFFIRMED and t.value in _LEFT for t in phrase.tokens)


def _reaches(tokens: list[Token], word: int, place: int) -> bool:
    """Whether a doubt at `word` is about the pair at `place`: those after it, else those before."""
    if word < place:
        return True
    after = tokens[word + 1 :]
    return not any(t.kind in _CONTENT or t.kind is Kind.QUALIFIER for t in after)


def _look_back(phrases: list[Phrase]) -> None:
    """Hand denials and doubts back: "ASD and VSD not seen", "ASD, repaired"."""
    for phrase in phrases:
        if phrase.source is None:
            continue
        origin = phrase.source
        while origin.source is not None and origin.link is not Kind.EXCEPT:
            origin = origin.source
        source = origin.modes[0]
        if phrase.link is Kind.EXCEPT:
            flipped = {Mode.DENIED: Mode.STATED, Mode.STATED: Mode.DOUBTED}
            phrase.modes = [flipped.get(source, Mode.DOUBTED)]
        elif phrase.modes[0] is Mode.STATED:
            phrase.modes = [source]
    for here in range(len(phrases) - 1, 0, -1):
        phrase, before = phrases[here], phrases[here - 1]
        last = phrase.tokens[-1].kind
        is_cause = here + 1 < len(phrases) and phrases[here + 1].word in _CAUSES
        if phrase.link is Kind.OR:
            for joined in (phrase, before):
                joined.modes = [Mode.DOUBTED if m is Mode.STATED else m for m in joined.modes]
        if not phrase.content:
            mode = None if is_cause else _comment(phrase)
            if mode is not None and before.pairs:
                before.modes = [
                    mode if mode is not Mode.PAST or not phrase.has(Kind.REPAIR) or
                    (s in _DEFECTS and not _is_left(before)) else m
                    for m, (_, _, s) in zip(before.modes, before.pairs, strict=True)
                ]  # fmt: skip
        elif last in (Kind.DENIAL, Kind.DOUBT, Kind.REPAIR) and before.is_term and phrase.pairs:
            if before.carried is Mode.STATED and phrase.modes[-1] is not Mode.STATED:
                if phrase.link in _JOINED:
                    before.modes = [phrase.modes[-1]] * len(before.pairs)
                elif phrase.link is Kind.COMMA and _class_of(before) == _class_of(phrase):
                    is_joined = here + 1 < len(phrases) and phrases[here + 1].link in _JOINED
                    mode = phrase.modes[-1] if is_joined else Mode.DOUBTED
                    before.modes = [mode] * len(before.pairs)


def _comment(phrase: Phrase) -> Mode | None:
    """Mode that a phrase without content of its own gives the one before."""
    if phrase.has(Kind.REPAIR) and not phrase.has(Kind.PLANNED):
        return Mode.PAST
    if phrase.link is not Kind.COMMA or phrase.has(Kind.WORD, Kind.QUALIFIER):
        return None
    kinds = [t.kind for t in phrase.tokens if t.kind in _MODES and t.kind is not Kind.NEGATION]
    return _MODES[kinds[-1]] if kinds else None


def _list_items(phrase: Phrase) -> Iterator[Item]:
    for (_, parts, state), mode in zip(phrase.pairs, phrase.modes, strict=True):
        yield Item(parts, state, mode)
    if not phrase.pairs and phrase.has(Kind.DENIAL, Kind.DOUBT) and set(phrase.parts) - {OTHER}:
        yield Item(phrase.parts, "seen", Mode.DOUBTED)
