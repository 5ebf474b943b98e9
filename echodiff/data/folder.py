"""`echodiff prepare folder`: a folder of pictures, perhaps with masks and captions -> frames."""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from echodiff.config import InputError, parse
from echodiff.data.captions import read_csv
from echodiff.data.cases import Case, DataSet, Shot
from echodiff.data.labels import Table, parse_table, read_labels
from echodiff.data.preparation import PrepareConfig, prepare
from echodiff.images import (
    IMAGE_SUFFIXES,
    bit_range,
    has_deep_pixels,
    read_image_u8,
    read_max_value,
)

VIEW_NAMES = {"4CH": "A4C", "2CH": "A2C"}
"""Views as CAMUS writes them, and as this project does."""

CAPTION_COLUMNS = ("patient_id", "view", "phase", "vendor")

# `datasets` takes such a word in a file name for the name of a split, and drops the other files.
_SPLIT_WORD = re.compile(
    r"(?:^|[-._ 0-9])(train|training|val|valid|validation|dev|test|eval)s?"
    r"(?:ing|uation)?(?:[-._ 0-9]|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class FolderConfig(PrepareConfig):
    """Turn a folder of pictures into a frames folder: grey, split by patient."""

    captions: str = "none"
    """`none`, `plain` (what file name and mask tell), a template with words in braces, a .txt that
    holds one, or a .csv with the columns file_name and text, and perhaps patient_id, view, phase,
    vendor; pictures that a .csv leaves out get null text."""
    text: str | None = None
    """Text in the pixels: `mask` blackens it outside the scan and leaves out pictures that have it
    inside; `mask-inside` blackens it everywhere; `refuse` takes no picture that has any; `keep`
    does not look. Null: it is looked for, kept, and reported."""
    match: str = "*"
    """Only pictures whose name fits this pattern, such as *_4CH_*."""
    masks: Path | None = None
    """Folder of masks, one for every picture, of the same name and size."""
    mask_labels: str | None = None
    """What the masks' numbers or colours mean: camus, acdc, mnms, hvsmr, or such as 1=LV,2=RV or
    #ff0000=LV,#0000ff=RV. Null: the numbers are those of this project."""
    patient_regex: str | None = None
    """Finds the patient in a file name: the group `patient`, or else the first group; the groups
    `view` and `phase` are used too."""
    spacing_mm: float | None = None
    """Side of a pixel of the source pictures, in mm."""
    max_value: int | None = None
    """Grey value of 16-bit pictures that becomes white. Null: the full scale of the smallest usual
    bit depth that holds all of them."""
    view: str | None = None
    """View of all pictures, such as A4C, where nothing else tells."""
    vendor: str | None = None
    """Scanner of all pictures."""
    modality: str = "echo"
    """echo, mr, ct or pseudo."""
    source: str = "folder"
    """Name of the data set, written into every row."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_value is not None and self.max_value < 1:
            raise ValueError(f"--max-value must be at least 1, got {self.max_value}")
        if self.spacing_mm is not None and self.spacing_mm <= 0:
            raise ValueError(f"--spacing-mm must be above 0, got {self.spacing_mm}")


def main(argv: list[str]) -> None:
    config = parse(FolderConfig, argv, prog="echodiff prepare folder")
    prepare(config, find_pictures(config))


def find_pictures(config: FolderConfig) -> DataSet:
    """Every picture under `src` with its mask and the words of its name."""
    if not config.src.is_dir():
        raise InputError(f"{config.src}: no such folder")
    if config.masks is not None and not config.masks.is_dir():
        raise InputError(f"--masks: {config.masks}: no such folder")
    everything = list_pictures(config.src)
    paths = [path for path in everything if path.match(config.match)]
    if not paths:
        raise InputError(f"{config.src}: no pictures that fit --match {config.match}")
    rows = read_rows(config, [path.relative_to(config.src).as_posix() for path in everything])
    pattern = compile_regex(config.patient_regex)
    masks = {} if config.masks is None else by_stem(config.masks)
    cases = []
    for name, path in zip(name_frames(config.src, paths), paths, strict=True):
        place = path.relative_to(config.src)
        mask = masks.get(place.with_suffix("").as_posix())
        missing = config.masks is not None and mask is None
        words = words_of_name(path, pattern) | rows.get(place.as_posix(), {})
        case = Case(
            name=name,
            path=path,
            extra_paths=() if mask is None else (mask,),
            patient_id=words.get("patient_id"),
            alias=place.as_posix(),
            view=words.get("view") or config.view,
            vendor=words.get("vendor") or config.vendor,
            where=words.get("phase"),
            problem=f"{path}: has no mask in {config.masks}" if missing else None,
        )
        cases.append(case)
    if config.patient_regex is None and not any(case.patient_id for case in cases):
        warnings.warn(
            "no --patient-regex: every picture is taken for a patient of its own", stacklevel=2
        )
    read = partial(
        read_picture,
        table=parse_table(config.mask_labels),
        max_value=config.max_value or find_white_level(paths),
        spacing_mm=config.spacing_mm,
    )
    return DataSet(
        name=config.source,
        card="folder",
        modality=config.modality,
        cases=cases,
        read=read,
        captions="" if config.captions.endswith(".csv") else None,
    )


def find_white_level(paths: Sequence[Path]) -> int | None:
    """White level of all pictures of more than 8 bits; damaged ones are found when they are read.

    One for the set: scaled each by its own brightest pixel, dark frames would turn bright.
    """
    largest = 0
    for path in filter(has_deep_pixels, paths):
        with suppress(InputError):
            largest = max(largest, read_max_value(path) or 0)
    return bit_range(largest) if largest else None


def read_picture(
    case: Case, *, table: Table | None, max_value: int | None, spacing_mm: float | None
) -> Iterator[Shot]:
    """The one frame of a picture."""
    image = read_image_u8(case.path, max_value=max_value)
    mask = read_labels(case.extra_paths[0], table) if case.extra_paths else None
    if mask is not None and mask.shape != image.shape[:2]:
        raise InputError(f"{case.extra_paths[0]}: is {mask.shape}, its picture {image.shape[:2]}")
    yield Shot(
        name="",
        image_u8=image,
        mask_u8=mask,
        phase=case.where,
        spacing_mm=None if spacing_mm is None else (spacing_mm, spacing_mm),
    )


def read_rows(config: FolderConfig, known: Sequence[str]) -> dict[str, dict[str, str]]:
    """Columns of the captions' table beside the text, by file name; what is empty is left out."""
    if not config.captions.endswith(".csv"):
        return {}
    path = Path(config.captions)
    rows = {}
    for number, row in read_csv(path, needed=("file_name", "text"), flag="--captions"):
        name = row["file_name"].strip()
        if name not in known:
            raise InputError(f"{path}, line {number}: {name} names no picture in {config.src}")
        rows[name] = {key: row[key].strip() for key in CAPTION_COLUMNS if row.get(key)}
    return rows


def compile_regex(pattern: str | None) -> re.Pattern[str] | None:
    """Compile `--patient-regex`; it must have a group."""
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--patient-regex: {error}") from error
    if not compiled.groups:
        raise InputError(f"--patient-regex: {pattern!r} has no group, such as (patient\\d+)")
    return compiled


def words_of_name(path: Path, pattern: re.Pattern[str] | None) -> dict[str, str]:
    """patient_id, view and phase as the file name tells them."""
    if pattern is None:
        return {}
    found = pattern.search(path.name)
    if found is None:
        raise InputError(f"{path}: --patient-regex does not fit")
    words = found.groupdict()
    patient = words.get("patient") or found.group(1)
    view = words.get("view") or ""
    named = {"patient_id": patient, "view": VIEW_NAMES.get(view, view), "phase": words.get("phase")}
    return {key: value for key, value in named.items() if value}


def list_pictures(folder: Path) -> list[Path]:
    """Every picture in a folder, searched in depth; links to folders are not followed."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and path.name[0] != "."
    ]


def by_stem(folder: Path) -> dict[str, Path]:
    """Pictures of a folder by their place in it without the suffix."""
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path for path in list_pictures(folder)
    }


def name_frames(src: Path, paths: Sequence[Path]) -> list[str]:
    """Names as they were, with the folders in them; numbers where a name says `test`."""
    stems = ["__".join(path.relative_to(src).with_suffix("").parts) for path in paths]
    if any(_SPLIT_WORD.search(stem) for stem in stems):
        stems = [f"frame-{number:06d}" for number in range(len(stems))]
    names: dict[str, Path] = {}
    for stem, path in zip(stems, paths, strict=True):
        if stem in names:
            raise InputError(f"{path}: {names[stem].name} has the same name but for its suffix")
        names[stem] = path
    return list(names)
