"""Find captions in Cyrillic letters: CLIP, and the reading of findings, know English only."""

import re
from collections.abc import Collection

_CYRILLIC = re.compile(r"[\u0400-\u052f]")


def is_cyrillic(text: str) -> bool:
    """Whether a text has letters of the Cyrillic alphabet."""
    return _CYRILLIC.search(text) is not None


def describe_cyrillic(texts: Collection[str]) -> str | None:
    """Return one sentence that counts the texts in Cyrillic letters; None if there are none.

    Empty texts are not counted.
    """
    num = sum(map(is_cyrillic, texts))
    if not num:
        return None
    total = sum(bool(text.strip()) for text in texts)
    return (
        f"Cyrillic letters in {num} of {total} captions; text encoders such as CLIP, and the "
        "reading of findings, know English only: translate them"
    )
