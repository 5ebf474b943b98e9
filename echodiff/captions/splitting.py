"""Split a report into sentences, and these into phrases."""

from collections.abc import Iterator

from echodiff.captions.headings import name_members
from echodiff.captions.pairs import pair_states
from echodiff.captions.phrases import Phrase
from echodiff.captions.tokens import OTHER, Kind, Token

_LINKS = frozenset({Kind.COMMA, Kind.AND, Kind.OR, Kind.NOR, Kind.LINK, Kind.EXCEPT})


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
        phrase.pairs = list(pair_states(phrase))
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
