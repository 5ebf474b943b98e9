"""The kinds of fault that a frames folder can have, with their severity."""

from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    """How serious a fault is."""

    ERROR = "error"
    """Fix it before training or sharing."""
    WARNING = "warning"
    """A person should look."""
    NOTE = "note"
    """For information."""


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
    # Rows and files
    "unfinished": Kind(_E, "the command that wrote the folder did not finish"),
    "broken-row": Kind(_E, "a line that is not a valid row"),
    "no-rows": Kind(_E, "no usable row"),
    "missing-picture": Kind(_E, "a row whose image does not exist"),
    "missing-mask": Kind(_E, "a row whose mask does not exist"),
    "picture-without-row": Kind(_E, "an image that no row names"),
    "mask-without-row": Kind(_W, "a mask that no row names"),
    "left-over": Kind(_W, "a partial file of an interrupted command"),
    "unreadable": Kind(_E, "an image or mask that cannot be decoded"),
    "split-word": Kind(_W, "a file name that `datasets` takes for a split"),
    "no-data-folder": Kind(_N, "images in folders that are not part of the data"),
    # Splits and duplicates
    "patient-in-two-splits": Kind(_E, "a patient with frames in two splits"),
    "unknown-split": Kind(_E, "a split other than train, val and test"),
    "split-missing": Kind(_E, "rows without a split although others have one"),
    "patient-missing": Kind(_W, "rows without a patient_id"),
    "exact-double": Kind(_E, "identical pixels under two patients or in two splits"),
    "near-double": Kind(_E, "nearly identical images under two patients or in two splits"),
    "repeated-frame": Kind(_N, "identical pixels within one patient and split"),
    # Identifiers
    "identifier-name": Kind(_E, "text that looks like a person's name"),
    "identifier-date": Kind(_E, "a date that includes the day"),
    "identifier-uid": Kind(_E, "a DICOM unique identifier"),
    "identifier-number": Kind(_E, "a long number, such as a record or telephone number"),
    "identifier-email": Kind(_E, "an e-mail address"),
    "identifier-age": Kind(_E, "an age above 90"),
    "identifier-place": Kind(_E, "a path, web address, host name or street address"),
    "credential": Kind(_E, "a token, a key or a password"),
    "identifier-column": Kind(_E, "a column that identifies a person or a device"),
    "burned-in-text": Kind(_E, "text in the pixels"),
    "possible-name": Kind(_W, "capitalised words that may be a name"),
    "picture-metadata": Kind(_W, "an image file that contains more than pixels"),
    # Masks
    "unknown-label": Kind(_E, "mask values that are not labels"),
    "mask-size": Kind(_E, "a mask whose size differs from its image"),
    "empty-mask": Kind(_W, "a mask with background only"),
    # Pixels
    "constant": Kind(_E, "an image with a single grey level"),
    "low-contrast": Kind(_W, "an image with very few grey levels"),
    "saturated": Kind(_W, "an image with many pure white pixels"),
    "colour": Kind(_W, "a colour image where grey is expected"),
    "white-level": Kind(_W, "images of more than 8 bits without one white level in the rows"),
    "other-readers": Kind(_N, "an image or mask that other software may display differently"),
    "size-outlier": Kind(_W, "an image whose size differs from the others"),
    "range-outlier": Kind(_W, "an image whose brightness or contrast is far from the others"),
    # Captions and data card
    "caption-unknown": Kind(_W, "a caption that stands for no caption, such as nan"),
    "caption-too-long": Kind(_W, "a caption that CLIP will truncate"),
    "caption-cyrillic": Kind(_W, "a caption in Cyrillic letters, which CLIP cannot read"),
    "card-missing": Kind(_W, "no data card, or one that cannot be read"),
    "licence-unknown": Kind(_W, "a data card without a licence"),
}
"""All kinds, in the order of the report."""
