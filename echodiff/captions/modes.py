"""Decide by the words around it whether a finding is stated, denied, doubted, or past."""

from itertools import pairwise

from echodiff.captions.phrases import CONTENT, Mode, Phrase
from echodiff.captions.tokens import Kind, Token

DEFECTS = frozenset({
    "open", "asd", "asd-kind", "vsd", "vsd-kind", "septal-defects", "both-defects", "other-defect",
    "avsd", "complete-avsd", "partial-avsd", "common-valve", "fallot",
})  # fmt: skip
"""What a repair closes."""
_SIZES = frozenset({"large", "narrow"})
_LEFT = frozenset({"residual", "persistent", "persisting", "remains"})
"""Words for what a repair has left."""
_GONE = frozenset({"no longer", "no longer seen", "no longer present", "resolved", "regressed",
                   "disappeared"})  # fmt: skip
"""Denials of what was there before: they are of no kind or grade."""
_REFUTED = frozenset({"excluded", "ruled out"})
_CHANGES = frozenset({"increased", "reduced", "dilated"})
MODES = {
    Kind.NEGATION: Mode.DENIED, Kind.DENIAL: Mode.DENIED, Kind.DOUBT: Mode.DOUBTED,
    Kind.PAST: Mode.PAST, Kind.RELATIVE: Mode.DROPPED,
}  # fmt: skip


def decide_mode(phrase: Phrase, place: int, state: str) -> Mode:
    """Decide the mode of the pair at `place` by the words around it."""
    if state == "nothing-dilated":  # a denial already
        return Mode.STATED
    if _is_repaired(phrase, place, state):
        return Mode.PAST
    tokens = phrase.tokens
    denials = _find_denials(tokens, place)
    if any(tokens[i].value in _GONE for i in denials):
        return Mode.DENIED
    for kind in (Kind.RELATIVE, Kind.PAST):
        if any(t.kind is kind and _reaches(tokens, i, place) for i, t in enumerate(tokens)):
            return MODES[kind]
    doubts = [
        i for i, t in enumerate(tokens)
        if t.kind is Kind.DOUBT and _reaches(tokens, i, place)
        # "nothing to suggest LVH", "no ASD suspected" are denials
        and not any(denial < i and (i < place or t.value == "possible") for denial in denials)
    ]  # fmt: skip
    after = [token for token in tokens[place + 1 :] if token.kind in (Kind.AFFIRMED, Kind.DENIAL)]
    if doubts and doubts[-1] < place and len(after) == 1:  # "suspicion of an ASD confirmed"
        if after[0].value == "confirmed":
            return Mode.STATED
        if after[0].value in _REFUTED:
            return Mode.DENIED
    if doubts:
        return Mode.DOUBTED
    if denials:
        return _weigh_denials(tokens, denials, place, state)
    is_intact = any(t.kind is Kind.STATE and t.value == "intact" for t in tokens)
    if place < len(tokens) and tokens[place].kind is Kind.MENTION:
        if is_intact and not phrase.parts:
            return Mode.DENIED
        is_graded = phrase.has(Kind.QUALIFIER) or any(t.value in _SIZES for t in tokens)
        is_normal = any(t.kind is Kind.STATE and t.value == "normal" for t in tokens)
        if is_normal and not phrase.parts and not is_graded:  # "LVH unchanged": since when?
            return Mode.DOUBTED
    return phrase.carried


def is_left(phrase: Phrase) -> bool:
    """Whether it speaks of what a repair has left."""
    return any(t.kind is Kind.AFFIRMED and t.value in _LEFT for t in phrase.tokens)


def closes(phrase: Phrase, state: str) -> bool:
    """Whether it tells a repair of the finding: closure of a defect, drainage of an effusion."""
    values = {token.value for token in phrase.tokens if token.kind is Kind.REPAIR}
    closed = (DEFECTS if values - {"drained"} else frozenset()) | (
        frozenset({"effusion", "fluid"}) if "drained" in values else frozenset()
    )
    return state in closed and not phrase.has(Kind.PLANNED)


def _is_repaired(phrase: Phrase, place: int, state: str) -> bool:
    states = [t.value for i, t in enumerate(phrase.tokens) if t.kind is Kind.STATE and i != place]
    if state == "closed":
        return "open" in states  # "the defect in the atrial septum was closed"
    is_closed = closes(phrase, state) or (state in DEFECTS and "closed" in states)
    return is_closed and not phrase.has(Kind.PLANNED) and not is_left(phrase)


def _find_denials(tokens: list[Token], place: int) -> list[int]:
    """Places of the words that deny the pair at `place`."""
    denials = [i for i, t in enumerate(tokens) if t.kind is Kind.NEGATION and i < place]
    first = next((i for i, t in enumerate(tokens) if t.kind in CONTENT), len(tokens))
    denials += [
        i for i, t in enumerate(tokens) if t.kind is Kind.DENIAL and (i > place or i < first)
    ]
    return denials


def _weigh_denials(tokens: list[Token], denials: list[int], place: int, state: str) -> Mode:
    negated = [i for i in denials if tokens[i].kind is Kind.NEGATION]
    if negated and any(tokens[i].value in _REFUTED for i in denials):
        return Mode.DOUBTED  # "no ASD could be excluded"
    between = tokens[min(denials) : place]
    is_known = any(
        t.kind is Kind.AFFIRMED and t.value == "known" and i for i, t in enumerate(between)
    )
    is_change = (
        place < len(tokens)
        and tokens[place].kind is Kind.MENTION
        and any(
            t.kind is Kind.STATE and t.value in _CHANGES and then.kind is Kind.OF
            for t, then in pairwise(between)
        )
    )
    if is_change or (is_known and between[1].kind is not Kind.AFFIRMED):
        return Mode.STATED  # "no increase in the effusion", "no enlargement of the known VSD"
    is_narrow = any(
        t.kind is Kind.QUALIFIER or (t.kind is Kind.STATE and t.value in _SIZES)
        for t in tokens[min(denials) : place + 1]
    )
    return Mode.NARROWED if is_narrow or state.endswith("-kind") else Mode.DENIED


def _reaches(tokens: list[Token], word: int, place: int) -> bool:
    """Whether a doubt at `word` is about the pair at `place`: those after it, else those before."""
    if word < place or tokens[word].value == "than":  # "rather VSD than ASD"
        return True
    after = tokens[word + 1 :]
    return not any(t.kind in CONTENT or t.kind is Kind.QUALIFIER for t in after)


def classify(phrase: Phrase) -> str:
    """Class of the terms of a list: "no ASD, VSD" goes on, "no ASD, LVH" may not."""
    states = {state for _, _, state in phrase.pairs}
    if states & DEFECTS:
        return "defect"
    is_size = len(states) == 1 and states <= {"thick", "dilated", "hypertrophied"}
    return "size" if is_size else " ".join(sorted(states))
