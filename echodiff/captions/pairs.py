"""Pair the states of a phrase with the parts of the heart that it names."""

from collections.abc import Iterator

from echodiff.captions.phrases import CHAMBERS, Phrase
from echodiff.captions.tokens import OTHER, Kind, Token

_GENERAL = frozenset({"normal", "abnormal"})


def pair_states(phrase: Phrase) -> Iterator[tuple[int, tuple[str, ...], str]]:
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
        chosen = before or after
        if state == "normal" and _qualifies_noun(tokens, place, chosen):
            continue  # "unchanged LV dilatation"
        chosen = chosen or _find_parts(tokens, -1, len(tokens), state)
        if limit is not None and state == "hypertrophied":  # "hypertrophy confined to the septum"
            chosen = _find_parts(tokens, limit, len(tokens), state)
        claimed |= chosen
        names = [tokens[i].value for i in sorted(chosen)]
        is_general = state.split()[0] in _GENERAL
        if state in _GENERAL and _names_other(
            tokens[place + 1 :]
        ):  # "normal function", "normal output"
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
            elif token.value == "septal-defects" and (
                septa := tuple(s for s in septa if s != "SEPTUM")
            ):
                yield place, septa, "open"
            else:
                yield place, (), token.value


def _qualifies_noun(tokens: list[Token], place: int, parts: set[int]) -> bool:
    """Whether a state at `place` is of a finding named by a noun, not of its part."""
    nouns = {i for i, token in enumerate(tokens) if token.is_noun and token.kind is Kind.STATE}
    if not parts:
        return any(i < place for i in nouns)
    return min(parts) > place and max(parts) + 1 in nouns


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
