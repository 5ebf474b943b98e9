"""Translate the mask labels of a data set to `Label` values."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echodiff.anatomy import Label
from echodiff.documents import read_yaml_record
from echodiff.errors import InputError
from echodiff.images import read_mask_u8, read_rgb_u8

Colour = tuple[int, int, int]
Table = Mapping[int, Label] | Mapping[Colour, Label]
"""Label by the number, or by the colour, that a data set's masks are written in. Keys that are
`Label` themselves rename labels of masks whose numbers need no table; others stay."""

CAMUS = {0: Label.BACKGROUND, 1: Label.LV, 2: Label.LV_MYOCARDIUM, 3: Label.LA}
ACDC = {0: Label.BACKGROUND, 1: Label.RV, 2: Label.LV_MYOCARDIUM, 3: Label.LV}
"""The reverse of M&Ms: 1 is the right ventricle here and the left one there."""
MNMS = {0: Label.BACKGROUND, 1: Label.LV, 2: Label.LV_MYOCARDIUM, 3: Label.RV}
HVSMR = {
    (0, 0, 0): Label.BACKGROUND,
    (255, 0, 0): Label.LV,
    (0, 0, 255): Label.RV,
    (255, 255, 0): Label.LA,
    (0, 255, 255): Label.RA,
    (0, 255, 0): Label.AORTA,
    (255, 255, 255): Label.PULMONARY_ARTERY,
    (255, 0, 255): Label.VEIN,
    (128, 128, 128): Label.VEIN,
}
"""HVSMR-2.0 as colours; magenta and grey are the superior and inferior vena cava."""
TABLES: dict[str, Table] = {"camus": CAMUS, "acdc": ACDC, "mnms": MNMS, "hvsmr": HVSMR}

DICOM = ".dcm"
_MOST_UNKNOWN = 3
"""Unknown numbers or colours in one mask above which it is not a table that lacks an entry."""
_SOFT_EDGES = "edges that were smoothed or blurred, or no mask at all; draw with a hard brush"
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def relabel(
    values: NDArray[np.integer], table: Mapping[int, Label], place: str
) -> NDArray[np.uint8]:
    """Translate label numbers (H, W) or (H, W, ...); InputError for a number not in the table."""
    lookup = np.zeros(256, dtype=np.uint8)
    for number, label in table.items():
        lookup[number] = label
    unknown = sorted(set(np.unique(values).tolist()) - set(table))
    if len(unknown) > _MOST_UNKNOWN:
        share = float(np.isin(values, unknown).mean())
        raise InputError(
            f"{place}: {len(unknown)} numbers without a meaning, such as {unknown[0]}, in "
            f"{share:.1%} of its pixels: {_SOFT_EDGES}"
        )
    if unknown:
        raise InputError(
            f"{place}: label {unknown[0]} in the mask; known are {sorted(table)}; "
            f"--mask-labels {unknown[0]}=NAME adds it"
        )
    return lookup[values.astype(np.uint8)]


def read_labels(path: Path, table: Table | None) -> NDArray[np.uint8]:
    """Read a mask as (H, W) of `Label` values; with None its numbers are `Label` values already.

    A DICOM segmentation has numbered segments; with None their names are those of labels.
    """
    if renamed := {key: label for key, label in (table or {}).items() if isinstance(key, Label)}:
        table = {int(label): label for label in Label} | renamed
        return relabel(read_labels(path, None), table, str(path))
    if path.suffix.lower() == DICOM:
        return _read_dicom(path, table)
    if table is None:
        return relabel(read_mask_u8(path), {int(label): label for label in Label}, str(path))
    numbers = {key: label for key, label in table.items() if isinstance(key, int)}
    if numbers:
        return relabel(read_mask_u8(path), numbers, str(path))
    rgb = read_rgb_u8(path)
    mask = np.full(rgb.shape[:2], 255, dtype=np.uint8)
    for colour, label in table.items():
        mask[(rgb == colour).all(axis=-1)] = label
    if (mask == 255).any():
        unknown = np.unique(rgb[mask == 255], axis=0)
        red, green, blue = unknown[0].tolist()
        first = f"#{red:02x}{green:02x}{blue:02x}"
        if len(unknown) > _MOST_UNKNOWN:
            raise InputError(
                f"{path}: {len(unknown)} colours without a meaning, such as {first}, in "
                f"{(mask == 255).mean():.1%} of its pixels: {_SOFT_EDGES}"
            )
        raise InputError(f"{path}: colour {first} stands for no label")
    return mask


def _read_dicom(path: Path, table: Table | None) -> NDArray[np.uint8]:
    from echodiff.data.dicom.segmentation import name_segments, read_segments

    numbers, names = read_segments(path)
    if table is None:
        table = name_segments(names, path)
    known = {key: label for key, label in table.items() if isinstance(key, int)}
    if not known:
        raise InputError(f"{path}: --mask-labels names colours, and a DICOM segmentation has none")
    return relabel(numbers, known, str(path))


def parse_table(text: str | None) -> Table | None:
    """Parse `hvsmr`, `1=LV,2=RV`, `#ff0000=LV`, `AORTA=BACKGROUND`, or the path of a YAML file.

    The file holds a line `1: LV`, `"#ff0000": LV` or `AORTA: BACKGROUND` for each number, colour or
    label. 0 and black are background.
    """
    if text is None:
        return None
    if text in TABLES:
        return TABLES[text]
    numbers: dict[int, Label] = {0: Label.BACKGROUND}
    colours: dict[Colour, Label] = {(0, 0, 0): Label.BACKGROUND}
    names: dict[int, Label] = {}
    for part in _list_entries(text):
        key, equals, name = (word.strip() for word in part.partition("="))
        if not equals or name.upper() not in Label.__members__:
            raise InputError(
                f"--mask-labels: {part.strip()!r} is neither one of {', '.join(TABLES)} nor like "
                f"1=LV; labels are {', '.join(Label.__members__)}"
            )
        if _COLOUR.fullmatch(key):
            red, green, blue = bytes.fromhex(key[1:])
            colours[red, green, blue] = Label[name.upper()]
        elif key.isascii() and key.isdigit() and int(key) < 256:
            numbers[int(key)] = Label[name.upper()]
        elif key.upper() in Label.__members__:
            names[Label[key.upper()]] = Label[name.upper()]
        else:
            raise InputError(
                f"--mask-labels: {key!r} is neither a number, nor a colour like #ff0000, nor a "
                "label"
            )
    least = ((numbers, 1), (colours, 1), (names, 0))  # background is always there
    given = [table for table, num in least if len(table) > num]
    if len(given) > 1:
        raise InputError("--mask-labels: numbers, colours and labels do not go together")
    return given[0] if given else numbers


def _list_entries(text: str) -> list[str]:
    """Return the entries `1=LV` of a list, or of a YAML file with a line for each."""
    if Path(text).suffix.lower() not in {".yaml", ".yml"}:
        return text.split(",")
    try:
        entries = read_yaml_record(Path(text))
    except OSError as error:
        raise InputError(f"--mask-labels {text}: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"--mask-labels {error}") from None
    if not entries:
        raise InputError(f"--mask-labels {text}: holds no label")
    for key, name in entries.items():
        if not isinstance(name, str):
            raise InputError(
                f"--mask-labels {text}: {key}: YAML reads the value as {name!r}; a label is a "
                f"name, one of {', '.join(Label.__members__)}"
            )
    return [f"{key}={name}" for key, name in entries.items()]
