"""`echodiff prepare folder`: read a folder of images, with masks and captions if there are any."""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from echodiff.data.captions import list_names, normalize
from echodiff.data.csv_tables import is_table, read_captions_table
from echodiff.data.labels import Table, parse_table, read_labels
from echodiff.data.prepare_config import PrepareConfig
from echodiff.data.records import Case, DataSet, Shot, Source
from echodiff.errors import InputError
from echodiff.images import (
    find_max_value,
    list_pictures,
    read_image_u8,
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


_LONGEST_NAME = 255
"""Bytes of a file name on nearly every file system."""


@dataclass(frozen=True, kw_only=True)
class FolderConfig(PrepareConfig):
    """Turn a folder of images into a frames folder: grey, split by patient."""

    captions: str = "none"
    """`none`, `plain` (from file name and mask), a template with fields in braces, a .txt file that
    holds one, or a .csv with the columns file_name and text, and optionally patient_id, view,
    phase, vendor. Images not listed in the .csv get the empty prompt."""
    text: str | None = None
    """Text in the pixels: `mask` blackens it outside the sector and skips images with text inside;
    `mask-inside` blackens it everywhere; `refuse` skips images with any text; `keep` does not
    search. Default: text is found, kept and reported."""
    match: str = "*"
    """Only images whose name matches this pattern, such as *_4CH_*."""
    masks: Path | None = None
    """Folder of masks, one per image, with the same name and size."""
    mask_labels: str | None = None
    """Meaning of the masks' numbers or colours: camus, acdc, mnms, hvsmr, or a list like 1=LV,2=RV
    or #ff0000=LV,#0000ff=RV. Default: the numbers are those of docs/frames.md."""
    patient_regex: str | None = None
    """Regular expression that finds the patient in a file name: the group `patient`, else the first
    group. The groups `view` and `phase` are used as well."""
    spacing_mm: float | None = None
    """Side of a pixel of the source images, in mm."""
    max_value: int | None = None
    """Grey value of 16-bit images that becomes white. Default: the full scale of the smallest usual
    bit depth that holds all of them."""
    view: str | None = None
    """View of all images, such as A4C, if neither name nor table gives it."""
    vendor: str | None = None
    """Scanner vendor of all images."""
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


def find_pictures(config: FolderConfig) -> DataSet:
    """Find every image under `src` with its mask and the fields in its name."""
    if not config.src.is_dir():
        raise InputError(f"{config.src}: no such folder")
    if config.masks is not None and not config.masks.is_dir():
        raise InputError(f"--masks: {config.masks}: no such folder")
    everything, aside = list_pictures(config.src, without=config.masks)
    if aside:
        kinds = ", ".join(f"{name} {number}" for name, number in sorted(aside.items()))
        warnings.warn(
            f"{config.src}: skipped, as not data or of an unsupported kind: {kinds}",
            stacklevel=2,
        )
    paths = [path for path in everything if path.match(config.match)]
    if not paths:
        raise InputError(f"{config.src}: no images match --match {config.match}")
    rows = read_rows(config, [path.relative_to(config.src).as_posix() for path in everything])
    pattern = compile_regex(config.patient_regex)
    masks = {} if config.masks is None else by_stem(config.masks)
    cases = []
    for name, path in zip(name_frames(config.src, paths), paths, strict=True):
        place = path.relative_to(config.src)
        mask = masks.get(place.with_suffix("").as_posix())
        missing = config.masks is not None and mask is None
        words = words_of_name(path, pattern) | rows.get(normalize(place.as_posix()), {})
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
            "no --patient-regex: every image counts as a patient of its own", stacklevel=2
        )
    white_level = find_max_value(paths)
    if white_level is not None and config.max_value is not None:
        white_level = config.max_value
    read = partial(
        read_picture,
        table=parse_table(config.mask_labels),
        max_value=white_level,
        spacing_mm=config.spacing_mm,
    )
    return DataSet(
        name=config.source,
        card="folder",
        modality=config.modality,
        cases=cases,
        read=read,
        white_level=white_level,
        captions="" if is_table(config.captions) else None,
    )


def read_picture(
    case: Case, *, table: Table | None, max_value: int | None, spacing_mm: float | None
) -> Iterator[Shot]:
    """Read an image as the one frame of its case."""
    image = read_image_u8(case.path, max_value=max_value)
    mask = read_labels(case.extra_paths[0], table) if case.extra_paths else None
    if mask is not None and mask.shape != image.shape[:2]:
        raise InputError(f"{case.extra_paths[0]}: is {mask.shape}, its image {image.shape[:2]}")
    yield Shot(
        name="",
        image_u8=image,
        mask_u8=mask,
        phase=case.where,
        spacing_mm=None if spacing_mm is None else (spacing_mm, spacing_mm),
    )


def read_rows(config: FolderConfig, known: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read the non-empty columns of the captions' table other than the text, by file name."""
    if not is_table(config.captions):
        return {}
    path = Path(config.captions)
    table = {normalize(name): row for name, row in read_captions_table(path).items()}
    names = {name for one in known for name in list_names(one)}
    if not table:
        raise InputError(f"{path}: holds no rows")
    if names.isdisjoint(table):
        first = next(iter(table))
        more = ", and so does every other row" if len(table) > 1 else ""
        raise InputError(f"{path}: {first} names no image in {config.src}{more}")
    rows = {}
    for name in known:
        row = next((table[one] for one in list_names(name) if one in table), {})
        rows[normalize(name)] = {key: row[key] for key in CAPTION_COLUMNS if row.get(key)}
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
        raise InputError(f"--patient-regex: {pattern!r} needs a group, such as (patient\\d+)")
    return compiled


def words_of_name(path: Path, pattern: re.Pattern[str] | None) -> dict[str, str]:
    """Return patient_id, view and phase from the file name."""
    if pattern is None:
        return {}
    found = pattern.search(path.name)
    if found is None:
        raise InputError(f"{path}: does not match --patient-regex")
    words = found.groupdict()
    patient = words.get("patient") or found.group(1)
    view = words.get("view") or ""
    named = {"patient_id": patient, "view": VIEW_NAMES.get(view, view), "phase": words.get("phase")}
    return {key: value for key, value in named.items() if value}


def by_stem(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their relative path without suffix."""
    found: dict[str, Path] = {}
    for path in list_pictures(folder).pictures:
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise InputError(f"{path}: {found[stem].name} has the same name apart from its suffix")
        found[stem] = path
    return found


def name_frames(src: Path, paths: Sequence[Path]) -> list[str]:
    """Return the names with their folders; numbers for all if one of them is not usable."""
    stems = ["__".join(path.relative_to(src).with_suffix("").parts) for path in paths]
    if not all(map(_can_stay, stems)):
        return [f"frame-{number:06d}" for number in range(len(stems))]
    names: dict[str, Path] = {}
    for stem, path in zip(stems, paths, strict=True):
        if stem in names:
            raise InputError(f"{path}: {names[stem].name} has the same name apart from its suffix")
        names[stem] = path
    return list(names)


def has_split_word(stem: str) -> bool:
    """Whether `datasets` would take a word of a file name for the name of a split."""
    return bool(_SPLIT_WORD.search(stem))


def _can_stay(stem: str) -> bool:
    """Whether a frame can have this name: no split word, and valid as a file name and in a row."""
    try:
        is_short = len(f"{stem}.png".encode()) <= _LONGEST_NAME
    except UnicodeEncodeError:
        return False
    return is_short and "\\" not in stem and stem.isprintable() and not has_split_word(stem)


SOURCE = Source(FolderConfig, find_pictures)
