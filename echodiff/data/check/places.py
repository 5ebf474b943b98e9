"""Find paths, web addresses, host names and street addresses in a text."""

import re
from collections.abc import Iterator

from echodiff.data.check.forms import Span, blank, find_forms

_ROOTS = (
    r"(?:home|root|Users|mnt|media|data|scratch|tmp|var|opt|srv|etc|usr|Volumes|nfs|gpfs|lustre)"
)
_PART = r"[\w.@+~%$-]{1,255}"
_FORMS = tuple(
    re.compile(form)
    for form in (
        # Any scheme: https, s3, gs, smb, file, ssh, postgresql ...
        r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s<>\"'`)\]]{1,2000}",
        r"file:/{1,3}[^\s<>\"'`)\]]{1,2000}",
        # /home/jane/frames, but not the end of a web address; a single /data only for known roots
        rf"(?<![\w/:.)\]>~}}-])/(?!/)(?:{_PART}/){{1,60}}(?:{_PART})?",
        rf"(?<![\w/:.)\]>~}}-])/{_ROOTS}\b",
        r"(?<!\w)~\w{0,32}/[\w./-]{1,255}",
        r"\b[A-Za-z]:(?:\\|/(?!/))[\w.\\/ -]{1,255}",
        r"\\\\[\w.-]{1,255}\\[\w.$\\ -]{1,255}",
        rf"(?<![\w:/.])//[\w-][\w.-]{{0,254}}/{_PART}",
        r"(?<![\w./\\])(?:\.\.[\\/]){1,20}[\w.\\/ -]{1,255}",
        r"(?:\$\{?[A-Z_]{2,32}\}?|%[A-Z_]{2,32}%)[\\/][\w.\\/-]{1,255}",
        # jane@host:frames as in scp, and host names of local networks
        r"(?<![\w.-])[\w.-]++@[\w.-]{1,255}:[\w./~-]{1,255}",
        r"\b[\w-]{1,63}(?:\.[\w-]{1,63}){0,6}\.(?:local|lan|internal|intern|intranet|corp|localdomain)\b",
        r"\bwww\.[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}(?:/[^\s<>\"'`)\]]{0,2000})?",
        r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])",
        r"(?<![\w:.])(?=[\da-fA-F:]{0,37}::|(?:[\da-fA-F]{1,4}:){7})[\da-fA-F:]{6,39}(?![\w:])",
        # street addresses
        r"\b\d{1,4}[A-Z]?\s(?:[A-Z][a-z]{1,30}\s){1,3}(?:Street|St|Avenue|Ave|Road|Rd|Lane|Boulevard|Blvd|Square"
        r"|Court|Terrace)\b",
        r"\b[A-ZÄÖÜ][\w-]{1,30}(?:straße|strasse|str\.|gasse|platz|allee)\s\d{1,4}",
        r"\b(?:ул|пр|просп|пер|бульв|мкр)\.\s?[А-ЯЁӘҒҚҢӨҰҮҺІ][\w-]{1,40},?\s(?:д\.\s?)?\d",
        r"\b[А-ЯЁӘҒҚҢӨҰҮҺІ][\w-]{1,40}\s(?:көшесі|даңғылы)(?!\w)",
        r"\bP\.?\s?O\.?\sBox\s\d",
    )
)
_PUBLIC = re.compile(
    r"\bhttps?://(?:[\w-]{1,63}\.){0,4}(?:huggingface\.co|doi\.org|arxiv\.org|apache\.org|spdx\.org"
    r"|creativecommons\.org|pytorch\.org|github\.io|readthedocs\.io)(?:[/?#][^\s<>\"'`)\]]{0,2000}|(?![\w.]))"
)
"""Web addresses of publications, licences and software, which identify nobody."""


def find_places(text: str) -> Iterator[Span]:
    """Yield start and end of every path, address and host in `text`, except public web sites."""
    return find_forms(blank(text, [match.span() for match in _PUBLIC.finditer(text)]), _FORMS)
