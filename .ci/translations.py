"""Bring the catalogues of the reader study up to date with the texts in its source.

python .ci/translations.py            # rewrite echodiff/study/locale/*.po, keeping translations
python .ci/translations.py --check    # exit status 1 if one of them would change
"""

import io
import sys
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "echodiff" / "study"
LANGUAGES = ("ru", "kk", "uz")
METHODS = [("**.py", "python"), ("web/templates/**.html", "jinja2.ext:babel_extract")]
OPTIONS = {"web/templates/**.html": {"newstyle_gettext": "true", "trimmed": "true"}}
KEYWORDS = {"_": None, "N_": None, "gettext": None}


def extract() -> Catalog:
    """All texts of the source, in the order of the files."""
    catalog = Catalog(project="echodiff", charset="utf-8")
    found = extract_from_dir(STUDY, METHODS, OPTIONS, KEYWORDS)
    for name, _, message, _, context in sorted(found, key=lambda entry: entry[:2]):
        catalog.add(message, locations=[(name, 0)], context=context)
    return catalog


def updated(language: str, template: Catalog) -> str:
    """The catalogue of a language with all texts of the template and no others."""
    path = STUDY / "locale" / f"{language}.po"
    old = read_po(io.BytesIO(path.read_bytes() if path.exists() else b""), locale=language)
    catalog = Catalog(
        locale=language, project="echodiff", header_comment="# Texts of the reader study."
    )
    for message in template:
        if message.id:
            known = old.get(message.id)
            text = known.string if known is not None else ""
            catalog.add(
                message.id, text, locations=message.locations, flags=message.flags - {"fuzzy"}
            )
    catalog.creation_date = catalog.revision_date = datetime(2026, 1, 1, tzinfo=UTC)
    buffer = io.BytesIO()
    write_po(buffer, catalog, width=100, omit_header=False, include_lineno=False)
    return buffer.getvalue().decode()


def main(arguments: list[str]) -> int:
    template, changed = extract(), 0
    for language in LANGUAGES:
        path = STUDY / "locale" / f"{language}.po"
        text = updated(language, template)
        changed += not path.exists() or path.read_text("utf-8") != text
        if arguments != ["--check"]:
            path.write_text(text, encoding="utf-8", newline="\n")
    return int(arguments == ["--check"] and changed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
