"""`--captions` of `echodiff prepare`: a template, and a table of captions that takes precedence."""

import unicodedata
import warnings
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from echodiff.captions.language import describe_cyrillic
from echodiff.captions.templates import PLAIN, check_template, fill
from echodiff.data.csv_tables import is_table, read_captions_table
from echodiff.data.records import Case
from echodiff.errors import InputError


@dataclass(frozen=True)
class Captions:
    """A caption template, and a clinician's own captions, which take precedence."""

    template: str = ""
    """Empty for null text."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Caption by the name of a source file, a case or a frame (`normalize`)."""

    def write(self, names: Iterable[str], words: Mapping[str, str]) -> str:
        """Write the caption of a frame known by any of `names`."""
        for name in names:
            if name in self.texts:
                return self.texts[name]
        return fill(self.template, words)

    def find_unused(self, names: Container[str]) -> list[str]:
        """Return the names in the table that are not in `names`."""
        return [name for name in self.texts if name not in names]


def names_of(case: Case, frame_name: str, sources: Container[str]) -> list[str]:
    """Return the names by which a table may refer to a frame, in order of precedence.

    sources: names of all source files; such a name in the table means that file, never a frame or
    case of the same name.
    """
    own = [*list_names(frame_name), case.name]
    return list_names(case.alias) + [name for name in own if name not in sources]


def list_names(name: str) -> list[str]:
    """Return a file's name as a table may write it: with its suffix, and without."""
    stem = str(PurePosixPath(name).with_suffix("")) if name else ""
    return list(dict.fromkeys(normalize(one) for one in (name, stem) if one))


def list_source_names(cases: Iterable[Case]) -> set[str]:
    """Return the names of the source files of all cases."""
    return {name for case in cases for name in list_names(case.alias)}


def normalize(name: str) -> str:
    """Return a name in Unicode's composed form; macOS stores file names decomposed."""
    return unicodedata.normalize("NFC", name)


def load_captions(
    option: str, template: str | None, texts: Mapping[str, str] | None = None
) -> Captions:
    """Read `--captions`: `none`, `plain`, a table, a .txt with a template, or a template.

    template: the template of the data set, for frames that a table does not name.
    texts: captions that the data set itself holds, which `plain` takes.
    """
    own = PLAIN if template is None else template
    if option == "none":
        return Captions()
    if option == "plain":
        return Captions(own, texts or {})
    if is_table(option):
        rows = read_captions_table(Path(option))
        if sentence := describe_cyrillic([row["text"] for row in rows.values()]):
            warnings.warn(f"{option}: {sentence}", stacklevel=2)
        return Captions(own, {normalize(name): row["text"] for name, row in rows.items()})
    if option.endswith(".txt"):
        try:
            text = Path(option).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--captions: {option}: {error}") from error
        return Captions(check_template(" ".join(text.split()), option))
    if "{" not in option:
        raise InputError(
            f"--captions: got {option!r}, expected none, plain, a .csv, .tsv or .txt file, or a "
            "template with words in braces"
        )
    return Captions(check_template(option, "--captions"))
