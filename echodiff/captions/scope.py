"""Decide what each phrase of a report says of the heart: stated, denied, doubted, or past.

The scope of denials and doubts follows NegEx (Chapman et al. 2001) and ConText (Harkema et al.
2009): a word such as "no" reaches to the end of its phrase, and over "or" into the next; words
such as "with" and "but" end it. Beyond these, lists share their subject or their state: "LA and RA
dilated", "dilated LA and RA".
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from echodiff.captions.headings import settle_headings
from echodiff.captions.modes import MODES, classify, closes, decide_mode, is_left
from echodiff.captions.phrases import ANSWER, CHAMBERS, CONTENT, JOINED, Item, Mode, Phrase
from echodiff.captions.splitting import open_brackets, split_phrases, split_sentences
from echodiff.captions.tokens import OTHER, Kind, Token

_SUBJECTS = {
    "asd": "IAS", "asd-kind": "IAS", "vsd": "IVS", "vsd-kind": "IVS", "lvh": "LV", "rvh": "RV",
    "septal-defects": "IAS IVS", "both-defects": "IAS IVS", "effusion": "PERICARDIUM",
}  # fmt: skip
"""Part that a later word takes up: "no ASD, but a small defect cannot be excluded"."""
_CAUSES = frozenset({"with", "due to", "because", "because of", "related to", "associated",
                     "causing", "leading"})  # fmt: skip
_NONE_SEEN = frozenset(
    {"none", "not seen", "not present", "no longer seen", "excluded", "ruled out"}
)
_EXCEPTION = {Mode.DENIED: Mode.STATED, Mode.STATED: Mode.DOUBTED}


def read_sentences(tokens: Sequence[Token]) -> Iterator[list[Item]]:
    """Items of each sentence, in order."""
    is_question = False
    for sentence in split_sentences(settle_headings(open_brackets(list(tokens)))):
        if sentence == [Token(Kind.STATE, "normal")]:
            yield [Item(("HEART",), "normal", Mode.STATED)]
            continue
        answer = _find_answer(sentence, is_question=is_question)
        is_question = any(token.value == "?" for token in sentence)
        yield [answer] if answer else _read_sentence(sentence)


def _read_sentence(sentence: list[Token]) -> list[Item]:
    phrases = split_phrases(sentence)
    _share(phrases)
    _share_ahead(phrases)
    _carry(phrases)
    for phrase in phrases:
        phrase.modes = [decide_mode(phrase, place, state) for place, _, state in phrase.pairs]
    _copy_modes(phrases)
    _look_back(phrases)
    items = [item for phrase in phrases for item in _list_items(phrase)]
    if not items and any(p.has(Kind.REPAIR) and not p.has(Kind.PLANNED) for p in phrases):
        return [Item((), "repaired", Mode.PAST)]
    return items


def _find_answer(sentence: list[Token], *, is_question: bool) -> Item | None:
    """What a sentence says of the one before: "ASD? No.", "CT reported an ASD. None seen."."""
    first = sentence[0]
    if any(token.kind in CONTENT for token in sentence):
        return None
    if is_question and first.value == "yes":
        return Item((), ANSWER, Mode.STATED)
    has_words = any(token.kind is Kind.WORD for token in sentence)  # "no complications"
    if not has_words and first.value in ("no", *_NONE_SEEN):
        return Item((), ANSWER, Mode.DENIED if is_question else Mode.DOUBTED)
    return None


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
        is_aspect = phrase.has(Kind.ASPECT) and phrase.link in (*JOINED, Kind.COMMA)
        is_open = (is_listed or is_aspect) and phrase.is_subject and not phrase.pairs
        is_open |= is_aspect and not phrase.content  # "normal in size and thickness"
        if here and is_open and before.pairs and before.pairs[0][1]:
            phrase.take_state(before.pairs[0][2], before)
        own = () if phrase.has(Kind.MENTION) else subject
        phrase.pairs = [(place, parts or own, state) for place, parts, state in phrase.pairs]
        named = [
            part
            for _, parts, state in phrase.pairs
            for part in parts or _SUBJECTS.get(state, "").split()
        ]
        if not phrase.word.endswith(" than"):  # "LA larger than RA, but not dilated"
            is_more = phrase.is_subject and before.is_subject and phrase.link in JOINED
            listed = (*subject, *phrase.parts) if here and is_more else phrase.parts
            subject = tuple(named) or listed or subject


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
                phrase.carried = own if is_sure else _doubt(before, phrase)
        elif phrase.word in _CAUSES and not before.content:
            phrase.carried = own


def _doubt(before: Phrase, phrase: Phrase) -> Mode:
    """Mode of a term that a denial may or may not reach: "no ASD, LVH"."""
    is_detailed = any(token.value == "septal-hypertrophy" for token in phrase.tokens)
    return Mode.STATED if is_detailed and not before.pairs else Mode.DOUBTED


def _leading_mode(phrase: Phrase) -> Mode:
    """Mode that a word before any content gives the phrase and a list that follows."""
    if not phrase.content and phrase.has(Kind.WORD, Kind.IDIOM):  # "without upper margin"
        return Mode.STATED
    for token in phrase.tokens:
        if token.kind in CONTENT:
            break
        if token.kind in MODES:
            return MODES[token.kind]
    return phrase.carried if not phrase.has(Kind.NEGATION, Kind.DENIAL) else Mode.STATED


def _any_mode(phrase: Phrase) -> Mode:
    """Mode of the last word that gives one: "not dilated or hypertrophied"."""
    found = [MODES[token.kind] for token in phrase.tokens if token.kind in MODES]
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
    classes = {classify(phrase) for phrase in phrases[start : here + 1]}
    return len(classes) == 1


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
        elif phrase.link is Kind.COMMA and classify(before) == classify(phrase):
            is_list = after is not None and after.link in JOINED
            before.modes = [mode if is_list else Mode.DOUBTED] * len(before.pairs)


def _comment(phrase: Phrase, before: Phrase) -> None:
    """Give the phrase before the mode of one without content of its own: "ASD, not seen"."""
    first = phrase.tokens[0]
    if phrase.has(Kind.REPAIR) and not phrase.has(Kind.PLANNED):
        before.modes = [
            Mode.PAST if closes(phrase, state) and not is_left(before) else mode
            for mode, (_, _, state) in zip(before.modes, before.pairs, strict=True)
        ]
    elif phrase.link is Kind.COMMA:
        kinds = [t.kind for t in phrase.tokens if t.kind in MODES and t.kind != Kind.NEGATION]
        is_whole = not phrase.has(Kind.WORD, Kind.IDIOM, Kind.QUALIFIER)
        is_led = first.kind is Kind.DOUBT or first.value in _NONE_SEEN  # "not confirmed by TTE"
        if kinds and (is_whole or is_led):
            before.modes = [MODES[kinds[-1]]] * len(before.modes)
    elif phrase.link is Kind.LINK and any(t.value in _NONE_SEEN for t in phrase.tokens):
        before.modes = [Mode.DOUBTED] * len(before.modes)  # "CT shows an ASD; echo shows none"


def _list_items(phrase: Phrase) -> Iterator[Item]:
    is_general = not phrase.has(Kind.PART, Kind.WORD)
    for (_, parts, state), mode in zip(phrase.pairs, phrase.modes, strict=True):
        yield Item(parts, state, mode, is_general)
    if not phrase.pairs and phrase.has(Kind.DENIAL, Kind.DOUBT) and set(phrase.parts) - {OTHER}:
        yield Item(phrase.parts, "seen", Mode.DOUBTED)
