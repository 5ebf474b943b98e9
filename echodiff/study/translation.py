"""Languages of the web application: catalogues of Babel, read from .po files at start.

English is the text in the source. `N_` marks a text that is translated where it is shown.
"""

import gettext
import io
from functools import cache
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from echodiff.errors import InputError

LOCALE = Path(__file__).with_name("locale")
LANGUAGE_NAMES = {"en": "English", "ru": "Русский", "kk": "Қазақша", "uz": "Oʻzbekcha"}
"""Language -> its name in the language itself."""


def N_(message: str) -> str:  # noqa: N802 - the name that gettext's tools look for
    """Mark a text for translation and return it unchanged."""
    return message


class Refusal(InputError):  # noqa: N818 - no error of the program
    """What an organiser or reader may not do now; translated where a page shows it."""

    def __init__(self, message: str, **values: Any) -> None:
        super().__init__(message.format(**values))
        self.message, self.values = message, values


def load_catalog(language: str) -> Catalog:
    """The catalogue of a language other than English."""
    with (LOCALE / f"{language}.po").open("rb") as file:
        return read_po(file, locale=language, abort_invalid=True)


@cache
def translations(language: str) -> gettext.NullTranslations:
    """What turns English texts into this language; compiled in memory, once."""
    if language == "en":
        return gettext.NullTranslations()
    compiled = io.BytesIO()
    write_mo(compiled, load_catalog(language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def translate(language: str, message: str) -> str:
    """The text in this language."""
    return translations(language).gettext(message)


def preferred_language(accepted: str, offered: tuple[str, ...]) -> str:
    """The first offered language of an Accept-Language header, else the first offered."""
    for part in accepted.split(","):
        language = part.split(";")[0].strip().split("-")[0].lower()
        if language in offered:
            return language
    return offered[0]
