"""How long a caption is in CLIP's tokens, without CLIP's vocabulary at hand."""

import math
import re

TOKEN_LIMIT = 77
"""What the text encoder of Stable Diffusion 1.5 reads; begin and end are two of them."""

_PIECES = re.compile(r"[^\W\d_]+|\d|[^\w\s]+|_+")
"""CLIP's own first cut: words, single digits, runs of other signs (openai/CLIP,
`clip/simple_tokenizer.py`)."""
_VOWELS = frozenset("aeiouy")


def estimate_tokens(text: str) -> int:
    """About as many tokens as CLIP makes of a caption, begin and end included; rather too many.

    Common words are one token and clinical ones are cut: 1 for 5 letters or fewer, then 1 for every
    4 more; abbreviations (LVEDD, mmHg) 1 for every 1.5 letters, letters outside ASCII 1.5 each.
    Against the tokenizer of openai/CLIP on 363 captions (templates, phantoms, clinical reports)
    this gives 0.98 to 1.29 times the true count, 1.13 in the mean, and less in 1 of 363.
    """
    text = text.lower() if text.isupper() else text
    return 2 + sum(map(_estimate_piece, _PIECES.findall(text)))


def _estimate_piece(piece: str) -> int:
    if not piece[0].isalpha():
        return 1
    if not piece.isascii():
        return math.ceil(1.5 * len(piece))
    is_abbreviation = piece[1:] != piece[1:].lower() or not _VOWELS & set(piece.lower())
    if is_abbreviation:
        return math.ceil(len(piece) / 1.5)
    return 1 + max(0, math.ceil((len(piece) - 5) / 4))
