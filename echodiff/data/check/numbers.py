"""Find numbers that identify a person: DICOM UIDs, record, insurance and telephone numbers."""

import functools
import re
from collections.abc import Iterator

from echodiff.data.check.forms import Span, blank, find_forms

UID = re.compile(r"(?<![\d.])(?:2\.25\.\d{6,39}|[0-2](?:\.(?:0|[1-9]\d{0,38})){5,60})(?![\d])")
"""ISO object identifiers as DICOM uses them; 2.25 is followed by a UUID as one number."""
EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]++(?:@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"
    r"|\s?[\[(]\s?(?:at|собака)\s?[\])]\s?[\w-]{1,63}"
    r"|(?<=..)\sat\s[\w-]{2,63}\sdot\s\w{2,10}\b)",
    re.IGNORECASE,
)
"""Also disguised ones: jane (at) clinic.kz. A long word is read once, not from each letter."""
CODE = re.compile(
    r"\b(?:SNOMED(?:[\s-]?CT)?|SCTID|ICD(?:-?1[01])?|LOINC|RadLex|UMLS|MeSH|DOI|PMID|PMCID|ISBN|ISSN"
    r"|arXiv|RRID|ORPHA|OMIM)\b[\s:#=]{0,3}(?:code\s?)?[\w./:-]{1,64}",
    re.IGNORECASE,
)
"""Codes of vocabularies and publications, which identify nobody."""
RECORD = re.compile(
    r"(?<!\d)(?<!\d\.)0*[1-9]\d{6,}(?!\d)"
    r"|\b(?:MRN|NHS|SSN|PID|patient\s?(?:id|no|number)|record\s?(?:no|number)|accession|acc"
    r"|ИИН|ЖСН|СНИЛС|полис|история\sболезни|амб(?:улаторная)?\.?\sкарта)\b[\s.:#-]{0,4}"
    r"[A-Z]{0,4}-?\d[\d\s/-]{2,20}"
    r"|\b(?:MR\s?#|(?:hospital|hosp|chart|case|study|exam|order|accession|acc|visit|patienten|patient|pat"
    r"|fall)[.\s-]{0,2}(?:no|number|nr|nummer|id|code)|мед(?:\.\s?|ицинская\s)?карта|паспорт|passport"
    r"|medicare|КТ\s?№)[\s.:#№=-]{0,4}(?=[A-Z\d/-]{0,12}\d)[A-Z\d]{1,12}(?:[\s/-]?[A-Z]{0,3}\d[A-Z\d]{0,12}){1,4}"
    r"|(?<!\d)\d{3}-\d\d-\d{4}(?!\d)|(?<!\d)\d{3}-\d{3}-\d{3}[- ]\d\d(?!\d)"
    r"|(?<![\d.])\d{3}[-. ]\d{3}[-. ]\d{4}(?![\d.])"  # NHS number, and telephones of many countries
    r"|#\s?\d{4,}",
    re.IGNORECASE,
)

_LABELLED = re.compile(
    r"\b(?:tel(?:ephone)?|phone|mobile|mob|cell|call|fax|whats\s?app|тел(?:ефон)?|моб|сот|вацап"
    r"|байланыс|ұялы)\b[\s.:#]{0,4}\+?[\d(][\d\s()./-]{4,24}\d",
    re.IGNORECASE,
)
_GROUPED = re.compile(r"(?<![\w.,])(?:\+|00|[08][\s(-]|0\d|\()[\d\s()./-]{6,24}\d(?!\w|[.,]\d)")
"""Candidates for telephone numbers; the library `phonenumbers` decides."""
_REGIONS = (
    "KZ", "RU", "UZ", "KG", "US", "GB", "DE", "FR", "IT", "ES", "NL", "PL", "SE", "TR",
    "UA", "IN", "CN", "JP", "KR", "BR", "AU", "CH", "AT", "BE", "IL",
)  # fmt: skip
"""Countries whose national formats are tried."""
_MOST_CANDIDATES = 1000


def find_telephones(text: str) -> Iterator[Span]:
    """Yield start and end of telephone numbers: of any country in international format, and of
    `_REGIONS` in national format.

    If a text has more than 1,000 candidates, all of them count as telephone numbers, because
    checking each takes milliseconds.
    """
    spans = list(find_forms(text, (_LABELLED,)))
    yield from spans
    candidates = list(find_forms(blank(text, spans), (_GROUPED,)))
    is_many = len(candidates) > _MOST_CANDIDATES
    yield from (span for span in candidates if is_many or _is_telephone(text[slice(*span)]))


@functools.lru_cache(1000)
def _is_telephone(text: str) -> bool:
    import phonenumbers

    number = re.sub(r"^00", "+", text.strip())
    for region in (None,) if number.startswith("+") else _REGIONS:
        try:
            if phonenumbers.is_valid_number(phonenumbers.parse(number, region)):
                return True
        except phonenumbers.NumberParseException:
            continue
    return False
