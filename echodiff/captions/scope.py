"""Decide what each phrase of a report says of the heart: stated, denied, doubted, or past.

The scope of denials and doubts follows NegEx (Chapman et al. 2001) and ConText (Harkema et al.
2009): a word such as "no" reaches to the end of its phrase, and over "or" into the next; words
such as "with" and "but" end it. Beyond these, lists share their subject or their state: "LA and RA
dilated", "dilated LA and RA".
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from echodiff.captions.phrases import (
    CHAMBERS,
    CONTENT,
    JOINED,
    Item,
    Mode,
    Phrase,
    open_brackets,
    split_phrases,
    split_sentences,
)
from echodiff.captions.tokens import OTHER, Kind, Token

_SIZES = frozenset({"large", "narrow"})
_SUBJECTS = {
    "asd": "IAS", "asd-kind": "IAS", "vsd": "IVS", "vsd-kind": "IVS", "lvh": "LV", "rvh": "RV",
    "septal-defects": "IAS IVS", "both-defects": "IAS IVS",
}  # fmt: skip
"""Part that a later word takes up: "no ASD, but a small defect cannot be excluded"."""
_DEFECTS = frozenset({
    "open", "asd", "asd-kind", "vsd", "vsd-kind", "septal-defects", "both-defects", "other-defect",
    "avsd", "complete-avsd", "partial-avsd", "common-valve", "fallot",
})  # fmt: skip
"""What a repair closes."""
_CAUSES = frozenset({"with", "due to", "because", "because of", "related to", "associated",
                     "causing", "leading"})  # fmt: skip
_LEFT = frozenset({"residual", "persistent", "persisting", "remains"})
"""Words for what a repair has left."""
_MODES = {
    Kind.NEGATION: Mode.DENIED, Kind.DENIAL: Mode.DENIED, Kind.DOUBT: Mode.DOUBTED,
    Kind.PAST: Mode.PAST, Kind.RELATIVE: Mode.DROPPED,
}  # fmt: skip
_EXCEPTION = {Mode.DENIED: Mode.STATED, Mode.STATED: Mode.DOUBTED}


def read_sentences(tokens: Sequence[Token]) -> Iterator[list[Item]]:
    """Items of each sentence, in order."""
    for sentence in split_sentences(open_brackets(list(tokens))):
        if sentence == [Token(Kind.STATE, "normal")]:
            yield [Item(("HEART",), "normal", Mode.STATED)]
            continue
        phrases = split_phrases(sentence)
        _share(phrases)
        _share_ahead(phrases)
        _carry(phrases)
        for phrase in phrases:
            phrase.modes = [_mode_of(phrase, place, state) for place, _, state in phrase.pairs]
        _copy_modes(phrases)
        _look_back(phrases)
        items = [item for phrase in phrases for item in _list_items(phrase)]
        if not items and any(p.has(Kind.REPAIR) and not p.has(Kind.PLANNED) for p in phrases):
            items = [Item((), "repaired", Mode.PAST)]
        yield items


def _share(phrases: list[Phrase]) -> None:
    """Share subjects and states along "and", "or" and commas."""
    is_led = _find_led(phrases)
    for here in reversed(range(len(phrases) - 1)):
        phrase, after = phrases[here], phrases[here + 1]
        if after.link not in (*JOINED, Kind.COMMA) or not after.pairs or not after.pairs[0][1]:
            continue
        _, parts, state = after.pairs[0]
        is_new = after.link is Kind.COMMA and is_led[here]  # "dilated LA and RA, LV normal"
        if phrase.is_subject and after.content[:1] and not after.starts_with_state and not is_new:
            phrase.take_state(state, after)
        elif (
            phrase.is_state
            and after.starts_with_state
            and (after.link in JOINED or (here == 0 and not _is_noun(phrase)))
        ):  # "dilated and hypertrophied LV", "not dilated, hypertrophied LV"
            phrase.pairs = [(place, own or parts, its) for place, own, its in phrase.pairs]
    subject: tuple[str, ...] = ()
    for here, phrase in enumerate(phrases):
        before = phrases[here - 1]
        is_listed = is_led[here] or phrase.link is Kind.EXCEPT
        is_listed |= phrase.link in JOINED and phrase.has(Kind.ASPECT)
        is_open = is_listed and phrase.is_subject and not phrase.pairs
        if here and is_open and before.pairs and before.pairs[0][1]:
            phrase.take_state(before.pairs[0][2], before)
        own = () if phrase.has(Kind.MENTION) else subject
        phrase.pairs = [(place, parts or own, state) for place, parts, state in phrase.pairs]
        named = [
            part
            for _, parts, state in phrase.pairs
            for part in parts or _SUBJECTS.get(state, "").split()
        ]
        subject = tuple(named) or phrase.parts or subject


def _is_noun(phrase: Phrase) -> bool:
    return any(token.is_noun for token in phrase.content)


def _find_led(phrases: list[Phrase]) -> list[bool]:
    """Whether each phrase is in a list of parts that begins with its state: "dilated LA and RA"."""
    is_led = [False] * len(phrases)
    for here, phrase in enumerate(phrases[1:], start=1):
        is_size = phrase.link is Kind.COMMA and set(phrase.parts) <= CHAMBERS
        if phrase.is_subject and (is_size or phrase.link in JOINED):
            is_led[here] = phrases[here - 1].starts_with_state or is_led[here - 1]
    return is_led


def _share_ahead(phrases: list[Phrase]) -> None:
    """Name the septum of "no residual defect after closure of an ASD"."""
    for phrase, after in pairwise(phrases):
        if after.link is Kind.EXCEPT:
            continue
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
        if token.kind in CONTENT:
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
    while start and phrases[start].is_term and phrases[start].link in (Kind.COMMA, Kind.AND):
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
    if states & _DEFECTS:
        return "defect"
    is_size = len(states) == 1 and states <= {"thick", "dilated", "hypertrophied"}
    return "size" if is_size else " ".join(sorted(states))


def _mode_of(phrase: Phrase, place: int, state: str) -> Mode:
    """Decide the mode of the pair at `place` by the words around it."""
    if state == "nothing-dilated":  # a denial already
        return Mode.STATED
    tokens = phrase.tokens
    denials = [i for i, t in enumerate(tokens) if t.kind is Kind.NEGATION and i < place]
    first = next((i for i, t in enumerate(tokens) if t.kind in CONTENT), len(tokens))
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
            t.kind is Kind.QUALIFIER or (t.kind is Kind.STATE and t.value in _SIZES)
            for t in between
        )
        return Mode.DROPPED if is_narrow or state.endswith("-kind") else Mode.DENIED
    is_intact = any(t.kind is Kind.STATE and t.value == "intact" for t in tokens)
    if place < len(tokens) and tokens[place].kind is Kind.MENTION:
        if is_intact and not phrase.parts:
            return Mode.DENIED
        is_graded = phrase.has(Kind.QUALIFIER) or any(t.value in _SIZES for t in tokens)
        is_normal = any(t.kind is Kind.STATE and t.value == "normal" for t in tokens)
        if is_normal and not phrase.parts and not is_graded:  # "LVH unchanged": since when?
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
    return not any(t.kind in CONTENT or t.kind is Kind.QUALIFIER for t in after)


def _copy_modes(phrases: list[Phrase]) -> None:
    """Give phrases that share a state its mode; an exception has the opposite one."""
    for phrase in phrases:
        origin = phrase.source
        while origin is not None and origin.source is not None and origin.link is not Kind.EXCEPT:
            origin = origin.source
        if origin is None:
            continue
        if phrase.link is Kind.EXCEPT:
            phrase.modes = [_EXCEPTION.get(origin.modes[0], Mode.DOUBTED)]
        elif phrase.modes[0] is Mode.STATED:
            phrase.modes = [origin.modes[0]]


def _look_back(phrases: list[Phrase]) -> None:
    """Hand denials and doubts back: "ASD and VSD not seen", "ASD, repaired", "ASD or PFO"."""
    for here in range(len(phrases) - 1, 0, -1):
        before, phrase = phrases[here - 1 : here + 1]
        after = phrases[here + 1] if here + 1 < len(phrases) else None
        is_choice = phrase.word == "/" and phrase.is_term and before.is_term
        if phrase.link is Kind.OR or is_choice:
            for joined in (phrase, before):
                joined.modes = [Mode.DOUBTED if m is Mode.STATED else m for m in joined.modes]
        if not phrase.content:
            if after is None or after.word not in _CAUSES:
                _comment(phrase, before)
            continue
        mode = phrase.modes[-1] if phrase.modes else Mode.STATED
        is_told = phrase.tokens[-1].kind in (Kind.DENIAL, Kind.DOUBT, Kind.REPAIR)
        if not is_told or mode is Mode.STATED or not before.is_term or before.carried is mode:
            continue
        if phrase.link in JOINED:
            before.modes = [mode] * len(before.pairs)
        elif phrase.link is Kind.COMMA and _class_of(before) == _class_of(phrase):
            is_list = after is not None and after.link in JOINED
            before.modes = [mode if is_list else Mode.DOUBTED] * len(before.pairs)


def _comment(phrase: Phrase, before: Phrase) -> None:
    """Give the phrase before the mode of one without content of its own: "ASD, not seen"."""
    if phrase.has(Kind.REPAIR) and not phrase.has(Kind.PLANNED):
        before.modes = [
            Mode.PAST if state in _DEFECTS and not _is_left(before) else mode
            for mode, (_, _, state) in zip(before.modes, before.pairs, strict=True)
        ]
    elif phrase.link is Kind.COMMA and not phrase.has(Kind.WORD, Kind.QUALIFIER):
        kinds = [t.kind for t in phrase.tokens if t.kind in _MODES and t.kind != Kind.NEGATION]
        if kinds:
            before.modes = [_MODES[kinds[-1]]] * len(before.modes)


def _list_items(phrase: Phrase) -> Iterator[Item]:
    for (_, parts, state), mode in zip(phrase.pairs, phrase.modes, strict=True):
        yield Item(parts, state, mode)
    if not phrase.pairs and phrase.has(Kind.DENIAL, Kind.DOUBT) and set(phrase.parts) - {OTHER}:
        yield Item(phrase.parts, "seen", Mode.DOUBTED)
