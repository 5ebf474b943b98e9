"""Find identifiers in a text: dates, numbers, addresses, names and credentials.

The rules recognise the form of an identifier and use no list of people, so a surname alone in a
sentence is not found. They cover those identifiers of HIPAA's safe harbour (45 CFR
164.514(b)(2)) that have a recognisable form.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from echodiff.data.check.credentials import find_credentials
from echodiff.data.check.dates import find_dates
from echodiff.data.check.forms import Span, blank, find_forms
from echodiff.data.check.numbers import CODE, EMAIL, RECORD, UID, find_telephones
from echodiff.data.check.people import find_people
from echodiff.data.check.places import find_places


class Trace(NamedTuple):
    """An identifier that was found in a text."""

    kind: str
    """A key of `faults.KINDS`."""
    text: str


_HASH = re.compile(
    r"(?<![^\W_])(?:(?=[\dx]*[a-f])(?:0x)?[\da-f]{16,}|[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12})"
    r"(?![^\W_])",
    re.IGNORECASE,
)
"""Hexadecimal names, such as those of EchoNet. Their digits identify nobody."""

_AGE = re.compile(
    r"\b(?:9[1-9]|1[01]\d)(?:[- ]?years?|[- ]?yrs?\b|[- ]?y[./]?o\b|[- ]?jahre|-jährig"
    r"|\s?(?:лет|года?)\b|-летн|\s?жаста|\sжас\b)"
    r"|\b(?:aged?|alter|возраст|жасы)[\s:=]{1,3}(?:9[1-9]|1[01]\d)\b",
    re.IGNORECASE,
)
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-") | {0x2044: "/"}

_FINDERS: tuple[tuple[str, Callable[[str], Iterable[Span]]], ...] = (
    ("identifier-place", find_places),
    ("identifier-uid", partial(find_forms, forms=(UID,))),
    ("identifier-email", partial(find_forms, forms=(EMAIL,))),
    ("identifier-name", find_people),
    ("identifier-age", partial(find_forms, forms=(_AGE,))),
    ("identifier-date", find_dates),
    ("identifier-number", find_telephones),
    ("identifier-number", partial(find_forms, forms=(RECORD,))),
)
"""Applied in this order. Text that one has found is hidden from the next."""

_COLUMN = re.compile(
    r"^(?:name|fio|dob|mrn|ssn|snils|uid)$|(?:instance|study|series|device|reference)uid$"
    r"|(?:patient|sur|first|last|given|family|full)name|birth|address|phone|e?mail$|accession"
    r"|medicalrecord|recordnumber|insurance|passport|physician|doctor|operator|institution|hospital"
    r"|(?:study|series|content|acquisition|admission|discharge|visit|exam|scan)(?:date|time|day)"
    r"|serialnumber|deviceserial|stationname"
)
_AGE_COLUMNS = frozenset({"age", "age_years", "patient_age", "patientage"})
OLDEST = 90
"""HIPAA's safe harbour groups all ages above 89; `echodiff prepare` writes 90 for them."""

_FIELD_WORDS = frozenset(
    re.findall(
        r"\w+",
        """acdc camus echonet fallot hvsmr plax axis apical atrial atrium aorta case cardiac
        chamber chambers cine clip demo diastole dynamic echo ejection female fold four frame heart
        image left long male mask mesh normal patient pediatric phantom phase philips right sample
        scan sequence series short siemens slice split stack study subject systole test train two
        valve ventricle video view volume""",
    )
)
_WORD = re.compile(r"(?<![^\W_])[^\W\d_]+(?![^\W_])")


def find_identifiers(text: str) -> Iterator[Trace]:
    """Yield the identifiers in a text.

    Digits, dashes and spaces of all scripts are replaced by their ASCII forms first, also in the
    texts that are returned.
    """
    text = fold(text)
    yield from (Trace("credential", name) for name in find_credentials(text))
    text = CODE.sub(" ", _HASH.sub(" ", text))
    for kind, find in _FINDERS:
        spans = sorted(find(text))
        yield from (Trace(kind, text[start:end].strip()) for start, end in spans)
        text = blank(text, spans)


def fold(text: str) -> str:
    """Normalise letters, digits and dashes, and drop zero-width characters."""
    if text.isascii():
        return text
    # The numero sign comes first, because NFKC turns it into the word "No".
    text = unicodedata.normalize("NFKC", text.replace("№", "#")).translate(_DASHES)
    return "".join(
        str(unicodedata.decimal(letter, letter))
        for letter in text
        if unicodedata.category(letter) != "Cf"
    )


def find_name_words(text: str, *, at_least: int) -> list[str]:
    """Find `at_least` adjacent capitalised words that are not terms of the field."""
    run: list[str] = []
    end = 0
    for match in _WORD.finditer(text):
        word = match.group()
        is_title = len(word) > 2 and word[0].isupper() and word[1:].islower()
        is_capitals = len(word) > 3 and word.isupper()
        if not (is_title or is_capitals) or word.lower() in _FIELD_WORDS:
            continue
        run = [*run, word] if match.start() <= end + 2 else [word]
        end = match.end()
        if len(run) >= at_least:
            return run
    return []


def is_identifying_column(name: str) -> bool:
    """Whether a column's name suggests names, dates, addresses or serial numbers."""
    return _COLUMN.search(re.sub(r"[^a-zа-я]", "", name.lower())) is not None


def is_identifying_age(column: str, value: str | float) -> bool:
    """Whether this is a column of ages and the value is above `OLDEST`."""
    is_age = column.lower() in _AGE_COLUMNS and isinstance(value, int | float)
    return is_age and float(value) > OLDEST
