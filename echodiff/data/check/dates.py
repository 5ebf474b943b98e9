"""Find dates that include the day, in numbers or with English, German, Russian or Kazakh months.

A month and a year without a day, such as "March 2021", are not reported; HIPAA's safe harbour would
remove them too. Every expression takes time linear in the length of the text.
"""

import re
from collections.abc import Iterator

from echodiff.data.check.forms import Span, find_forms

_YEAR = r"(?:19|20)\d\d"
_M, _D = r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_ROMAN = r"(?:I{1,3}|IV|VI{0,3}|IX|XI{0,2})"
_UNIT = (
    r"(?!\s{0,2}(?:[µm]?m\b|cm\b|m[lL]\b|[lL]\b|%|ms\b|s\b|bpm\b|k?g\b|Hz\b|mm\s?Hg|[cmM]?[mM]/s|px\b|pixels?\b"
    r"|мм\b|см\b|мл\b|мс\b|м/с|кг\b|г\b|уд))"
)
"""Not followed by a unit: 11.12.10 mm is a thickness at three places, not a date."""

_ENGLISH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)(?![^\W\d_])\.?"
)
_RUSSIAN = (
    r"(?:янв(?:ар[ьяе])?|фев(?:рал[ьяе])?|мар(?:та?|те)|апр(?:ел[ьяе])?|ма[йя]|июн[ьяе]|июл[ьяе]"
    r"|авг(?:уст[ае]?)?|сент?(?:ябр[ьяе])?|окт(?:ябр[ьяе])?|нояб?(?:р[ьяе])?|дек(?:абр[ьяе])?)(?![^\W\d_])\.?"
)
_KAZAKH = (
    r"(?:қаңтар|ақпан|наурыз|сәуір|мамыр|маусым|шілде|тамыз|қыркүйек|қазан|қараша|желтоқсан"
    r"|kantar|qantar|aqpan|nauryz|sauir|mamyr|mausym|shilde|tamyz|qyrkuiek|qazan|qarasha|jeltoqsan)"
    r"(?:дың|дің|ның|нің|тың|тің|да|де|та|те|ы|і|ында|інде|dyn|din)?(?![^\W\d_])\.?"
)
_GERMAN = (
    r"(?:jänner|januar|februar|märz|mär|mai|juni|juli|august|september|oktober|okt|november"
    r"|dezember|dez)(?![^\W\d_])\.?"
)
_MONTH = rf"(?:{_ENGLISH}|{_GERMAN}|{_RUSSIAN}|{_KAZAKH})"
_FULL_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December"
    r"|JANUARY|FEBRUARY|MARCH|APRIL|JUNE|JULY|AUGUST|SEPTEMBER|OCTOBER|NOVEMBER|DECEMBER)\b"
)
_FULL_RUSSIAN = "января|февраля|марта|апреля|мая|июня|июля|августа|сентября|октября|ноября|декабря"
_FULL_KAZAKH = (
    "(?:қаңтар|ақпан|наурыз|сәуір|мамыр|маусым|шілде|тамыз|қыркүйек|қазан|қараша|желтоқсан)"
    "(?:да|де|та|те)?"
)
_FULL_GERMAN = (
    r"(?:Jänner|Januar|Februar|März|Mai|Juni|Juli|August|September|Oktober|November|Dezember)\b"
)
_WEEKDAY = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_DAY = rf"{_D}(?:st|nd|rd|th|-?(?:го|е|ші|шы|сі|сы|ыншы|інші))?"
_OF = r"(?:\s{0,2}[-.,/]\s{0,2}|\s{1,2}(?:of\s|the\s)?|(?<=\d)(?=[^\W\d]))"
_TO_YEAR = r"(?:\s{0,2}[-.,/']{0,2}\s{0,2}'?)"
_SHORT_YEAR = rf"(?:{_YEAR}|\d\d(?!\d))"
_ERA = r"(?:\s{0,2}(?:ж(?:\.|ыл(?:ы|ғы|дың)?)?|г(?:\.|ода?)?)(?!\w))?"

_FORMS = tuple(
    re.compile(form, flags)
    for form, flags in (
        # 2021-03-04, 2021:03:04, 2021. 3. 4, 2021 03 04
        (rf"(?<!\d){_YEAR}\s?([-_./:\s])\s?{_M}\s?\1\s?{_D}(?!\d)", 0),
        # 04.03.2021, 3/4/2021, 04 03 2021
        (
            rf"(?<!\d)(?:{_D}\s?([-_./\s])\s?{_M}|{_M}\s?([-_./])\s?{_D})"
            rf"\s?(?:\1|\2)\s?{_YEAR}(?!\d)",
            0,
        ),
        # 04.03.21 and 4/3/21, but not 4.3.21, which could be something else
        (
            r"(?<![\d.,/])(?:0[1-9]|[12]\d|3[01])([.-])(?:0[1-9]|1[0-2])\1\d\d"
            rf"(?![\d.]\d|\d)(?:(?=\s?г)|{_UNIT})",
            0,
        ),
        (rf"(?<![\d.,/])(?:{_D}/{_M}|{_M}/{_D})/\d\d(?![\d/]){_UNIT}", 0),
        # 4.3.21 after a word such as `born`
        (
            r"\b(?:dated?|born|dob|from|since|until|on|от|дата|род(?:ился|илась)|күні|туған)\b"
            rf"\W{{1,3}}{_D}([-./]){_M}\1\d\d(?!\d){_UNIT}",
            re.IGNORECASE,
        ),
        # 20210304, 20210304101112
        (
            r"(?<!\d)(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
            r"(?:\d{6}(?:\.\d{1,6})?)?(?!\d)",
            0,
        ),
        # 4 March 2021, 4th of March, '21, 4-Mar-2021, 04MAR2021, 4 марта 2021 г., 4 наурыз 2021 ж.
        (rf"(?<!\d){_DAY}{_OF}{_MONTH}{_TO_YEAR}{_SHORT_YEAR}{_UNIT}", re.IGNORECASE),
        # March 4, 2021; Mar 4th '21; наурыздың 4-і, 2021
        (
            rf"\b{_MONTH}\s{{0,2}}[-.]?\s?{_DAY}(?:[,.]?\s{{1,2}}|[-./]|,)'?{_SHORT_YEAR}"
            rf"(?!\d){_UNIT}",
            re.IGNORECASE,
        ),
        # 2021 March 4; 2021 ж. 4 наурыз; 2021 жылғы 4 наурыз
        (
            rf"(?<!\d){_YEAR}{_ERA}[-,./\s]{{1,3}}"
            rf"(?:{_MONTH}[-,./\s]{{0,2}}{_DAY}|{_DAY}{_OF}{_MONTH})(?!\d)",
            re.IGNORECASE,
        ),
        # 4.III.2021, but not NYHA class III 2021
        (rf"(?<!\d){_D}\s?([-./\s])\s?{_ROMAN}\s?\1\s?(?:{_YEAR})(?!\d)", 0),
        # a day without a year, with the month in full: `dec 5` and `may 2` have other meanings
        (rf"(?<!\d)(?:{_DAY})(?:\s(?:of\s)?|-){_FULL_MONTH}", 0),
        (rf"\b(?!May\b){_FULL_MONTH}\s(?:the\s)?{_DAY}(?![\d.]){_UNIT}", 0),
        (rf"(?<!\d){_D}\.\s?{_FULL_GERMAN}", 0),
        (rf"\b{_WEEKDAY},?\s{_MONTH}\s{_DAY}", re.IGNORECASE),
        (rf"[«\"“„]{_D}[»\"”“]\s{{0,2}}{_MONTH}", re.IGNORECASE),
        (rf"(?<!\w){_KAZAKH}\s(?:айының\s)?{_D}-(?:ші|шы|і|сі|сы|ы)(?!\w)", re.IGNORECASE),
        (rf"(?<!\d){_DAY}[\s-](?:{_FULL_RUSSIAN}|{_FULL_KAZAKH})(?!\w)", re.IGNORECASE),
    )
)


def find_dates(text: str) -> Iterator[Span]:
    """Yield start and end of every date in `text` that includes the day."""
    return find_forms(text, _FORMS, lambda found: not _is_split(found))


def _is_split(found: str) -> bool:
    """Whether the text is a ratio of splits such as 10/10/80: no date adds up to 100."""
    parts = found.split("/")
    return len(parts) == 3 and all(map(str.isdecimal, parts)) and sum(map(int, parts)) == 100
