"""Every regular expression of the package takes linear time: no text of a stranger stops it."""

import ast
import importlib
import pkgutil
import random
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]

import pytest

import echodiff

PIECES = (
    "a", "A", "Aa", "aA", "a_", "_", "1", "1.", "1:", "1-", "1/", "1 ", " ", "\n", "\t", "a ",
    "Aa ", "Mc", "A.", "a.", "a,", "a, ", ",", ", ", ".", ":", "-", "a-", "/", "a/", "\\", "\\a",
    "(", ")", "((", "[", "]", "[[", "{", "<", "<a:", ">", "@", "a@", "a@a.", "+", "+1", "(1",
    "=", "a=", "'", "\"", "\"a", "%", "#", "*", "^", "a^", "é", "Ж", "ж ", "Ш.", "no ",
    "not seen ", "left and right ", "and ", "of ", "2.25.", "1.0", "0", "00", "x", "e",
    "Steps: 1", "Steps: 1, ", "negative prompt:", "~", "$", "|", "http://", "C:\\", "Dr. ",
    "von ", "\u0301", "\u200b", "ff", "f0", "1e", "T", "born ", "MRN: ",
)  # fmt: skip
"""Repeated, they make the texts."""


def list_expressions() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Compiled patterns that modules hold, and literal ones that they hand to `re`."""
    seen = set[tuple[str, int]]()

    def walk(value: object, depth: int = 4) -> Iterator[re.Pattern[str]]:
        if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
            yield value
        elif depth and isinstance(value, dict):
            for inner in (*value.keys(), *value.values()):
                yield from walk(inner, depth - 1)
        elif depth and isinstance(value, list | tuple | set | frozenset):
            for inner in value:
                yield from walk(inner, depth - 1)
        elif depth and isinstance(value, type) and value.__module__.startswith("echodiff"):
            for inner in vars(value).values():
                yield from walk(inner, depth - 1)

    for info in pkgutil.walk_packages(echodiff.__path__, "echodiff."):
        if info.name.endswith("__main__") or ".migrations" in info.name:  # Alembic runs those
            continue
        module = importlib.import_module(info.name)
        found = [pattern for value in vars(module).values() for pattern in walk(value)]
        found += list_literals(str(module.__file__))
        for pattern in found:
            key = (pattern.pattern, pattern.flags)
            if key not in seen:
                seen.add(key)
                yield info.name, pattern


def list_literals(file: str) -> Iterator[re.Pattern[str]]:
    """Constant expressions in calls such as `re.sub(r"...", ...)`."""
    for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="re")),
                args=[ast.Constant(value=str(text)), *_],
            ):
                yield re.compile(text)


def spell(tree: object, letters: random.Random) -> str:
    """A text that an expression matches, or nearly so, by its parse tree."""
    text = ""
    for code, value in tree:  # type: ignore[attr-defined]
        if code in (codes.LITERAL, codes.NOT_LITERAL):
            text += chr(value) if code is codes.LITERAL else "a"
        elif code is codes.IN:
            text += spell_one(value, letters)
        elif code is codes.ANY:
            text += "a"
        elif code is codes.SUBPATTERN:
            text += spell(value[-1], letters)
        elif code is codes.BRANCH:
            text += spell(letters.choice(value[1]), letters)
        elif code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            low, high, inner = value
            for _ in range(min(int(high), max(int(low), 2))):
                text += spell(inner, letters)
        elif code is codes.ATOMIC_GROUP:
            text += spell(value, letters)
    return text


def spell_one(choices: list[tuple[object, object]], letters: random.Random) -> str:
    code, value = letters.choice(choices)
    if code is codes.LITERAL:
        return chr(value)  # type: ignore[call-overload, no-any-return]
    if code is codes.RANGE:
        return chr(value[0])  # type: ignore[index, no-any-return]
    names = {
        codes.CATEGORY_DIGIT: "1", codes.CATEGORY_SPACE: " ", codes.CATEGORY_WORD: "a",
        codes.CATEGORY_NOT_DIGIT: "a", codes.CATEGORY_NOT_SPACE: "a", codes.CATEGORY_NOT_WORD: "-",
    }  # fmt: skip
    return names.get(value, "a")


def list_texts(pattern: re.Pattern[str], size: int, num_pieces: int) -> Iterator[str]:
    letters = random.Random(pattern.pattern)
    tree = parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)
    spelt = [spell(tree, letters) for _ in range(3)]
    own = [piece for text in spelt for piece in (text, text[:-1], text[: len(text) // 2], text[1:])]
    for piece in dict.fromkeys([*letters.sample(PIECES, num_pieces), *own]):
        if piece:
            # With an end at which a match of the whole has to fail.
            yield (piece * (size // len(piece) + 1))[:size] + "\0"


def find_slow(size: int, limit: float, num_pieces: int = len(PIECES)) -> list[str]:
    slow = []
    with warnings.catch_warnings(action="ignore"):
        expressions = list(list_expressions())
    for name, pattern in expressions:
        for text in list_texts(pattern, size, num_pieces):
            start = time.process_time()
            for _ in pattern.finditer(text):
                pass
            pattern.fullmatch(text)
            seconds = time.process_time() - start
            if seconds > limit:
                slow.append(
                    f"{name}: {pattern.pattern[:80]!r} took {seconds:.1f} s of {text[:20]!r}"
                )
                break
    assert len(expressions) > 60
    return slow


def test_every_expression_is_linear() -> None:
    """Of 8,000 letters a quadratic one takes a third of a second, a linear one milliseconds."""
    assert find_slow(8_000, 0.15, num_pieces=30) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_expression_reads_a_megabyte_in_time() -> None:
    assert find_slow(1_000_000, 3.0, num_pieces=3) == []
