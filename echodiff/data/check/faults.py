"""What can be wrong with a frames folder: the kinds of fault, how grave they are, and why."""

from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    """What a fault means for whoever wants to use the folder."""

    ERROR = "error"
    """Do not train on it, do not share it."""
    WARNING = "warning"
    """A person should look."""
    NOTE = "note"
    """Good to know."""


class Fault(NamedTuple):
    """One fault of one file."""

    kind: str
    """A key of `KINDS`."""
    file: str
    """Relative to the folder, with forward slashes."""
    message: str


class Kind(NamedTuple):
    """A kind of fault."""

    severity: Severity
    meaning: str


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

KINDS: dict[str, Kind] = {
    # Rows and files.
    "unfinished": Kind(_E, "the command that wrote the folder did not end"),
    "broken-row": Kind(_E, "a line that is no row"),
    "no-rows": Kind(_E, "no frames"),
    "missing-picture": Kind(_E, "a row without its picture"),
    "missing-mask": Kind(_E, "a mask that is named and not there"),
    "picture-without-row": Kind(_E, "a picture that no row names"),
    "mask-without-row": Kind(_W, "a mask that no row names"),
    "left-over": Kind(_W, "half a file that a killed command left behind"),
    "unreadable": Kind(_E, "a picture or mask that cannot be decoded"),
    "split-word": Kind(_W, "a file name with a word of a split"),
    "no-data-folder": Kind(_N, "pictures in folders that hold no data"),
    # Who is trained on and who is kept apart.
    "patient-in-two-splits": Kind(_E, "a patient with frames in two splits"),
    "unknown-split": Kind(_E, "a split that is none of train, val, test"),
    "split-missing": Kind(_E, "rows without a split where others have one"),
    "patient-missing": Kind(_W, "rows without a patient"),
    "exact-double": Kind(_E, "the same pixels under two patients or in two splits"),
    "near-double": Kind(_E, "nearly the same picture under two patients or in two splits"),
    "repeated-frame": Kind(_N, "the same pixels twice within a patient and split"),
    # Who can be recognised.
    "identifier-name": Kind(_E, "what reads like a person's name"),
    "identifier-date": Kind(_E, "a date to the day"),
    "identifier-uid": Kind(_E, "a DICOM unique identifier"),
    "identifier-number": Kind(_E, "a long number, such as a record's or a telephone's"),
    "identifier-email": Kind(_E, "an e-mail address"),
    "identifier-age": Kind(_E, "an age above 90"),
    "identifier-place": Kind(_E, "a path, a web address or a host: a machine or a house"),
    "credential": Kind(_E, "a token, a key or a password"),
    "identifier-column": Kind(_E, "a column of a kind that identifies people or devices"),
    "burned-in-text": Kind(_E, "text in the pixels"),
    "possible-name": Kind(_W, "capitalised words that may be a name"),
    "picture-metadata": Kind(_W, "a picture that carries more than pixels"),
    # Masks.
    "unknown-label": Kind(_E, "mask values that mean nothing here"),
    "mask-size": Kind(_E, "a mask of another size than its picture"),
    "empty-mask": Kind(_W, "a mask of background alone"),
    # Pixels.
    "constant": Kind(_E, "a picture of one grey level"),
    "low-contrast": Kind(_W, "a picture of very few grey levels"),
    "saturated": Kind(_W, "a picture with much pure white"),
    "colour": Kind(_W, "colour where grey is expected"),
    "white-level": Kind(_W, "pictures of more than 8 bits without one white level in the rows"),
    "other-readers": Kind(_N, "a picture or mask that other software may show in another way"),
    "size-outlier": Kind(_W, "a picture of another size than the rest"),
    "range-outlier": Kind(_W, "a picture far brighter, darker, flatter or harder than the rest"),
    # Words and terms.
    "caption-unknown": Kind(_W, "a caption that says that there is none, such as nan"),
    "caption-too-long": Kind(_W, "a caption that CLIP will cut"),
    "caption-cyrillic": Kind(_W, "a caption in Cyrillic letters, which CLIP cannot read"),
    "card-missing": Kind(_W, "no data card, or one that cannot be read"),
    "licence-unknown": Kind(_W, "a data card without a licence"),
}
"""Every kind, in the order it is told."""
