"""What in a text says who a patient is: dates, numbers, addresses and names.

Rules for forms, not a list of people: a surname alone in a sentence is not found. What HIPAA's safe
harbour names (45 CFR 164.514(b)(2)) is looked for where it has a form that a rule can tell.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Trace(NamedTuple):
    """Something in a text that may tell who the patient is."""

    kind: str
    """A key of `faults.KINDS`."""
    text: str


_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_YEAR, _M, _D = r"(?:19|20)\d\d", r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_TITLE = r"(?:Mr|Mrs|Ms|Dr|Prof|Herr|Frau|Mme)"
_LABEL = r"(?:patient(?:'s)? name|sur ?name|last name|first name|name|фамилия|фио)"

_HASH = re.compile(
    r"(?<![^\W_])(?:(?=[\dx]*[a-f])(?:0x)?[\da-f]{16,}|[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12})"
    r"(?![^\W_])",
    re.IGNORECASE,
)
"""Hexadecimal names, such as those of EchoNet: made to tell nothing, though digits are in them."""

_FORMS = (
    ("identifier-uid", re.compile(r"(?<![\d.])[0-2](?:\.(?:0|[1-9]\d*)){5,}(?!\d)")),
    ("identifier-email", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")),
    ("identifier-name", re.compile(r"[^\W\d_]{2,}\^[^\W\d_]*")),
    ("identifier-name", re.compile(rf"\b{_TITLE}\b\.? +[A-ZÀ-ÞА-ЯЁ][^\W\d_]+")),
    ("identifier-name", re.compile(rf"\b{_LABEL} *[:=] *[^\W\d_]+", re.IGNORECASE)),
    (
        "identifier-age",
        re.compile(
            r"\b(?:9[1-9]|1[01]\d)(?:[- ]?years?|[- ]?y\.?o\b)|\baged? (?:9[1-9]|1[01]\d)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "identifier-date",
        re.compile(
            rf"(?<!\d){_YEAR}([-_./:]){_M}\1{_D}(?!\d)"  # 2021-03-04, 2021:03:04
            rf"|(?<!\d)(?:{_D}([-_./]){_M}|{_M}([-_./]){_D})(?:\2|\3){_YEAR}(?!\d)"  # 04.03.2021
            r"|(?<![\d.])(?:0[1-9]|[12]\d|3[01])\.(?:0[1-9]|1[0-2])\.\d\d(?![\d.])"  # 04.03.21
            r"|(?<!\d)(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\d{6})?(?!\d)"
            rf"|\b{_D}[- ]?{_MONTH}[- .,]+{_YEAR}\b|\b{_MONTH} {_D},? {_YEAR}\b",
            re.IGNORECASE,
        ),
    ),
    (
        "identifier-number",
        re.compile(
            r"(?<!\d)(?<!\d\.)0*[1-9]\d{6,}(?!\d)"  # record numbers
            r"|(?<!\d)\d{3}-\d\d-\d{4}(?!\d)|(?<!\d)\d{3}-\d{3}-\d{3}[- ]\d\d(?!\d)"  # insurance
            r"|\+\d[\d ()-]{8,}\d"  # telephone
        ),
    ),
)
"""In this order; what one has found, the next do not see."""

_COLUMN = re.compile(
    r"^(?:name|fio|dob|mrn|ssn|snils|uid)$|(?:instance|study|series|device|reference)uid$"
    r"|(?:patient|sur|first|last|given|family|full)name|birth|address|phone|e?mail$|accession"
    r"|medicalrecord|recordnumber|insurance|passport|physician|doctor|operator|institution|hospital"
    r"|(?:study|series|content|acquisition|admission|discharge|visit|exam|scan)(?:date|time|day)"
    r"|serialnumber|deviceserial|stationname"
)
_AGE_COLUMNS = frozenset({"age", "age_years", "patient_age", "patientage"})
OLDEST = 90
"""Ages above 89 are one group in HIPAA's safe harbour; the loaders write 90 for all of them."""

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
    """What in a text has the form of a date, a number, an address or a titled name."""
    text = _HASH.sub(" ", text)
    for kind, form in _FORMS:
        for match in form.finditer(text):
            yield Trace(kind, match.group())
        text = form.sub(" ", text)


def find_name_words(text: str, *, at_least: int) -> list[str]:
    """Capitalised words next to each other that are no words of the field, if there are enough."""
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
    """Whether a column is called as those are that hold names, dates, addresses or serials."""
    return _COLUMN.search(re.sub(r"[^a-zа-я]", "", name.lower())) is not None


def is_identifying_age(column: str, value: str | float) -> bool:
    """Whether a column of ages gives one above `OLDEST`."""
    is_age = column.lower() in _AGE_COLUMNS and isinstance(value, int | float)
    return is_age and float(value) > OLDEST
